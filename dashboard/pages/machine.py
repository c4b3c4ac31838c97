"""Machine: what was measured on, in which environments, and how well each engine is known there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from benchrun.dashboard.charts.roofline import roofline_chart
from benchrun.dashboard.components.database import Database
from benchrun.dashboard.components.downloads import offer
from benchrun.dashboard.components.drawing import current_look, draw
from benchrun.dashboard.components.filters import Filters
from benchrun.dashboard.components.notices import show_empty, show_unknown
from benchrun.dashboard.components.run_filter import choose_run
from benchrun.dashboard.formats import (
    DASH,
    count,
    distinct_short,
    engine_text,
    figure,
    hardware,
    known,
    moment,
    named,
    short,
    size,
)
from benchrun.dashboard.markup import Cell, Column, sections, table
from benchrun.dashboard.pages.overview import FIRST_SWEEP
from benchrun.results.views.catalogue import Machine, machines
from benchrun.results.views.environments import EnvironmentUse, differences, engine_evidence, environment_uses, flatten
from benchrun.results.views.frames import rows_of
from benchrun.results.views.roofline import placed_points, roofs
from benchrun.results.views.runs import run_list

if TYPE_CHECKING:
    import pandas as pd

MOST_RUNS = 200


def show(database: Database) -> None:
    """The page."""
    st.title("Machine")
    seen = database.read(machines)
    if not seen:
        show_empty(
            "No machine yet", "The first run records its hardware, driver and library versions here:", [FIRST_SWEEP]
        )
        return
    filters = Filters("machine")
    names = distinct_short([f"{hardware(machine.details)} · {machine.fingerprint}" for machine in seen], 64)
    options = {machine.fingerprint: names[f"{hardware(machine.details)} · {machine.fingerprint}"] for machine in seen}
    fingerprint = filters.choose("machine", "Hardware", options, width=420)
    uses = database.read(environment_uses)
    own = [use for use in uses if use.fingerprint == fingerprint]
    show_unknown(filters.unknown)
    machine = next(each for each in seen if each.fingerprint == fingerprint)
    _show_facts(machine)
    _show_ceilings(database, filters, fingerprint)
    _show_engines(database.read(engine_evidence, fingerprint))
    _show_environments(own)
    _show_differences(filters, uses, own)
    filters.commit()


def _show_facts(machine: Machine) -> None:
    st.html(sections(facts_by_section(flatten(machine.details))))
    st.caption(f"The newest environment of this hardware, fingerprint {machine.fingerprint}.")


def _show_ceilings(database: Database, filters: Filters, fingerprint: str) -> None:
    st.subheader("Ceilings")
    found = database.read(roofs, fingerprint)
    if found.empty:
        st.markdown("What this machine can do at most was not measured yet; a few minutes and it is:")
        st.code("benchrun ceilings", language="bash")
    else:
        st.html(roofs_table(found))
    runs = {entry.id: entry for entry in database.read(run_list, "", MOST_RUNS) if entry.fingerprint == fingerprint}
    if not runs:
        return
    with st.container(horizontal=True, gap="small"):
        run = choose_run(filters, "under", "Points of the run", runs)
    points = database.read(placed_points, fingerprint, run.id)
    points = points[(points["status"] == "ok") & points["tflop_s"].gt(0) & points["flops_per_byte"].gt(0)]
    if points.empty:
        st.caption("This run recorded no operation counts, so its points have no place under a roof.")
        return
    points = points.drop_duplicates("point_key").assign(
        series=[engine_text(row.backend, row.variant) for row in rows_of(points.drop_duplicates("point_key"))]
    )
    holding = found
    if not found.empty:  # ceilings of other thread counts are other machines' roofs
        threads = set(points["threads"].dropna())
        holding = found[found["dtype"].isin(set(points["dtype"]))]
        holding = holding[holding["threads"].isin(threads)] if threads else holding
    chart = draw(
        roofline_chart(points, holding, current_look()),
        "achieved TFLOP/s against FLOP a byte, under the machine's roof",
    )
    st.caption(
        "A dot is a point of the run: what it achieved, against how much it computes for each byte that it must move. "
        + (
            "Dashed: what this machine was measured to do at most."
            if not holding.empty
            else "No ceiling that holds for these points (device, dtype, threads) was measured, so no roof is drawn."
        )
    )
    offer("roofline", points, {"Chart as SVG": chart})


def roofs_table(found: pd.DataFrame) -> str:
    """Rows of `roofline.roofs` as HTML."""
    columns = [
        Column("device"), Column("dtype"), Column("threads", number=True), Column("matrix product", "TFLOP/s", number=True),
        Column("copy", "GB/s", number=True), Column("launch", "µs", number=True), Column("ridge", "FLOP a byte", number=True),
        Column("measured"),
    ]  # fmt: skip
    rows: list[list[Cell | str]] = [
        [
            named(row.device), named(row.dtype), f"{int(row.threads)}" if known(row.threads) else DASH, _scaled(row.flops_s, 1e-12),
            _scaled(row.bytes_s, 1e-9), _scaled(row.launch_s, 1e6), _scaled(row.ridge_flops_per_byte, 1), moment(row.measured),
        ]
        for row in rows_of(found)
    ]  # fmt: skip
    return table(columns, rows)


def _scaled(value: Any, factor: float) -> str:
    return figure(value * factor) if known(value) else DASH


def facts_by_section(facts: Mapping[str, str]) -> list[tuple[str, list[tuple[str, Cell | str]]]]:
    """Recorded details (path → text) in sections by the first word of their paths; what stands alone comes first."""
    found: dict[str, list[tuple[str, Cell | str]]] = {"machine": []}
    for path, value in facts.items():
        section, dot, name = path.partition(".")
        label = (name if dot else section).removesuffix("_bytes").replace(".", " ").replace("_", " ")
        label = f"{label[:-2]}, W" if label.endswith(" w") else label
        found.setdefault(section if dot else "machine", []).append((label, detail_text(path, value)))
    return [(title.replace("_", " ").capitalize(), entries) for title, entries in found.items() if entries]


def detail_text(path: str, value: str | None, most: int = 200) -> str:
    """A recorded detail as a reader wants it: bytes in binary units, the rest cut to `most` characters; a dash for nothing."""
    if not value:
        return DASH
    return size(value) if path.endswith("_bytes") and value.isdigit() else short(value, most)


def detail_texts(path: str, one: str | None, two: str | None, most: int = 200) -> tuple[str, str]:
    """Two details that differ, in full where they would read alike."""
    first, second = detail_text(path, one, most), detail_text(path, two, most)
    return (first, second) if first != second else (one or DASH, two or DASH)


def _show_engines(evidence: pd.DataFrame) -> None:
    st.subheader("Engines seen here")
    if evidence.empty:
        st.markdown("None in the latest runs.")
        return
    columns = [
        Column("engine"), Column("device"), Column("dtype"), Column("launches", number=True), Column("ok", number=True),
        Column("answer right", number=True), Column("not compared", number=True), Column("wrong answer", number=True),
        Column("failed or skipped", number=True), Column("largest error", "relative L2", number=True), Column("what that shows"),
    ]  # fmt: skip
    rows: list[list[Cell | str]] = [
        [
            Cell(engine_text(row.backend, row.variant), "strong"), named(row.device), named(row.dtype),
            f"{row.launches:,}", f"{row.ok:,}", f"{row.right:,}",
            Cell(f"{row.unchecked:,}", "" if row.unchecked else "muted"), Cell(f"{row.invalid:,}", "failed" if row.invalid else "muted"),
            Cell(f"{row.other:,}", "failed" if row.other else "muted"), f"{row.worst:.1e}" if known(row.worst) else DASH,
            evidence_words(row.ok, row.right, row.invalid),
        ]
        for row in rows_of(evidence)
    ]  # fmt: skip
    st.html(table(columns, rows))
    st.caption(
        "From the latest 20 runs on this hardware. It shows what ran here; how far the project itself verified each "
        "engine is what 'benchrun backends' prints."
    )


def evidence_words(ok: int, right: int, invalid: int) -> Cell:
    """What launches say of an engine on a machine."""
    if invalid:
        return Cell("gave wrong answers", "failed")
    if right and right == ok:
        return Cell("executed, every answer right", "strong")
    if right:
        return Cell("executed, answers partly compared")
    return Cell("executed, answers not compared") if ok else Cell("never executed here", "muted")


def _show_environments(own: list[EnvironmentUse]) -> None:
    st.subheader("Environments")
    columns = [
        Column("number", number=True),
        Column("runs", number=True),
        Column("first used"),
        Column("last used"),
        Column("what sets it apart from the one before"),
    ]
    rows: list[list[Cell | str]] = []
    ordered = sorted(
        own, key=lambda use: (use.first.timestamp() if use.first else 0.0, use.id)
    )  # a merge numbers as it comes
    for before, use in zip([None, *ordered], ordered, strict=False):
        changes = differences(before.details, use.details) if before is not None else []
        text = "; ".join(
            f"{path.rpartition('.')[2].removesuffix('_bytes')} {' → '.join(detail_texts(path, one, two, 24))}"
            for path, one, two in changes[:4]
        )
        more = f" and {len(changes) - 4} more" if len(changes) > 4 else ""
        rows.append(
            [
                f"{use.id}",
                f"{use.runs:,}",
                moment(use.first),
                moment(use.last),
                Cell((text or "first one") + more, "" if text else "muted"),
            ]
        )
    st.html(table(columns, rows[::-1]))


def _show_differences(filters: Filters, uses: list[EnvironmentUse], own: list[EnvironmentUse]) -> None:
    st.subheader("Two environments side by side")
    if len(uses) < 2:
        st.markdown(
            "There is one environment so far; a second one (other hardware, another driver or library version) can be "
            "compared with it here."
        )
        return
    options = {str(use.id): f"{use.id} · {short(hardware(use.details), 40)} · {moment(use.last)}" for use in uses}
    with st.container(horizontal=True, gap="small"):
        first = filters.choose(
            "first",
            "First",
            options,
            default=str(own[-1].id if len(own) > 1 else next(u.id for u in uses if u.id != own[0].id)),
            width=420,
        )
        second = filters.choose("second", "Second", options, default=str(own[0].id), width=420)
    by_id = {str(use.id): use for use in uses}
    found = differences(by_id[first].details, by_id[second].details)
    if not found:
        st.markdown("They are the same." if first == second else "No recorded detail differs.")
        return
    st.markdown(f"{count(len(found), 'detail')} {'differs' if len(found) == 1 else 'differ'}:")
    columns = [Column("detail"), Column("first"), Column("second")]
    st.html(
        table(
            columns,
            [
                [path, *(Cell(text, "muted" if text == DASH else "") for text in detail_texts(path, one, two, 1000))]
                for path, one, two in found
            ],
        )
    )
