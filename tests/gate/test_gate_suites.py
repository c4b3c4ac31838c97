"""Gates whose sides are commands: real processes, real files, a real store. Faults never pass."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
from benchrun.runner.errors import UsageError
from benchrun.runner.gate.comparison import SideState, compare_records
from benchrun.runner.gate.outcome import GateOutcome
from benchrun.runner.gate.reports.wording import remarks
from benchrun.runner.gate.request import AcceptanceRequest, GateRequest, SideRequest
from benchrun.runner.gate.running import Surroundings, run_gate
from benchrun.runner.gate.session import GateUpdate
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.stored import find_difference, redecide
from benchrun.runner.gate.verdict import verdict_json

DOUBLE = Path(__file__).with_name("suite_double.py")
QUIET = GateSettings(control=False)  # other tests run beside these: the control would tell of them
Gate = Callable[..., GateOutcome]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "gates.db") as opened:
        yield opened


def command(folder: Path, side: str, ratio: float = 1.0, fault: str = "") -> str:
    return shlex.join([sys.executable, "-I", "-S", str(DOUBLE), "{out}", str(folder / side), str(ratio), fault])


@pytest.fixture
def gate(store: Store, tmp_path: Path) -> Gate:
    """A gate of two suites; `base` and `new` are (ratio, fault)."""

    def run(
        new: tuple[float, str] = (1.0, ""),
        base: tuple[float, str] = (1.0, ""),
        listen: Callable[[GateUpdate], None] | None = None,
        side: SideRequest | None = None,
        around: Surroundings | None = None,
        **changes: Any,
    ) -> GateOutcome:
        request = GateRequest(
            base=SideRequest(command=command(tmp_path, "base", *base)),
            new=side or SideRequest(command=command(tmp_path, "new", *new)),
            settings=QUIET,
            seed=1,
        )
        around = around or Surroundings(folder=tmp_path, cache=tmp_path / "cache")
        if listen is not None:
            around = replace(around, listen=listen)
        return run_gate(replace(request, **changes), store, around)

    return run


def decided_alike(store: Store, outcome: GateOutcome) -> bool:
    """Whether the gate, read back from the store, decides to the same bytes."""
    record = load_gate(store, outcome.id)
    again = redecide(store, record)
    same = verdict_json(again.verdict) == record.gate.document == verdict_json(outcome.verdict)
    return same and find_difference(record, again.verdict) == ""


def test_equal_suites_pass_and_are_stored(gate: Gate, store: Store) -> None:
    updates: list[GateUpdate] = []
    outcome = gate(listen=updates.append)
    assert (outcome.exit_code, outcome.verdict.verdict, outcome.state) == (0, "PASS", "finished")
    assert [each.label for each in outcome.points] == ["bench.py::test_one", "bench.py::test_two"]
    assert outcome.plan.metrics == ("p50",) and outcome.plan.foreign
    assert decided_alike(store, outcome)
    record = load_gate(store, outcome.id)
    assert [(each.place, each.side, each.stage) for each in record.launches] == [
        (0, "base", 0), (1, "new", 0),
        (2, "base", 1), (3, "new", 1), (4, "new", 1), (5, "base", 1), (6, "base", 1), (7, "new", 1),
    ]  # fmt: skip
    for side in ("base", "new"):
        run = store.run(record.sides[side].run_id or "")
        assert (run.run.origin, run.run.state, len(run.points)) == ("gate", "finished", 2)
        assert {run.status(planned) for planned in run.points} == {"ok"}
        assert {each.row.replicate for each in run.measurements} == {
            each.place for each in record.launches if each.side == side and each.stage
        }
    assert [each.launch is not None for each in updates] == [False, True] * 6
    assert {each.metric for each in record.verdicts} == {"p50"} and {each.verdict for each in record.points} == {"PASS"}


def test_a_slower_suite_fails_and_the_comparison_shows_it(gate: Gate, store: Store) -> None:
    outcome = gate((1.2, ""))
    assert (outcome.exit_code, outcome.verdict.verdict) == (1, "FAIL")
    assert all(each.metrics[0].ratio == pytest.approx(1.2, rel=0.01) for each in outcome.points)
    assert decided_alike(store, outcome)
    found = compare_records(store.run(outcome.base.run_id or ""), store.run(outcome.new.run_id or ""))
    assert found.same_session and not found.remarks
    (p50, rate) = found.points[0].metrics if len(found.points[0].metrics) == 2 else (found.points[0].metrics[0], None)
    assert p50.ratio == pytest.approx(1.2, rel=0.01) and p50.low is not None and p50.low > 1.1 and rate is None


def test_what_is_known_beside_the_figures_is_compared_too(
    gate: Gate, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = gate((1.2, ""))
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
    gate: Gate, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = gate((1.2, ""))
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


def test_an_accepted_slowdown_stays_a_fail_and_does_not_fail_the_run(gate: Gate, store: Store) -> None:
    accepted = tuple(
        AcceptanceRequest(point=name, reason="more layers") for name in ("bench.py::test_one", "bench.py::test_two")
    )
    outcome = gate((1.2, ""), accepted=accepted)
    assert (outcome.exit_code, outcome.verdict.verdict) == (0, "FAIL")
    assert {each.accepted for each in load_gate(store, outcome.id).points} == {"more layers"}
    assert decided_alike(store, outcome)


@pytest.mark.parametrize(
    ("fault", "verdict", "reason"),
    [
        ("exits", "MISSING", "exited with status 1; its last words: a test failed"),
        ("exits@3", "MISSING", "exited with status 1"),
        ("killed", "MISSING", "was ended by SIGKILL"),
        ("killed@3", "MISSING", "was ended by SIGKILL"),
        ("empty", "MISSING", "no benchmark ran"),
        ("blank", "MISSING", "wrote no file"),
        ("silent", "MISSING", "wrote no file"),
        ("nan", "MISSING", "NaN"),
        ("dropped", "MISSING", "no longer has this point"),
        ("dropped@2", "MISSING", "no such benchmark"),
        ("twice", "MISSING", "more than once"),
        ("short", "MISSING", "only 3 samples"),
        ("moved", "MISSING", "did not all run on one known hardware"),
        ("milliseconds", "INVALID", "more than a factor of 100"),
        ("same", "INVALID", "copied rows"),
    ],
)
@pytest.mark.parametrize("side", ["base", "new"])
def test_no_fault_passes(gate: Gate, store: Store, side: str, fault: str, verdict: str, reason: str) -> None:
    outcome = gate(**{side: (1.0, fault)})
    assert outcome.exit_code == (0 if (side, fault) == ("base", "dropped") else 3)
    bad = [each for each in outcome.points if each.verdict not in ("PASS", "NEW")]
    if (side, fault) == ("base", "dropped"):  # the other way round it is a new benchmark
        assert [each.verdict for each in outcome.points] == ["PASS", "NEW"]
    else:
        assert bad and {each.verdict for each in bad} == {verdict}
        assert any(reason in each.reason for each in bad), [each.reason for each in bad]
    assert decided_alike(store, outcome)


def test_a_command_that_hangs_is_ended(gate: Gate) -> None:
    outcome = gate((1.0, "hangs"), sweep={"timeout": 1.0})
    assert outcome.exit_code == 3
    assert "took longer than --timeout 1 s" in outcome.points[0].reason


def test_rounds_of_several_calls_are_judged_by_their_own_median(gate: Gate, store: Store) -> None:
    outcome = gate((1.2, "averaged"), (1.0, "averaged"))
    assert outcome.exit_code == 1
    assert decided_alike(store, outcome)
    row = store.run(outcome.new.run_id or "").measurements[0].row
    assert row.host_samples is None and "averaged-rounds" in row.flags
    assert row.host is not None and row.host.n == 12


def test_a_new_benchmark_is_listed(gate: Gate) -> None:
    outcome = gate((1.0, "more"))
    assert outcome.exit_code == 0
    assert [each.verdict for each in outcome.points] == ["PASS", "PASS", "NEW"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aa": True}, "--aa compares a side with itself"),
        ({"side": SideRequest(command="bench")}, "--new-cmd has no {out}"),
        ({"side": SideRequest(command="'bench {out}")}, "no command line"),
        ({"side": SideRequest()}, "--base-cmd and --new-cmd go together"),
        ({"metrics": ("p95",)}, "gates by p50 only"),
        ({"sweep": {"batch": "1"}}, "leave --batch out"),
        ({"cmd_format": "json"}, "unknown --cmd-format"),
        ({"seed": -1}, "--seed -1"),
        ({"sweep": {"timeout": 1e10}}, "--timeout 10000000000.0: it must be from 1 to"),
        ({"sweep": {"timeout": 0.0}}, "--timeout 0.0: it must be from 1 to"),
        ({"sweep": {"threads": 0}}, "--threads 0: it must be from 1 to"),
    ],
)
def test_what_cannot_be_compared_is_refused(gate: Gate, store: Store, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("{", r"\{")):
        gate(**changes)
    assert list_gates(store) == []


def test_equal_commands_need_aa(store: Store, tmp_path: Path) -> None:
    side = SideRequest(command=command(tmp_path, "both"))
    request = GateRequest(base=side, new=side, settings=QUIET, seed=1)
    around = Surroundings(folder=tmp_path, cache=tmp_path / "cache")
    with pytest.raises(UsageError, match="there is nothing to compare"):
        run_gate(request, store, around)
    outcome = run_gate(replace(request, aa=True), store, around)
    assert outcome.exit_code == 0 and outcome.verdict.aa


def test_two_commands_that_fail_are_an_error_of_the_setup(gate: Gate, store: Store) -> None:
    with pytest.raises(UsageError, match=r"neither command measured anything: base: .*SIGKILL.*; new: .*no file"):
        gate((1.0, "silent"), (1.0, "killed"))
    assert list_gates(store) == []


def test_a_command_that_is_not_there(store: Store, tmp_path: Path) -> None:
    request = GateRequest(
        base=SideRequest(command=command(tmp_path, "base")), new=SideRequest(command="no-such-program {out}"),
        settings=QUIET,
    )  # fmt: skip
    outcome = run_gate(request, store, Surroundings(folder=tmp_path, cache=tmp_path))
    assert outcome.exit_code == 3 and "does not start" in outcome.points[0].reason


def test_bounds_end_a_run_as_inconclusive(gate: Gate, store: Store) -> None:
    outcome = gate((1.2, ""), settings=replace(QUIET, max_launches=10))
    assert (outcome.exit_code, outcome.verdict.stopped) == (4, "max_launches")
    assert decided_alike(store, outcome)
    assert outcome.notes[-1].startswith("max_launches 10 leaves no room to confirm an alarm")


def test_time_that_will_not_do_is_told_after_the_first_pair(
    gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limit lets one pair begin and no second one: that is foreseen, and told once, before the end tells it too."""
    updates: list[GateUpdate] = []

    def clock() -> float:
        """An hour leaps by as the first launch begins: far from the limit on either side, however slow this machine is."""
        return time.monotonic() + (3600.0 if updates else 0.0)

    around = Surroundings(folder=tmp_path, cache=tmp_path / "cache", clock=clock, listen=updates.append)
    outcome = gate(around=around, settings=replace(QUIET, max_minutes=30.0))
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


def test_ctrl_c_keeps_what_there_is(gate: Gate, store: Store) -> None:
    def interrupt(update: GateUpdate) -> None:
        if update.launch is not None and update.taken == 6:
            raise KeyboardInterrupt

    outcome = gate((1.2, ""), listen=interrupt)
    assert (outcome.state, outcome.verdict.stopped, outcome.exit_code) == ("interrupted", "interrupted", 4)
    assert "2 of 3 launches a side, interrupted" in outcome.points[0].reason
    assert "interrupted: what had too few launches by then is INCONCLUSIVE" in remarks(outcome)
    record = load_gate(store, outcome.id)
    assert len(record.launches) == 6 and record.gate.state == "interrupted"
    assert store.run(outcome.base.run_id or "").run.state == "interrupted"
    assert decided_alike(store, outcome)


def test_a_gate_that_dies_can_be_shown(gate: Gate, store: Store) -> None:
    def break_down(update: GateUpdate) -> None:
        if update.launch is not None and update.taken == 5:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        gate(listen=break_down)
    (row,) = list_gates(store)
    assert row.verdict is None
    again = redecide(store, load_gate(store, row.id))
    assert (again.verdict.exit_code, again.verdict.stopped) == (4, "interrupted")


def test_other_words_are_no_other_verdict(gate: Gate, store: Store) -> None:
    outcome = gate((1.2, ""))
    record = load_gate(store, outcome.id)
    old = (record.gate.document or "").replace(" % slower on", "% slower on")
    assert old != record.gate.document
    assert find_difference(replace(record, gate=replace(record.gate, document=old)), outcome.verdict) == ""
    other = old.replace('"FAIL"', '"PASS"', 1)
    assert "the rule or the stored launches changed since" in find_difference(
        replace(record, gate=replace(record.gate, document=other)), outcome.verdict
    )


def test_an_acceptance_of_no_point_is_told_before_the_first_launch(gate: Gate, tmp_path: Path) -> None:
    told: list[str] = []

    def stop(_: GateUpdate) -> None:
        told.append("launch")
        raise KeyboardInterrupt

    around = Surroundings(folder=tmp_path, cache=tmp_path / "cache", warn=told.append, listen=stop)
    gate(accepted=(AcceptanceRequest(point="bench.py::tset_one", reason="typo"),), around=around)
    assert told == [
        "an acceptance names 'bench.py::tset_one', which is no point of this gate",
        "the points are: bench.py::test_one; bench.py::test_two",
        "launch",
    ]


def test_warnings_look_alike(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is foreseen from the settings and from the names; progress has no such beginning."""
    progress = GateProgress(Console(stderr=True, width=300))

    def stop(_: GateUpdate) -> None:
        raise KeyboardInterrupt

    around = Surroundings(
        folder=tmp_path, cache=tmp_path / "cache", tell=progress.tell, warn=progress.warn, listen=stop
    )
    gate(
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


def test_a_removed_run_leaves_the_verdict(gate: Gate, store: Store) -> None:
    outcome = gate()
    store.remove_run(outcome.new.run_id or "")
    record = load_gate(store, outcome.id)
    assert record.gate.verdict == "PASS" and record.sides["new"].run_id is None
    again = redecide(store, record)
    assert again.exit_code == 3  # its evidence is gone: it must not pass
    assert "the run of the new side was removed" in find_difference(record, again.verdict)


def test_the_control_runs_beside_every_launch(gate: Gate, store: Store) -> None:
    outcome = gate(settings=GateSettings())
    launches = load_gate(store, outcome.id).launches
    assert all(each.control_ms is not None and each.control_ms > 0 for each in launches if each.stage)
    assert outcome.verdict.control.verdict in ("PASS", "INVALID")  # a busy machine may be INVALID, and says so


# --- git refs ---


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits of a suite, the second one slower by a fifth."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "bench.py").write_text(DOUBLE.read_text())

    def git(*arguments: str) -> None:
        names = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *names, "-C", str(folder), *arguments], check=True, capture_output=True)

    git("init", "-q")
    git("add", "bench.py")
    git("commit", "-q", "-m", "one")
    git("tag", "old")
    slower = (folder / "bench.py").read_text().replace('("test_one", 0.010)', '("test_one", 0.012)')
    (folder / "bench.py").write_text(slower)
    git("commit", "-q", "-a", "-m", "two")
    return folder


def test_git_refs_run_in_trees_of_their_own(repository: Path, store: Store, tmp_path: Path) -> None:
    text = f"python -I bench.py {{out}} {tmp_path / 'count'}"
    told: list[str] = []
    around = Surroundings(folder=repository, cache=tmp_path / "cache", tell=told.append)
    request = GateRequest(
        base=SideRequest(ref="old", command=text), new=SideRequest(command=text), install="", settings=QUIET, seed=1
    )
    (repository / "bench.py").write_text("broken, and not committed")
    outcome = run_gate(request, store, around)
    assert [each.verdict for each in outcome.points] == ["FAIL", "PASS"]
    assert outcome.exit_code == 1
    assert outcome.base.label.startswith("old ") and outcome.new.label.startswith("HEAD ")
    assert outcome.base.commit != outcome.new.commit and len(outcome.base.commit or "") == 40
    assert any("not committed" in each for each in outcome.notes)
    assert not any("is in the cache" in each for each in told)
    accepted = (AcceptanceRequest(point="bench.py::test_one", reason="intended", expiry="old"),)
    expired = run_gate(replace(request, accepted=accepted), store, around)
    assert expired.exit_code == 1 and any("has expired" in each for each in expired.points[0].notes)
    assert sum("is in the cache" in each for each in told) == 2
    open_end = (replace(accepted[0], expiry="HEAD"),)
    assert run_gate(replace(request, accepted=open_end), store, around).exit_code == 0


def test_the_same_commit_twice_needs_aa(repository: Path, store: Store, tmp_path: Path) -> None:
    side = SideRequest(ref="old", command="python bench.py {out}")
    around = Surroundings(folder=repository, cache=tmp_path / "cache")
    with pytest.raises(UsageError, match=r"both sides are 'commit .*there is nothing to compare"):
        run_gate(GateRequest(base=side, new=side, install="", settings=QUIET), store, around)


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
