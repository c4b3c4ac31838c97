"""Published: our figures beside the tables that vendors printed, with what differs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import streamlit as st

from benchrun.dashboard.beside import (
    Compared,
    chart_frame,
    compared,
    lay_out,
    like_for_like,
    published_table,
    table_words,
    taken_away,
)
from benchrun.dashboard.charts.published import published_chart
from benchrun.dashboard.components.database import Database
from benchrun.dashboard.components.downloads import offer
from benchrun.dashboard.components.drawing import current_look, draw
from benchrun.dashboard.components.filters import Filters
from benchrun.dashboard.components.group_filter import hardware_label, machine_names
from benchrun.dashboard.components.notices import show_unknown
from benchrun.dashboard.components.text import markdown
from benchrun.dashboard.formats import count, distinct_short, hardware, named, short, token
from benchrun.dashboard.labels import add_series
from benchrun.dashboard.markup import Cell, pairs
from benchrun.dashboard.recipes import OWN, command_for
from benchrun.results.published import (
    ComparisonRow,
    MeasuredPoint,
    PublishedRow,
    PublishedTable,
    compare,
    load,
    published_tables,
)
from benchrun.results.published.tables import condition_names
from benchrun.results.views.catalogue import Group, GroupEntry, groups, machines
from benchrun.results.views.latest import latest_results
from benchrun.results.views.measured import facts_of, measured_points
from benchrun.results.views.summaries import summarise

if TYPE_CHECKING:
    from sqlalchemy import Connection


def our_points(connection: Connection, group: Group, name: str) -> list[MeasuredPoint]:
    """A group's latest points for a comparison; `name` is the hardware's."""
    points = add_series(summarise(latest_results(connection, group)))
    facts = facts_of(connection, sorted(set(points["run_id"])), sorted(set(points["point_key"])))
    return measured_points(points, name, facts)


def show(database: Database) -> None:
    """The page."""
    st.title("Published")
    filters = Filters("published")
    tables = published_tables()
    seen = database.read(machines)
    models = {row.model for each in tables for row in each.rows}
    entries = [
        entry
        for entry in database.read(groups)
        if entry.group.model in models and not entry.group.protocol.startswith("import")
    ]
    with st.container(horizontal=True, gap="small"):
        ours = _choose_ours(filters, entries, database)
        measured: list[MeasuredPoint] = []
        if ours is not None:
            details = next((machine.details for machine in seen if machine.fingerprint == ours.fingerprint), {})
            measured = database.read(our_points, ours, hardware(details, ours.device))
        matches = {each.name: like_for_like(compare(measured, each)) for each in tables}
        usual = max(tables, key=lambda each: _likeness(each, matches[each.name])).name
        name = filters.choose(
            "table", "Published table", {each.name: short(each.title, 80) for each in tables}, default=usual, width=560
        )
    chosen = load(name)
    rows = _narrow(filters, chosen, matches[name][0].published if matches[name] else None)
    show_unknown(filters.unknown)
    orders = {row.order for row in rows}
    beside = [row for row in matches[name] if row.published.order in orders]
    what = compared(rows, beside)
    drawn = _show_chart(chosen, rows, beside, what)
    if not beside:
        _show_how(ours, chosen, rows)
    _show_rows(rows, beside, what, drawn)
    _show_differences(beside)
    _show_source(chosen)
    filters.commit()


def _likeness(table: PublishedTable, beside: list[ComparisonRow]) -> tuple[bool, int, int]:
    """How well a table fits our points: somebody else's that has any pair first, then pairs with the same head, then all pairs."""
    theirs = bool(beside) and not table.name.startswith(OWN)
    return theirs, sum(row.published.head == row.measured.head for row in beside), len(beside)


def _choose_ours(filters: Filters, entries: list[GroupEntry], database: Database) -> Group | None:
    if not entries:
        return None
    seen = database.read(machines)
    names = machine_names(seen)
    texts = {
        token(
            "|".join(named(part) for part in _identity(entry.group))
        ): f"{hardware_label(entry.group, seen, names)} · {named(entry.group.model)} · {named(entry.group.head)}"
        for entry in entries
    }
    labels = distinct_short(texts.values(), 72)
    by_token = {token("|".join(named(part) for part in _identity(entry.group))): entry.group for entry in entries}
    largest = max(entries, key=lambda entry: (_is_in(entry.group, st.query_params.get("table")), entry.points)).group
    usual = token("|".join(named(part) for part in _identity(largest)))
    options = {key: labels[text] for key, text in texts.items()}
    return by_token[filters.choose("ours", "Our measurements", options, default=usual, width=420)]


def _is_in(group: Group, name: str | None) -> bool:
    """Whether a published table, where the link names one, has this model with this head."""
    return any(
        row.model == group.model and row.head == group.head
        for each in published_tables()
        if each.name == name
        for row in each.rows
    )


def _identity(group: Group) -> tuple[Any, ...]:
    return (group.fingerprint, group.device, group.model, group.overrides, group.head, group.workload, group.protocol)


def _narrow(filters: Filters, chosen: PublishedTable, usual: PublishedRow | None) -> list[PublishedRow]:
    """Rows of one model, dtype and sequence length of the table, by default those of `usual`."""
    rows = list(chosen.rows)
    with st.container(horizontal=True, gap="small"):
        for name, label, of in (
            ("pmodel", "Model", lambda row: row.model),
            ("pdtype", "Dtype", lambda row: row.dtype),
            ("pseq", "Sequence length", lambda row: named(row.seq)),
        ):
            options = {token(value): str(value) for value in dict.fromkeys(of(row) for row in rows)}
            value = filters.choose(
                name, label, options, default=token(of(usual)) if usual is not None else None, show=len(options) > 1
            )
            rows = [row for row in rows if token(of(row)) == value]
    return rows


def _show_chart(
    chosen: PublishedTable, rows: list[PublishedRow], beside: list[ComparisonRow], what: Compared
) -> dict[str, Any]:
    """The chart, where there is one, for its download."""
    frame = chart_frame(chosen, rows, beside, what)
    if frame.empty:
        st.caption("No row of this part has both a batch and this figure, so nothing is drawn; its figures are below.")
        return {}
    title = what.figure.title
    chart = draw(published_chart(frame, what.figure, current_look()), f"{title} over batch, published and ours")
    st.caption(
        f"The table's {markdown(title)} over the batch, as printed: dashed lines, hollow dots."
        + (" Solid: ours, of the latest runs." if beside else "")
    )
    return {"Chart as SVG": chart}


def _show_how(ours: Group | None, chosen: PublishedTable, rows: list[PublishedRow]) -> None:
    command = command_for(chosen, rows)
    if command is None:
        st.markdown("benchrun has no such model: nothing of ours can stand beside it.")
        return
    text = (
        "No measurement of ours has this model, dtype, sequence length and batch."
        if ours is not None
        else "Nothing of ours has this model yet."
    )
    st.markdown(f"{text} To lay yours beside it:")
    st.code(command, language=None)


def _show_rows(rows: list[PublishedRow], beside: list[ComparisonRow], what: Compared, charts: dict[str, Any]) -> None:
    st.html(published_table(rows, beside, what))
    if beside:
        better = "below 1" if not what.figure.more_is_better else "above 1"
        st.caption(f"Ours ÷ theirs: {markdown(what.figure.title)}, {better} where ours is faster.")
    words = table_words(lay_out(rows, beside, what), beside, what)
    if words:
        st.caption(markdown(" ".join(words), 900))
    offer("published", taken_away(rows, beside), charts)


def _show_differences(beside: list[ComparisonRow]) -> None:
    if not beside:
        return
    st.subheader("What differs")
    st.markdown("A ratio above means something only as far as these conditions do not matter.")
    for title, field in (("Known to differ", "differs"), ("Stated by one side only", "unknown")):
        counts = Counter(text for row in beside for text in getattr(row, field))
        if counts:
            lines = "\n".join(
                f"- {markdown(text)}" + (f" ({number} of {len(beside)} pairs)" if number < len(beside) else "")
                for text, number in counts.most_common()
            )
            st.markdown(f"**{title}**\n\n{lines}")
    st.caption(
        "Only what both sides recorded can be compared: a condition that is not listed need not have been the same."
    )


def _show_source(chosen: PublishedTable) -> None:
    st.subheader("Source and conditions")
    about = [(name, str(value)) for name, value in {**chosen.source, **chosen.hardware, **chosen.software}.items()]
    about += [(name, getattr(chosen.protocol, name) or "not stated") for name in condition_names()]
    st.html(pairs([(name, Cell(short(value, 150), "muted" if value == "not stated" else "")) for name, value in about]))
    if chosen.caveats or chosen.odd:
        with st.expander(f"Caveats and cells that look wrong ({len(chosen.caveats) + len(chosen.odd)})"):
            lines = [*chosen.caveats, *(f"row {order}: {what}" for order, what in chosen.odd)]
            st.markdown("\n".join(f"- {markdown(text, 400)}" for text in lines))
    st.caption(f"{count(len(chosen.rows), 'row')}, as printed; times are milliseconds.")
