"""Pieces that several charts share: colours by series, legends that toggle, tooltips."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import altair as alt

from benchrun.dashboard.charts.look import SHAPES, USERMETA, Look, config
from benchrun.dashboard.formats import DASH, count, figure, known
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    import pandas as pd

FAINT = 0.06
NARROW = 0.3  # decades: below it a logarithmic axis gets the ticks of a linear one
WIDEN = 1.15
LEAST_SHOWN = 1.02  # a course is shown at least this far to both sides
LOG_SCALE = alt.Scale(type="log", nice=False, padding=12)


def series_names(points: pd.DataFrame) -> list[str]:
    """The series of a frame, sorted (`launch 4` before `launch 10`): the same ones get the same colours in every chart of a page."""
    return sorted(set(points["series"]), key=lambda name: (_natural(name), name))


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]{1,15})", name)  # text and numbers in turns
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)]


def colour(names: Sequence[str], look: Look, *, legend: bool = True) -> alt.Color:
    """Colour by `series`."""
    shown = alt.Legend(title=None, symbolType="circle", columns=legend_columns(names)) if legend else None
    palette = [look.series[i % len(look.series)] for i in range(len(names))]
    return alt.Color("series:N", scale=alt.Scale(domain=list(names), range=palette), legend=shown)


def legend_columns(names: Sequence[str], limit: int = 260) -> Any:
    """As many columns as the longest name (cut at the legend's limit) leaves room for."""
    widest = min(limit, 6.5 * max(map(len, names), default=1))
    return {"expr": f"max(1, floor(width / {widest + 36:.0f}))"}


def shape(names: Sequence[str]) -> alt.Shape:
    """Shape by `series`, the second channel beside colour: from the ninth series on colours come again, with another shape."""
    shapes = [SHAPES[(i + i // len(SHAPES)) % len(SHAPES)] for i in range(len(names))]
    legend = alt.Legend(title=None, columns=legend_columns(names))
    return alt.Shape("series:N", scale=alt.Scale(domain=list(names), range=shapes), legend=legend)


def toggle(name: str = "toggled") -> alt.Parameter:
    """A selection by clicks on the legend; nothing selected shows all."""
    return alt.selection_point(name=name, fields=["series"], bind="legend", toggle="true")


def shown(chosen: alt.Parameter, opacity: float = 1.0) -> Any:
    """Opacity of a mark: `opacity`, faint where its series is toggled off."""
    # `alt.when` makes a dictionary, of which Altair looks for the fitting type in all of its schema: half the time a chart takes.
    return alt.OpacityValue(min(FAINT, opacity), condition={"param": chosen.name, "value": opacity})


def finish(chart: alt.Chart | alt.LayerChart | alt.FacetChart, look: Look, *, height: int, title: str = "") -> Any:
    """Height, look, menu and title of a finished chart."""
    if title:
        chart = chart.properties(title=title)
    sized = chart.properties(
        height=height,
        width="container",
        usermeta=USERMETA,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )
    return sized.configure(**config(look))


INTERVAL_WORDS = {
    "launches": "95 % between {} launches",
    "range": "range of {} launches",
    "samples": "95 % inside one launch",
}


def interval_text(row: Any) -> str:
    """`2.10 – 2.17 ms, 95 % between 3 launches`."""
    if not known(row.p50_low_ms) or not known(row.p50_high_ms):
        return "too few samples for one"
    kind = INTERVAL_WORDS.get(row.interval, "").format(int(row.launches))
    return f"{figure(row.p50_low_ms)} – {figure(row.p50_high_ms)} ms, {kind}"


def sample_text(row: Any) -> str:
    """`n = 300 in 3 launches`."""
    return f"{count(row.n, 'sample')} in {count(row.launches, 'launch', 'launches')}" if known(row.n) else DASH


def tail_text(value: Any, upper: Any) -> str:
    """A percentile with its upper bound, or that n is too small for one."""
    if not known(value):
        return DASH
    bound = f"at most {figure(upper)} at 99 %" if known(upper) else "n too small for a bound"
    return f"{figure(value)} ms, {bound}"


def add_tips(points: pd.DataFrame) -> pd.DataFrame:
    """Adds the texts that tooltips show."""
    rows = list(rows_of(points))
    return points.assign(
        tip_p50=[f"{figure(row.p50_ms)} ms" for row in rows],
        tip_interval=[interval_text(row) for row in rows],
        tip_p95=[tail_text(row.p95_ms, row.p95_upper_ms) for row in rows],
        tip_p99=[tail_text(row.p99_ms, row.p99_upper_ms) for row in rows],
        tip_n=[sample_text(row) for row in rows],
        tip_rate=[
            f"{figure(row.throughput_seq_s)} sequences/s" if known(row.throughput_seq_s) else DASH for row in rows
        ],
        tip_shape=[f"batch {figure_int(row.batch)}, {figure_int(row.seq)} tokens" for row in rows],
        tip_flags=[", ".join(row.flags) or "none" for row in rows],
    )


DRAWN = (
    *("series", "batch", "seq", "status", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "p50_low_ms", "p50_high_ms"),
    *("throughput_seq_s", "throughput_low", "throughput_high", "tokens_s"),
    *("tip_p50", "tip_interval", "tip_p95", "tip_p99", "tip_n", "tip_rate", "tip_shape", "tip_flags"),
)


def drawn(points: pd.DataFrame, *more: str) -> pd.DataFrame:
    """What a chart needs of a frame of points, with the texts of tooltips: nothing else is sent to the browser."""
    return add_tips(points)[[*DRAWN, *more]].reset_index(drop=True)


def figure_int(value: Any) -> str:
    """A whole number, or a dash."""
    return f"{int(value):,}" if known(value) else DASH


TIPS = [
    alt.Tooltip("series:N", title="series"),
    alt.Tooltip("tip_shape:N", title="point"),
    alt.Tooltip("tip_p50:N", title="p50"),
    alt.Tooltip("tip_interval:N", title="interval of p50"),
    alt.Tooltip("tip_p95:N", title="p95"),
    alt.Tooltip("tip_p99:N", title="p99"),
    alt.Tooltip("tip_rate:N", title="throughput"),
    alt.Tooltip("tip_n:N", title="n"),
    alt.Tooltip("tip_flags:N", title="flags"),
]


def size_axis(column: str, values: Sequence[float], title: str) -> alt.X:
    """A logarithmic axis of batches or sequence lengths with a tick for each that was measured."""
    ticks = sorted({float(value) for value in values})
    return alt.X(
        f"{column}:Q",
        title=title,
        scale=alt.Scale(type="log", base=2, nice=False, padding=18),
        axis=alt.Axis(values=ticks, format="~d", grid=False),
    )


def value_scale(logarithmic: bool, values: Iterable[Any], *, zero: bool = True) -> alt.Scale:
    """The scale of an axis of figures; with `zero` it starts there unless it is logarithmic.

    Figures that hardly differ get room around them: a scale of their own width would blow up what is nothing.
    """
    present = [float(value) for value in values if known(value) and value > 0]
    low, high = (min(present), max(present)) if present else (1.0, 1.0)
    if logarithmic:
        narrow = math.log10(high / low) < NARROW
        return alt.Scale(type="log", nice=False, padding=0, domain=[low / WIDEN, high * WIDEN]) if narrow else LOG_SCALE
    if not zero and high / low < LEAST_SHOWN**2:
        return alt.Scale(zero=False, nice=True, domain=[low / LEAST_SHOWN, high * LEAST_SHOWN])
    return alt.Scale(zero=zero, nice=True)


def value_axis(title: str, values: Iterable[Any], *, logarithmic: bool, short_numbers: bool = False) -> alt.Axis:
    """An axis of figures; a logarithmic one has ticks at 1, 2, 5 of each decade that holds values, or at the decades alone."""
    number = "~s" if short_numbers else "~r"
    if not logarithmic:
        return alt.Axis(title=title, format=",~r", tickCount=6)
    return alt.Axis(title=title, format=number, values=log_ticks(values))


def log_ticks(values: Iterable[Any]) -> list[float]:
    """Ticks for a logarithmic axis over positive values."""
    present = [float(value) for value in values if known(value) and value > 0]
    if not present:
        return [1.0]
    low, high = math.floor(math.log10(min(present))), math.ceil(math.log10(max(present)))
    span = math.log10(max(present) / min(present))
    if span < NARROW:
        step = 10.0 ** math.floor(math.log10(max(present) / 8))
        step = next(step * factor for factor in (1, 2, 5, 10) if max(present) * 0.7 / (step * factor) <= 7)
        first, last = math.floor(min(present) / WIDEN / step), math.ceil(max(present) * WIDEN / step)
        return [round(place * step, 12) for place in range(max(1, first), last + 1)]
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8) if span < 1 else (1, 2, 5) if span <= 4 else (1,)
    return [step * 10.0**power for power in range(low - 1, high + 1) for step in steps]
