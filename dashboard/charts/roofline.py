"""Points under the roof of their machine: what they achieved against how much they compute for each byte they must move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd

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
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    from benchrun.dashboard.charts.look import Look


def roofline_chart(points: pd.DataFrame, roofs: pd.DataFrame, look: Look, *, height: int = 360) -> Any:
    """`points` have `series`, `flops_per_byte`, `tflop_s` and the columns of `roofline.placed_points`; `roofs` those of `roofline.roofs`
    that hold for them. Both axes are logarithmic; each roof is a line with its dtype."""
    names = series_names(points)
    chosen = toggle()
    kept = ["series", "flops_per_byte", "tflop_s"]
    table = points[kept].assign(
        tip_shape=[
            f"batch {figure_int(row.batch)}, {figure_int(row.seq)} tokens, {row.dtype}" for row in rows_of(points)
        ],
        tip_rate=[f"{figure(row.tflop_s)} TFLOP/s, {figure(row.gbyte_s)} GB/s" for row in rows_of(points)],
        tip_bound=[bound_text(row) for row in rows_of(points)],
    )
    edges = (float(points["flops_per_byte"].min()) / 3, float(points["flops_per_byte"].max()) * 3)
    lines = roof_lines(roofs, edges)
    sides = {name: [*points[name], *lines[name]] for name in ("flops_per_byte", "tflop_s")}
    words_of = {"flops_per_byte": "FLOP a byte that must be moved", "tflop_s": "achieved, TFLOP/s"}
    axes = {name: value_axis(words_of[name], values, logarithmic=True) for name, values in sides.items()}
    x = alt.X("flops_per_byte:Q", scale=value_scale(True, sides["flops_per_byte"]), axis=axes["flops_per_byte"])
    y = alt.Y("tflop_s:Q", scale=value_scale(True, sides["tflop_s"]), axis=axes["tflop_s"])
    tips = [
        alt.Tooltip("series:N", title="series"), alt.Tooltip("tip_shape:N", title="point"), alt.Tooltip("tip_rate:N", title="achieved"),
        alt.Tooltip("tip_bound:N", title="nearest ceiling"),
    ]  # fmt: skip
    dots = alt.Chart(table).mark_point(filled=True, size=64)
    layers: list[Any] = []
    if not lines.empty:
        base = alt.Chart(lines).encode(x=x, y=y, detail="roof:N")
        layers.append(base.mark_line(strokeDash=[4, 3], strokeWidth=1.5, color=look.muted))
        ends = lines[lines["end"]]
        words = alt.Chart(ends).mark_text(align="right", dx=-4, dy=-6, baseline="bottom", fontSize=11, color=look.muted)
        layers.append(words.encode(x=x, y=y, text="roof:N"))
    layers.append(
        dots.encode(x=x, y=y, color=colour(names, look), shape=shape(names), opacity=shown(chosen), tooltip=tips)
    )
    return finish(alt.layer(*layers).add_params(chosen), look, height=height)


def roof_lines(roofs: pd.DataFrame, edges: tuple[float, float]) -> pd.DataFrame:
    """Three points for each roof that has both parts: its slope, its ridge, its flat part."""
    rows: list[tuple[str, float, float, bool]] = []
    for row in rows_of(roofs):
        if not known(row.bytes_s) or not row.bytes_s > 0:
            continue
        name = f"{row.dtype}, {figure(row.flops_s / 1e12)} TFLOP/s"
        ridge = min(max(row.ridge_flops_per_byte, edges[0]), edges[1])
        rows += [(name, x, min(row.flops_s, row.bytes_s * x) / 1e12, x == edges[1]) for x in sorted({*edges, ridge})]
    return pd.DataFrame(rows, columns=["roof", "flops_per_byte", "tflop_s", "end"])


def bound_text(row: Any) -> str:
    """`compute, 58 % of it`."""
    if not known(row.ceiling) or not known(row.ceiling_share):
        return "not known: 'benchrun ceilings' measures them"
    return f"{row.ceiling}, {100 * row.ceiling_share:.0f} % of it"
