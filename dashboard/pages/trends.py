"""Trends: a point over runs, commits and dates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from benchrun.dashboard.addresses import href
from benchrun.dashboard.charts.figures import FIGURES, Figure
from benchrun.dashboard.charts.trend import Along, trend_chart
from benchrun.dashboard.components.database import Database
from benchrun.dashboard.components.downloads import offer
from benchrun.dashboard.components.drawing import current_look
from benchrun.dashboard.components.filters import Filters
from benchrun.dashboard.components.group_filter import choose_group, say_group
from benchrun.dashboard.components.links import link
from benchrun.dashboard.components.notices import LeftOut, show_empty, show_left_out, show_unknown
from benchrun.dashboard.components.text import markdown
from benchrun.dashboard.formats import DASH, change, count, figure, known, moment, short, token
from benchrun.dashboard.gates import mark_rows
from benchrun.dashboard.labels import add_series
from benchrun.dashboard.markup import Cell, Column, table
from benchrun.dashboard.pages.explore import latest_points
from benchrun.dashboard.pages.overview import FIRST_SWEEP
from benchrun.dashboard.selection import drawable, explain_missing, explain_neighbours
from benchrun.dashboard.tabular import public
from benchrun.results.changepoints import find_level_changes
from benchrun.results.views.catalogue import groups, machines
from benchrun.results.views.environments import differences
from benchrun.results.views.frames import rows_of
from benchrun.results.views.gates import gate_marks
from benchrun.results.views.history import MOST_LAUNCHES, environment_details, series_results
from benchrun.results.views.summaries import summarise

if TYPE_CHECKING:
    from sqlalchemy import Connection

ALONG: Mapping[str, str] = {"order": "runs in order", "commit": "commits", "time": "time"}
COMPARED = ("p50", "p95", "p99", "mean", "throughput")
MOST_SERIES = 6
MOST_LINES = 40


def history(connection: Connection, fingerprint: str, keys: tuple[str, ...]) -> pd.DataFrame:
    """One row for each run of each point, oldest first."""
    points = add_series(summarise(series_results(connection, fingerprint, keys)))
    return points.sort_values(["run_started", "run_id"], kind="stable")


def show(database: Database) -> None:
    """The page."""
    st.title("Trends")
    entries = database.read(groups)
    if not entries:
        show_empty(
            "No history yet",
            "Measure the same points again, after a change or every night, and their course shows here. A first sweep takes a minute:",
            [FIRST_SWEEP],
        )
        return
    filters = Filters("trends")
    with st.container(horizontal=True, gap="small"):
        group = choose_group(filters, entries, database.read(machines))
        points = database.read(latest_points, group)["host"]
        chosen = _choose_points(filters, points)
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        shown = FIGURES[
            filters.choose("figure", "Figure", {name: FIGURES[name].axis for name in COMPARED}, default="p50")
        ]
        by = filters.choose("by", "Along", ALONG, default="order")
        logarithmic = filters.switch("log", "Logarithmic", default=False)
    show_unknown(filters.unknown)
    if chosen.empty:
        show_empty("No such point", "No measured point has this engine, batch and sequence length together.")
        filters.commit()
        return
    say_group(group, chosen)
    course = database.read(history, group.fingerprint, tuple(sorted(chosen["point_key"])))
    names = dict(zip(chosen["point_key"], chosen["series"], strict=True))
    course = course.assign(series=course["point_key"].map(names))
    _show_course(database, group.fingerprint, course, shown, _along(by), logarithmic)
    left_out = explain_neighbours(group, entries) + explain_missing(course, [shown.column])
    show_left_out(
        [
            LeftOut(text.replace("point", "run of a point", 1) if "without figures" in text else text)
            for text in left_out
        ]
    )
    filters.commit()


def _along(name: str) -> Along:
    return "time" if name == "time" else "commit" if name == "commit" else "order"


def _choose_points(filters: Filters, points: pd.DataFrame) -> pd.DataFrame:
    names = sorted(set(points["series"]))
    wanted = filters.choose_many(
        "engine",
        "Engines",
        {token(name): name for name in names},
        most=MOST_SERIES,
        placeholder=f"all, up to {MOST_SERIES}",
    )
    left = (
        points[[token(name) in wanted for name in points["series"]]]
        if wanted
        else points[points["series"].isin(names[:MOST_SERIES])]
    )
    for name, label in (("batch", "Batch"), ("seq", "Sequence length")):
        counts = left[name].value_counts()
        values = {f"{value:g}": f"{value:,.0f}" for value in sorted(set(left[name].dropna()))}
        if values:
            value = filters.choose(name, label, values, default=f"{counts.index[0]:g}" if len(counts) else None)
            left = left[left[name] == float(value)]
    return left


def _show_course(
    database: Database, fingerprint: str, course: pd.DataFrame, shown: Figure, along: Along, logarithmic: bool
) -> None:
    drawn = drawable(course, [shown.column])
    if drawn.empty:
        show_empty("Nothing to draw", "No run of these points has this figure; what became of them is listed below.")
        return
    marks = marks_of(database, drawn, shown)
    verdicts = database.read(gate_marks, fingerprint, tuple(sorted(set(drawn["point_key"]))))
    marks = add_verdicts(marks, verdicts, drawn)
    chart = trend_chart(drawn, marks, shown, current_look(), along=along, logarithmic=logarithmic)
    event: Any = st.altair_chart(
        chart,
        width="stretch",
        theme=None,
        key="trends.chart",
        on_select="rerun",
        selection_mode="picked",
        alt=f"{shown.axis} over runs",
    )
    _show_picked(course, shown, _picked(event))
    for row in rows_of(marks):
        if row.kind == "step":
            st.markdown(f"- **{markdown(row.text)}** from {markdown(row.run)} on")
    if int(drawn["run_id"].nunique()) == 1:
        st.caption("One run so far. Measure these points again, after a change or every night, and the course shows.")
    else:
        st.caption(
            "Click on a dot to open its run. Dashed: a change of the environment, or of the level (found over runs, at odds "
            "below 1 in 1,000 and 3 % or more; a reader's aid, not a verdict). Solid: a gate's verdict, thin where it passed, "
            "dotted where the change was accepted."
        )
    if len(drawn) and int(course["launches"].sum()) >= MOST_LAUNCHES:
        st.caption(f"Only the latest {MOST_LAUNCHES:,} launches are read.")
    st.html(runs_table(course, shown))
    offer("trends", public(course), {"Chart as SVG": chart})


def marks_of(database: Database, drawn: pd.DataFrame, shown: Figure) -> pd.DataFrame:
    """Rules for the chart: where the environment changed, and where the level did. Columns `run_id`, `run`, `kind`, `text`."""
    runs = drawn.drop_duplicates("run_id")
    ids = tuple(sorted({int(each) for each in runs["environment_id"]}))
    details = database.read(environment_details, ids) if len(ids) > 1 else {}
    rows: list[dict[str, str]] = []
    previous: Any = None
    for row in rows_of(runs):
        if previous is not None and row.environment_id != previous.environment_id:
            found = differences(details.get(int(previous.environment_id), {}), details.get(int(row.environment_id), {}))
            words = [
                f"{path.rpartition('.')[2]} {short(one or DASH, 16)} → {short(two or DASH, 16)}"
                for path, one, two in found
            ]
            text = words[0] + (f" and {len(words) - 1} more" if len(words) > 1 else "") if words else "environment"
            rows.append({"run_id": row.run_id, "run": _run_text(row), "kind": "environment", "text": text})
        previous = row
    several = drawn["series"].nunique() > 1
    for series, part in drawn.groupby("series", sort=True):
        for step in find_level_changes(part[shown.column].tolist()):
            at = part.iloc[step.index]
            prefix = f"{series} " if several else ""
            rows.append(
                {
                    "run_id": at["run_id"],
                    "run": _run_text(at),
                    "kind": "step",
                    "text": f"{prefix}level {change(step.ratio)}",
                }
            )
    return pd.DataFrame(rows, columns=["run_id", "run", "kind", "text"])


def add_verdicts(marks: pd.DataFrame, verdicts: pd.DataFrame, drawn: pd.DataFrame) -> pd.DataFrame:
    """The marks, and those of the gates' verdicts (rows of `gate_marks`) on runs that are drawn."""
    runs = {row.run_id: _run_text(row) for row in rows_of(drawn.drop_duplicates("run_id"))}
    series = dict(zip(drawn["point_key"], drawn["series"], strict=True))
    found = [each | {"run": runs[each["run_id"]]} for each in mark_rows(verdicts, series) if each["run_id"] in runs]
    return pd.concat([marks, pd.DataFrame(found, columns=marks.columns)], ignore_index=True) if found else marks


def _run_text(row: Any) -> str:
    return f"{short(row.run_label, 40) or row.run_id} of {moment(row.run_started)}"


def _picked(event: Any) -> str | None:
    found = event.selection.get("picked") if event is not None else None
    return str(found[0]["run_id"]) if found else None


def _show_picked(course: pd.DataFrame, shown: Figure, run_id: str | None) -> None:
    rows = course[course["run_id"] == run_id]
    if run_id is None or rows.empty:
        return
    first = rows.iloc[0]
    with st.container(border=True):
        st.markdown(f"**{markdown(_run_text(first), 90)}**, commit {markdown(short(first['commit'], 20))}")
        for row in rows_of(rows):
            st.markdown(
                f"- {markdown(row.series, 80)}: {shown.title} {figure(getattr(row, shown.column))} {shown.unit}, "
                f"{count(row.n, 'sample')} in {count(row.launches, 'launch', 'launches')}"
            )
        shape = {name: f"{first[name]:g}" for name in ("batch", "seq") if known(first[name])}
        with st.container(horizontal=True):
            link("distribution", "Its samples", {"run": run_id, **shape})
            link("compare", "Against the run before", {"mode": "runs", "new": run_id})


def runs_table(course: pd.DataFrame, shown: Figure) -> str:
    """The latest runs of the series as HTML, newest first."""
    columns = [
        Column("run"), Column("started"), Column("commit"), Column("series"), Column("status"),
        Column(shown.title.removeprefix("latency "), shown.unit, number=True), Column("launches", number=True), Column("n", number=True),
    ]  # fmt: skip
    rows: list[list[Cell | str]] = []
    for row in rows_of(course.iloc[::-1].head(MOST_LINES)):
        value = getattr(row, shown.column)
        rows.append(
            [
                Cell(short(row.run_label or row.run_id, 40), "", row.run_id, href("distribution", {"run": row.run_id})),
                moment(row.run_started),
                Cell((row.commit or DASH)[:9], "muted", row.commit or ""),
                row.series,
                Cell(row.status, "muted" if row.status == "ok" else "failed", row.error if known(row.error) else ""),
                Cell(figure(value), "strike" if row.status == "invalid" else ""),
                f"{int(row.launches):,}",
                f"{int(row.n):,}",
            ]
        )
    return table(columns, rows)
