"""Gates whose sides are commands: real processes, real files, a real store. Faults never pass."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchrun.results import Store
from benchrun.results.gates import list_gates, load_gate
from benchrun.runner.errors import UsageError
from benchrun.runner.gate.comparison import compare_records
from benchrun.runner.gate.request import AcceptanceRequest, GateRequest, SideRequest
from benchrun.runner.gate.running import Surroundings, run_gate
from benchrun.runner.gate.session import GateUpdate
from benchrun.runner.gate.settings import GateSettings
from tests.gate.suites import DOUBLE, QUIET, SuiteGate, command, decided_alike


def test_equal_suites_pass_and_are_stored(suites: SuiteGate, store: Store) -> None:
    updates: list[GateUpdate] = []
    outcome = suites(listen=updates.append)
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


def test_a_slower_suite_fails_and_the_comparison_shows_it(suites: SuiteGate, store: Store) -> None:
    outcome = suites((1.2, ""))
    assert (outcome.exit_code, outcome.verdict.verdict) == (1, "FAIL")
    assert all(each.metrics[0].ratio == pytest.approx(1.2, rel=0.01) for each in outcome.points)
    assert decided_alike(store, outcome)
    found = compare_records(store.run(outcome.base.run_id or ""), store.run(outcome.new.run_id or ""))
    assert found.same_session and not found.remarks
    (p50, rate) = found.points[0].metrics if len(found.points[0].metrics) == 2 else (found.points[0].metrics[0], None)
    assert p50.ratio == pytest.approx(1.2, rel=0.01) and p50.low is not None and p50.low > 1.1 and rate is None


def test_an_accepted_slowdown_stays_a_fail_and_does_not_fail_the_run(suites: SuiteGate, store: Store) -> None:
    accepted = tuple(
        AcceptanceRequest(point=name, reason="more layers") for name in ("bench.py::test_one", "bench.py::test_two")
    )
    outcome = suites((1.2, ""), accepted=accepted)
    assert (outcome.exit_code, outcome.verdict.verdict) == (0, "FAIL")
    assert {each.accepted for each in load_gate(store, outcome.id).points} == {"more layers"}
    assert decided_alike(store, outcome)


FAULTS = [
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
]
BREAKS_THE_FIRST_RUN = ("exits", "killed", "empty", "blank", "silent", "nan", "twice")
LATER = [each for each in FAULTS if each[0] not in BREAKS_THE_FIRST_RUN]


@pytest.mark.parametrize(
    ("side", "fault", "verdict", "reason"), [("new", *each) for each in FAULTS] + [("base", *each) for each in LATER]
)
def test_no_fault_passes(suites: SuiteGate, store: Store, side: str, fault: str, verdict: str, reason: str) -> None:
    outcome = suites((1.0, fault)) if side == "new" else suites(base=(1.0, fault))
    assert outcome.exit_code == (0 if (side, fault) == ("base", "dropped") else 3)
    bad = [each for each in outcome.points if each.verdict not in ("PASS", "NEW")]
    if (side, fault) == ("base", "dropped"):  # the other way round it is a new benchmark
        assert [each.verdict for each in outcome.points] == ["PASS", "NEW"]
    else:
        assert bad and {each.verdict for each in bad} == {verdict}
        assert any(reason in each.reason for each in bad), [each.reason for each in bad]
    assert decided_alike(store, outcome)


@pytest.mark.parametrize(("fault", "reason"), [(each[0], each[2]) for each in FAULTS if each not in LATER])
def test_a_base_that_measures_nothing_is_an_error_of_the_setup(
    suites: SuiteGate, store: Store, fault: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=f"the base command measured nothing .*nothing to compare with: .*{reason}"):
        suites(base=(1.0, fault))
    assert list_gates(store) == []


def test_a_command_that_hangs_is_ended(suites: SuiteGate) -> None:
    outcome = suites((1.0, "hangs"), sweep={"timeout": 1.0})
    assert outcome.exit_code == 3
    assert "took longer than --timeout 1 s" in outcome.points[0].reason


def test_rounds_of_several_calls_are_judged_by_their_own_median(suites: SuiteGate, store: Store) -> None:
    outcome = suites((1.2, "averaged"), (1.0, "averaged"))
    assert outcome.exit_code == 1
    assert decided_alike(store, outcome)
    row = store.run(outcome.new.run_id or "").measurements[0].row
    assert row.host_samples is None and "averaged-rounds" in row.flags
    assert row.host is not None and row.host.n == 12


def test_a_new_benchmark_is_listed(suites: SuiteGate) -> None:
    outcome = suites((1.0, "more"))
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
def test_what_cannot_be_compared_is_refused(
    suites: SuiteGate, store: Store, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message.replace("{", r"\{")):
        suites(**changes)
    assert list_gates(store) == []


def test_equal_commands_need_aa(store: Store, tmp_path: Path) -> None:
    side = SideRequest(command=command(tmp_path, "both"))
    request = GateRequest(base=side, new=side, settings=QUIET, seed=1)
    around = Surroundings(folder=tmp_path, cache=tmp_path / "cache")
    with pytest.raises(UsageError, match="there is nothing to compare"):
        run_gate(request, store, around)
    outcome = run_gate(replace(request, aa=True), store, around)
    assert outcome.exit_code == 0 and outcome.verdict.aa


@pytest.mark.parametrize("side", ["base", "new"])
def test_a_command_that_is_not_there(suites: SuiteGate, store: Store, side: str) -> None:
    """Nothing to judge against is an error of the setup; what the new side no longer has is missing."""
    absent = SideRequest(command="no-such-program {out}")
    if side == "base":
        with pytest.raises(UsageError, match="nothing to compare with: the command no-such-program does not start"):
            suites(base_side=absent)
        assert list_gates(store) == []
    else:
        outcome = suites(side=absent)
        assert outcome.exit_code == 3 and "does not start" in outcome.points[0].reason


def test_the_control_runs_beside_every_launch(suites: SuiteGate, store: Store) -> None:
    outcome = suites(settings=GateSettings())
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
    by_commit = replace(request.base, ref=outcome.base.commit)  # as CI names its merge base
    again = run_gate(replace(request, base=by_commit, accepted=open_end), store, around)
    assert again.exit_code == 0 and again.base.label == (outcome.base.commit or "")[:8]


def test_the_same_commit_twice_needs_aa(repository: Path, store: Store, tmp_path: Path) -> None:
    side = SideRequest(ref="old", command="python bench.py {out}")
    around = Surroundings(folder=repository, cache=tmp_path / "cache")
    with pytest.raises(UsageError, match=r"both sides are 'commit .*there is nothing to compare"):
        run_gate(GateRequest(base=side, new=side, install="", settings=QUIET), store, around)
