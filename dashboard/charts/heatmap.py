"""Batch × sequence length of one series, a cell for each planned point: the figure, or why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from benchrun.dashboard.charts.figures import AXES, Figure
from benchrun.dashboard.charts.look import Look
from benchrun.dashboard.charts.parts import drawn, finish, sample_text
from benchrun.dashboard.formats import figure as figure_text
from benchrun.dashboard.formats import known, short
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd


def heat_map(
    points: pd.DataFrame,
    figure: Figure,
    look: Look,
    span: tuple[float, float],
    *,
    title: str = "",
    cell: int = 46,
    batches: Sequence[float] | None = None,
) -> Any:
    """One series' points of any status; a darker cell is a larger figure, logarithmic over `span` (`value_span`).

    `batches` are the columns, in order, so that several maps can have the same ones; by default those of the points.
    """
    table = _cells(points, figure, look, span)
    columns, seqs = batches or sorted(set(table["batch"])), sorted(set(table["seq"]))
    base = alt.Chart(table).encode(
        x=alt.X(
            "batch:O",
            sort=list(columns),
            scale=alt.Scale(domain=list(columns)),
            title=AXES["batch"],
            axis=alt.Axis(labelAngle=0, format="d", domain=False, ticks=False),
        ),
        y=alt.Y("seq:O", sort=seqs, title="tokens", axis=alt.Axis(format="d", domain=False, ticks=False)),
        tooltip=[
            alt.Tooltip("series:N", title="series"),
            alt.Tooltip("tip_shape:N", title="point"),
            alt.Tooltip("status:N", title="status"),
            alt.Tooltip("label:N", title=figure.axis),
            alt.Tooltip("reason:N", title="why"),
            alt.Tooltip("tip_n:N", title="n"),
        ],
    )
    tiles = base.mark_rect(cornerRadius=3, stroke=look.background, strokeWidth=3).encode(
        color=alt.Color("fill:N", scale=None, legend=None)
    )
    words = base.mark_text(fontSize=12).encode(text="label:N", color=alt.Color("ink:N", scale=None, legend=None))
    return finish(alt.layer(tiles, words), look, height=max(90, cell * len(seqs)), title=title)


def value_span(points: pd.DataFrame, figure: Figure) -> tuple[float, float]:
    """Smallest and largest figure of the `ok` points, so that several maps can share one scale."""
    values = points.loc[(points["status"] == "ok") & (points[figure.column] > 0), figure.column]
    return (float(values.min()), float(values.max())) if len(values) else (1.0, 1.0)


def _cells(points: pd.DataFrame, figure: Figure, look: Look, span: tuple[float, float]) -> pd.DataFrame:
    values = points[figure.column].where(points["status"] == "ok")
    steps = len(look.ramp)
    logs = np.log(values.where(values > 0).to_numpy(dtype=float))
    low, width = np.log(span[0]), np.log(span[1] / span[0])
    place = np.nan_to_num((logs - low) / width if width > 0 else logs * 0)
    index = np.clip((place * steps).astype(int), 0, steps - 1)
    good = values.notna()
    deep = index >= 3
    light_on_deep = ("#ffffff", look.text) if look.name == "light" else ("#10151c", look.text)
    return drawn(points).assign(
        fill=[look.ramp[i] if ok else look.failed_fill for i, ok in zip(index, good, strict=True)],
        ink=[
            (light_on_deep[0] if d else light_on_deep[1]) if ok else look.failed
            for d, ok in zip(deep, good, strict=True)
        ],
        label=[figure_text(v) if ok else status for v, ok, status in zip(values, good, points["status"], strict=True)],
        reason=[short(reason, 200) if known(reason) else "" for reason in points["error"]],
        tip_n=[sample_text(row) if row.launches else "no samples" for row in rows_of(points)],
    )
