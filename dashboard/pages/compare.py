"""Compare: two runs, two engines or two machines, point by point."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from benchrun.dashboard.charts.figures import FIGURES, Figure
from benchrun.dashboard.charts.ratios import ratio_chart
from benchrun.dashboard.comparison import compare_table, names_of_pairs
from benchrun.dashboard.components.database import Database
from benchrun.dashboard.components.downloads import offer
from benchrun.dashboard.components.drawing import current_look, draw
from benchrun.dashboard.components.filters import Filters
from benchrun.dashboard.components.group_filter import choose_group, hardware_label, machine_names
from benchrun.dashboard.components.notices import LeftOut, show_empty, show_left_out, show_unknown
from benchrun.dashboard.components.run_filter import choose_run, run_options, run_text
from benchrun.dashboard.components.text import markdown
from benchrun.dashboard.formats import count, distinct_short, named, short, token
from benchrun.dashboard.labels import add_series
from benchrun.dashboard.pages.overview import FIRST_SWEEP
from benchrun.dashboard.selection import STATUS_WORDS
from benchrun.dashboard.sentences import CROSS_SESSION, findings
from benchrun.dashboard.tabular import public
from benchrun.results.views.catalogue import Group, GroupEntry, groups, machines
from benchrun.results.views.environments import differences
from benchrun.results.views.frames import rows_of
from benchrun.results.views.history import environment_details
from benchrun.results.views.latest import MOST_POINTS, latest_results, run_results
from benchrun.results.views.pairing import SAME_POINT, SAME_SHAPE, Pairs, pair
from benchrun.results.views.runs import RunEntry, planned_count, run_before
from benchrun.results.views.summaries import summarise

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Connection

MODES = {"runs": "Two runs", "engines": "Two engines", "machines": "Two machines"}
MOST_DRAWN = 40
MOST_TRIED = 8  # latest runs among which one is looked for that has a run before it to be compared with
COMPARED = ("p50", "throughput", "p95", "p99", "mean")


@dataclass(frozen=True)
class Sides:
    """What is compared, with its names and what to say beside it."""

    base: pd.DataFrame
    new: pd.DataFrame
    base_name: str
    new_name: str
    on: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    across_time: bool = True


def run_points(connection: Connection, run_id: str) -> pd.DataFrame:
    """One row a point of a run."""
    return add_series(summarise(run_results(connection, run_id)))


def group_points(connection: Connection, group: Group) -> pd.DataFrame:
    """One row a point of a group, from its latest run."""
    return summarise(latest_results(connection, group))


def named_alike(base: pd.DataFrame, new: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two frames of points with series names that mean the same on both sides; thread counts, a machine's own, are left out of them."""
    import pandas as pd

    whole = add_series(pd.concat([base, new], ignore_index=True), ignored=("threads",))
    return whole.iloc[: len(base)], whole.iloc[len(base) :]


def liveliest(points: pd.DataFrame) -> tuple[str, str]:
    """The two series that share the most measured shapes: what a reader most likely wants to see first."""
    shapes = {
        name: set(zip(part["batch"], part["seq"], strict=True))
        for name, part in points[points["status"] == "ok"].groupby("series", sort=True)
    }
    names = [*shapes, *sorted(set(points["series"]) - set(shapes))]
    pairs = [(first, second) for place, first in enumerate(names) for second in names[place + 1 :]]
    return max(pairs, key=lambda each: len(shapes.get(each[0], set()) & shapes.get(each[1], set())))


def show(database: Database) -> None:
    """The page."""
    st.title("Compare")
    entries = database.read(groups)
    if not entries:
        show_empty(
            "Nothing to compare yet",
            "Two measured runs, engines or machines can be laid side by side here. A first sweep takes a minute:",
            [FIRST_SWEEP],
        )
        return
    filters = Filters("compare")
    mode = filters.choose("mode", "What", MODES, kind="segments")
    if mode == "runs":
        chosen = _choose_runs(database, filters)
    else:
        choose = _choose_engines if mode == "engines" else _choose_machines
        chosen = choose(database, filters, entries)
    if chosen is None:
        show_unknown(filters.unknown)
        filters.commit()
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        figure = FIGURES[
            filters.choose("figure", "Figure", {name: FIGURES[name].axis for name in COMPARED}, default="p50")
        ]
    show_unknown(filters.unknown)
    result = pair(chosen.base, chosen.new, chosen.on, figure=figure.column, more_is_better=figure.more_is_better)
    _show_result(chosen, result, figure)
    filters.commit()


def _show_result(sides: Sides, result: Pairs, figure: Figure) -> None:
    left_out = [LeftOut(text) for text in (*sides.left_out, *_missing(result))]
    if result.rows.empty:
        show_empty("No point to compare", "The two sides share no point that both measured with a right answer.")
    else:
        rows = result.rows.assign(name=names_of_pairs(result.rows))
        st.markdown(
            f"**{markdown(sides.new_name, 90)}** against **{markdown(sides.base_name, 90)}**, {figure.title}. {findings(rows['word'])}"
        )
        drawn = rows.head(MOST_DRAWN)
        chart = draw(
            ratio_chart(drawn, current_look(), base="the first", new="the second", figure=figure),
            f"differences in {figure.title} with 95 % intervals",
        )
        if len(rows) > MOST_DRAWN:
            st.caption(f"Drawn: the {MOST_DRAWN} that matter most. The table has all {len(rows):,}.")
        st.html(compare_table(rows, figure))
        offer("compare", public(rows), {"Chart as SVG": chart})
    across = sides.across_time and not result.rows.empty
    for note in (*sides.notes, CROSS_SESSION) if across else sides.notes:
        st.caption(markdown(note, 900))
    show_left_out(left_out)


def _missing(result: Pairs) -> list[str]:
    found = []
    if len(result.failed):
        reasons = Counter(_why_failed(row) for row in rows_of(result.failed))
        parts = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        found.append(
            f"{count(len(result.failed), 'point')} without a right answer and this figure on both sides: {parts}."
        )
    for number, name in ((result.only_base, "first"), (result.only_new, "second")):
        if number:
            found.append(f"{count(number, 'point')} that only the {name} side has.")
    return found


def _why_failed(pair: Any) -> str:
    """The first side's reason, else the second's."""
    for side, name in (("base", "first"), ("new", "second")):
        status = getattr(pair, f"status_{side}")
        if status != "ok":
            return f"{STATUS_WORDS.get(status, short(status, 20))} on the {name} side"
    return "lacking the figure"


def _choose_runs(database: Database, filters: Filters) -> Sides | None:
    runs = run_options(database, "base", "new")
    if len(runs) < 2:
        show_empty(
            "One run so far",
            "Measure a second run to compare it with the first one:",
            ["benchrun --backend torch --model tiny --batch 1,8 --seq 32,128 --label second"],
        )
        return None
    with st.container(horizontal=True, gap="small"):
        slot = st.container(width="content")
        comparable = next((key for key in list(runs)[:MOST_TRIED] if database.read(run_before, key) is not None), None)
        new = choose_run(filters, "new", "Second run", runs, default=comparable)
        before = database.read(run_before, new.id)
        usual = before if before in runs else _other(runs, new)
        with slot:
            base = choose_run(filters, "base", "First run", runs, default=usual)
    left_out = []
    for entry in (base, new):
        planned = database.read(planned_count, entry.id)
        if planned > MOST_POINTS:
            left_out.append(f"{run_text(entry)}: all but its first {MOST_POINTS:,} of {planned:,} points.")
    left, right = database.read(run_points, base.id), database.read(run_points, new.id)
    left_out += _protocols(left, right)
    notes = list(_software(database, base, new)) if base.environment_id != new.environment_id else []
    if before is None and base.id == usual:  # not where the visitor chose another one
        notes.insert(
            0, "No run before the second one has any of its points on this machine: choose the first one above."
        )
    return Sides(left, right, run_text(base), run_text(new), SAME_POINT, tuple(left_out), tuple(notes))


def _other(runs: dict[str, RunEntry], new: RunEntry) -> str | None:
    """Another run, of the same machine where there is one."""
    others = [key for key in runs if key != new.id]
    return next((key for key in others if runs[key].fingerprint == new.fingerprint), next(iter(others), None))


def _protocols(base: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    """Points never pair over different protocol ids or workloads, because both are part of the point's key; say so where it matters."""
    found = []
    for column, word in (("protocol", "protocol ids"), ("workload", "workloads")):
        theirs, ours = set(base[column].dropna()), set(new[column].dropna())
        if theirs and ours and not theirs & ours:
            found.append(f"everything: the two runs used different {word}, and such figures are never compared.")
    return found


def _software(database: Database, base: RunEntry, new: RunEntry) -> list[str]:
    details = database.read(environment_details, (base.environment_id, new.environment_id))
    found = differences(details.get(base.environment_id, {}), details.get(new.environment_id, {}))
    if not found:
        return []
    text = "; ".join(
        f"{path} {short(one or 'nothing', 40)} → {short(two or 'nothing', 40)}" for path, one, two in found[:8]
    )
    more = f" and {len(found) - 8} more (see Machine)" if len(found) > 8 else ""
    hardware = "Different hardware. " if base.fingerprint != new.fingerprint else ""
    return [f"{hardware}What differs between the environments: {text}{more}."]


def _choose_engines(database: Database, filters: Filters, entries: list[GroupEntry]) -> Sides | None:
    with st.container(horizontal=True, gap="small"):
        group = choose_group(filters, entries, database.read(machines))
    points = add_series(database.read(group_points, group), ignored=("threads",))
    names = sorted(set(points["series"]))
    if len(names) < 2:
        show_empty(
            "One engine so far",
            "Only one engine, dtype and option set was measured for this model and head on this hardware:",
            ["benchrun --backend torch:eager,torch:compile …"],
        )
        return None
    options = {token(name): name for name in names}
    with st.container(horizontal=True, gap="small"):
        usual = [token(name) for name in liveliest(points)]
        first = filters.choose("first", "First", options, default=usual[0], width=300)
        other = next(key for key in (*reversed(usual), *options) if key != first)
        second = filters.choose("second", "Second", options, default=other, width=300)
    base, new = (points[points["series"] == options[key]] for key in (first, second))
    return Sides(
        base,
        new,
        options[first],
        options[second],
        SAME_SHAPE,
        across_time=bool(set(base["run_id"]) != set(new["run_id"])),
    )


def _choose_machines(database: Database, filters: Filters, entries: list[GroupEntry]) -> Sides | None:
    seen = database.read(machines)
    shared = _shared_groups(entries)
    if not shared:
        show_empty(
            "No model on two machines yet",
            "Measure the same model, head, workload and protocol on a second machine and bring its database here:",
            ["benchrun merge OTHER.db"],
        )
        return None
    names = machine_names(seen)
    with st.container(horizontal=True, gap="small"):
        key = filters.choose(
            "what",
            "Model, head, workload",
            {token(_group_key(each[0].group)): _group_text(each[0].group) for each in shared},
            width=300,
        )
        chosen = next((each for each in shared if token(_group_key(each[0].group)) == key), shared[0])
        labels = distinct_short([hardware_label(each.group, seen, names) for each in chosen], 56)
        options = {token(f"{e.group.fingerprint}/{named(e.group.device)}"): e.group for e in chosen}
        text = {key: labels[hardware_label(group, seen, names)] for key, group in options.items()}
        first = filters.choose("first", "First machine", text, width=300)
        second = filters.choose(
            "second", "Second machine", text, default=next(key for key in text if key != first), width=300
        )
    base, new = named_alike(*(database.read(group_points, options[key]) for key in (first, second)))
    notes = []
    threads = [sorted({int(value) for value in side["threads"].dropna()}) for side in (base, new)]
    if threads[0] != threads[1]:
        notes.append(f"Thread counts: {', '.join(map(str, threads[0]))} and {', '.join(map(str, threads[1]))}.")
    return Sides(base, new, text[first], text[second], ("series", *SAME_SHAPE), notes=tuple(notes))


def _group_key(group: Group) -> str:
    return "|".join(named(part) for part in (group.model, group.overrides, group.head, group.workload, group.protocol))


def _group_text(group: Group) -> str:
    return short(f"{named(group.model)} · {named(group.head)} · {named(group.workload)}", 64)


def _shared_groups(entries: list[GroupEntry]) -> list[list[GroupEntry]]:
    """Groups that were measured on several machines or devices."""
    found: dict[str, list[GroupEntry]] = {}
    for entry in entries:
        found.setdefault(_group_key(entry.group), []).append(entry)
    return [each for each in found.values() if len(each) > 1]
