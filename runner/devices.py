"""Finding devices without importing an engine: the vendors' driver libraries through ctypes."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchrun.runner.telemetry import cgroup

CUDA_DRIVER = "libcuda.so.1"
HIP_RUNTIME = "libamdhip64.so"
KFD_TOPOLOGY = Path("/sys/class/kfd/kfd/topology/nodes")  # AMD's kernel driver
MULTIPROCESSOR_COUNT = 16  # CU_DEVICE_ATTRIBUTE_…
NAME_BYTES, BUS_ID_BYTES = 256, 32


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A device as CUDA shows it to this process: of a MIG instance its part. `bus_id` finds it in NVML; it is never recorded."""

    name: str
    memory_bytes: int
    multiprocessors: int
    bus_id: str


@cache
def cuda_count() -> int:
    """Number of NVIDIA devices that the driver shows to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


@cache
def describe_cuda(index: int) -> CudaDevice | None:
    """What the driver says of device `index` as this process numbers them; None where it cannot be asked. Makes no context on it."""
    try:
        driver = ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return None
    device, memory, count = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_int()
    name, bus = ctypes.create_string_buffer(NAME_BYTES), ctypes.create_string_buffer(BUS_ID_BYTES)
    refused = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), index)
        or driver.cuDeviceGetName(name, NAME_BYTES, device)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        or driver.cuDeviceGetAttribute(ctypes.byref(count), MULTIPROCESSOR_COUNT, device)
        or driver.cuDeviceGetPCIBusId(bus, BUS_ID_BYTES, device)
    )
    if refused:
        return None
    return CudaDevice(name.value.decode(errors="replace"), memory.value, count.value, bus.value.decode())


@cache
def rocm_count(topology: Path = KFD_TOPOLOGY) -> int:
    """Number of AMD GPUs (GCDs) in the kernel driver's topology; 0 without the driver."""
    return len(rocm_nodes(topology))


def rocm_nodes(topology: Path = KFD_TOPOLOGY) -> list[dict[str, int]]:
    """The whole-number properties of each AMD GPU (GCD) in the kernel driver's topology, in its order; none without the driver."""
    try:
        nodes = sorted((node for node in topology.iterdir() if node.name.isdigit()), key=lambda node: int(node.name))
    except OSError:
        return []
    gpus = []
    for node in nodes:
        try:
            lines = (node / "properties").read_text().splitlines()
        except OSError:
            continue  # a node that this container may not see
        properties = {name: int(value) for name, _, value in (line.partition(" ") for line in lines) if value.isdigit()}
        if properties.get("simd_count"):
            gpus.append(properties)
    return gpus


def list_devices() -> tuple[str, ...]:
    """Devices of this machine, GPUs first: `cuda:0`, `rocm:0`, `cpu`."""
    gpus = [f"cuda:{i}" for i in range(cuda_count())] or [f"rocm:{i}" for i in range(rocm_count())]
    return (*gpus, "cpu")


def usable_cores(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores this process may use: its affinity, cut to the quota of its cgroup (v2 or v1), at least 1."""
    cores = len(os.sched_getaffinity(0))
    quota = cgroup_quota(root)
    return max(1, min(cores, int(quota))) if quota else cores


def cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPU quota of this process's cgroup, or of one around it, in cores; None where there is no limit or none can be read."""
    return cgroup.quota_cores(mounted=root)
