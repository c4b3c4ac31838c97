"""Our points as the published tables' comparison wants them: figures, and the conditions they were taken under in its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from benchrun.results.published import MeasuredPoint
from benchrun.results.published.comparison import scenario_of
from benchrun.results.published.tables import Conditions
from benchrun.results.queries import CURRENT
from benchrun.results.schema import Measurement
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    import pandas as pd


def facts_of(connection: Connection, run_ids: list[str], keys: list[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """(run, point) → what the engine said really ran, from any launch that says something."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for start in range(0, len(keys), 400):
        query = select(Measurement.run_id, Measurement.point_key, Measurement.facts).where(
            Measurement.run_id.in_(run_ids),
            Measurement.point_key.in_(keys[start : start + 400]),
            CURRENT,
        )
        for run_id, key, facts in connection.execute(query):
            if isinstance(facts, dict) and facts:
                found.setdefault((run_id, key), facts)
    return found


def conditions(protocol: str, workload: str | None, facts: Mapping[str, Any]) -> Conditions:
    """What is recorded of a point's conditions; what is not stays None."""
    parts: dict[str, str] = {}
    for part in protocol.split(";"):
        name, sign, value = part.partition("=")
        if sign:
            parts[name] = value
    transfers = {"exclude": "excluded", "include": "included"}.get(parts.get("transfers", ""))
    graph = facts.get("cuda_graph")
    accumulation = facts.get("accumulate_dtype")
    seeded = parts.get("inputs", "").startswith("uniform")
    return Conditions(
        graph=None if graph is None else ("on" if graph else "off"),
        transfers=transfers,
        workload=workload,
        mask="all ones" if workload == "padded" and seeded else None,
        accumulation=accumulation if isinstance(accumulation, str) else None,
        timing="host clock around each call, synchronised" if parts.get("sync") == "iteration" else None,
        percentile=parts.get("percentiles"),
        inputs="random token ids" if seeded else None,
    )


def measured_points(
    points: pd.DataFrame, hardware: str, facts: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[MeasuredPoint]:
    """One for each `ok` point (`summaries.summarise`) whose shape is known."""
    found = []
    for row in rows_of(points):
        if row.status != "ok" or row.model is None or row.head is None or row.batch != row.batch or row.seq != row.seq:
            continue
        found.append(
            MeasuredPoint(
                model=row.model,
                head=row.head,
                engine=f"{row.backend}:{row.variant}",
                dtype=row.dtype,
                batch=int(row.batch),
                seq=int(row.seq),
                hardware=hardware,
                avg_ms=_figure(row.mean_ms),
                p50_ms=_figure(row.p50_ms),
                p95_ms=_figure(row.p95_ms),
                p99_ms=_figure(row.p99_ms),
                throughput_seq_s=_figure(row.throughput_seq_s),
                scenario=scenario_of(row.workload),
                conditions=conditions(row.protocol, row.workload, facts.get((row.run_id, row.point_key), {})),
            )
        )
    return found


def _figure(value: float) -> float | None:
    return None if value != value else float(value)
