"""NVIDIA GPUs through NVML (`nvidia-ml-py`, extra `telemetry`). Tested against structures recorded on an H200."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import ModuleType
from typing import Any

from benchrun.runner.devices import describe_cuda
from benchrun.runner.telemetry.interface import DeviceTelemetry, Unreadable
from benchrun.runner.telemetry.state import DeviceState, EnergyCount, Reader, describe

MISSING = "install nvidia-ml-py (benchrun's extra `telemetry`) to see the GPU's clocks, power and processes"
ENERGY_STEP_S = 0.1  # an H200's counter moved once every 0.1 s (recorded: docs/machine-state.md)
# nvml.h, nvmlClocksEventReason…: bit → our name. The idle bit is left out: it says nothing about a measurement.
REASONS = {
    0x002: "clocks_set",
    0x004: "power_cap",
    0x008: "hardware_slowdown",
    0x010: "sync_boost",
    0x020: "software_thermal",
    0x040: "hardware_thermal",
    0x080: "power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
POWER_POLICY, THERMAL_POLICY = 0, 1  # NVML_PERF_POLICY_…
GRAPHICS_CLOCK, SM_CLOCK, MEMORY_CLOCK, CORE_SENSOR = 0, 1, 2, 0  # NVML_CLOCK_…, NVML_TEMPERATURE_GPU
PROHIBITED_OR_EXCLUSIVE = (1, 2, 3)  # nvmlComputeMode_t but for the default


def open_nvidia(index: int) -> DeviceTelemetry:
    """GPU `index` as CUDA numbers it; `Unreadable` without the library or the driver."""
    try:
        import pynvml
    except ImportError:
        return Unreadable("nvidia", MISSING)
    known = describe_cuda(index)
    return attach(pynvml, index, os.environ.get("CUDA_VISIBLE_DEVICES"), known.bus_id if known else None)


def attach(nvml: ModuleType, index: int, visible: str | None = None, bus_id: str | None = None) -> DeviceTelemetry:
    """The GPU that CUDA calls `index`: see `find_handle`."""
    try:
        nvml.nvmlInit()
        return NvidiaDevice(nvml, find_handle(nvml, index, visible, bus_id))
    except Exception as error:  # NVMLError in its many kinds, or a device list that cannot be understood
        return Unreadable("nvidia", f"NVML: {describe(error)}")


def find_handle(nvml: ModuleType, index: int, visible: str | None, bus_id: str | None = None) -> Any:
    """NVML's handle of the device that CUDA calls `index`, by `bus_id`, the place on the PCI bus that CUDA's driver told.

    NVML numbers all devices by that place; CUDA only those of $CUDA_VISIBLE_DEVICES (`visible`: numbers or UUIDs), and by
    $CUDA_DEVICE_ORDER the fastest first. A MIG instance has the place of its whole card: it is taken by its UUID where it is named.
    """
    names = [name.strip() for name in (visible or "").split(",") if name.strip()]
    name = names[index] if index < len(names) else str(index)
    if bus_id is not None and not name.startswith("MIG-"):
        with suppress(Exception):  # NVMLError in its many kinds; then by number
            return nvml.nvmlDeviceGetHandleByPciBusId(bus_id)
    if names:
        name = names[index]  # IndexError: CUDA shows fewer
    return nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)


class NvidiaDevice:
    """One GPU. Processes that are on it when this is constructed are not ours."""

    def __init__(self, nvml: ModuleType, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._there_first = frozenset(Reader().read("processes", self._processes) or ())

    def read(self) -> DeviceState:
        nvml, handle, reader = self._nvml, self._handle, Reader()

        def ask(name: str, call: str, *arguments: Any, scale: float = 1.0) -> float | None:
            found = reader.read(name, lambda: getattr(nvml, call)(handle, *arguments))
            return None if found is None else found * scale

        def choose(name: str, make: Callable[[], Any]) -> Any:
            return reader.read(name, make)

        memory = choose("memory_used_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        processes = choose("processes", self._processes)
        bits = choose("reasons", self._reason_bits)
        mode = choose("exclusive", lambda: nvml.nvmlDeviceGetComputeMode(handle))
        return DeviceState(
            "nvidia",
            at_s=time.monotonic(),
            name=choose("name", lambda: text(nvml.nvmlDeviceGetName(handle))),
            driver=choose("driver", lambda: text(nvml.nvmlSystemGetDriverVersion())),
            clock_mhz=ask("clock_mhz", "nvmlDeviceGetClockInfo", SM_CLOCK),
            max_clock_mhz=ask("max_clock_mhz", "nvmlDeviceGetMaxClockInfo", SM_CLOCK),
            target_clock_mhz=ask("target_clock_mhz", "nvmlDeviceGetApplicationsClock", GRAPHICS_CLOCK),
            default_clock_mhz=ask("default_clock_mhz", "nvmlDeviceGetDefaultApplicationsClock", GRAPHICS_CLOCK),
            memory_clock_mhz=ask("memory_clock_mhz", "nvmlDeviceGetClockInfo", MEMORY_CLOCK),
            max_memory_clock_mhz=ask("max_memory_clock_mhz", "nvmlDeviceGetMaxClockInfo", MEMORY_CLOCK),
            power_w=ask("power_w", "nvmlDeviceGetPowerUsage", scale=1e-3),
            power_cap_w=ask("power_cap_w", "nvmlDeviceGetEnforcedPowerLimit", scale=1e-3),
            default_power_cap_w=ask("default_power_cap_w", "nvmlDeviceGetPowerManagementDefaultLimit", scale=1e-3),
            temperature_c=ask("temperature_c", "nvmlDeviceGetTemperature", CORE_SENSOR),
            reasons=None if bits is None else tuple(name for bit, name in REASONS.items() if bits & bit),
            capped_s=choose("capped_s", lambda: self._violation(POWER_POLICY)),
            overheated_s=choose("overheated_s", lambda: self._violation(THERMAL_POLICY)),
            ecc=choose("ecc", lambda: bool(nvml.nvmlDeviceGetEccMode(handle)[0])),
            partition=choose("partition", lambda: "MIG" if nvml.nvmlDeviceGetMigMode(handle)[0] else "whole"),
            persistence=choose("persistence", lambda: bool(nvml.nvmlDeviceGetPersistenceMode(handle))),
            exclusive=None if mode is None else mode in PROHIBITED_OR_EXCLUSIVE,
            processes=None if processes is None else len(processes),
            foreign=None if processes is None else count_foreign(processes, self._there_first, os.getpid()),
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            notes=reader.notes,
        )

    def energy(self) -> EnergyCount | None:
        try:
            return EnergyCount(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3, ENERGY_STEP_S)
        except Exception:  # not supported before Volta, or no right: the energy stays unknown
            return None

    def _processes(self) -> set[int]:
        compute = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        graphics = self._nvml.nvmlDeviceGetGraphicsRunningProcesses(self._handle)
        return {int(process.pid) for process in (*compute, *graphics)}

    def _reason_bits(self) -> int:
        call = getattr(self._nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
        if call is None:  # nvidia-ml-py before 12.535
            call = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        return int(call(self._handle))

    def _violation(self, policy: int) -> float:
        return int(self._nvml.nvmlDeviceGetViolationStatus(self._handle, policy).violationTime) / 1e9


def count_foreign(processes: Iterable[int], there_first: Iterable[int], own: int) -> int:
    """Processes on a device that are not ours.

    Those that were there before we came are foreign. In a container the driver may number processes as the host does, so that our own
    number is not among them: then one newcomer is taken to be us.
    """
    now, before = set(processes), set(there_first) - {own}
    newcomers = now - before - {own}
    unseen = 1 if own not in now and newcomers else 0
    return len(now & before) + len(newcomers) - unseen


def text(value: str | bytes) -> str:
    """Older bindings return bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
