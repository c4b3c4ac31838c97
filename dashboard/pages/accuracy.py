"""Accuracy: how good the answers of each artefact are against how fast they come."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import streamlit as st

from benchrun.dashboard.charts.accuracy import accuracy_chart, best_mask
from benchrun.dashboard.charts.figures import CLOCKS, LATENCIES, THROUGHPUT, Figure
from benchrun.dashboard.charts.parts import figure_int
from benchrun.dashboard.components.database import Database
from benchrun.dashboard.components.downloads import offer
from benchrun.dashboard.components.drawing import current_look, draw
from benchrun.dashboard.components.filters import Filters
from benchrun.dashboard.components.notices import LeftOut, show_empty, show_left_out, show_unknown
from benchrun.dashboard.formats import (
    DASH,
    count,
    figure,
    hardware,
    known,
    moment,
    named,
    settings,
    short,
    token,
    unique_labels,
)
from benchrun.dashboard.labels import add_series
from benchrun.dashboard.markup import Cell, Column, table
from benchrun.dashboard.tabular import public
from benchrun.results.views.accuracy import SHAPE, artefact_speeds, join_speed, scored_artefacts
from benchrun.results.views.catalogue import machines
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    import pandas as pd

FIRST_SCORE = "benchrun accuracy --task retrieval --model FOLDER --backend torch,ort"
SPEEDS: dict[str, Figure] = {**LATENCIES, "throughput": THROUGHPUT}
MANY = 400  # characters of what a caption says


def show(database: Database) -> None:
    """The page."""
    st.title("Accuracy")
    scores = database.read(scored_artefacts)
    if scores.empty:
        show_empty(
            "No scores yet", "An accuracy run stores a score beside the speed of the same artefact:", [FIRST_SCORE]
        )
        return
    filters = Filters("accuracy")
    with st.container(horizontal=True, gap="small"):
        chosen = _choose_scores(database, filters, scores)
        fingerprint = str(chosen["fingerprint"].iloc[0])
        speeds = database.read(artefact_speeds, fingerprint)
        if speeds["device"].ne("cpu").any():
            clock = filters.choose("clock", "Clock", CLOCKS, default="host", width=250)
            speeds = database.read(artefact_speeds, fingerprint, clock)
        pairs = join_speed(chosen, speeds)
        pairs = pairs if pairs.empty else _choose_shape(filters, pairs)
        speed = SPEEDS[
            filters.choose("speed", "Against", {name: each.axis for name, each in SPEEDS.items()}, default="p50")
        ]
    show_unknown(filters.unknown)
    first = chosen.iloc[0]
    title = f"{short(first['task'], 40)} {short(first['metric'], 40)}"
    pairs = add_series(pairs)
    drawn = pairs[(pairs[speed.column] > 0) & pairs["value"].notna()] if not pairs.empty else pairs
    charts = {}
    if drawn.empty:
        show_empty("Nothing to draw", "No scored artefact has this figure in this workload.")
    else:
        chart = accuracy_chart(drawn, speed, title, current_look())
        charts["Chart as SVG"] = draw(chart, f"{title} against {speed.axis}, one point an artefact")
        st.caption(
            "Ringed: no other one is faster and scores as much. Dashed: 99 % and 99.9 % of the fp32 score, where all were "
            "compared with the same one."
        )
        st.html(score_table(drawn, speed, best_mask(drawn, speed)))
    show_left_out([LeftOut(text) for text in left_out(chosen, drawn)])
    offer("accuracy", public(drawn if not drawn.empty else chosen), charts)
    filters.commit()


def left_out(scores: pd.DataFrame, drawn: pd.DataFrame) -> list[str]:
    """Scored artefacts that have no place in the chart, in words."""
    named_ = add_series(scores)
    there = set() if drawn.empty else {tuple(row) for row in drawn[_IDENTITY].itertuples(index=False)}
    missing = [row for row in rows_of(named_) if tuple(getattr(row, name) for name in _IDENTITY) not in there]
    wrong = [f"{row.series} ({figure(row.value)})" for row in missing if not row.valid]
    slow = [f"{row.series} ({figure(row.value)})" for row in missing if row.valid]
    said = {"whose answers failed the parity check": wrong, "without this speed": slow}
    return [
        f"{count(len(each), 'scored artefact')} {what}: {', '.join(each[:8])}"[:MANY]
        for what, each in said.items()
        if each
    ]


_IDENTITY = ["weights", "backend", "variant", "options", "dtype"]


def score_table(points: pd.DataFrame, speed: Figure, best: list[bool]) -> str:
    """The points as HTML, the best score first."""
    columns = [
        Column("artefact"), Column("score", number=True), Column("fp32", number=True), Column("of fp32", number=True),
        Column("n", number=True), Column(speed.title, speed.unit, number=True), Column("scored"),
    ]  # fmt: skip
    rows: list[tuple[tuple[float, float], list[Cell | str]]] = []
    for row, ringed in zip(rows_of(points), best, strict=True):
        taken = getattr(row, speed.column)
        cost = (
            taken * (-1 if speed.more_is_better else 1) if known(taken) else inf
        )  # of equal scores, the fastest first
        share = f"{row.value / row.reference:.2%}" if known(row.reference) and row.reference else DASH
        rows.append(
            (
                (-float(row.value), cost),
                [
                    Cell(row.series, "strong" if ringed else ""), figure(row.value),
                    figure(row.reference) if known(row.reference) else DASH, share, figure_int(row.n), figure(getattr(row, speed.column)),
                    moment(row.scored),
                ],
            )
        )  # fmt: skip
    return table(columns, [cells for _, cells in sorted(rows, key=lambda each: each[0])])


def _choose_scores(database: Database, filters: Filters, scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of one machine and device, model and task: what may share an axis."""
    seen = {machine.fingerprint: machine for machine in database.read(machines)}
    left = scores
    for name, label, keys, texts in (
        ("task", "Score", ("task", "metric"), lambda row: f"{row.task} {row.metric}"),
        (
            "hardware",
            "Hardware",
            ("fingerprint", "device"),
            lambda row: f"{hardware(seen[row.fingerprint].details, row.device)} · {named(row.device)}",
        ),
        ("model", "Model", ("model", "overrides"), _model_text),
    ):
        tokens = ["/".join(token(getattr(row, key)) for key in keys) for row in rows_of(left)]
        options = dict(zip(tokens, (texts(row) for row in rows_of(left)), strict=True))
        usual = max(options, key=tokens.count)
        value = filters.choose(name, label, unique_labels(options, 56), default=usual, width=250)
        left = left[[each == value for each in tokens]]
    return left


def _choose_shape(filters: Filters, pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs whose speed is of one workload and shape: two workloads never share an axis."""
    tokens = ["/".join(token(getattr(row, name)) for name in SHAPE) for row in rows_of(pairs)]
    options = dict(zip(tokens, (shape_text(row) for row in rows_of(pairs)), strict=True))
    usual = max(options, key=lambda each: (tokens.count(each), each))
    chosen = filters.choose("at", "Speed in", unique_labels(options, 64), default=usual, width=460)
    return pairs[[each == chosen for each in tokens]]


def shape_text(row: object) -> str:
    """`padded · qa · batch 8, 384 tokens`."""
    batch, seq = (getattr(row, name) for name in ("batch", "seq"))
    sizes = f"batch {figure_int(batch)}, {figure_int(seq)} tokens"
    return f"{named(getattr(row, 'workload', None))} · {named(getattr(row, 'head', None))} · {sizes}"


def _model_text(row: object) -> str:
    changed = ", ".join(f"{name}={value}" for name, value in settings(getattr(row, "overrides", "")).items())
    model = named(getattr(row, "model", None))
    return f"{model} ({changed})" if changed else model
