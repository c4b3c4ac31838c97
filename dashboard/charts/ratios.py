"""Ratios with their intervals, a line for each point: what got slower, what faster, what cannot be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from benchrun.dashboard.charts.figures import LATENCIES, Figure
from benchrun.dashboard.charts.look import Look
from benchrun.dashboard.charts.parts import finish
from benchrun.dashboard.formats import change, interval_words, known
from benchrun.dashboard.formats import figure as figure_text
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    import pandas as pd

ROW = 24
WORDS = {
    "slower": "slower",
    "faster": "faster",
    "same": "within 5 %",
    "unclear": "undecided",
    "one launch": "one launch: no interval",
}
_SHAPES = {
    "slower": "triangle-right",
    "faster": "triangle-left",
    "same": "circle",
    "unclear": "circle",
    "one launch": "diamond",
}
_FURTHEST = 1.03  # the axis reaches at least this far to both sides

_LADDERS = (  # ratios above 1, from fine to coarse
    (1.01, 1.02, 1.03, 1.04),
    (1.02, 1.04, 1.06, 1.08),
    (1.05, 1.1, 1.15, 1.2),
    (1.1, 1.2, 1.3, 1.4),
    (1.25, 1.5, 1.75, 2),
    (1.5, 2, 3, 4),
    (2, 4, 8, 16),
    (2, 5, 10, 30),
    (10, 100, 1000, 10_000),
)


def ratio_chart(pairs: pd.DataFrame, look: Look, *, base: str, new: str, figure: Figure = LATENCIES["p50"]) -> Any:
    """Rows of `ratios.add_ratios` with a column `name`, in their order; above 1 `new` takes longer than `base`.

    An interval that leaves the axis is cut at its end: the axis holds the ratios and what of the intervals lies near them.
    """
    low, high = axis_range(pairs)
    table = pairs[["name", "ratio"]].assign(
        shown_low=pairs["ratio_low"].clip(lower=low),
        shown_high=pairs["ratio_high"].clip(upper=high),
        said=pairs["word"].map(WORDS),
        tip_ratio=[change(value) for value in pairs["ratio"]],
        tip_interval=[interval(row) for row in rows_of(pairs)],
        tip_sides=[
            f"{_side(row, figure, 'base')} → {_side(row, figure, 'new')} {figure.unit}" for row in rows_of(pairs)
        ],
        tip_launches=[f"{int(row.launches_base)} and {int(row.launches_new)}" for row in rows_of(pairs)],
    )
    words = [word for word in WORDS if word in set(pairs["word"])]
    colours = {"slower": look.slower, "faster": look.faster}
    said = [WORDS[word] for word in words]
    scale = alt.Scale(domain=said, range=[colours.get(word, look.unclear) for word in words])
    shapes = alt.Scale(domain=said, range=[_SHAPES[word] for word in words])
    words_of = (
        "datum.value == 1 ? 'same' : datum.value >= 1.99 ? format(datum.value, '.3~g') + '×' : "
        "datum.value <= 0.51 ? '1/' + format(1 / datum.value, '.3~g') + '×' : "
        "(datum.value > 1 ? '+' : '−') + format(abs(100 * (datum.value - 1)), '.3~g') + ' %'"
    )
    steps = alt.Axis(labelExpr=words_of, values=ratio_ticks(high), labelOverlap="greedy", labelSeparation=8)
    x = alt.X(
        "ratio:Q",
        title=[
            f"{figure.title}{', as time,' if figure.more_is_better else ''} of {new} against {base}",
            "slower to the right",
        ],
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=steps,
    )
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=240, domain=False, ticks=False, grid=True))
    tips = [
        alt.Tooltip("name:N", title="point"),
        alt.Tooltip("said:N", title="finding"),
        alt.Tooltip("tip_ratio:N", title="difference"),
        alt.Tooltip("tip_interval:N", title="95 % interval"),
        alt.Tooltip("tip_sides:N", title=figure.title),
        alt.Tooltip("tip_launches:N", title="launches"),
    ]
    chart = alt.Chart(table).encode(y=y, color=alt.Color("said:N", scale=scale, legend=alt.Legend(title=None)))
    bars = chart.mark_rule(strokeWidth=3, opacity=0.45).encode(
        x=alt.X("shown_low:Q", scale=alt.Scale(type="log", domain=[low, high])), x2="shown_high:Q"
    )
    marks = chart.mark_point(filled=True, size=80, opacity=1).encode(
        x=x, shape=alt.Shape("said:N", scale=shapes, legend=alt.Legend(title=None)), tooltip=tips
    )
    one = alt.Chart().mark_rule(color=look.text, strokeWidth=1).encode(x=alt.datum(1.0))
    return finish(alt.layer(one, bars, marks), look, height=ROW * len(table))


def _side(row: Any, figure: Figure, side: str) -> str:
    return figure_text(getattr(row, f"{figure.column}_{side}"))


def axis_range(pairs: pd.DataFrame) -> tuple[float, float]:
    """An axis that holds all ratios, and intervals as far as the furthest ratio's square."""
    reach = _FURTHEST
    for value in pairs["ratio"]:
        if known(value) and value > 0:
            reach = max(reach, value, 1 / value)
    limit = reach**1.6
    wide = reach
    for name in ("ratio_low", "ratio_high"):
        for value in pairs[name]:
            if known(value) and value > 0:
                wide = max(wide, min(limit, max(value, 1 / value)))
    return 1 / (wide * 1.02), wide * 1.02


def ratio_ticks(high: float) -> list[float]:
    """Round ratios for an axis from 1 / high to high: those of the finest ladder that reaches nearly to its ends."""
    steps = next((ladder for ladder in _LADDERS if ladder[-1] * 1.15 >= high), _LADDERS[-1])
    inside = [step for step in steps if step <= high]
    below = [1 - (step - 1) if step < 1.5 else 1 / step for step in inside]
    return sorted([tick for tick in below if tick >= 1 / high] + [1.0, *inside])


def interval(row: Any) -> str:
    """`+1.2 % to +4.0 %`, `3.5× to 1.2× faster`, or why there is none. Both ends are in one notation."""
    if not known(row.ratio_low):
        return "none: it takes two launches on both sides"
    return interval_words(row.ratio_low, row.ratio_high)
