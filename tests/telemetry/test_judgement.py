"""What readings mean: pure, from recorded values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchrun.runner.telemetry.judgement import (
    LIMITS,
    SPOILING,
    TELLING,
    Judgement,
    judge,
    noisy,
    spoils,
    tick_allowance_s,
)
from benchrun.runner.telemetry.state import DeviceState, EnergyCount, HostState, MachineState, Reader, describe

QUIET = HostState(at_s=100.0, cores=2, busy_s=50.0, own_s=10.0, stolen_s=1.0, throttled_s=0.5, overheated_n=3)
GPU = DeviceState(
    "nvidia", at_s=100.0, clock_mhz=1980, reasons=(), capped_s=5.0, overheated_s=0.0, foreign=0, power_cap_w=700.0
)


def later(state: HostState, seconds: float, **grown: float) -> HostState:
    """The reading `seconds` later, counters grown by that much."""
    return replace(state, at_s=state.at_s + seconds, **{name: getattr(state, name) + by for name, by in grown.items()})


def flags(
    before: HostState, after: HostState, one: DeviceState | None = None, two: DeviceState | None = None
) -> tuple[str, ...]:
    return judge(MachineState(before, one), MachineState(after, two)).flags


@pytest.mark.parametrize(
    ("seconds", "busy", "own", "noise"),
    [
        (2.0, 4.0, 4.0, False),  # both cores ours
        (2.0, 2.03, 2.0, False),  # 15 ms of others
        (2.0, 4.0, 2.0, True),  # one core ours, a busy loop on the other
        (2.0, 4.0, 2.66, True),  # two threads of ours share two cores with a busy loop
        (0.6, 1.2, 0.6, True),
        (0.2, 0.4, 0.2, True),
        (0.2, 0.23, 0.2, False),  # within the steps of the counter
        (0.04, 0.08, 0.04, False),  # too short to be known
        (5.0, 5.9, 5.0, True),
        (5.0, 5.3, 5.0, False),
    ],
)
def test_other_processes(seconds: float, busy: float, own: float, noise: bool) -> None:
    after = later(QUIET, seconds, busy_s=busy, own_s=own)
    assert flags(QUIET, after) == (("noisy_host",) if noise else ())


def test_on_a_large_host_a_few_busy_cores_are_no_noise() -> None:
    host = replace(QUIET, cores=128)
    assert flags(host, later(host, 10, busy_s=110, own_s=80)) == ()
    assert flags(host, later(host, 10, busy_s=160, own_s=80)) == ("noisy_host",)


@pytest.mark.parametrize(("cores", "seconds"), [(1, 0.1), (2, 0.1), (4, 0.15), (8, 0.2), (16, 0.6)])
def test_one_busy_process_is_seen_on_hosts_of_several_cores(cores: int, seconds: float) -> None:
    host = replace(QUIET, cores=cores)
    assert flags(host, later(host, seconds, busy_s=seconds)) == ("noisy_host",)
    steps = 2 * 0.01 * min(cores, (2 * cores) ** 0.5)  # the counters' steps alone
    assert flags(host, later(host, seconds, busy_s=steps)) == ()
    assert flags(host, later(host, seconds, stolen_s=steps)) == ()


def test_on_64_cores_the_steps_do_not_hide_ten_busy_ones() -> None:
    host = replace(QUIET, cores=64)
    assert flags(host, later(host, 0.1, busy_s=1.0)) == ("noisy_host",)  # 1.28 s were forgiven once
    assert tick_allowance_s(64) == pytest.approx(0.226, abs=1e-3) and tick_allowance_s(2) == 0.04


def test_stolen_time_and_quotas_are_noise() -> None:
    assert "hypervisor gave 10%" in noisy(QUIET, later(QUIET, 2, stolen_s=0.4))
    assert noisy(QUIET, later(QUIET, 2, stolen_s=0.05)) == ""
    assert "stopped us for 0.30 s of 2.00 s" in noisy(QUIET, later(QUIET, 2, throttled_s=0.3))
    assert noisy(QUIET, later(QUIET, 2, throttled_s=0.01)) == ""


def test_what_is_unknown_flags_nothing() -> None:
    nothing = HostState(at_s=1.0)
    assert flags(nothing, replace(nothing, at_s=9.0), DeviceState("amd"), DeviceState("amd")) == ()
    assert flags(nothing, replace(nothing, at_s=9.0, cores=2)) == ()


def test_heat_on_the_processor() -> None:
    found = judge(MachineState(QUIET), MachineState(later(QUIET, 2, overheated_n=4)))
    assert found.flags == ("throttled",) and "4 times" in found.reasons["throttled"] and found.spoilt


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ()),
        ({"reasons": ("hardware_thermal",)}, ("throttled",)),
        ({"reasons": ("clocks_set",)}, ()),
        ({"overheated_s": 0.1}, ("throttled",)),
        ({"overheated_s": 0.01}, ()),
        ({"capped_s": 6.5}, ("power_capped",)),
        ({"capped_s": 5.1}, ()),
        ({"reasons": ("power_cap",)}, ("power_capped",)),
        ({"foreign": 1}, ("shared_device",)),
        ({"clock_mhz": 1380}, ("unlocked_clocks",)),
        ({"clock_mhz": 1965}, ()),
        ({"locked": False}, ("unlocked_clocks",)),
        ({"locked": True, "clock_mhz": 1380}, ()),
    ],
)
def test_a_device(changes: dict[str, object], expected: tuple[str, ...]) -> None:
    after = replace(GPU, **{"at_s": 102.0, **changes})  # type: ignore[arg-type]
    assert flags(QUIET, later(QUIET, 2), GPU, after) == expected


def test_a_device_that_was_shared_before_only() -> None:
    assert flags(QUIET, QUIET, replace(GPU, foreign=2), replace(GPU, at_s=102.0)) == ("shared_device",)


def test_the_governor_tells_of_free_clocks() -> None:
    assert flags(QUIET, replace(QUIET, governor="performance")) == ()
    assert flags(QUIET, replace(QUIET, governor="powersave")) == ("unlocked_clocks",)


def test_the_power_cap_tells_and_does_not_spoil() -> None:
    found = judge(MachineState(QUIET, GPU), MachineState(QUIET, replace(GPU, at_s=102.0, capped_s=7.0)))
    assert found.reasons == {"power_capped": "the power cap of 700 W lowered the clocks for 100% of the time"}
    assert not found.spoilt and not spoils(("unsteady", "power_capped")) and spoils(("unsteady", "noisy_host"))
    assert not set(SPOILING) & set(TELLING) and LIMITS.repeats == 2 and Judgement().flags == ()


def test_a_reading_as_json_leaves_out_what_is_unknown() -> None:
    plain = MachineState(
        HostState(at_s=1.5, cores=2, notes={"turbo": "not provided here"}), DeviceState("nvidia")
    ).to_json()
    assert plain == {
        "host": {"at_s": 1.5, "cores": 2, "notes": {"turbo": "not provided here"}},
        "device": {"vendor": "nvidia", "at_s": 0.0},
    }
    assert EnergyCount(1, 0.1).wraps_j is None


def test_failures_are_described_without_paths() -> None:
    reader = Reader()

    def fail() -> int:
        raise OSError(5, "Input/output error", "/home/somebody/secret")

    assert reader.read("x", fail) is None and reader.notes == {"x": "not readable"}
    assert describe(KeyError("/home/somebody")) == "not understood (KeyError)"
