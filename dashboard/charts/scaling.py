"""Figures against batch or sequence length, a line for each series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import altair as alt

from benchrun.dashboard.charts.figures import AXES, Figure
from benchrun.dashboard.charts.look import Look
from benchrun.dashboard.charts.parts import (
    TIPS,
    colour,
    drawn,
    finish,
    series_names,
    shape,
    shown,
    size_axis,
    toggle,
    value_axis,
    value_scale,
)

if TYPE_CHECKING:
    import pandas as pd


MOST_BANDS = 2


def scaling_chart(
    points: pd.DataFrame, x: str, figure: Figure, look: Look, *, band: bool, logarithmic: bool, height: int = 420
) -> Any:
    """`figure` against `x` (`batch`, `seq`) of points that are `ok`, with columns `series` and those of a summary.

    With `band`, a latency has two bands above its median: to p95, and fainter to p99; from the third series on, where bands would
    hide each other, bars instead, and each series stands a little beside its tick. A median has its interval as a bar, throughput
    its range between launches.
    """
    names = series_names(points)
    tails = band and figure.unit == "ms"
    bars = tails and len(names) > MOST_BANDS
    chosen = toggle()
    seen = [value for name in (figure.column, "p99_ms" if band else figure.column) for value in points[name]]
    axis = value_axis(figure.axis, seen, logarithmic=logarithmic, short_numbers=figure.more_is_better)
    y = alt.Y(f"{figure.column}:Q", scale=value_scale(logarithmic, seen), axis=axis)
    base = alt.Chart().encode(x=size_axis("place", points[x].tolist(), AXES[x]), color=colour(names, look))
    layers: list[alt.Chart] = []
    if bars:
        ends = {"y": alt.Y("p95_ms:Q", title=figure.axis), "y2": "p99_ms:Q", "opacity": shown(chosen, 0.75)}
        layers.append(base.mark_rule(strokeWidth=1.4).encode(**ends))
        layers.append(
            base.mark_tick(orient="horizontal", size=9, thickness=1.4).encode(y="p99_ms:Q", opacity=shown(chosen, 0.75))
        )
        layers.append(base.mark_rule(strokeWidth=5).encode(y="p50_ms:Q", y2="p95_ms:Q", opacity=shown(chosen, 0.4)))
    elif tails:
        layers.append(
            base.mark_area().encode(y=alt.Y("p95_ms:Q", title=figure.axis), y2="p99_ms:Q", opacity=shown(chosen, 0.10))
        )
        layers.append(base.mark_area().encode(y="p50_ms:Q", y2="p95_ms:Q", opacity=shown(chosen, 0.22)))
    low, high = interval_columns(figure)
    if low:
        layers.append(base.mark_rule(strokeWidth=2).encode(y=f"{low}:Q", y2=f"{high}:Q", opacity=shown(chosen, 0.8)))
    layers.append(base.mark_line(strokeWidth=2.2).encode(y=y, opacity=shown(chosen)))
    layers.append(
        base.mark_point(filled=True, size=64, stroke=look.background, strokeWidth=1).encode(
            y=y, shape=shape(names), opacity=shown(chosen), tooltip=TIPS
        )
    )
    # The data is that of all layers at once: in each of them, Altair would print, hash and copy it.
    table = drawn(points)
    table = table.assign(place=table[x] if not bars else _beside(table, x, names))
    return finish(alt.layer(*layers, data=table).add_params(chosen), look, height=height)


def _beside(points: pd.DataFrame, x: str, names: Sequence[str]) -> list[float]:
    """The places of points on a logarithmic axis, those of each series a little aside, so that their bars do not lie on each other."""
    # all series together take at most a tenth of the axis
    step = (points[x].max() / points[x].min()) ** (0.1 / max(10, len(names)))
    middle = (len(names) - 1) / 2
    return [size * step ** (names.index(name) - middle) for size, name in zip(points[x], points["series"], strict=True)]


def interval_columns(figure: Figure) -> tuple[str, str]:
    """Columns of a figure's interval; empty where it has none."""
    known = {"p50_ms": ("p50_low_ms", "p50_high_ms"), "throughput_seq_s": ("throughput_low", "throughput_high")}
    return known.get(figure.column, ("", ""))
