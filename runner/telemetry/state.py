"""Readings as plain data. Units are in the names; None means that it could not be read, and `notes` says why.

Nothing here identifies a person or a machine: no serial numbers, no UUIDs, no process names, no paths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class HostState:
    """The host as one process sees it.

    Counters grow since the start of the machine (`busy_s`, `stolen_s`: seconds of all its processors together), of the cgroup
    (`throttled_s`) or of this process and its threads (`own_s`, `waited_s`, `preempted`); two readings are compared.
    """

    at_s: float = 0.0  # host clock, monotonic
    cores: int | None = None  # processors that are online
    usable_cores: int | None = None  # those that this process may run on
    quota_cores: float | None = (
        None  # of its cgroup; None where there is no limit, or, with a note, where none can be seen
    )
    load_1m: float | None = None
    governor: str | None = None  # `performance`; `powersave+performance` where they differ
    turbo: bool | None = None
    clock_mhz: float | None = None  # mean of the processors that tell
    max_clock_mhz: float | None = None
    smt: bool | None = None
    numa_nodes: int | None = None
    memory_available_bytes: int | None = None
    busy_s: float | None = None
    stolen_s: float | None = None
    throttled_s: float | None = None
    own_s: float | None = None
    waited_s: float | None = None  # ready to run, and another ran
    preempted: int | None = None  # involuntary context switches
    overheated_n: int | None = None  # how often heat lowered the clock of the first package
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceState:
    """An accelerator. AMD's GCDs are devices of their own: `card` says which of them share one card, its power and its cap.

    `capped_s` and `overheated_s` count the seconds since the driver was loaded in which clocks were lowered by the power cap, or by
    heat or the hardware's own protection; `reasons` is what lowered them at the moment of the reading.
    """

    vendor: str
    at_s: float = 0.0
    name: str | None = None
    card: str | None = None
    driver: str | None = None
    clock_mhz: float | None = None
    max_clock_mhz: float | None = None
    target_clock_mhz: float | None = None  # what the owner has set
    default_clock_mhz: float | None = None
    locked: bool | None = None  # the driver says that the clock is fixed
    memory_clock_mhz: float | None = None
    max_memory_clock_mhz: float | None = None
    power_w: float | None = None
    power_cap_w: float | None = None
    default_power_cap_w: float | None = None
    temperature_c: float | None = None
    reasons: tuple[str, ...] | None = None
    capped_s: float | None = None
    overheated_s: float | None = None
    limit_samples: int | None = (
        None  # AMD's firmware looks again and again whether something lowers the clocks: how often it has,
    )
    capped_samples: int | None = None  # … how often it was the power cap,
    overheated_samples: int | None = None  # … and how often heat, of any part, or the protection of the hardware
    ecc: bool | None = None
    partition: str | None = None  # MIG, or AMD's compute and memory partition
    persistence: bool | None = None
    exclusive: bool | None = None  # compute mode: one process at a time
    processes: int | None = None  # with a context on the device, ours among them
    foreign: int | None = None  # without ours
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MachineState:
    """One reading of host and device; `device` is None for points on the CPU."""

    host: HostState
    device: DeviceState | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without what is unknown."""
        parts = {"host": asdict(self.host)} | ({"device": asdict(self.device)} if self.device else {})
        return {
            part: {name: value for name, value in values.items() if value is not None and value != {}}
            for part, values in parts.items()
        }


@dataclass(frozen=True, slots=True)
class EnergyCount:
    """One reading of an energy counter: `joules` since some start. `resolution_s` is how seldom it is brought up to date, `wraps_j`
    where it starts again from 0 (None: it does not)."""

    joules: float
    resolution_s: float
    wraps_j: float | None = None


class Reader:
    """Calls that may fail, each for itself: a failure is a note, and its value None."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}

    def read(self, name: str, call: Callable[[], Value]) -> Value | None:
        """What `call` returns; None where it raises, with a note under `name`."""
        try:
            return call()
        except Exception as error:  # a vendor's library may raise anything; telemetry must never end a measurement
            self.notes[name] = describe(error)
            return None


def describe(error: Exception) -> str:
    """One short reason. Paths and other texts of the operating system stay out: only what kind of failure it was."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "not provided here"
    if isinstance(error, PermissionError):
        return "not readable without more rights"
    if isinstance(error, OSError):
        return "not readable"
    if type(error).__name__.startswith(("NVMLError", "AmdSmi")):
        return " ".join(str(error).split())[:80] or type(error).__name__
    return f"not understood ({type(error).__name__})"
