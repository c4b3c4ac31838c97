"""What the runner asks of a machine: `read` before and after a point, `energy` around its throughput window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchrun.runner.telemetry.cpu import Host
from benchrun.runner.telemetry.state import DeviceState, EnergyCount, MachineState


class DeviceTelemetry(Protocol):
    """An accelerator's state. Neither call raises, neither changes a setting."""

    def read(self) -> DeviceState:
        """The state now: a few milliseconds."""
        ...

    def energy(self) -> EnergyCount | None:
        """The energy counter now; None where there is none. One call of the driver: cheap enough beside a window."""
        ...


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Host and device of one worker."""

    host: Host
    device: DeviceTelemetry | None = None

    def read(self) -> MachineState:
        """Both, the host last before and first after a measurement would be best; the difference is a few milliseconds."""
        device = self.device.read() if self.device else None
        return MachineState(self.host.read(), device)

    def energy(self) -> EnergyCount | None:
        """The counter of the device that computes: the accelerator's, or the processor packages'."""
        return self.device.energy() if self.device else self.host.energy()

    def energy_note(self) -> str:
        """Why there is no energy count, in a few words; empty where only the device could say."""
        return "" if self.device else self.host.energy_note()


class Unreadable:
    """Stands for a device whose library is missing or refuses: everything is None, for one reason."""

    def __init__(self, vendor: str, reason: str) -> None:
        self._state = DeviceState(vendor, notes={"all": reason})

    def read(self) -> DeviceState:
        return self._state

    def energy(self) -> EnergyCount | None:
        return None


def open_telemetry(device: str, root: Path = Path("/")) -> Telemetry:
    """Telemetry for a device such as `cpu`, `cuda:0` or `rocm:1`. Opened before the engine loads, so that processes that are on the
    device already are known to be others'."""
    kind, _, index = device.partition(":")
    host = Host(root)
    if kind == "cuda":
        from benchrun.runner.telemetry.nvidia import open_nvidia

        return Telemetry(host, open_nvidia(int(index or 0)))
    if kind == "rocm":
        from benchrun.runner.telemetry.amd import open_amd

        return Telemetry(host, open_amd(int(index or 0)))
    return Telemetry(host)
