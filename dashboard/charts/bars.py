"""A figure of each series where there is one batch and one length: nothing to draw a line over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from benchrun.dashboard.charts.figures import Figure
from benchrun.dashboard.charts.look import Look
from benchrun.dashboard.charts.parts import TIPS, colour, drawn, finish, series_names
from benchrun.dashboard.charts.scaling import interval_columns
from benchrun.dashboard.formats import figure as figure_text
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    import pandas as pd

ROW = 34


def bar_chart(points: pd.DataFrame, figure: Figure, look: Look, *, band: bool) -> Any:
    """A bar from zero for each of `points` (`ok`, with `series`), the best first, with its figure beside it.

    With `band`, a latency has a tick at its p95 and at its p99. A median has its interval as a line, throughput its range.
    """
    tails = ["p95_ms", "p99_ms"] if band and figure.unit == "ms" else []
    low, high = interval_columns(figure)
    table = drawn(points).sort_values(figure.column, ascending=not figure.more_is_better, kind="stable")
    reach = [name for name in (figure.column, high, *tails) if name]
    table = table.assign(label=[_label(row, figure, tails) for row in rows_of(table)], end=table[reach].max(axis=1))
    names = series_names(points)
    order = list(dict.fromkeys(table["series"]))
    axis = alt.Axis(format=",~r", tickCount=6)
    room = 1.75 if tails else 1.12  # for what is written beside the longest bar
    scale = alt.Scale(domain=[0, float(table["end"].max()) * room])
    y = alt.Y("series:N", sort=order, title=None, axis=alt.Axis(labelLimit=300, domain=False, ticks=False))
    base = alt.Chart().encode(y=y)
    x = alt.X(f"{figure.column}:Q", title=figure.axis, scale=scale, axis=axis)
    layers: list[Any] = [base.mark_bar(opacity=0.75).encode(x=x, color=colour(names, look, legend=False), tooltip=TIPS)]
    layers += [
        base.mark_tick(thickness=2, color=look.muted, size=ROW * 0.5).encode(x=alt.X(f"{name}:Q", scale=scale))
        for name in tails
    ]
    if low:
        layers.append(
            base.mark_rule(strokeWidth=2, color=look.text).encode(x=alt.X(f"{low}:Q", scale=scale), x2=f"{high}:Q")
        )
    words = base.mark_text(align="left", dx=8, fontSize=12, fontWeight=600, color=look.text)
    layers.append(words.encode(x=alt.X("end:Q", scale=scale), text="label:N"))
    return finish(alt.layer(*layers, data=table), look, height=max(90, ROW * len(table)))


def _label(row: Any, figure: Figure, tails: list[str]) -> str:
    """`42.08`; with tails which is which: `p50 42.08 · p95 73.90 · p99 80.51`."""
    own = figure_text(getattr(row, figure.column))
    if not tails:
        return own
    others = [
        f"{name.removesuffix('_ms')} {figure_text(getattr(row, name))}" for name in tails if name != figure.column
    ]
    return " · ".join([f"{figure.title.removeprefix('latency ')} {own}", *others])
