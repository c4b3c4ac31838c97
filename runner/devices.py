"""Finding devices without importing an engine: the vendors' driver libraries through ctypes."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

from benchrun.runner.telemetry import cgroup

CUDA_DRIVER = "libcuda.so.1"
HIP_RUNTIME = "libamdhip64.so"


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
def rocm_count(topology: Path = Path("/sys/class/kfd/kfd/topology/nodes")) -> int:
    """Number of AMD GPUs (GCDs) in the kernel driver's topology; 0 without the driver."""
    try:
        nodes = sorted(topology.iterdir())
    except OSError:
        return 0
    gpus = 0
    for node in nodes:
        try:
            properties = (node / "properties").read_text()
        except OSError:
            continue  # a node that this container may not see
        gpus += (
            any(line.split() == ["simd_count", "0"] for line in properties.splitlines()) is False
            and "simd_count" in properties
        )
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
