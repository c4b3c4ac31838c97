"""The AMD adapter against doubles with the names, arguments and results of amdsmi 7.0.2's Python interface. It has never met a device."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from benchrun.runner.telemetry.amd import (
    CARD_NOTE,
    REASONS_NOTE,
    AmdDevice,
    attach,
    find_handle,
    first_number,
    open_amd,
)
from benchrun.runner.telemetry.interface import Unreadable
from benchrun.runner.telemetry.judgement import judge
from benchrun.runner.telemetry.state import HostState, MachineState


class AmdSmiLibraryException(Exception):
    """What amdsmi raises where the driver refuses."""


class Smi(ModuleType):
    """Two GCDs of an MI250: the second one reports neither power nor energy. `refused` names functions that raise.

    Which values a device gives is not documented; what is written here is only of the documented type.
    """

    AmdSmiClkType = SimpleNamespace(GFX=1, MEM=5)
    AmdSmiTemperatureType = SimpleNamespace(HOTSPOT=1)
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

    architecture = "gfx90a"
    counters: ClassVar[dict[str, int | str]] = {
        "accumulation_counter": 90_000, "prochot_residency_acc": 0, "ppt_residency_acc": 500,
        "socket_thm_residency_acc": 7, "vr_thm_residency_acc": "N/A", "hbm_thm_residency_acc": 2,
    }  # fmt: skip

    def __init__(self, refused: tuple[str, ...] = (), pids: tuple[int, ...] = ()) -> None:
        super().__init__("amdsmi")
        self.refused = refused
        self.pids = pids

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("amdsmi_") and name in object.__getattribute__(self, "refused"):

            def refuse(*_: object) -> None:
                raise AmdSmiLibraryException("Error code: 2 | AMDSMI_STATUS_NOT_SUPPORTED")

            return refuse
        return object.__getattribute__(self, name)

    def amdsmi_init(self) -> None:
        return None

    def amdsmi_get_processor_handles(self) -> list[int]:
        return [0, 1]

    def amdsmi_get_gpu_enumeration_info(self, handle: int) -> dict[str, Any]:
        return {"drm_render": 128, "drm_card": 0, "hsa_id": handle, "hip_id": 1 - handle, "hip_uuid": "GPU-x"}

    def amdsmi_get_gpu_asic_info(self, handle: int) -> dict[str, Any]:
        return {
            "market_name": "AMD Instinct MI250",
            "asic_serial": "0xSECRET",
            "oam_id": 3 + handle,
            "num_compute_units": 104,
            "target_graphics_version": self.architecture,
        }

    def amdsmi_get_clock_info(self, handle: int, clock: int) -> dict[str, Any]:
        clk, most = {1: (800, 1700), 5: (1600, 1600)}[clock]
        return {"clk": clk, "min_clk": 500, "max_clk": most, "clk_locked": "N/A", "clk_deep_sleep": "N/A"}

    def amdsmi_get_power_info(self, handle: int) -> dict[str, Any]:
        watts = 92 if handle == 0 else 0
        return {"socket_power": watts, "current_socket_power": "N/A", "average_socket_power": watts, "power_limit": 500}

    def amdsmi_get_power_cap_info(self, handle: int) -> dict[str, Any]:
        return {
            "power_cap": 500_000_000,
            "default_power_cap": 560_000_000,
            "dpm_cap": 0,
            "min_power_cap": 0,
            "max_power_cap": 0,
        }

    def amdsmi_get_temp_metric(self, handle: int, sensor: int, metric: int) -> int:
        return 47

    def amdsmi_get_gpu_process_list(self, handle: int) -> list[dict[str, Any]]:
        return [{"name": "python", "pid": pid, "mem": 1, "cu_occupancy": "N/A"} for pid in self.pids]

    def amdsmi_get_gpu_vram_usage(self, handle: int) -> dict[str, int]:
        return {"vram_total": 65520, "vram_used": 10}

    def amdsmi_get_violation_status(self, handle: int) -> dict[str, Any]:
        raise AssertionError("it waits for 0.1 s")

    def amdsmi_get_gpu_metrics_info(self, handle: int) -> dict[str, Any]:
        return {"temperature_hotspot": 47, **self.counters}

    def amdsmi_get_gpu_perf_level(self, handle: int) -> str:
        return "AMDSMI_DEV_PERF_LEVEL_AUTO"

    def amdsmi_get_gpu_driver_info(self, handle: int) -> dict[str, str]:
        return {"driver_name": "amdgpu", "driver_version": "6.12.12", "driver_date": "N/A"}

    def amdsmi_get_gpu_ecc_enabled(self, handle: int) -> int:
        return 5

    def amdsmi_get_gpu_compute_partition(self, handle: int) -> str:
        return "SPX"

    def amdsmi_get_gpu_memory_partition(self, handle: int) -> str:
        return "NPS1"

    def amdsmi_get_energy_count(self, handle: int) -> dict[str, float]:
        return {"energy_accumulator": 1_000_000 if handle == 0 else 0, "counter_resolution": 15.3, "timestamp": 1}


def test_the_readings_of_a_gcd() -> None:
    first, second = (AmdDevice(Smi(), handle).read() for handle in (0, 1))
    assert first.vendor == "amd" and first.name == "AMD Instinct MI250"
    assert first.card is second.card is None and first.notes["card"] == CARD_NOTE  # their module numbers differ
    assert (first.clock_mhz, first.max_clock_mhz, first.memory_clock_mhz, first.locked) == (800, 1700, 1600, False)
    assert (first.power_w, second.power_w, first.power_cap_w, first.default_power_cap_w) == (92, None, 500, 560)
    assert (first.temperature_c, first.ecc, first.partition, first.driver) == (47, True, "SPX/NPS1", "6.12.12")
    assert (first.memory_used_bytes, first.memory_total_bytes) == (10 << 20, 65520 << 20)
    assert (first.limit_samples, first.capped_samples, first.overheated_samples) == (90_000, 500, 9)
    assert first.reasons is None and first.notes["reasons"] == REASONS_NOTE and set(first.notes) == {"card", "reasons"}
    assert "SECRET" not in str(first) and "GPU-x" not in str(first)


def test_a_gcd_that_is_a_whole_card_says_which() -> None:
    smi = Smi()
    smi.architecture = "gfx942"
    assert [AmdDevice(smi, handle).read().card for handle in (0, 1)] == ["module 3", "module 4"]


def test_what_lowered_the_clocks_is_judged_by_the_firmwares_samples() -> None:
    smi = Smi()
    device = AmdDevice(smi, 0)
    before = device.read()

    def flags(**grown: int) -> tuple[str, ...]:
        smi.counters = {name: value + grown.get(name, 0) for name, value in Smi.counters.items() if value != "N/A"}  # type: ignore[operator]
        host = HostState()
        return judge(MachineState(host, before), MachineState(host, replace(device.read(), locked=True))).flags

    assert flags() == flags(accumulation_counter=2000, ppt_residency_acc=90, hbm_thm_residency_acc=15) == ()
    assert flags(accumulation_counter=2000, ppt_residency_acc=150) == ("power_capped",)
    assert flags(accumulation_counter=2000, hbm_thm_residency_acc=30) == ("throttled",)
    smi.counters = {"accumulation_counter": "N/A"}
    assert device.read().limit_samples is device.read().overheated_samples is None


def test_energy_is_in_joules_and_missing_on_the_second_gcd() -> None:
    count = AmdDevice(Smi(), 0).energy()
    assert count is not None and count.joules == pytest.approx(15.3)
    assert AmdDevice(Smi(), 1).energy() is None and AmdDevice(Smi(("amdsmi_get_energy_count",)), 0).energy() is None


def test_whatever_is_refused_is_null_with_a_reason() -> None:
    calls = tuple(name for name in dir(Smi) if name.startswith("amdsmi_get"))
    state = AmdDevice(Smi(calls), 0).read()
    assert (
        state.clock_mhz
        is state.power_w
        is state.foreign
        is state.card
        is state.locked
        is state.memory_used_bytes
        is None
    )
    assert state.reasons is None and "NOT_SUPPORTED" in state.notes["clock_mhz"] and state.at_s > 0


def test_others_on_the_device() -> None:
    smi = Smi(pids=(77,))
    device = AmdDevice(smi, 0)
    smi.pids = (77, os.getpid())
    assert (device.read().processes, device.read().foreign) == (2, 1)


def test_hips_numbers() -> None:
    assert (find_handle(Smi(), 0, None), find_handle(Smi(), 1, None), find_handle(Smi(), 0, "1")) == (1, 0, 0)
    assert find_handle(Smi(("amdsmi_get_gpu_enumeration_info",)), 1, "") == 1
    assert isinstance(attach(Smi(), 1), AmdDevice)
    assert isinstance(attach(Smi(), 7), Unreadable) and isinstance(attach(Smi(("amdsmi_init",)), 0), Unreadable)


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    assert "install amdsmi" in open_amd(0).read().notes["all"]


def test_a_library_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """amdsmi 7.0.2 without libamd_smi.so dies of a KeyError while it is imported."""

    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "amdsmi":
                raise KeyError("libamd_smi.so")

    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert open_amd(0).read().notes["all"] == "amdsmi: not understood (KeyError)"


def test_not_available_is_not_a_number() -> None:
    assert first_number({"a": "N/A", "b": 0, "c": 5}, "a", "b", "c") == 5 and first_number({}, "a") is None
