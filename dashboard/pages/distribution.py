"""Distribution: the samples behind a figure, launches side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from benchrun.dashboard.charts.distribution import (
    body_limit,
    ecdf_chart,
    ecdf_frame,
    histogram_chart,
    histogram_frame,
    sequence_chart,
    sequence_frame,
)
from benchrun.dashboard.charts.figures import CLOCKS
from benchrun.dashboard.components.database import Database
from benchrun.dashboard.components.downloads import offer
from benchrun.dashboard.components.drawing import current_look, draw
from benchrun.dashboard.components.filters import Filters
from benchrun.dashboard.components.links import link
from benchrun.dashboard.components.notices import LeftOut, show_empty, show_left_out, show_unknown
from benchrun.dashboard.components.run_filter import choose_run, run_options
from benchrun.dashboard.formats import DASH, count, distinct_short, figure, known, named, percent, token
from benchrun.dashboard.labels import add_series
from benchrun.dashboard.markup import Cell, Column, table
from benchrun.dashboard.pages.overview import FIRST_SWEEP
from benchrun.dashboard.sentences import shape_text
from benchrun.results.views.frames import rows_of
from benchrun.results.views.latest import MOST_POINTS, run_results
from benchrun.results.views.runs import planned_count
from benchrun.results.views.sampling import samples_ms

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from benchrun.dashboard.charts.distribution import Floats

MOST_POINTS_DRAWN = 4
MOST_LAUNCHES = 24


def launches_of(connection: Connection, run_id: str) -> pd.DataFrame:
    """The launches of a run, with `family`: everything of the point but batch and sequence length."""
    frame = add_series(run_results(connection, run_id))
    parts = [[], [frame["series"]]][len(frame) > 0]
    several = [name for name in ("model", "head", "workload", "protocol") if frame[name].nunique(dropna=False) > 1]
    parts += [frame[name].map(named) for name in several]
    family = [" · ".join(each) for each in zip(*parts, strict=True)] if parts else []
    names = distinct_short(family, 72)
    return frame.assign(family=[names[each] for each in family])


def show(database: Database) -> None:
    """The page."""
    st.title("Distribution")
    filters = Filters("distribution")
    runs = run_options(database, "run")
    if not runs:
        show_empty(
            "No samples yet",
            "Every timed iteration of a run can be looked at here. A first sweep takes a minute:",
            [FIRST_SWEEP],
        )
        return
    with st.container(horizontal=True, gap="small"):
        run = choose_run(filters, "run", "Run", runs)
        launches = database.read(launches_of, run.id)
        if launches.empty:
            show_empty("An empty run", "This run planned no point.")
            return
        chosen = _choose_launches(filters, launches)
        clocks = {"host": CLOCKS["host"]} | ({"device": CLOCKS["device"]} if chosen["device_n"].gt(0).any() else {})
        clock = filters.choose("clock", "Clock", clocks, default="host", show=len(clocks) > 1, width=250)
        logarithmic = filters.switch("log", "Logarithmic", default=False)
        whole = filters.switch(
            "whole",
            "Slowest samples",
            default=False,
            help="Let the axes reach to the slowest sample, however far it is.",
        )
    show_unknown(filters.unknown)
    _show_samples(database, chosen, clock, logarithmic, whole)
    _show_links(run.id, chosen)
    planned = database.read(planned_count, run.id)
    if planned > MOST_POINTS:
        show_left_out([LeftOut(f"all but the first {MOST_POINTS:,} of this run's {planned:,} points.")])
    filters.commit()


def _choose_launches(filters: Filters, launches: pd.DataFrame) -> pd.DataFrame:
    """The launches of up to four points of one shape; by default the first point that has samples."""
    good = launches[launches["host_n"].gt(0)]
    first = (good if len(good) else launches).iloc[0]
    families = {token(name): name for name in dict.fromkeys(launches["family"])}
    wanted = filters.choose_many(
        "point",
        "Points",
        families,
        default=[token(first["family"])],
        most=MOST_POINTS_DRAWN,
        placeholder="all of this run, up to four",
    )
    left = launches[[token(name) in wanted for name in launches["family"]]] if wanted else launches
    for name, label in (("batch", "Batch"), ("seq", "Sequence length")):
        values = {f"{value:g}": f"{value:,.0f}" for value in sorted(set(left[name].dropna()))}
        if values:
            value = filters.choose(name, label, values, default=f"{first[name]:g}" if known(first[name]) else None)
            left = left[left[name] == float(value)]
    return left


def _show_samples(database: Database, launches: pd.DataFrame, clock: str, logarithmic: bool, whole: bool) -> None:
    names = launches["family"].drop_duplicates().tolist()
    launches = launches[launches["family"].isin(names[:MOST_POINTS_DRAWN])]
    kept = launches[launches["measurement_id"].notna()].head(MOST_LAUNCHES)
    found = database.read(samples_ms, tuple(int(each) for each in kept["measurement_id"]), clock)
    parts: list[tuple[Any, Floats]] = []
    damaged = 0
    for row in rows_of(kept):
        samples = found.get(int(row.measurement_id))
        damaged += int(row.measurement_id) in found and samples is None
        if samples is not None and len(samples):
            parts.append((row, samples))
    left_out = _left_out(launches, kept, [row for row, _ in parts], damaged)
    if not parts:
        show_empty("No samples", _why_none(launches))
    else:
        st.html(launches_table([row for row, _ in parts], clock))
        charts = _draw(parts, logarithmic, whole)
        offer("samples", _samples_frame(parts), charts, label="Samples as CSV")
    show_left_out(left_out)


def _draw(parts: list[tuple[Any, Floats]], logarithmic: bool, whole: bool) -> dict[str, Any]:
    """Draws the three charts; they are returned for their downloads."""
    charts: dict[str, Any] = {}
    look = current_look()
    # a colour for each launch of one point, as long as there are enough of them
    single = len({row.family for row, _ in parts}) == 1 and len(parts) <= len(look.series)
    labelled = [
        (f"launch {row.replicate + 1}" if single else row.family, f"launch {row.replicate + 1}", samples)
        for row, samples in parts
    ]
    log = logarithmic and min(float(samples.min()) for _, _, samples in labelled) > 0
    limit = None if log or whole else body_limit([samples for _, samples in parts])
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("###### Cumulative distribution")
        ecdf = pd.concat([ecdf_frame(samples, series, launch) for series, launch, samples in labelled])
        chart = ecdf_chart(ecdf, look, logarithmic=log, limit=limit)
        charts["Cumulative as SVG"] = draw(chart, "cumulative distribution of the samples of each launch")
    with right:
        st.markdown("###### Histogram")
        by_series: dict[str, list[Floats]] = {}
        for series, _, samples in labelled:
            by_series.setdefault(series, []).append(samples)
        joined = [(series, np.concatenate(each)) for series, each in by_series.items()]
        bars = histogram_frame(joined, logarithmic=log, limit=limit)
        chart = histogram_chart(bars, look, logarithmic=log, limit=limit)
        charts["Histogram as SVG"] = draw(chart, "histogram of the samples")
    st.markdown("###### In the order of measuring")
    longest: dict[str, int] = {}
    for _, launch, samples in labelled:
        longest[launch] = max(longest.get(launch, 0), len(samples))
    starts: dict[str, int] = {}
    place = 0
    for launch, length in longest.items():
        starts[launch] = place
        place += int(length * 1.04) + 1
    order = pd.concat([sequence_frame(samples, series, launch, starts[launch]) for series, launch, samples in labelled])
    chart = sequence_chart(order, starts, look, logarithmic=log, limit=limit)
    charts["Order as SVG"] = draw(chart, "samples in the order of measuring, launches side by side")
    st.caption(
        "Dots are samples, lines the medians of ten. A slope is drift, a second level is another mode of the machine."
    )
    if limit is not None:
        beyond = int(sum((samples > limit).sum() for _, samples in parts))
        largest = max(float(samples.max()) for _, samples in parts)
        st.caption(
            f"The axes end at {figure(limit)} ms: {count(beyond, 'sample')} beyond it, at most {figure(largest)} ms, "
            f"{'is' if beyond == 1 else 'are'} on the edge or outside. 'Slowest samples' shows all."
        )
    return charts


def launches_table(rows: list[Any], clock: str) -> str:
    """One line a launch as HTML."""
    columns = [
        Column("point"), Column("launch", number=True), Column("status"), Column("n", number=True), Column("mean", "ms", number=True),
        Column("p50", "ms", number=True), Column("95 % of p50", "ms", number=True), Column("p95", "ms", number=True),
        Column("p99", "ms", number=True), Column("largest", "ms", number=True), Column("drift", number=True),
        Column("autocorrelation", "lag 1", number=True), Column("flags"),
    ]  # fmt: skip
    return table(columns, [_launch_line(row, clock) for row in rows])


def _launch_line(row: Any, clock: str) -> list[Cell | str]:
    def of(name: str) -> Any:
        return getattr(row, f"{clock}_{name}")

    wrong = row.status == "invalid"
    flags = [*(row.flags if isinstance(row.flags, list) else [])]
    flags += ["warm-up did not settle"] if row.settled is False else []
    flags += ["stopped by the time limit"] if row.timed_out is True else []
    interval = f"{figure(of('p50_low_ms'))} – {figure(of('p50_high_ms'))}" if known(of("p50_low_ms")) else DASH
    cells = [
        figure(of("mean_ms")),
        figure(of("p50_ms")),
        interval,
        figure(of("p95_ms")),
        figure(of("p99_ms")),
        figure(of("max_ms")),
    ]
    drift = of("drift")
    return [
        f"{row.family} {shape_text(row)}",
        str(row.replicate + 1),
        Cell(
            row.status,
            "failed" if row.status != "ok" else "muted",
            row.parity_reason if known(row.parity_reason) else "",
        ),
        f"{int(of('n')):,}" if known(of("n")) else DASH,
        *[Cell(cell, "strike" if wrong else "") for cell in cells],
        Cell(
            percent(1 + drift) if known(drift) else DASH,
            "failed" if of("steady") is False else "",
            "last third's median against the first third's",
        ),
        f"{of('autocorrelation'):.2f}".replace("-", "−") if known(of("autocorrelation")) else DASH,
        Cell(", ".join(map(str, flags)) or "none", "muted" if not flags else ""),
    ]


def _samples_frame(parts: list[tuple[Any, Floats]]) -> pd.DataFrame:
    return pd.concat(
        [
            pd.DataFrame({"sample": np.arange(1, len(samples) + 1), "ms": samples}).assign(
                run=row.run_id, point=row.family, batch=row.batch, seq=row.seq, launch=row.replicate + 1
            )
            for row, samples in parts
        ],
        ignore_index=True,
    )


def _left_out(launches: pd.DataFrame, kept: pd.DataFrame, drawn: list[Any], damaged: int) -> list[LeftOut]:
    found = []
    failed = launches[launches["status"].notna() & ~launches["status"].isin(["ok", "invalid"])]
    for status, number in failed["status"].value_counts().items():
        reason = next((each for each in failed.loc[failed["status"] == status, "error"] if known(each)), "")
        found.append(
            LeftOut(
                f"{count(number, 'launch', 'launches')} with status {status}{': ' + str(reason) if reason else ''}."
            )
        )
    if damaged:
        found.append(LeftOut(f"{count(damaged, 'launch', 'launches')} whose stored samples are damaged."))
    bare = len(kept) - len(drawn) - damaged - len(failed[failed["measurement_id"].isin(kept["measurement_id"])])
    if bare > 0:
        found.append(
            LeftOut(
                f"{count(bare, 'launch', 'launches')} that kept no samples of this clock (LoadGen and imports often keep none)."
            )
        )
    whole = int(launches["measurement_id"].notna().sum())
    if whole > len(kept):
        found.append(LeftOut(f"{count(whole - len(kept), 'launch', 'launches')} beyond the first {MOST_LAUNCHES}."))
    return found


def _why_none(launches: pd.DataFrame) -> str:
    statuses = launches["status"].dropna()
    if statuses.empty:
        return "This point was planned and has not been measured yet. The page looks again by itself."
    if statuses.isin(["ok", "invalid"]).any():
        return "Only statistics are kept of this point, as of LoadGen's and many imported ones: Explore and the run's report have them."
    return f"No launch of this point kept samples: {', '.join(dict.fromkeys(statuses))}."


def _show_links(run_id: str, chosen: pd.DataFrame) -> None:
    if chosen.empty:
        return
    link("compare", "Compare this run with the one before it", {"mode": "runs", "new": run_id})
