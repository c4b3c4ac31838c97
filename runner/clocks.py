"""The one clock: host time for every device, and device events where the device has streams.

Events go through the vendor's driver library by ctypes, so that every engine is timed by the same code, whatever it is written in.
The CUDA driver's `cuEventElapsedTime` has a resolution of about half a microsecond.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any, Protocol

from benchrun.runner.devices import CUDA_DRIVER, HIP_RUNTIME

now_ns = time.perf_counter_ns


class ClockError(RuntimeError):
    """The driver refused a call of the device clock."""


class DeviceClock(Protocol):
    """Two events on one stream."""

    def start(self, stream: int) -> None:
        """Record the first event on `stream` (a native handle)."""

    def stop(self, stream: int) -> None:
        """Record the second event on `stream`."""

    def elapsed_ns(self) -> int:
        """Nanoseconds between the events. Both must have happened: call after a synchronize."""
        ...

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the device."""
        ...


class DriverClock:
    """Events of the CUDA driver API, or of HIP, which has the same calls under other names."""

    def __init__(self, kind: str, index: int) -> None:
        self._names = CUDA_CALLS if kind == "cuda" else HIP_CALLS
        library = CUDA_DRIVER if kind == "cuda" else HIP_RUNTIME
        try:
            self._driver: Any = ctypes.CDLL(library)
        except OSError as error:
            raise ClockError(f"the device clock needs {library}: {error}") from error
        self._attach(kind, index)
        self._first, self._second = ctypes.c_void_p(), ctypes.c_void_p()
        for event in (self._first, self._second):
            self._check("create", ctypes.byref(event), 0)
        # looked up once: these two run beside the timed call
        self._record = getattr(self._driver, self._names["record"])
        self._record.argtypes = [ctypes.c_void_p, ctypes.c_void_p]

    def start(self, stream: int) -> None:
        self._record(self._first, stream)

    def stop(self, stream: int) -> None:
        self._record(self._second, stream)

    def elapsed_ns(self) -> int:
        milliseconds = ctypes.c_float()
        self._check("elapsed", ctypes.byref(milliseconds), self._first, self._second)
        return round(milliseconds.value * 1e6)

    def memory(self) -> tuple[int, int]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._check("memory", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def _attach(self, kind: str, index: int) -> None:
        """Work in the device's primary context, which is the one that engines' runtimes use."""
        if kind != "cuda":
            self._check("device", index)
            return
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._check("init", 0)
        self._check("device", ctypes.byref(device), index)
        self._check("retain", ctypes.byref(context), device)
        self._check("attach", context)

    def _check(self, call: str, *arguments: Any) -> None:
        status = getattr(self._driver, self._names[call])(*arguments)
        if status:
            raise ClockError(f"{self._names[call]} failed with status {status}")


CUDA_CALLS = {
    "init": "cuInit",
    "device": "cuDeviceGet",
    "retain": "cuDevicePrimaryCtxRetain",
    "attach": "cuCtxSetCurrent",
    "create": "cuEventCreate",
    "record": "cuEventRecord",
    "elapsed": "cuEventElapsedTime",
    "memory": "cuMemGetInfo_v2",
}
HIP_CALLS = {
    "device": "hipSetDevice",
    "create": "hipEventCreateWithFlags",
    "record": "hipEventRecord",
    "elapsed": "hipEventElapsedTime",
    "memory": "hipMemGetInfo",
}


def open_device_clock(device: str) -> DeviceClock | None:
    """The clock of a device such as `cuda:0`; None for the CPU, which has host time only."""
    kind, _, index = device.partition(":")
    return None if kind == "cpu" else DriverClock(kind, int(index or 0))
