"""The NVIDIA GPUs of this machine, asked of the driver (libcuda) itself: no engine is needed to answer.

Function and attribute numbers: CUDA driver API, `cuDeviceGetAttribute` and enum `CUdevice_attribute`.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

LIBRARY = "libcuda.so.1"
CAPABILITY_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
CAPABILITY_MINOR = 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: its index among those visible to this process, name, compute capability, and the driver's CUDA version."""

    index: int
    name: str
    capability: tuple[int, int]
    driver: int

    @property
    def target(self) -> str:
        """The capability as compilers spell it: `SM86`."""
        return "SM{}{}".format(*self.capability)


@dataclass(frozen=True, slots=True)
class Gpus:
    """What the driver says: the GPUs, or why there is none."""

    found: tuple[Gpu, ...]
    reason: str = ""


def list_gpus(library: str = LIBRARY) -> Gpus:
    """The GPUs that this process may use. Never raises."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return Gpus((), f"no NVIDIA driver here ({library} is not installed)")
    if status := driver.cuInit(0):
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = f"; CUDA_VISIBLE_DEVICES is {hidden!r}" if hidden is not None else ""
        return Gpus((), f"the NVIDIA driver finds no usable GPU (cuInit: error {status}{hint})")
    version, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(count))
    gpus = tuple(_gpu(driver, index, version.value) for index in range(count.value))
    return Gpus(gpus, "" if gpus else "the NVIDIA driver lists no GPU")


def _gpu(driver: ctypes.CDLL, index: int, version: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(NAME_BYTES)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, NAME_BYTES, device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, device)
    return Gpu(index, name.value.decode(), (major.value, minor.value), version)
