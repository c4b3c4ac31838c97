"""How good the answers are against how fast they come: scores joined to the speed of the same artefact.

An artefact is what answers: a model with its overrides and weights, run by an engine with its options, on a device, in a dtype. Its scores
come from an accuracy workload, its speed from that same launch or from any other workload of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, Text, and_, cast, exists, select
from sqlalchemy.orm import aliased

from benchrun.results.queries import CURRENT
from benchrun.results.schema import Measurement, Point, ScoreValue
from benchrun.results.views.latest import latest_of
from benchrun.results.views.scores import load_scores
from benchrun.results.views.summaries import summarise

if TYPE_CHECKING:
    import pandas as pd

ARTEFACT = ("model", "overrides", "weights", "backend", "variant", "options", "device", "dtype")
SHAPE = ("head", "workload", "protocol", "batch", "seq")  # what has to be alike for two speeds to share an axis
SCORED = (
    "fingerprint",
    *ARTEFACT,
    "task",
    "metric",
    "value",
    "n",
    "reference",
    "launches",
    "valid",
    "score_run_id",
    "scored",
)
_DOCUMENTS = ("overrides", "options")


def scored_artefacts(connection: Connection) -> pd.DataFrame:
    """The latest score of each artefact on each machine by task and metric, the mean of that run's launches; columns: `SCORED`.

    `valid`: the answers also passed the parity check, in every launch.
    """
    import pandas as pd

    found = load_scores(connection, Measurement.status.in_(("ok", "invalid")))
    if found.empty:
        return pd.DataFrame({name: pd.Series(dtype="object") for name in SCORED})
    same = ["fingerprint", *ARTEFACT, "task", "metric"]
    each_run = found.groupby([*same, "run_id", "run_started"], sort=False, dropna=False)
    means = each_run.agg(
        value=("value", "mean"),
        n=("n", "first"),
        reference=("reference", "first"),
        launches=("replicate", "nunique"),
        valid=("status", lambda found: bool((found == "ok").all())),
    ).reset_index()
    latest = means.sort_values("run_started").drop_duplicates(same, keep="last")
    return latest.rename(columns={"run_id": "score_run_id", "run_started": "scored"})[list(SCORED)].reset_index(
        drop=True
    )


def artefact_speeds(connection: Connection, fingerprint: str, clock: str = "host") -> pd.DataFrame:
    """One row (`summaries.SUMMARY_COLUMNS`) for each point of a scored artefact, in its latest run on a machine, by one clock."""
    scored = aliased(Point)
    alike = [
        cast(getattr(scored, name), Text) == cast(getattr(Point, name), Text)
        if name in _DOCUMENTS
        else getattr(scored, name) == getattr(Point, name)
        for name in ARTEFACT
    ]
    with_scores = (
        select(Measurement.point_key)
        .join(ScoreValue, ScoreValue.measurement_id == Measurement.id)
        .where(CURRENT, Measurement.fingerprint == fingerprint)
    )
    condition = exists().where(and_(*alike), scored.key.in_(with_scores))
    return summarise(latest_of(connection, fingerprint, condition), clock)


def join_speed(scores: pd.DataFrame, speeds: pd.DataFrame) -> pd.DataFrame:
    """Scores of one machine beside the speeds of the same artefacts: a row for each pair. Wrong answers have no part in it. Pure."""
    scores = scores[scores["valid"].astype(bool)]
    right = speeds[speeds["status"] == "ok"].drop(columns=["fingerprint", "n", "launches"])
    return scores.merge(right, on=list(ARTEFACT), how="inner")


def frontier(values: list[float], costs: list[float]) -> list[bool]:
    """For each (score, cost), whether none costs less and scores as much: more score and less cost are better. Pure."""
    found = [False] * len(values)
    best = float("-inf")
    for place in sorted(range(len(values)), key=lambda i: (costs[i], -values[i])):
        if values[place] > best:
            best, found[place] = values[place], True
    return found
