"""Which attempts are made, which one counts, and that the others are kept."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat

import numpy as np
import pytest

from benchrun.runner import attempts, loops
from benchrun.runner.attempts import PAUSE_S, Attempt, choose, measure_attempts, measure_once, split
from benchrun.runner.loops import Latency, Throughput, Timer
from benchrun.runner.protocol import Protocol
from benchrun.runner.telemetry.energy import Energy
from benchrun.runner.telemetry.interface import Telemetry
from benchrun.runner.telemetry.judgement import Judgement
from benchrun.runner.telemetry.state import DeviceState, EnergyCount, HostState, MachineState
from tests.runner.scripted import MS, ScriptedClock, ScriptedSession, ScriptedTime, input_sets

CALM = MachineState(HostState())


def attempt(*flags: str, host: tuple[int, ...] = (1, 2, 3)) -> Attempt:
    latency = Latency(np.array(host, dtype=np.int64), None, False)
    judgement = Judgement(dict.fromkeys(flags, "because"))
    return Attempt(latency, Throughput(3, 1.5, True), Energy(None, "no counter"), CALM, CALM, judgement, 0.0)


class Machine:
    """Attempts as they are scripted, each of `takes_s` seconds on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, script: list[Attempt], takes_s: float) -> None:
        self.now = 0.0
        self._script = iter(script)
        self._takes_s = takes_s
        monkeypatch.setattr(attempts, "measure_once", self._measure_once)

    def measure(self, repeats: int = 2, max_time_s: float = 20.0) -> list[Attempt]:
        protocol = Protocol(repeats=repeats, max_time_s=max_time_s)
        unused: Callable[..., None] = lambda *_: None  # noqa: E731
        return measure_attempts(
            None,
            protocol,
            None,
            unused,
            asynchronous=False,
            pause=self._pass_by,
            clock=lambda: self.now,  # type: ignore[arg-type]
        )

    def _measure_once(self, *_: object, asynchronous: bool) -> Attempt:
        self._pass_by(self._takes_s)
        return next(self._script)

    def _pass_by(self, seconds: float) -> None:
        self.now += seconds


def test_a_good_attempt_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(Machine(monkeypatch, [attempt("unlocked_clocks")], 1).measure()) == 1


def test_a_spoilt_one_is_repeated_until_one_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [attempt("noisy_host"), attempt(), attempt()]
    assert Machine(monkeypatch, script, 1).measure() == script[:2]


def test_repeats_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [attempt("throttled") for _ in range(5)]
    machine = Machine(monkeypatch, script, 1)
    assert machine.measure() == script[:3] and machine.now == 3 + 2 * PAUSE_S
    assert Machine(monkeypatch, script, 1).measure(repeats=0) == script[:1]


@pytest.mark.parametrize(("takes_s", "made"), [(20.0, 1), (9.8, 1), (9.7, 2), (6.3, 3)])
def test_all_attempts_together_fit_into_the_most_time(
    monkeypatch: pytest.MonkeyPatch, takes_s: float, made: int
) -> None:
    machine = Machine(monkeypatch, [attempt("noisy_host") for _ in range(3)], takes_s)
    assert len(machine.measure(max_time_s=20.0)) == made
    assert machine.now <= 20.0


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        ([("noisy_host",), ()], 1),
        ([("noisy_host", "throttled"), ("noisy_host",), ("shared_device",)], 1),
        ([("noisy_host",), ("noisy_host",)], 0),
        ([("noisy_host",), ("unlocked_clocks",)], 1),
    ],
)
def test_the_least_spoilt_counts_and_among_equals_the_first(flags: list[tuple[str, ...]], chosen: int) -> None:
    made = [attempt(*each) for each in flags]
    kept, others = split(made)
    assert choose(flags) == chosen and kept is made[chosen]
    assert others == [each for each in made if each is not kept]


def test_an_attempt_as_fields_of_a_report() -> None:
    fields = attempt("noisy_host").fields(batch=4)
    assert fields["host_ns"] == [1, 2, 3] and fields["device_ns"] is None and fields["flags"] == ["noisy_host"]
    assert fields["throughput_seq_s"] == 8.0 and fields["telemetry"]["reasons"] == {"noisy_host": "because"}
    assert fields["telemetry"]["energy"] == "no counter" and fields["energy_joules"] is None


class Meter:
    """A device of 700 watts whose counter steps ten times a second; telemetry's host and device in one."""

    def __init__(self, time: ScriptedTime) -> None:
        self._time = time

    def read(self) -> DeviceState:
        return DeviceState("nvidia")

    def energy(self) -> EnergyCount:
        return EnergyCount(700 * self._time() / 1e9, 0.1)


@pytest.mark.parametrize("asked", [True, False])
def test_only_who_asks_for_joules_waits_for_the_counter(monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    time = ScriptedTime()
    monkeypatch.setattr(loops, "now_ns", time)
    session = ScriptedSession(time, repeat(10 * MS), stream=1)
    timer = Timer(session, input_sets(), ScriptedClock(session, 10 * MS))
    calm = type("Calm", (), {"read": staticmethod(HostState)})()
    protocol = Protocol(iterations=5, energy=asked)
    found = measure_once(timer, protocol, Telemetry(calm, Meter(time)), lambda *_: None, asynchronous=True).fields(1)
    assert found["throughput_window_s"] == pytest.approx(2.0 if asked else 0.5, rel=0.3)
    assert (found["energy_joules"] is not None) is asked
    assert asked or found["telemetry"]["energy"] == "not asked for"
