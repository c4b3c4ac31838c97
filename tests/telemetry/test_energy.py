"""Energy of a window, against the trace recorded on an H200 under load (counter in mJ, power in mW, about every 0.1 s)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchrun.runner.telemetry.energy import Energy, least_window_s, window_energy
from benchrun.runner.telemetry.nvidia import ENERGY_STEP_S
from benchrun.runner.telemetry.state import EnergyCount
from tests.telemetry.nvml_double import RECORDING

TRACE = [(s, mj / 1e3, mw / 1e3) for s, mj, mw, _ in RECORDING["energy_trace_s_mj_mw_mhz"]]
STEADY = next(i for i, (s, _, _) in enumerate(TRACE) if s > 1.1)  # the power reading is an average over about a second


def counts(*joules: float, step: float = ENERGY_STEP_S, wraps: float | None = None) -> list[EnergyCount]:
    return [EnergyCount(each, step, wraps) for each in joules]


def test_the_counters_step_is_a_tenth_of_a_second() -> None:
    """Each reading, about 0.1 s after the other, finds one step of what the device takes in 0.1 s, however long it really was."""
    steps = [after[1] - before[1] for before, after in pairwise(TRACE[STEADY:])]
    power = sum(watts for _, _, watts in TRACE[STEADY:]) / len(TRACE[STEADY:])
    assert all(step / power == pytest.approx(ENERGY_STEP_S, rel=0.15) for step in steps)
    gaps = [after[0] - before[0] for before, after in pairwise(TRACE[STEADY:])]
    assert max(gaps) / min(gaps) > 1.3 and max(steps) / min(steps) < 1.3


@pytest.mark.parametrize("window_s", [2.0, 2.5])
def test_the_counter_agrees_with_power_times_time(window_s: float) -> None:
    """All windows of that length in the recording's steady part, within 10 %."""
    checked = 0
    for first in range(STEADY, len(TRACE)):
        last = next((i for i, (s, _, _) in enumerate(TRACE) if s - TRACE[first][0] >= window_s), None)
        if last is None:
            break
        inside = TRACE[first : last + 1]
        seconds = inside[-1][0] - inside[0][0]
        by_power = sum((a[2] + b[2]) / 2 * (b[0] - a[0]) for a, b in pairwise(inside))
        found = window_energy(*counts(inside[0][1], inside[-1][1]), seconds)
        assert found.joules == pytest.approx(by_power, rel=0.10)
        checked += 1
    assert checked >= 1


def test_a_window_too_short_for_the_counter_has_no_energy() -> None:
    assert least_window_s(0.1) == pytest.approx(2.0)
    short = window_energy(*counts(0, 350), 0.5)
    assert short.joules is None and short.reason == "0.5 s is too short for a counter that steps every 0.1 s"
    assert window_energy(*counts(0, 1400), 2.0).joules == 1400
    assert window_energy(*counts(0, 3, step=0.001), 0.05).joules == 3


def test_a_counter_that_starts_again() -> None:
    assert window_energy(*counts(90, 10, wraps=100), 3).joules == 20
    back = window_energy(*counts(90, 10), 3)
    assert back.joules is None and back.reason == "the counter did not move forward"
    assert window_energy(*counts(5, 5), 3).joules is None


def test_no_counter() -> None:
    assert window_energy(None, None, 10) == Energy(None, "no energy counter")
    assert window_energy(None, None, 10, "this host has no RAPL") == Energy(None, "this host has no RAPL")
    assert window_energy(counts(1)[0], None, 10).joules is None


def test_joules_a_sequence() -> None:
    assert Energy(1400).per_sequence(2800) == 0.5
    assert Energy(None).per_sequence(10) is Energy(3).per_sequence(0) is None
