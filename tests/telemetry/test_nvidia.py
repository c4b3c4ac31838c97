from __future__ import annotations

import os
import sys
from dataclasses import asdict, fields

import pynvml
import pytest

from benchrun.runner.telemetry import nvidia
from benchrun.runner.telemetry.interface import Unreadable, open_telemetry
from benchrun.runner.telemetry.nvidia import (
    REASONS,
    NvidiaDevice,
    attach,
    count_foreign,
    find_handle,
    open_nvidia,
    text,
)
from benchrun.runner.telemetry.state import DeviceState
from tests.telemetry.nvml_double import Nvml

LAPTOP_REFUSES = ("nvmlDeviceGetEccMode", "nvmlDeviceGetMigMode", "nvmlDeviceGetTotalEnergyConsumption")


def test_an_idle_h200() -> None:
    state = NvidiaDevice(Nvml("idle"), "handle").read()
    assert (state.vendor, state.name, state.driver) == ("nvidia", "NVIDIA H200", "580.159.04")
    assert (state.clock_mhz, state.max_clock_mhz, state.memory_clock_mhz, state.max_memory_clock_mhz) == (
        345,
        1980,
        3201,
        3201,
    )
    assert (state.target_clock_mhz, state.default_clock_mhz, state.locked) == (1980, 1980, None)
    assert state.power_w == pytest.approx(78.057) and (state.power_cap_w, state.default_power_cap_w) == (700, 700)
    assert (state.temperature_c, state.reasons, state.capped_s, state.overheated_s) == (36, (), 0, 0)
    assert (state.ecc, state.partition, state.persistence, state.exclusive) == (True, "whole", True, False)
    assert (state.processes, state.foreign) == (0, 0)
    assert (state.memory_used_bytes, state.memory_total_bytes) == (644939776, 150754820096)
    assert state.notes == {} and state.at_s > 0


def test_a_busy_h200_at_its_power_cap() -> None:
    nvml = Nvml("idle")
    device = NvidiaDevice(nvml, "handle")  # the process comes afterwards: it may be ours
    nvml.state = Nvml("busy").state
    state = device.read()
    assert (state.clock_mhz, state.reasons, state.temperature_c) == (1380, ("power_cap",), 59)
    assert state.capped_s == pytest.approx(3.980249344)
    assert (state.processes, state.foreign) == (1, 0)
    energy = device.energy()
    assert energy is not None and energy.joules == pytest.approx(5821.522) and energy.wraps_j is None


def test_what_the_device_or_its_owner_refuses_is_null_with_a_reason() -> None:
    device = NvidiaDevice(Nvml("idle", LAPTOP_REFUSES), "handle")
    state = device.read()
    assert (state.ecc, state.partition, device.energy()) == (None, None, None)
    assert state.notes == {"ecc": "Not Supported", "partition": "Not Supported"} and state.clock_mhz == 345


def test_everything_refused_is_still_a_reading() -> None:
    calls = [name for name in dir(pynvml) if name.startswith(("nvmlDeviceGet", "nvmlSystemGet"))]
    state = NvidiaDevice(Nvml("idle", tuple(calls)), "handle").read()
    known = {name for name, value in asdict(state).items() if value is not None}
    assert known == {"vendor", "at_s", "notes"} and set(state.notes.values()) == {"Not Supported"}
    assert set(state.notes) <= {field.name for field in fields(DeviceState)}


def test_nothing_that_names_the_machine_is_read() -> None:
    nvml = Nvml("busy")
    device = NvidiaDevice(nvml, "handle")
    device.read()
    device.energy()
    assert not [
        call for call in nvml.calls if "UUID" in call or "Serial" in call or "Name" in call.replace("GetName", "")
    ]


@pytest.mark.parametrize(
    ("now", "first", "foreign"),
    [
        ((), (), 0),
        ((7,), (), 0),  # our own number
        ((430,), (), 0),  # a container: our number is another there
        ((7, 430), (), 1),
        ((430,), (430,), 1),  # was there before us
        ((7, 430, 431), (430,), 2),
        ((430, 431), (430,), 1),
        ((500, 501), (), 1),
    ],
)
def test_who_is_foreign(now: tuple[int, ...], first: tuple[int, ...], foreign: int) -> None:
    assert count_foreign(now, first, own=7) == foreign


def test_a_process_that_was_there_first_is_foreign() -> None:
    state = NvidiaDevice(Nvml("busy"), "handle").read()
    assert (state.processes, state.foreign) == (1, 1)


def test_our_own_process_is_not_foreign() -> None:
    mine = [{"pid": os.getpid(), "usedGpuMemory": 1}]
    assert NvidiaDevice(Nvml("idle", processes=mine), "handle").read().foreign == 0


def test_the_names_of_the_reasons_are_nvmls() -> None:
    bits = {
        "clocks_set": "ApplicationsClocksSetting", "power_cap": "SwPowerCap", "hardware_slowdown": "HwSlowdown",
        "sync_boost": "SyncBoost", "software_thermal": "SwThermalSlowdown", "hardware_thermal": "HwThermalSlowdown",
        "power_brake": "HwPowerBrakeSlowdown", "display_clocks": "DisplayClockSetting", "board_limit": "BoardLimit",
        "reliability": "Reliability",
    }  # fmt: skip
    found = {name: getattr(pynvml, f"nvmlClocksThrottleReason{theirs}") for name, theirs in bits.items()}
    assert {name: bit for bit, name in REASONS.items()} == found
    assert (nvidia.POWER_POLICY, nvidia.THERMAL_POLICY) == (
        pynvml.NVML_PERF_POLICY_POWER,
        pynvml.NVML_PERF_POLICY_THERMAL,
    )
    assert (nvidia.GRAPHICS_CLOCK, nvidia.SM_CLOCK, nvidia.MEMORY_CLOCK, nvidia.CORE_SENSOR) == (
        pynvml.NVML_CLOCK_GRAPHICS, pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM, pynvml.NVML_TEMPERATURE_GPU,
    )  # fmt: skip


def test_an_older_library_calls_the_reasons_otherwise() -> None:
    nvml = Nvml("busy")
    nvml.nvmlDeviceGetCurrentClocksEventReasons = None
    nvml.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: 0x40 | 0x1
    assert NvidiaDevice(nvml, "handle").read().reasons == ("hardware_thermal",)


def test_cudas_numbers_are_those_of_the_visible_devices() -> None:
    class Handles:
        nvmlDeviceGetHandleByIndex = staticmethod(lambda index: index)  # noqa: N815 - NVML's name
        nvmlDeviceGetHandleByUUID = staticmethod(lambda uuid: uuid)  # noqa: N815
        nvmlDeviceGetHandleByPciBusId = staticmethod({"0000:CB:00.0": 3}.__getitem__)  # noqa: N815

    nvml = Handles()
    assert find_handle(nvml, 1, None) == find_handle(nvml, 1, "") == 1  # type: ignore[arg-type]
    assert find_handle(nvml, 1, "3, 5") == 5 and find_handle(nvml, 0, "GPU-x") == "GPU-x"  # type: ignore[arg-type]
    # the place on the bus, that CUDA's driver tells, holds whatever the order ($CUDA_DEVICE_ORDER) …
    assert find_handle(nvml, 0, "1", "0000:CB:00.0") == find_handle(nvml, 0, None, "0000:CB:00.0") == 3  # type: ignore[arg-type]
    # … but for a part of a card, and where NVML does not know it
    assert find_handle(nvml, 0, "MIG-x", "0000:CB:00.0") == "MIG-x"  # type: ignore[arg-type]
    assert find_handle(nvml, 0, "2", "0000:FF:00.0") == 2  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        find_handle(nvml, 1, "2")  # type: ignore[arg-type]


@pytest.mark.parametrize("nvml", [Nvml("idle", ("nvmlInit",)), Nvml("idle", ("nvmlDeviceGetHandleByIndex",))])
def test_a_driver_that_refuses_leaves_nulls(nvml: Nvml) -> None:
    device = attach(nvml, 0)
    assert isinstance(device, Unreadable) and device.energy() is None
    assert device.read().notes == {"all": "NVML: Not Supported"} and device.read().clock_mhz is None


def test_a_missing_library_leaves_nulls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    state = open_telemetry("cuda:0").read().device
    assert state is not None and "nvidia-ml-py" in state.notes["all"]


def test_the_real_library_without_a_driver_leaves_nulls() -> None:
    state = open_nvidia(97).read()  # no machine has as many
    assert state.vendor == "nvidia" and state.notes["all"].startswith("NVML: ") and "/" not in state.notes["all"]


def test_old_bindings_return_bytes() -> None:
    assert text(b"NVIDIA H200") == text("NVIDIA H200") == "NVIDIA H200"
