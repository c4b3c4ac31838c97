"""Overview: what ran lately, what it changed, what failed, and on which hardware."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import streamlit as st

from benchrun.dashboard.addresses import href
from benchrun.dashboard.charts.ratios import ratio_chart
from benchrun.dashboard.comparison import names_of_pairs
from benchrun.dashboard.components.database import Database
from benchrun.dashboard.components.drawing import current_look, draw
from benchrun.dashboard.components.notices import show_empty
from benchrun.dashboard.components.text import markdown
from benchrun.dashboard.formats import DASH, ago, count, engine_text, hardware, known, moment, short
from benchrun.dashboard.gates import gates_table, verdicts_table
from benchrun.dashboard.markup import Cell, Column, table
from benchrun.dashboard.sentences import CROSS_SESSION, findings, point_text
from benchrun.results.views.catalogue import Machine, machines
from benchrun.results.views.changes import latest_changes
from benchrun.results.views.failures import latest_failures
from benchrun.results.views.frames import rows_of
from benchrun.results.views.gates import latest_gates, open_verdicts
from benchrun.results.views.ratios import LEAST_EFFECT, certain_size
from benchrun.results.views.runs import RunOutcome, latest_outcomes, totals

MOST_CHANGES = 14
MOST_FAILURES = 12
MOST_VERDICTS = 12
MOST_GATES = 6
FIRST_SWEEP = "benchrun --backend torch --model tiny --batch 1,8 --seq 32,128"
_STATES = {"running": "in progress", "finished": "finished", "interrupted": "interrupted"}


def show(database: Database) -> None:
    """The page."""
    st.title("Overview")
    outcomes = database.read(latest_outcomes)
    if not outcomes:
        show_empty(
            "Nothing measured yet",
            "This database is ready and holds no run. A first sweep takes a minute:",
            [FIRST_SWEEP],
        )
        return
    seen = database.read(machines)
    _show_totals(database, outcomes)
    for outcome in outcomes:
        if outcome.entry.state == "running":
            _show_progress(outcome)
    st.subheader("Latest runs")
    st.html(runs_table(outcomes, seen, datetime.now(UTC)))
    _show_changes(database.read(latest_changes), len(outcomes))
    _show_gates(database)
    _show_failures(database.read(latest_failures))
    st.subheader("Hardware")
    st.html(machines_table(seen))


def _show_totals(database: Database, outcomes: list[RunOutcome]) -> None:
    numbers = database.read(totals)
    with st.container(horizontal=True, gap="medium"):
        for label, value in (
            ("Runs", numbers.runs),
            ("Points", numbers.points),
            ("Measurements", numbers.measurements),
            ("Machines", numbers.machines),
        ):
            st.metric(label, f"{value:,}", width=140)
        st.metric("Last run", ago(outcomes[0].entry.started, datetime.now(UTC)), width=220)


def _show_progress(outcome: RunOutcome) -> None:
    done = outcome.ok + outcome.failed
    name = markdown(outcome.entry.label or outcome.entry.id, 60)
    with st.container(border=True):
        text = (
            f"**{name}** is measuring: {done:,} of {count(outcome.points, 'point')} done. This page follows by itself."
        )
        st.progress(done / outcome.points if outcome.points else 0.0, text=text)


def runs_table(outcomes: list[RunOutcome], seen: list[Machine], now: datetime) -> str:
    """The latest runs as HTML."""
    details = {machine.fingerprint: machine.details for machine in seen}
    columns = [
        Column("run"), Column(""), Column("started"), Column("state"), Column("ok", number=True), Column("failed", number=True),
        Column("left", number=True), Column("model"), Column("engines"), Column("hardware"), Column("commit"),
    ]  # fmt: skip
    rows: list[list[Cell | str]] = []
    for outcome in outcomes:
        entry = outcome.entry
        rest = outcome.points - outcome.ok - outcome.failed
        engines = ", ".join(engine_text(backend, variant) for backend, variant in outcome.engines)
        rows.append(
            [
                Cell(short(entry.label or entry.id, 40), "strong", entry.id, href("distribution", {"run": entry.id})),
                Cell(
                    "compare",
                    "",
                    "with the run before it on the same machine",
                    href("compare", {"mode": "runs", "new": entry.id}),
                ),
                Cell(ago(entry.started, now), "", moment(entry.started)),
                Cell(_STATES.get(entry.state, entry.state), "muted" if entry.state == "finished" else "strong"),
                Cell(f"{outcome.ok:,}", "" if outcome.ok else "muted", f"of {count(outcome.points, 'point')}"),
                Cell(f"{outcome.failed:,}", "failed" if outcome.failed else "muted"),
                Cell(f"{rest:,}", "strong" if rest else "muted", "not measured (yet)"),
                Cell(short(", ".join(outcome.models) or DASH, 32), "", ", ".join(outcome.models)),
                Cell(short(engines or DASH, 40), "", engines),
                Cell(short(hardware(details.get(entry.fingerprint, {})), 30), "", f"fingerprint {entry.fingerprint}"),
                Cell((entry.commit or DASH)[:9], "muted", entry.commit or "started outside a repository"),
            ]
        )
    return table(columns, rows)


def _show_changes(changes: pd.DataFrame, runs: int) -> None:
    st.subheader("What changed")
    if changes.empty:
        latest = "latest run" if runs == 1 else f"latest {runs} runs"
        st.markdown(f"No series of the {latest} was measured before: nothing to compare yet.")
        return
    broken = changes[(changes["status_new"] != "ok") & (changes["status_base"] == "ok")]
    both = changes[changes["word"].notna()]
    st.markdown(f"Each series' latest run against the one before it. {findings(both['word'])}")
    if len(broken):
        names = ", ".join(markdown(point_text(row), 90) for row in rows_of(broken.head(5)))
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        st.warning(
            f"**{count(len(broken), 'point')} that worked before failed:** {names}{more}.", icon=":material/error:"
        )
    told = most_changed(both)
    if told.empty:
        st.caption(f"No difference stands out. {CROSS_SESSION}")
        return
    named = told.assign(name=names_of_pairs(told))
    draw(
        ratio_chart(named, current_look(), base="the run before", new="the latest run"),
        "differences of p50 to the run before, with intervals",
    )
    bare = int((told["word"] == "one launch").sum())
    drawn = count(len(told), "difference") if len(told) < MOST_CHANGES else f"the {len(told)} largest differences"
    chance = "of one launch on a side, so whether by chance cannot be said"
    said = f", {'' if bare == len(told) else f'{bare} of them '}{chance}" if bare else ""
    st.caption(f"Drawn: {drawn}{said}. {CROSS_SESSION}")


def most_changed(pairs: pd.DataFrame) -> pd.DataFrame:
    """What to draw first: differences that stand out from the spread between launches, the largest certain ones first; then large
    ones of single launches, of which nobody knows."""
    size = abs(np.log(pairs["ratio"].astype(float)))
    told = pairs.assign(certain=certain_size(pairs), size=size)
    sure = told[told["word"].isin(["slower", "faster"])]
    bare = told[(told["word"] == "one launch") & (size >= np.log(LEAST_EFFECT))]
    ordered = [sure.sort_values("certain", ascending=False), bare.sort_values("size", ascending=False)]
    drawn: pd.DataFrame = pd.concat(ordered).head(MOST_CHANGES)
    return drawn


def _show_gates(database: Database) -> None:
    gates = database.read(latest_gates)
    if not gates:
        return  # whoever does not gate has nothing to read here
    st.subheader("Gates")
    verdicts = database.read(open_verdicts)
    if verdicts.empty:
        st.markdown("No verdict is open.")
    else:
        st.markdown(
            f"**{count(len(verdicts), 'open verdict')}**: neither passed nor accepted by the last gate of its name on its machine."
        )
        st.html(verdicts_table(verdicts.head(MOST_VERDICTS)))
        if len(verdicts) > MOST_VERDICTS:
            st.caption(f"and {count(len(verdicts) - MOST_VERDICTS, 'more open verdict')}.")
    st.html(gates_table(gates[:MOST_GATES], datetime.now(UTC)))


def _show_failures(failures: pd.DataFrame) -> None:
    st.subheader("Failed points")
    if failures.empty:
        st.markdown("None in the latest runs.")
        return
    titles = ("run", "point", "status", "phase", "why")
    columns = [*(Column(title) for title in titles), Column("launches", number=True)]
    point = ["run_id", "point_key", "status", "phase", "error", "parity_reason"]
    each = failures.assign(launches=failures.groupby(point, dropna=False)["run_id"].transform("size")).drop_duplicates(
        point
    )
    rows: list[list[Cell | str]] = [
        [
            Cell(short(row.run_label or row.run_id, 32), "", row.run_id, href("distribution", {"run": row.run_id})),
            point_text(row),
            Cell(row.status, "failed"),
            Cell(row.phase or DASH, "muted"),
            short(row.error if known(row.error) else row.parity_reason if known(row.parity_reason) else DASH, 110),
            f"{row.launches}",
        ]
        for row in rows_of(each.head(MOST_FAILURES))
    ]
    st.html(table(columns, rows))
    if len(each) > MOST_FAILURES:
        st.caption(f"and at least {count(len(each) - MOST_FAILURES, 'more failed point')} in the latest runs.")


def machines_table(seen: list[Machine]) -> str:
    """Hardware as HTML."""
    columns = [
        Column("hardware"),
        Column("fingerprint"),
        Column("environments", number=True),
        Column("runs", number=True),
        Column("last used"),
        Column(""),
    ]
    rows: list[list[Cell | str]] = [
        [
            Cell(short(hardware(machine.details), 60), "strong"),
            Cell(machine.fingerprint, "muted"),
            f"{machine.environments:,}",
            f"{machine.runs:,}",
            moment(machine.last),
            Cell("look", "", "environments, versions, engines", href("machine", {"machine": machine.fingerprint})),
        ]
        for machine in seen
    ]
    return table(columns, rows)
