"""Sides whose benchrun is of another version than the gate's own."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from pathlib import Path

from benchrun.backends.catalogue import ModelSpec
from benchrun.backends.contract import Point
from benchrun.results import open_store
from benchrun.runner.gate.interpreters import introduce
from benchrun.runner.gate.outcome import GateOutcome
from benchrun.runner.gate.request import GateRequest, SideRequest
from benchrun.runner.gate.running import Surroundings, run_gate
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.messages import Assignment, Task, decode_assignment, encode_assignment
from benchrun.runner.protocol import Protocol

DOUBLE = Path(__file__).with_name("engine_double.py")
SWEEP = {"backend": "torch", "model": "tiny", "batch": "1", "seq": "32", "device": "cpu", "threads": 1}


def interpreter(folder: Path, name: str, fault: str) -> SideRequest:
    path = folder / name
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{DOUBLE}" {name} 1 {fault} "$@"\n')
    path.chmod(0o755)
    return SideRequest(python=str(path))


def gate(folder: Path, **sweep: object) -> GateOutcome:
    request = GateRequest(
        base=interpreter(folder, "old", "aged"),
        new=interpreter(folder, "new", "none"),
        sweep={**SWEEP, **sweep},
        settings=GateSettings(control=False),
        seed=3,
    )
    with open_store(folder / "gates.db") as store:
        return run_gate(request, store, Surroundings(folder=folder, cache=folder / "cache"))


def test_an_older_benchrun_is_not_told_what_it_can_do_without(tmp_path: Path) -> None:
    outcome = gate(tmp_path)
    assert outcome.exit_code == 0, outcome.points
    assert any("base side's benchrun is another version and does not know energy, progress_s, repeats" in each
               for each in outcome.notes)  # fmt: skip
    assert not any("new side's benchrun" in each for each in outcome.notes)


def test_what_changes_the_quantity_is_never_left_out(tmp_path: Path) -> None:
    base = replace(Protocol(), energy=False)
    point = Point(
        model="tiny", weights="random:0", head="encoder", backend="torch", variant="eager", device="cpu", dtype="fp32",
        batch=1, seq=32, workload="padded", protocol=base.id,
    )  # fmt: skip
    takes = introduce(None, []).takes
    old = {**takes, "protocol": ["iterations", "warmup", "max_time_s", "transfers"]}
    spec = ModelSpec(name="tiny", head="encoder", config={})

    def told(protocol: Protocol, known: dict[str, list[str]]) -> dict[str, object]:
        sent = Assignment(spec, 32, (Task(point, 0),), protocol)
        return json.loads(encode_assignment(sent, known))  # type: ignore[no-any-return]

    assert told(base, old)["protocol"] == {"iterations": 200, "warmup": 10, "max_time_s": 20.0, "transfers": "exclude"}
    assert "cold_cache" in told(replace(base, cold_cache=True), old)["protocol"]  # type: ignore[operator]
    assert told(base, dict(takes)) == told(base, {})  # this version is told everything
    whole = Assignment(spec, 32, (Task(point, 0),), base, sweep=(point,))
    few = {**takes, "assignment": [each for each in takes["assignment"] if each != "settings"]}
    for known in (few, takes, {}):
        assert decode_assignment(encode_assignment(whole, known)) == whole
    assert "settings" not in json.loads(encode_assignment(whole, few))
    assert "settings" in json.loads(encode_assignment(replace(whole, settings={"target": 3}), few))


def test_this_version_tells_what_it_takes() -> None:
    takes = introduce(None, []).takes
    assert set(takes["protocol"]) == {each.name for each in fields(Protocol)}
    assert set(takes["assignment"]) == {each.name for each in fields(Assignment)}
