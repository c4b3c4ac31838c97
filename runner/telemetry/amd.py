"""AMD GPUs through `amdsmi`. Written against amdsmi 7.0's Python interface and never run on a device.

A GCD is a device of its own; on a card with two of them (MI250) the card's power is reported by one GCD, so energy and power of a
single GCD are those of its card or missing. `card` names the module that a GCD sits on, where that is known.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from benchrun.runner.telemetry.interface import DeviceTelemetry, Unreadable
from benchrun.runner.telemetry.nvidia import count_foreign
from benchrun.runner.telemetry.state import DeviceState, EnergyCount, Reader, describe

MISSING = "install amdsmi (it comes with ROCm) to see the GPU's clocks, power and processes"
ENERGY_STEP_S = 0.1  # not documented; taken as coarse as NVIDIA's until it has been measured
MEGABYTE = 1 << 20
# counters of amdsmi_get_gpu_metrics_info: samples in all, and those in which something lowered the clocks
SAMPLES, CAPPED = "accumulation_counter", "ppt_residency_acc"
OVERHEATED = ("prochot_residency_acc", "socket_thm_residency_acc", "vr_thm_residency_acc", "hbm_thm_residency_acc")
REASONS_NOTE = (
    "what lowers the clocks now is not asked: that call of amdsmi waits for 0.1 s. Its counters are read instead"
)
CARD_NOTE = "on cards with two GCDs amdsmi's module number is not known to be that of the card"
TWO_GCDS = ("gfx90a", "gfx90010")  # one architecture, in the two ways that versions of the library write it


def open_amd(index: int) -> DeviceTelemetry:
    """GPU (GCD) `index`; `Unreadable` without the library or the driver."""
    try:
        import amdsmi  # pyright: ignore[reportMissingImports] - comes with ROCm only
    except Exception as error:  # without the driver's shared library its import fails in several ways
        return Unreadable("amd", MISSING if isinstance(error, ImportError) else f"amdsmi: {describe(error)}")
    return attach(amdsmi, index, os.environ.get("HIP_VISIBLE_DEVICES"))


def attach(smi: ModuleType, index: int, visible: str | None = None) -> DeviceTelemetry:
    """The GCD that HIP calls `index` where `visible` ($HIP_VISIBLE_DEVICES) names some of them."""
    try:
        smi.amdsmi_init()
        return AmdDevice(smi, find_handle(smi, index, visible))
    except Exception as error:
        return Unreadable("amd", f"amdsmi: {describe(error)}")


def find_handle(smi: ModuleType, index: int, visible: str | None) -> Any:
    """amdsmi may list GCDs in another order than HIP numbers them; where it does not tell HIP's number, its own order is taken."""
    names = [name.strip() for name in (visible or "").split(",") if name.strip()]
    wanted = int(names[index]) if names else index
    handles = list(smi.amdsmi_get_processor_handles())
    for handle in handles:
        told = Reader().read("hip", lambda handle=handle: smi.amdsmi_get_gpu_enumeration_info(handle)["hip_id"])  # type: ignore[misc]
        if told == wanted:
            return handle
    return handles[wanted]


class AmdDevice:
    """One GCD. Processes that are on it when this is constructed are not ours."""

    def __init__(self, smi: ModuleType, handle: Any) -> None:
        self._smi = smi
        self._handle = handle
        self._there_first = frozenset(Reader().read("processes", self._processes) or ())

    def read(self) -> DeviceState:
        smi, handle, reader = self._smi, self._handle, Reader()

        def ask(name: str, call: Callable[[], Any]) -> Any:
            return reader.read(name, call)

        asic = ask("name", lambda: smi.amdsmi_get_gpu_asic_info(handle)) or {}
        clock = ask("clock_mhz", lambda: smi.amdsmi_get_clock_info(handle, smi.AmdSmiClkType.GFX)) or {}
        memory_clock = ask("memory_clock_mhz", lambda: smi.amdsmi_get_clock_info(handle, smi.AmdSmiClkType.MEM)) or {}
        power = ask("power_w", lambda: smi.amdsmi_get_power_info(handle)) or {}
        cap = ask("power_cap_w", lambda: smi.amdsmi_get_power_cap_info(handle)) or {}
        vram = ask("memory_used_bytes", lambda: smi.amdsmi_get_gpu_vram_usage(handle)) or {}
        processes = ask("processes", self._processes)
        metrics = ask("limit_samples", lambda: smi.amdsmi_get_gpu_metrics_info(handle)) or {}
        reader.notes["reasons"] = REASONS_NOTE
        heat = [found for name in OVERHEATED if (found := number(metrics.get(name))) is not None]
        module = number(asic.get("oam_id"))
        if asic.get("target_graphics_version") in TWO_GCDS:
            module = None
            reader.notes["card"] = CARD_NOTE
        level = ask("locked", lambda: smi.amdsmi_get_gpu_perf_level(handle))
        locked = clock.get("clk_locked")
        if not isinstance(locked, bool):
            locked = None if level is None else level != "AMDSMI_DEV_PERF_LEVEL_AUTO"
        return DeviceState(
            "amd",
            at_s=time.monotonic(),
            name=known(asic.get("market_name")),
            card=None if module is None else f"module {module:.0f}",
            driver=ask("driver", lambda: known(smi.amdsmi_get_gpu_driver_info(handle)["driver_version"])),
            clock_mhz=number(clock.get("clk")),
            max_clock_mhz=number(clock.get("max_clk")),
            locked=locked,
            memory_clock_mhz=number(memory_clock.get("clk")),
            max_memory_clock_mhz=number(memory_clock.get("max_clk")),
            power_w=first_number(power, "current_socket_power", "average_socket_power"),
            power_cap_w=scaled(cap.get("power_cap"), 1e-6),
            default_power_cap_w=scaled(cap.get("default_power_cap"), 1e-6),
            temperature_c=ask("temperature_c", self._temperature),
            limit_samples=whole(number(metrics.get(SAMPLES))),
            capped_samples=whole(number(metrics.get(CAPPED))),
            overheated_samples=whole(sum(heat)) if heat else None,
            ecc=ask("ecc", lambda: bool(smi.amdsmi_get_gpu_ecc_enabled(handle))),
            partition=ask("partition", self._partition),
            processes=None if processes is None else len(processes),
            foreign=None if processes is None else count_foreign(processes, self._there_first, os.getpid()),
            memory_used_bytes=whole(scaled(vram.get("vram_used"), MEGABYTE)),
            memory_total_bytes=whole(scaled(vram.get("vram_total"), MEGABYTE)),
            notes=reader.notes,
        )

    def energy(self) -> EnergyCount | None:
        try:
            count = self._smi.amdsmi_get_energy_count(self._handle)
            joules = count["energy_accumulator"] * count["counter_resolution"] / 1e6
        except Exception:  # not supported, or no right: the energy stays unknown
            return None
        # the second GCD of a card counts nothing: 0 is no reading
        return EnergyCount(joules, ENERGY_STEP_S) if joules > 0 else None

    def _processes(self) -> set[int]:
        return {int(process["pid"]) for process in self._smi.amdsmi_get_gpu_process_list(self._handle)}

    def _temperature(self) -> float:
        smi = self._smi
        celsius = smi.amdsmi_get_temp_metric(
            self._handle, smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureMetric.CURRENT
        )
        return float(celsius)

    def _partition(self) -> str:
        compute = self._smi.amdsmi_get_gpu_compute_partition(self._handle)
        memory = self._smi.amdsmi_get_gpu_memory_partition(self._handle)
        return f"{compute}/{memory}"


def known(value: Any) -> str | None:
    """amdsmi says `N/A` for what it does not know."""
    return value if isinstance(value, str) and value not in ("", "N/A") else None


def number(value: Any) -> float | None:
    """A number, or None for amdsmi's `N/A`."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def first_number(values: dict[str, Any], *names: str) -> float | None:
    """The first of `names` that has a number above 0."""
    return next((found for name in names if (found := number(values.get(name)))), None)


def scaled(value: Any, factor: float) -> float | None:
    """A number in another unit."""
    found = number(value)
    return None if found is None else found * factor


def whole(value: float | None) -> int | None:
    """As a whole number."""
    return None if value is None else int(value)
