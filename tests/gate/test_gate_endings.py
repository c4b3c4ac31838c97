"""How a gate run ends, what it tells, and what is kept of it to be decided again, shown and compared; sides are commands."""

from __future__ import annotations

import json
import math
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchrun.results import Store, open_store
from benchrun.results.gates import list_gates, load_gate
from benchrun.results.records import RunRecord
from benchrun.runner.cli.compare_command import compare_document, print_comparison, tell_flags
from benchrun.runner.cli.gate_command import GateProgress
from benchrun.runner.gate.comparison import SideState, compare_records
from benchrun.runner.gate.reports.wording import remarks
from benchrun.runner.gate.request import AcceptanceRequest
from benchrun.runner.gate.running import Surroundings
from benchrun.runner.gate.session import GateUpdate
from benchrun.runner.gate.stored import find_difference, redecide
from tests.gate.processes import is_running, wait_until
from tests.gate.suites import QUIET, SuiteGate, command, decided_alike


def test_bounds_end_a_run_as_inconclusive(suites: SuiteGate, store: Store) -> None:
    outcome = suites((1.2, ""), settings=replace(QUIET, max_launches=10))
    assert (outcome.exit_code, outcome.verdict.stopped) == (4, "max_launches")
    assert decided_alike(store, outcome)
    assert outcome.notes[-1].startswith("max_launches 10 leaves no room to confirm an alarm")


def test_ctrl_c_keeps_what_there_is(suites: SuiteGate, store: Store) -> None:
    def interrupt(update: GateUpdate) -> None:
        if update.launch is not None and update.taken == 6:
            raise KeyboardInterrupt

    outcome = suites((1.2, ""), listen=interrupt)
    assert (outcome.state, outcome.verdict.stopped, outcome.exit_code) == ("interrupted", "interrupted", 4)
    assert "2 of 3 launches a side, interrupted" in outcome.points[0].reason
    assert "interrupted: what had too few launches by then is INCONCLUSIVE" in remarks(outcome)
    record = load_gate(store, outcome.id)
    assert len(record.launches) == 6 and record.gate.state == "interrupted"
    assert store.run(outcome.base.run_id or "").run.state == "interrupted"
    assert decided_alike(store, outcome)


# as `timeout` sends it, to the process and to its group; as CI services do
@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_sigterm_ends_a_gate_as_ctrl_c_does(bench: Any, tmp_path: Path, signals: tuple[int, int]) -> None:
    """CI cancels a job while a command runs: what was measured is kept, and the command is ended with it."""
    base, new = command(tmp_path, "base"), command(tmp_path, "new", 1.0, "hangs@3")
    process = bench.start("gate", "--base-cmd", base, "--new-cmd", new, "--set", "control=false", "--seed", "1")
    wait_until(lambda: (tmp_path / "new").exists() and (tmp_path / "new").read_text() == "4")
    assert is_running(str(tmp_path / "new"))
    for number in signals:
        process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in told, told
    with open_store(bench.db) as store:
        (row,) = list_gates(store)
        record = load_gate(store, row.id)
        runs = [store.run(each.run_id or "") for each in record.sides.values()]
    assert told.splitlines()[-1] == f"benchrun: interrupted; what was measured is kept as gate {row.id}"
    assert (row.state, row.stopped, row.exit_code) == ("interrupted", "interrupted", 4)
    assert {run.run.state for run in runs} == {"interrupted"}
    assert [len(run.measurements) for run in runs] == [6, 4]  # two points a launch
    assert not is_running(str(tmp_path / "new"))


def test_a_gate_that_dies_can_be_shown(suites: SuiteGate, store: Store) -> None:
    def break_down(update: GateUpdate) -> None:
        if update.launch is not None and update.taken == 5:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        suites(listen=break_down)
    (row,) = list_gates(store)
    assert row.verdict is None
    again = redecide(store, load_gate(store, row.id))
    assert (again.verdict.exit_code, again.verdict.stopped) == (4, "interrupted")


def test_other_words_are_no_other_verdict(suites: SuiteGate, store: Store) -> None:
    outcome = suites((1.2, ""))
    record = load_gate(store, outcome.id)
    old = (record.gate.document or "").replace(" % slower on", "% slower on")
    assert old != record.gate.document
    assert find_difference(replace(record, gate=replace(record.gate, document=old)), outcome.verdict) == ""
    other = old.replace('"FAIL"', '"PASS"', 1)
    assert "the rule or the stored launches changed since" in find_difference(
        replace(record, gate=replace(record.gate, document=other)), outcome.verdict
    )


def test_a_removed_run_leaves_the_verdict(suites: SuiteGate, store: Store) -> None:
    outcome = suites()
    store.remove_run(outcome.new.run_id or "")
    record = load_gate(store, outcome.id)
    assert record.gate.verdict == "PASS" and record.sides["new"].run_id is None
    again = redecide(store, record)
    assert again.exit_code == 3  # its evidence is gone: it must not pass
    assert "the run of the new side was removed" in find_difference(record, again.verdict)


# --- what it tells ---


def test_time_that_will_not_do_is_told_after_the_first_pair(
    suites: SuiteGate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limit lets one pair begin and no second one: that is foreseen, and told once, before the end tells it too."""
    updates: list[GateUpdate] = []

    def clock() -> float:
        """An hour leaps by as the first launch begins: far from the limit on either side, however slow this machine is."""
        return time.monotonic() + (3600.0 if updates else 0.0)

    around = Surroundings(folder=tmp_path, cache=tmp_path / "cache", clock=clock, listen=updates.append)
    outcome = suites(around=around, settings=replace(QUIET, max_minutes=30.0))
    assert (outcome.exit_code, outcome.verdict.stopped) == (4, "max_minutes")
    ended = [each for each in updates if each.launch is not None]
    assert [bool(each.warning) for each in ended] == [False, True]
    assert "will not be enough" in ended[1].warning and "the launches known to come" in ended[1].warning
    assert math.isnan(ended[0].left_s) and ended[1].left_s > 0
    progress = GateProgress(Console(stderr=True, width=80))
    for each in updates:
        progress.launch(each)
    told = capsys.readouterr().err.splitlines()
    assert told[1].startswith("launch 4 of at least 8 · screening · new · 2 points · ") and told[1].endswith(" s")
    assert told[2].startswith("benchrun: the limit of 30 min will not be enough")


def test_an_acceptance_of_no_point_is_told_before_the_first_launch(suites: SuiteGate, tmp_path: Path) -> None:
    told: list[str] = []

    def stop(_: GateUpdate) -> None:
        told.append("launch")
        raise KeyboardInterrupt

    around = Surroundings(folder=tmp_path, cache=tmp_path / "cache", warn=told.append, listen=stop)
    suites(accepted=(AcceptanceRequest(point="bench.py::tset_one", reason="typo"),), around=around)
    assert told == [
        "an acceptance names 'bench.py::tset_one', which is no point of this gate",
        "the points are: bench.py::test_one; bench.py::test_two",
        "launch",
    ]


def test_warnings_look_alike(suites: SuiteGate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is foreseen from the settings and from the names; progress has no such beginning."""
    progress = GateProgress(Console(stderr=True, width=300))

    def stop(_: GateUpdate) -> None:
        raise KeyboardInterrupt

    around = Surroundings(
        folder=tmp_path, cache=tmp_path / "cache", tell=progress.tell, warn=progress.warn, listen=stop
    )
    suites(
        accepted=(AcceptanceRequest(point="nothing", reason="typo"),),
        settings=replace(QUIET, max_launches=10),
        around=around,
    )
    beginnings = [line[:24] for line in capsys.readouterr().err.splitlines()]
    assert beginnings == [
        "running both commands on",
        "benchrun: max_launches 1",
        "benchrun: an acceptance ",
        "benchrun: the points are",
    ]


def test_what_is_known_beside_the_figures_is_compared_too(
    suites: SuiteGate, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = suites((1.2, ""))
    one, two = (store.run(side.run_id or "") for side in (outcome.base, outcome.new))
    key = next(iter(one.by_point))

    def noted(record: RunRecord, **changes: object) -> RunRecord:
        rows = [replace(each, row=replace(each.row, **changes)) for each in record.measurements]  # type: ignore[arg-type]
        return replace(record, measurements=tuple(rows))

    found = compare_records(one, noted(two, flags=("noisy_host",), joules_per_seq=0.25))
    point = next(each for each in found.points if each.key == key)
    assert point.new == SideState(flags=("noisy_host",), joules_per_seq=0.25)
    assert point.base == SideState(flags=("imported", "trust:samples"))
    assert compare_document(found)["points"][0]["new"]["flags"] == ["noisy_host"]
    print_comparison(found)
    shown = " ".join(capsys.readouterr().out.split())
    assert "the new run is flagged noisy_host: all points" in shown
    assert "the base run is flagged imported: all points" in shown  # unlike the new one
    assert "J/seq – 0.25" in shown and "of ceiling" not in shown


def test_flags_that_both_sides_of_a_suite_have_are_told_once_or_not_at_all(
    suites: SuiteGate, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = suites((1.2, ""))
    one, two = (store.run(side.run_id or "") for side in (outcome.base, outcome.new))
    found = compare_records(one, two)
    monkeypatch.setenv("COLUMNS", "80")
    print_comparison(found)
    shown = capsys.readouterr().out
    assert "flagged" not in shown and "imported" not in shown
    assert "test_one  p50 ms" in shown  # the names are whole beside the figures
    averaged = SideState(flags=("imported", "trust:mean"))
    points = tuple(replace(each, base=averaged, new=averaged) for each in found.points)
    assert tell_flags(replace(found, points=points)) == ["both runs are flagged trust:mean: all points"]
    points = (points[0], replace(points[1], new=SideState(flags=("throttled", "trust:mean"))))
    assert tell_flags(replace(found, points=points)) == [
        "the base run is flagged imported: all points",
        f"the new run is flagged imported: {points[0].label}",
        "both runs are flagged trust:mean: all points",
        f"the new run is flagged throttled: {points[1].label}",
    ]


# --- the command ---


def test_the_command_tells_its_verdict_and_shows_it_again(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    base, new = command(tmp_path, "base"), command(tmp_path, "new", 1.2)
    (tmp_path / "benchrun.toml").write_text(
        '[gate]\ncontrol = false\nlimits = ["p50_ms=1000"]\n[[gate.accept]]\npoint = "bench.py::test_two"\nreason = "so be it"\n'
    )
    ran = bench("gate", "--base-cmd", base, "--new-cmd", new, "--json", "--seed", "1", "--label", "try",
                "--junit", "gate.xml")  # fmt: skip
    assert ran.status == 1, ran.err
    document = json.loads(ran.out)
    assert "launch 3 of at least 8 · screening · base · 2 points" in ran.err
    assert (tmp_path / "gate.xml").read_text().startswith("<?xml")
    shown = bench("gate", "show", "last", "--json")
    assert (shown.status, shown.out) == (1, ran.out)
    with open_store(bench.db) as store:
        (row,) = list_gates(store)
    assert row.label == "try" and row.id in ran.out and document["exit_code"] == 1
    monkeypatch.setenv("BENCHRUN_DB", str(bench.db))
    from benchrun.runner.cli import run

    assert run(["gate", "ls"]) == 0
    assert "FAIL" in capsys.readouterr().out
    assert run(["gate", "ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gates"][0]["id"] == row.id
    assert run(["compare", f"{row.id}-base", f"{row.id}-new", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["points"][0]["metrics"][0]["ratio"] > 1.15
    assert run(["compare", f"{row.id}-base", f"{row.id}-new"]) == 0
    assert "time new" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to compare"),
        (["--aa", "--cmd", "x"], "has no {out}"),
        (["--base-ref", "HEAD", "--base-python", "x", "--aa"], "two ways to choose one side"),
        (["--new-ref", "HEAD"], "--new-ref needs --base-ref"),
        (["--aa", "--set", "alpha=2"], "alpha is 2"),
        (["--aa", "--set", "alhpa=0.1"], "no setting 'alhpa'"),
        (["--aa", "--limit", "p50"], "is no limit"),
        (["--aa", "--accept", "x"], "--accept and --reason go together"),
        (["--aa", "--accept", "x", "--reason", "y", "--until", "a", "--until", "b"], "--until goes with --accept"),
        (["--aa", "--metric", "p42"], "cannot go by p42"),
        (["--baseline", "last", "--aa"], "--baseline is the base side itself"),
        (["--baseline", "last", "--batch", "1"], "leave the options of a sweep out"),
        (["show", "nothing"], "there is no"),
    ],
)
def test_wrong_usage_is_exit_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from benchrun.runner.cli import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCHRUN_DB", str(tmp_path / "runs.db"))
    assert run(["gate", *arguments]) == 2
    assert message in capsys.readouterr().err
