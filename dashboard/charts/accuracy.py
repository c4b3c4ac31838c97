"""Score against speed: how much accuracy does a faster artefact give up?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd

from benchrun.dashboard.charts.figures import Figure
from benchrun.dashboard.charts.parts import (
    colour,
    figure_int,
    finish,
    series_names,
    shape,
    shown,
    toggle,
    value_axis,
    value_scale,
)
from benchrun.dashboard.formats import figure, known
from benchrun.results.views.accuracy import frontier
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    from benchrun.dashboard.charts.look import Look

GATES = (0.99, 0.999)  # of the fp32 score: MLPerf's two accuracy targets


def accuracy_chart(points: pd.DataFrame, speed: Figure, score_title: str, look: Look, *, height: int = 420) -> Any:
    """Scores over a figure of speed (logarithmic). `points` have `series`, `value`, `reference`, `n` and the figure's column.

    The points that no other one beats in both are ringed and joined; dashed rules are 99 % and 99.9 % of the fp32 score.
    """
    names = series_names(points)
    chosen = toggle()
    rows = list(rows_of(points))
    table = points[["series", "value", speed.column]].assign(
        best=best_mask(points, speed),
        tip_score=[score_text(row) for row in rows],
        tip_speed=[f"{figure(getattr(row, speed.column))} {speed.unit}" for row in rows],
        tip_shape=[f"batch {figure_int(row.batch)}, {figure_int(row.seq)} tokens" for row in rows],
    )
    x = alt.X(
        f"{speed.column}:Q",
        scale=value_scale(True, table[speed.column]),
        axis=value_axis(speed.axis, table[speed.column], logarithmic=True),
    )
    marks = gate_lines(points)
    values = [*table["value"], *marks["score"]]
    room = (max(values) - min(values)) * 0.08 or max(abs(max(values)) * 0.01, 1e-6)
    scale = alt.Scale(domain=[min(values) - room, max(values) + room], nice=False, zero=False)
    y = alt.Y("value:Q", scale=scale, axis=alt.Axis(title=score_title, format="~r", tickCount=6))
    base = alt.Chart(table).encode(x=x, y=y, color=colour(names, look))
    tips = [
        alt.Tooltip("series:N", title="series"),
        alt.Tooltip("tip_score:N", title="score"),
        alt.Tooltip("tip_speed:N", title=speed.title),
        alt.Tooltip("tip_shape:N", title="point"),
    ]
    layers: list[Any] = []
    if not marks.empty:
        gate = alt.Chart(marks)
        at = alt.Y("score:Q", scale=scale)
        layers.append(gate.mark_rule(color=look.muted, strokeDash=[5, 4]).encode(y=at))
        words = gate.mark_text(align="left", dx=4, dy=-6, color=look.muted, fontSize=11)
        layers.append(words.encode(x=alt.value(0), y=at, text="label:N"))
    # a score can be had at that latency and more, or at that throughput and less
    step: Any = "step-before" if speed.more_is_better else "step-after"
    joined = alt.Chart(table[table["best"]]).mark_line(color=look.muted, strokeWidth=1, interpolate=step)
    layers.append(joined.encode(x=x, y=y))
    ring = base.transform_filter("datum.best").mark_point(filled=False, size=190, strokeWidth=1.6)
    layers.append(ring.encode(opacity=shown(chosen, 0.9)))
    layers.append(base.mark_point(filled=True, size=72).encode(shape=shape(names), opacity=shown(chosen), tooltip=tips))
    return finish(alt.layer(*layers).add_params(chosen), look, height=height)


def best_mask(points: pd.DataFrame, speed: Figure) -> list[bool]:
    """For each point, whether none is faster with as good a score."""
    costs = [-float(value) if speed.more_is_better else float(value) for value in points[speed.column]]
    return frontier([float(value) for value in points["value"]], costs)


def gate_lines(points: pd.DataFrame) -> pd.DataFrame:
    """99 % and 99.9 % of the fp32 score, where all points have the same one."""
    references = {float(value) for value in points["reference"] if known(value)}
    if len(references) != 1:
        return pd.DataFrame({"score": pd.Series(dtype="float64"), "label": pd.Series(dtype="object")})
    reference = references.pop()
    return pd.DataFrame([{"score": reference * gate, "label": f"{gate * 100:g} % of fp32"} for gate in GATES])


def score_text(row: Any) -> str:
    """`90.81 of 10,833, 99.93 % of fp32`."""
    share = f", {row.value / row.reference:.2%} of fp32" if known(row.reference) and row.reference else ""
    return f"{figure(row.value)} over n = {figure_int(row.n)}{share}"
