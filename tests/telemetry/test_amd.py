"""The AMD adapter against doubles with the names, arguments and results of amdsmi 7.0.2's Python interface. It has never met a device."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from benchrun.runner.telemetry.amd import AmdDevice, active, attach, find_handle, first_number, open_amd
from benchrun.runner.telemetry.interface import Unreadable


class AmdSmiLibraryException(Exception):
    """What amdsmi raises where the driver refuses."""


class Smi(ModuleType):
    """Two GCDs of an MI250: the second one reports neither power nor energy. `refused` names functions that raise."""

    AmdSmiClkType = SimpleNamespace(GFX=1, MEM=5)
    AmdSmiTemperatureType = SimpleNamespace(HOTSPOT=1)
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

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
        return {"market_name": "AMD Instinct MI250", "asic_serial": "0xSECRET", "oam_id": 3, "num_compute_units": 104}

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
        return {
            "active_ppt_pwr": True,
            "active_prochot_thrm": False,
            "active_socket_thrm": "N/A",
            "active_hbm_thrm": True,
            "active_vr_thrm": True,
        }

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


def test_a_gcd_says_which_card_it_belongs_to() -> None:
    first, second = (AmdDevice(Smi(), handle).read() for handle in (0, 1))
    assert first.vendor == "amd" and first.name == "AMD Instinct MI250" and first.card == second.card == "module 3"
    assert (first.clock_mhz, first.max_clock_mhz, first.memory_clock_mhz, first.locked) == (800, 1700, 1600, False)
    assert (first.power_w, second.power_w, first.power_cap_w, first.default_power_cap_w) == (92, None, 500, 560)
    assert (first.temperature_c, first.ecc, first.partition, first.driver) == (47, True, "SPX/NPS1", "6.12.12")
    assert (first.memory_used_bytes, first.memory_total_bytes) == (10 << 20, 65520 << 20)
    assert first.reasons == ("power_cap", "hardware_thermal") and first.notes == {}
    assert "SECRET" not in str(first) and "GPU-x" not in str(first)


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
    assert active({"active_prochot_thrm": "N/A"}) == ()
