"""NVML as it was on an H200: the structures recorded there, behind functions with the real library's names and arguments."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pynvml

RECORDING = json.loads((Path(__file__).parent / "data" / "h200.json").read_text())


class NVMLError_NotSupported(Exception):  # noqa: N801 - as the real library calls its own
    """What the library raises for a call that a device or a right does not allow."""


class Nvml(ModuleType):
    """`state` is a recorded one (`idle`, `busy`); `refused` names functions that raise."""

    def __init__(self, state: str = "idle", refused: tuple[str, ...] = (), **changes: Any) -> None:
        super().__init__("pynvml")
        self.state = {**RECORDING[state], **changes}
        self.refused = refused
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "state":
            raise AttributeError(name)
        real = getattr(pynvml, name)  # AttributeError where the real library has no such function

        def call(*arguments: Any) -> Any:
            inspect.signature(real).bind(*arguments)  # TypeError where the real one would raise it
            self.calls.append(name)
            if name in self.refused:
                raise NVMLError_NotSupported("Not Supported")
            return self._answer(name, arguments[1:])

        return call

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        s = self.state
        clocks = {pynvml.NVML_CLOCK_SM: s["sm"], pynvml.NVML_CLOCK_GRAPHICS: s["gr"], pynvml.NVML_CLOCK_MEM: s["mem"]}
        most = {pynvml.NVML_CLOCK_SM: s["max_sm"], pynvml.NVML_CLOCK_MEM: s["max_mem"]}
        set_clocks = {pynvml.NVML_CLOCK_GRAPHICS: s["app_sm"]}
        default_clocks = {pynvml.NVML_CLOCK_GRAPHICS: s["default_app_sm"]}
        if name in ("nvmlInit", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByUUID"):
            return "handle"
        if name == "nvmlDeviceGetViolationStatus":
            zero = {"referenceTime": 0, "violationTime": 0}
            found = s["violation"] if arguments == (pynvml.NVML_PERF_POLICY_POWER,) else zero
            return SimpleNamespace(**found)
        by_argument = {
            "nvmlDeviceGetClockInfo": clocks,
            "nvmlDeviceGetMaxClockInfo": most,
            "nvmlDeviceGetApplicationsClock": set_clocks,
            "nvmlDeviceGetDefaultApplicationsClock": default_clocks,
            "nvmlDeviceGetTemperature": {pynvml.NVML_TEMPERATURE_GPU: s["temp"]},
        }
        if name in by_argument:
            return by_argument[name][arguments[0]]
        return {
            "nvmlDeviceGetName": s["name"],
            "nvmlSystemGetDriverVersion": s["driver"],
            "nvmlDeviceGetPowerUsage": s["power_mw"],
            "nvmlDeviceGetEnforcedPowerLimit": s["enforced_mw"],
            "nvmlDeviceGetPowerManagementLimit": s["limit_mw"],
            "nvmlDeviceGetPowerManagementDefaultLimit": s["default_mw"],
            "nvmlDeviceGetCurrentClocksEventReasons": s["reasons"],
            "nvmlDeviceGetEccMode": s["ecc"],
            "nvmlDeviceGetMigMode": s["mig"],
            "nvmlDeviceGetPersistenceMode": s["persistence"],
            "nvmlDeviceGetComputeMode": s["compute_mode"],
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(**s["memory"]),
            "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(**each) for each in s["processes"]],
            "nvmlDeviceGetGraphicsRunningProcesses": [SimpleNamespace(**each) for each in s["graphics"]],
            "nvmlDeviceGetTotalEnergyConsumption": s["energy_mj"],
        }[name]
