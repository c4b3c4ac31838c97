"""Throughput against latency: what is the most that can be had under a latency limit?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd

from benchrun.dashboard.charts.figures import THROUGHPUT, Figure
from benchrun.dashboard.charts.look import Look
from benchrun.dashboard.charts.parts import (
    TIPS,
    colour,
    drawn,
    figure_int,
    finish,
    series_names,
    shape,
    shown,
    toggle,
    value_axis,
    value_scale,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def frontier_chart(
    points: pd.DataFrame, latency: Figure, limit_ms: float | None, look: Look, *, height: int = 420
) -> Any:
    """Throughput over a latency figure, both logarithmic; a line joins the batches of one series and sequence length.

    The points that no other point beats in both are ringed; the area beyond `limit_ms` is shaded.
    """
    names = series_names(points)
    chosen = toggle()
    tips = drawn(points).assign(best=frontier_mask(points, latency), line=line_names(points))
    column = latency.column
    extent = [float(points[column].min()) * 0.8, float(points[column].max()) * 1.25]
    if limit_ms is not None:
        extent = [min(extent[0], limit_ms * 0.8), max(extent[1], limit_ms * 1.25)]
    scale = alt.Scale(type="log", domain=extent, nice=False)
    x = alt.X(f"{column}:Q", scale=scale, axis=value_axis(latency.axis, points[column], logarithmic=True))
    rates = value_axis(THROUGHPUT.axis, points["throughput_seq_s"], logarithmic=True, short_numbers=True)
    y = alt.Y("throughput_seq_s:Q", scale=value_scale(True, points["throughput_seq_s"]), axis=rates)
    base = alt.Chart(tips).encode(x=x, y=y, color=colour(names, look))
    layers: list[Any] = []
    if limit_ms is not None:
        limit = alt.Chart(pd.DataFrame({"limit": [limit_ms], "end": [extent[1]], "label": [f"limit {limit_ms:g} ms"]}))
        shade = limit.mark_rect(color=look.failed, opacity=0.08).encode(x=alt.X("limit:Q", scale=scale), x2="end:Q")
        rule = limit.mark_rule(color=look.failed, strokeDash=[5, 4], strokeWidth=1.5).encode(
            x=alt.X("limit:Q", scale=scale)
        )
        words = limit.mark_text(align="left", dx=6, dy=-8, baseline="bottom", color=look.failed, fontSize=12).encode(
            x=alt.X("limit:Q", scale=scale), y=alt.value(height), text="label:N"
        )
        layers += [shade, rule, words]
    layers.append(base.mark_line(strokeWidth=1.5).encode(detail="line:N", order="batch:Q", opacity=shown(chosen, 0.5)))
    ring = base.transform_filter("datum.best").mark_point(filled=False, size=190, strokeWidth=1.6)
    layers.append(ring.encode(opacity=shown(chosen, 0.9)))
    layers.append(base.mark_point(filled=True, size=64).encode(shape=shape(names), opacity=shown(chosen), tooltip=TIPS))
    if points["seq"].nunique() > 1:  # which length a line stands for is nowhere else
        ends = tips.loc[tips.groupby("line")["throughput_seq_s"].idxmax()].assign(
            length=lambda rows: [f"s{figure_int(seq)}" for seq in rows["seq"]]
        )
        span = (float(points["throughput_seq_s"].min()), float(points["throughput_seq_s"].max()))
        ends = ends[readable(ends[column].tolist(), ends["throughput_seq_s"].tolist(), extent, span)]
        words = alt.Chart(ends).mark_text(align="left", dx=12, dy=-9, fontSize=11)
        layers.append(words.encode(x=x, y=y, text="length:N", color=colour(names, look), opacity=shown(chosen)))
    return finish(alt.layer(*layers).add_params(chosen), look, height=height)


def readable(
    times: Sequence[float], rates: Sequence[float], wide_span: Sequence[float], tall_span: Sequence[float]
) -> list[bool]:
    """Which labels at these places of two logarithmic axes (with these ends) do not lie on one that is kept: the upper ones first."""
    wide, tall = math.log(wide_span[1] / wide_span[0]) * 0.05, math.log(tall_span[1] / tall_span[0]) * 0.05
    kept: list[int] = []
    for i in sorted(range(len(times)), key=lambda i: -rates[i]):
        near = (abs(math.log(times[i] / times[j])) < wide and abs(math.log(rates[i] / rates[j])) < tall for j in kept)
        if not any(near):
            kept.append(i)
    return [i in kept for i in range(len(times))]


def line_names(points: pd.DataFrame) -> list[str]:
    """What a line joins: one series at one sequence length."""
    return [f"{series} {seq}" for series, seq in zip(points["series"], points["seq"], strict=True)]


def frontier_mask(points: pd.DataFrame, latency: Figure) -> list[bool]:
    """For each point, whether no other point of the same sequence length has less latency and at least its throughput."""
    times, rates, lengths = points[latency.column].tolist(), points["throughput_seq_s"].tolist(), points["seq"].tolist()
    found = [False] * len(times)
    best: dict[object, float] = {}
    order: Sequence[int] = sorted(range(len(times)), key=lambda i: (times[i], -rates[i]))
    for i in order:
        if rates[i] > best.get(lengths[i], 0.0):
            best[lengths[i]] = rates[i]
            found[i] = True
    return found


def best_under(points: pd.DataFrame, latency: Figure, limit_ms: float) -> pd.DataFrame:
    """The point with the most throughput under the limit, one row for each sequence length that has one."""
    allowed = points[(points[latency.column] <= limit_ms) & points["throughput_seq_s"].notna()]
    return allowed.sort_values("throughput_seq_s", ascending=False).drop_duplicates("seq").sort_values("seq")
