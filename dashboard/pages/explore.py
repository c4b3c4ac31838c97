"""Explore: one model on one machine, its engines against each other over batch and sequence length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import streamlit as st

from benchrun.dashboard.charts.bars import bar_chart
from benchrun.dashboard.charts.figures import AXES, CLOCKS, FIGURES, LATENCIES, THROUGHPUT, Figure
from benchrun.dashboard.charts.frontier import best_under, frontier_chart
from benchrun.dashboard.charts.heatmap import heat_map, value_span
from benchrun.dashboard.charts.scaling import MOST_BANDS, interval_columns, scaling_chart
from benchrun.dashboard.components.database import Database
from benchrun.dashboard.components.downloads import offer
from benchrun.dashboard.components.drawing import current_look, draw
from benchrun.dashboard.components.filters import Filters
from benchrun.dashboard.components.group_filter import choose_group, say_group
from benchrun.dashboard.components.notices import LeftOut, show_empty, show_left_out, show_unknown
from benchrun.dashboard.components.text import markdown
from benchrun.dashboard.formats import count, known, named, token
from benchrun.dashboard.formats import figure as figure_text
from benchrun.dashboard.labels import add_series
from benchrun.dashboard.selection import drawable, explain_missing, explain_neighbours, notes_on
from benchrun.dashboard.speedups import speedup_table
from benchrun.dashboard.tabular import public
from benchrun.dashboard.verdicts import WORDS, verdict_table
from benchrun.results.layouts import layout_of
from benchrun.results.views.catalogue import Group, groups, machines
from benchrun.results.views.frames import rows_of
from benchrun.results.views.latest import latest_results
from benchrun.results.views.loadgen import loadgen_facts
from benchrun.results.views.summaries import summarise

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Connection

VIEWS = {"latency": "Latency", "throughput": "Throughput", "frontier": "Frontier", "heat": "Heat map", "table": "Table"}
RATES = {"throughput": "sequences/s", "tokens": "effective tokens/s"}
MOST_SERIES = 16


@dataclass(frozen=True)
class Shown:
    """What a view drew, for its downloads, and what it could not draw, in words."""

    missing: Sequence[str] = ()
    charts: Mapping[str, Any] = field(default_factory=dict)


def latest_points(connection: Connection, group: Group) -> dict[str, pd.DataFrame]:
    """One row a point of a group, from its latest run, with series names; by clock, `device` only where it was read."""
    launches = latest_results(connection, group)
    found = {"host": add_series(summarise(launches))}
    if launches["device_n"].gt(0).any():
        found["device"] = add_series(summarise(launches, "device"))
    return found


def loadgen_of(connection: Connection, group: Group) -> dict[str, list[Mapping[str, Any]]]:
    """What LoadGen said of a group's points, by point key."""
    return loadgen_facts(connection, latest_results(connection, group)["measurement_id"].tolist())


def show(database: Database) -> None:
    """The page."""
    st.title("Explore")
    entries = database.read(groups)
    if not entries:
        show_empty(
            "Nothing measured yet",
            "This database has no measurements. A first sweep takes a minute:",
            ["benchrun --backend torch --model tiny --batch 1,8 --seq 32,128"],
        )
        return
    filters = Filters("explore")
    with st.container(horizontal=True, gap="small"):
        group = choose_group(filters, entries, database.read(machines))
        by_clock = database.read(latest_points, group)
        points = by_clock["host"]
        dtypes = filters.choose_many(
            "dtype",
            "Dtype",
            {token(v): named(v) for v in _by_name(points["dtype"])},
            show=points["dtype"].nunique() > 1,
            width=165,
        )
        engines = filters.choose_many(
            "engine", "Engines", {token(v): v for v in _by_name(points["series"])}, placeholder="all"
        )
        if "device" in by_clock:
            points = by_clock[filters.choose("clock", "Clock", CLOCKS, default="host", width=250)]
    if dtypes:
        points = points[[token(value) in dtypes for value in points["dtype"]]]
    if engines:
        points = points[[token(value) in engines for value in points["series"]]]
    say_group(group, points)
    usual = "latency" if _usual_figure(points) == "p50" else "throughput"
    view = filters.choose("view", "View", views_of(points), kind="segments", default=usual)
    left_out = [LeftOut(text) for text in explain_neighbours(group, entries)]
    unknown = st.container()
    shown = Shown()
    if points.empty:
        show_empty(
            "No point is left",
            "No measured point has this dtype and engine together. Take one of the two filters away.",
        )
    elif view in ("latency", "throughput"):
        shown = _show_scaling(filters, points, view)
    elif view == "frontier":
        shown = _show_frontier(filters, points)
    elif view == "heat":
        shown = _show_heat_maps(filters, points)
    else:
        shown = _show_table(filters, points)
    if (group.workload or "").startswith("loadgen:"):
        verdicts = verdict_table(points, database.read(loadgen_of, group))
        if verdicts:
            st.html(verdicts)
            st.caption(WORDS)
    with unknown:  # the views have filters of their own, so that only now all are known
        show_unknown(filters.unknown)
    notes = notes_on(drawable(points, ()))
    if notes:
        st.caption("Keep in mind: " + markdown("; ".join(notes), 600) + ".")
    show_left_out([*left_out, *(LeftOut(text) for text in shown.missing)])
    offer("explore", public(points), shown.charts)
    filters.commit()


def views_of(points: pd.DataFrame) -> dict[str, str]:
    """The views in which these points have something to show, or all where they have no figure at all: LoadGen's Offline has
    no latency, its MultiStream no rate.
    """

    def drawn(*columns: str) -> bool:
        return not drawable(points, columns).empty

    latencies = [each.column for each in LATENCIES.values()]
    offered = {
        "latency": any(map(drawn, latencies)),
        "throughput": any(drawn(FIGURES[name].column) for name in RATES),
        "frontier": any(drawn(each, THROUGHPUT.column) for each in latencies),
    }
    return {name: text for name, text in VIEWS.items() if offered.get(name, True) or not any(offered.values())}


def _show_scaling(filters: Filters, points: pd.DataFrame, view: str) -> Shown:
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        usual = "seq" if points["batch"].nunique() == 1 and points["seq"].nunique() > 1 else "batch"
        x = filters.choose("x", "Against", {"batch": "batch", "seq": "sequence length"}, default=usual)
        other = "seq" if x == "batch" else "batch"
        fixed = _choose_size(filters, points, other)
        if view == "latency":
            figure = LATENCIES[filters.choose("figure", "Figure", {name: name for name in LATENCIES}, default="p50")]
            band = filters.switch("band", "Tails to p95 and p99", default=True)
        else:
            figure, band = FIGURES[filters.choose("rate", "Figure", RATES, default="throughput")], False
        at = points[points[other] == fixed] if fixed is not None else points.iloc[0:0]
        drawn = drawable(at, [figure.column])
        single = drawn[x].nunique() == 1
        logarithmic = filters.switch("log", "Logarithmic", default=True, show=not single)
    charts: dict[str, Any] = {}
    _warn_crowded(drawn)
    if drawn.empty:
        show_empty("Nothing to draw", "No point with this " + AXES[other].partition(",")[0] + " has this figure.")
    else:
        number = count(drawn["series"].nunique(), "series", "series")
        if single:
            chart = bar_chart(drawn, figure, current_look(), band=band)
            said = f"{figure.axis} at {AXES[x].partition(',')[0]} {drawn[x].iloc[0]:g}, one bar for each of {number}"
        else:
            chart = scaling_chart(drawn, x, figure, current_look(), band=band, logarithmic=logarithmic)
            said = f"{figure.axis} against {AXES[x]}, one line for each of {number}"
        charts["Chart as SVG"] = draw(chart, said)
        st.caption(scaling_words(drawn, x, figure, band=band, single=single))
    return Shown(explain_missing(at, [figure.column]), charts)


def scaling_words(drawn: pd.DataFrame, x: str, figure: Figure, *, band: bool, single: bool) -> str:
    """What the chart of a figure against batch or length shows, in words."""
    size = f"batch {drawn['batch'].iloc[0]:,.0f}" if x == "batch" else f"{drawn['seq'].iloc[0]:,.0f} tokens"
    parts = [
        f"One bar a series at {size}, the best first"
        if single
        else "One line a series; a dot is the mean over launches"
    ]
    low, high = interval_columns(figure)
    if low and (drawn[low] < drawn[high]).any():
        known_as = "is the range between launches" if figure.more_is_better else "at a median is its interval"
        parts.append(f"the thin line {known_as}")
    if band:
        few = drawn["series"].nunique() <= MOST_BANDS
        tails = (
            "shaded: from p50 to p95, fainter to p99"
            if few
            else "pale and thick: from p50 to p95, with a cap: to p99; series stand side by side"
        )
        parts.append("the ticks are p95 and p99" if single else tails)
    return "; ".join(parts) + "."


def _show_frontier(filters: Filters, points: pd.DataFrame) -> Shown:
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        figure = LATENCIES[filters.choose("tail", "Latency", {name: name for name in LATENCIES}, default="p99")]
        drawn = drawable(points, [figure.column, THROUGHPUT.column])
        usual = round_up(drawn[figure.column].median()) if not drawn.empty else 10.0
        limit = filters.number("limit", "Limit, ms", default=usual, least=0.001, most=1e7)
    charts: dict[str, Any] = {}
    _warn_crowded(drawn)
    if drawn.empty:
        show_empty("Nothing to draw", "No point has both a latency and a throughput.")
    else:
        _say_best(drawn, figure, limit)
        chart = frontier_chart(drawn, figure, limit, current_look())
        charts["Chart as SVG"] = draw(chart, f"throughput against {figure.axis}, limit {limit:g} ms")
        st.caption(
            "A line joins the batches of one series at one sequence length (s128: 128 tokens). Ringed: no other point of that "
            "length is better in both."
        )
    return Shown(explain_missing(points, [figure.column, THROUGHPUT.column]), charts)


def round_up(value: float) -> float:
    """The next number of one digit, so that a limit drawn from a median is met by half of the points."""
    step = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / step - 1e-9) * step:.1g}")


def _say_best(drawn: pd.DataFrame, figure: Figure, limit: float) -> None:
    best = best_under(drawn, figure, limit)
    if best.empty:
        st.markdown(f"Nothing stays under **{limit:g} ms** {figure.title.removeprefix('latency ')}.")
        return
    lines = [
        f"- {int(row.seq):,} tokens: **{figure_text(row.throughput_seq_s)} sequences/s** "
        f"with {markdown(row.series)}, batch {int(row.batch):,} "
        f"({figure.title.removeprefix('latency ')} {figure_text(getattr(row, figure.column))} ms)"
        for row in rows_of(best)
        if known(row.seq)
    ]
    st.markdown(
        f"Most throughput under **{limit:g} ms** {figure.title.removeprefix('latency ')}:\n\n" + "\n".join(lines[:12])
    )


def _show_heat_maps(filters: Filters, points: pd.DataFrame) -> Shown:
    with st.container(horizontal=True, gap="small"):
        figure = _choose_figure(filters, "cell", points)
    placed = points[points["batch"].notna() & points["seq"].notna()]
    span = value_span(placed, figure)
    charts = {}
    names = _by_name(placed["series"])
    batches = sorted(set(placed["batch"]))  # the same columns in all maps
    for series in names[:MOST_SERIES]:
        part = placed[placed["series"] == series]
        chart = heat_map(part, figure, current_look(), span, title=series, batches=batches)
        text = f"{markdown(series, 40)} as SVG" if len(names) > 1 else "Chart as SVG"
        charts[text] = draw(chart, f"{figure.axis} of {series} by batch and sequence length")
    hidden = len(names) - MOST_SERIES
    more = [f"{count(hidden, 'more map')}: choose some engines above."] if hidden > 0 else []
    return Shown([*explain_missing(points, [figure.column]), *more], charts)


def _show_table(filters: Filters, points: pd.DataFrame) -> Shown:
    names = _by_name(points["series"])
    with st.container(horizontal=True, gap="small"):
        figure = _choose_figure(filters, "column", points)
        reference = filters.choose(
            "reference",
            "Speed-up against",
            {token(name): name for name in names},
            default=token(usual_reference(points)),
            width=290,
        )
    chosen = next(name for name in names if token(name) == reference)
    st.html(speedup_table(points, figure, chosen))
    if len(names) > 1:
        st.caption(f"Speed-up: how many times as fast as {markdown(chosen)}; in bold from 1.03× on.")
    return Shown([text for text in explain_missing(points, [figure.column]) if "without figures" not in text])


def usual_reference(points: pd.DataFrame) -> str:
    """What speed-ups are of: the padded layout where there are several, else the series with the most points."""
    padded = points[[layout_of(workload) == "padded" for workload in points["workload"].fillna("")]]
    return str((padded if len(padded) else points)["series"].value_counts().index[0])


def _choose_figure(filters: Filters, name: str, points: pd.DataFrame) -> Figure:
    options = {key: value.axis for key, value in FIGURES.items()}
    return FIGURES[filters.choose(name, "Figure", options, default=_usual_figure(points))]


def _usual_figure(points: pd.DataFrame) -> str:
    """The median; the rate where there is no latency, as of LoadGen's Offline."""
    return "throughput" if not points["p50_ms"].gt(0).any() and points["throughput_seq_s"].gt(0).any() else "p50"


def _choose_size(filters: Filters, points: pd.DataFrame, column: str) -> float | None:
    values = sorted(set(points[column].dropna()))
    options = {f"{value:g}": f"{value:,.0f}" for value in values}
    label = "Sequence length" if column == "seq" else "Batch"
    counts = points[column].value_counts()
    usual = f"{counts.index[0]:g}" if not counts.empty else None
    chosen = filters.choose(column, label, options, default=usual)
    return float(chosen) if chosen else None


def _warn_crowded(points: pd.DataFrame) -> None:
    number = points["series"].nunique()
    if number > MOST_SERIES:
        st.info(f"{number} series are hard to tell apart: choose some engines above.", icon=":material/filter_alt:")


def _by_name(values: pd.Series[str]) -> list[str]:
    return sorted(set(values), key=lambda value: (not known(value), str(value)))
