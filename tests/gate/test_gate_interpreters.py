"""Gates whose sides are interpreters, with a worker that costs nothing; stored baselines; and torch once, for real."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchrun.results import Store
from benchrun.results.gates import list_gates, load_gate
from benchrun.runner.errors import UsageError
from benchrun.runner.gate.interpreters import find_interpreter, introduce
from benchrun.runner.gate.limits import parse_limit
from benchrun.runner.gate.outcome import GateOutcome
from benchrun.runner.gate.request import GateRequest, SideRequest
from benchrun.runner.gate.running import Surroundings, run_gate
from benchrun.runner.gate.session import GateUpdate
from tests.gate.suites import QUIET, decided_alike

DOUBLE = Path(__file__).with_name("engine_double.py")
SWEEP = {"backend": "torch", "model": "tiny", "batch": "1,2", "seq": "32", "device": "cpu", "threads": 1}
Make = Callable[..., str]


@pytest.fixture
def interpreter(tmp_path: Path) -> Make:
    """The path of an interpreter of that name whose worker is slower by a ratio, or misbehaves."""

    def make(name: str, ratio: float = 1.0, fault: str = "none") -> str:
        path = tmp_path / name / "bin" / "python"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{DOUBLE}" {name} {ratio} {fault} "$@"\n')
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def gate(store: Store, tmp_path: Path) -> Callable[..., GateOutcome]:
    def run(
        base: str | SideRequest | None = None,
        new: str | SideRequest | None = None,
        listen: Any = None,
        clock: Callable[[], float] | None = None,
        **changes: Any,
    ) -> GateOutcome:
        one, other = (each if isinstance(each, SideRequest) else SideRequest(python=each) for each in (base, new))
        request = GateRequest(base=one, new=other, sweep=SWEEP, settings=QUIET, seed=3)
        around = Surroundings(folder=tmp_path, cache=tmp_path / "cache")
        if listen is not None:
            around = replace(around, listen=listen)
        if clock is not None:
            around = replace(around, clock=clock)
        return run_gate(replace(request, **changes), store, around)

    return run


Gate = Callable[..., GateOutcome]


def test_interpreters_are_compared_each_with_its_own_worker(gate: Gate, interpreter: Make, store: Store) -> None:
    outcome = gate(interpreter("old"), interpreter("new", 1.15))
    assert outcome.exit_code == 1 and {each.verdict for each in outcome.points} == {"FAIL"}
    assert all(each.metrics[0].ratio == pytest.approx(1.15, rel=0.01) for each in outcome.points)
    assert outcome.plan.metrics == ("p50", "throughput")
    assert any("torch 2.12.0 > 2.13.0" in each for each in outcome.notes)
    assert [each.label for each in outcome.points] == [
        "torch:eager tiny encoder fp32 b1 s32 cpu",
        "torch:eager tiny encoder fp32 b2 s32 cpu",
    ]
    assert decided_alike(store, outcome)
    run = store.run(outcome.base.run_id or "")
    assert run.run.environment.details["libraries"] == {"torch": "2.12.0"}
    assert run.run.request["sweeps"][0]["models"] == ["tiny"]
    assert "/" not in outcome.base.subject  # no paths of a user


def test_equal_interpreters_pass(gate: Gate, interpreter: Make, store: Store) -> None:
    outcome = gate(interpreter("old"), interpreter("new"))
    assert (outcome.exit_code, outcome.verdict.launches) == (0, 6)
    assert decided_alike(store, outcome)


@pytest.mark.parametrize(
    ("fault", "verdict", "reason"),
    [
        ("dies", "MISSING", "crashed in launch"),
        ("few", "MISSING", "only 10 samples"),
        ("hot", "INVALID", "throttled"),
    ],
)
def test_no_fault_passes(gate: Gate, interpreter: Make, store: Store, fault: str, verdict: str, reason: str) -> None:
    outcome = gate(interpreter("old"), interpreter("new", 1.0, fault))
    assert outcome.exit_code == 3
    assert {each.verdict for each in outcome.points} == {verdict}
    assert reason in outcome.points[0].reason
    assert decided_alike(store, outcome)


def test_what_the_new_side_lacks_is_missing_or_an_error(gate: Gate, interpreter: Make) -> None:
    with pytest.raises(UsageError, match="torch is not installed"):
        gate(interpreter("old"), interpreter("new", 1.0, "lacking"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [("bare", "cannot measure, for it has no working benchrun"), ("mute", r"gives no answer .*it is broken")],
)
def test_an_interpreter_that_cannot_measure_is_refused(gate: Gate, interpreter: Make, fault: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gate(interpreter("old"), interpreter("new", 1.0, fault))


def test_one_interpreter_twice_needs_aa(gate: Gate, interpreter: Make, store: Store) -> None:
    same = interpreter("old")
    with pytest.raises(UsageError, match="there is nothing to compare"):
        gate(same, same)
    outcome = gate(same, same, aa=True)
    assert outcome.exit_code == 0 and outcome.verdict.aa
    assert list_gates(store)[0].plan["aa"] is True


def test_another_machine_in_the_middle_is_missing(
    gate: Gate, interpreter: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchrun.runner.gate import sweep_side

    calls = iter(range(1000))
    monkeypatch.setattr(sweep_side, "read_fingerprint", lambda _: "driver-2" if next(calls) > 5 else "driver-1")
    outcome = gate(interpreter("old"), interpreter("new"))
    assert outcome.exit_code == 3 and "one known hardware" in outcome.points[0].reason


def test_options_of_one_side(gate: Gate, interpreter: Make, store: Store) -> None:
    same = interpreter("old")
    sides = {
        "base": SideRequest(python=same, options={"dtype": "fp32"}),
        "new": SideRequest(python=same, options={"dtype": "bf16", "torch.attention": "eager"}),
    }
    outcome = gate(**sides)
    assert outcome.exit_code == 0 and outcome.new.label.endswith("dtype=bf16, torch.attention=eager")
    assert outcome.points[0].label == "torch:eager tiny encoder fp32>bf16 b1 s32 cpu"
    point = load_gate(store, outcome.id).points[0]
    assert point.base_key != point.new_key and decided_alike(store, outcome)
    with pytest.raises(UsageError, match="give 2 and 3 points"):
        gate(**{**sides, "new": SideRequest(python=same, options={"batch": "1,2,4"})})
    with pytest.raises(UsageError, match="timeout is the same for both sides"):
        gate(**{**sides, "new": SideRequest(python=same, options={"timeout": 3})})


def test_ctrl_c_inside_a_launch(gate: Gate, interpreter: Make, store: Store) -> None:
    def interrupt(update: GateUpdate) -> None:
        if update.launch is None and update.taken == 7:
            raise KeyboardInterrupt

    outcome = gate(interpreter("old"), interpreter("new", 1.15), interrupt)
    assert outcome.state == "interrupted" and outcome.exit_code == 4
    assert decided_alike(store, outcome)


def test_a_stored_run_decides_only_when_sessions_are_known(gate: Gate, interpreter: Make, store: Store) -> None:
    old, new = interpreter("old"), interpreter("new")
    first = gate(old, new)
    assert first.exit_code == 0

    def against(python: str, **changes: Any) -> GateOutcome:
        return gate(None, python, sweep={}, baseline=first.base.run_id, **changes)

    early = against(interpreter("slow", 1.4))
    assert (early.exit_code, early.kind) == (4, "baseline")
    assert "sessions are stored" in early.points[0].reason and decided_alike(store, early)
    for _ in range(3):
        gate(old, new)
    slow, same = against(interpreter("slow", 1.4)), against(new)
    assert slow.exit_code == 1 and slow.verdict.warnings[0].startswith("cross-session")
    assert same.exit_code == 0 and same.points[0].metrics[0].stage == "baseline"
    limited = against(new, limits=(parse_limit("p50_ms=1e-6"), parse_limit("p50_ms=1e6")))
    assert (limited.exit_code, [each.verdict for each in limited.points[0].limits]) == (1, ["FAIL", "PASS"])
    assert limited.points[0].reason.endswith("the limit is 1e-06") and decided_alike(store, limited)
    with pytest.raises(UsageError, match="--max-launches 4 decides nothing: --baseline takes 5 launches"):
        against(new, settings=replace(QUIET, max_launches=4))
    with pytest.raises(UsageError, match=r"--timeout 0\.5 is too small"):  # it holds for a stored run's points too
        gate(None, new, sweep={"timeout": 0.5}, baseline=first.base.run_id)
    with pytest.raises(UsageError, match="the gate cannot go by p51"):
        against(new, metrics=("p51",))
    gate(old, new)  # one more session must not change what was decided
    assert decided_alike(store, slow) and decided_alike(store, same)
    with pytest.raises(UsageError, match="is the new side of a gate"):
        gate(None, new, sweep={}, baseline=first.new.run_id)
    dead = against(interpreter("dead", 1.0, "dies"))
    assert dead.exit_code == 3 and "crashed" in dead.points[0].reason
    assert against(interpreter("hot", 1.0, "hot")).exit_code == 3
    few = against(interpreter("few", 1.0, "few"))
    assert few.exit_code == 3 and "only 10 samples" in few.points[0].reason


@pytest.mark.parametrize("ratio", [1.0, 1.4])
def test_a_stored_run_is_not_judged_by_a_part(ratio: float, gate: Gate, interpreter: Make, store: Store) -> None:
    """Two of five launches would do for the statistics, but the run was to be of five; all five were taken: then they do."""
    old, new = interpreter("old"), interpreter("new")
    first, *_ = (gate(old, new) for _ in range(3))
    leap, told = [0.0], list[GateUpdate]()

    def late(update: GateUpdate) -> None:
        told.append(update)
        leap[0] += 280.0 if update.launch is None else 0.0

    def interrupt(update: GateUpdate) -> None:
        if update.launch is not None and update.taken == 5:
            raise KeyboardInterrupt

    def against(**changes: Any) -> GateOutcome:
        return gate(None, interpreter("now", ratio), sweep={}, baseline=first.base.run_id, **changes)

    limits = (parse_limit("p50_ms=1e-6"), parse_limit("p50_ms=1e6"))
    cut = against(
        listen=late, clock=lambda: time.monotonic() + leap[0], settings=replace(QUIET, max_minutes=9.0), limits=limits
    )
    assert (cut.exit_code, cut.verdict.stopped, cut.verdict.launches) == (4, "max_minutes", 2)
    assert cut.points[0].reason == "2 of 5 launches, ended by max_minutes" and decided_alike(store, cut)
    assert [each.verdict for each in cut.points[0].limits] == ["INCONCLUSIVE"] * 2
    warnings = [each.warning for each in told if each.warning]
    assert len(warnings) == 1 and "confirm" not in warnings[0]
    whole = against(listen=interrupt)
    assert (whole.state, whole.exit_code) == ("interrupted", 0 if ratio == 1.0 else 1) and decided_alike(store, whole)


def test_a_baseline_that_cannot_be_measured_again(gate: Gate, store: Store, tmp_path: Path) -> None:
    from benchrun.results.importers.writing import import_files

    data = Path(__file__).parents[1] / "importers" / "data" / "pytest_benchmark"
    report = import_files(store, "auto", [next(data.glob("*.json"))])
    assert report.files[0].run_id is not None, report
    with pytest.raises(UsageError, match="was not measured by a sweep"):
        gate(None, None, sweep={}, baseline=report.files[0].run_id)


def test_this_interpreter_introduces_itself() -> None:
    told = introduce(None, [("torch", "eager"), ("nothing", "x")])
    assert told.prefix == sys.prefix and told.libraries["torch"]
    assert told.missing["torch:eager"] is None and "unknown backend" in (told.missing["nothing:x"] or "")


def test_a_folder_of_a_virtual_environment_is_an_interpreter(interpreter: Make, tmp_path: Path) -> None:
    path = interpreter("env")
    assert find_interpreter(str(tmp_path / "env")) == path
    with pytest.raises(UsageError, match="no Python interpreter"):
        find_interpreter(str(tmp_path / "nothing"))


def test_torch_for_real(bench: Any) -> None:
    """Whether it passes, the machine decides; that it measures, stores and decides alike is ours."""
    ran = bench("gate", "--aa", "--model", "tiny", "--seq", "32", "--iterations", "40", "--device", "cpu",
                "--threads", "1", "--max-minutes", "0.01", "--set", "warmup=false", "--json")  # fmt: skip
    assert ran.status in (3, 4), ran.err
    assert json.loads(ran.out)["exit_code"] == ran.status
    shown = bench("gate", "show", "last", "--json")
    assert (shown.status, shown.out) == (ran.status, ran.out)
