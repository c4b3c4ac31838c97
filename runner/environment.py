"""What a run was measured on: hardware, operating system, driver and libraries. Imports no engine.

Never recorded: user names, paths, tokens, addresses.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchrun.results.rows import EnvironmentRow
from benchrun.runner.devices import cgroup_quota, list_devices, usable_cores

DISTRIBUTION = "benchrun-inference"
LIBRARIES = (
    "torch",
    "transformers",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-migraphx",
    "tensorrt",
    "tensorrt-rtx-cu13-bindings",
    "triton",
)


def benchrun_version() -> str:
    """Version of the installed distribution."""
    return installed_version(DISTRIBUTION) or "unknown"


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, from its metadata; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def read_environment(device: str) -> EnvironmentRow:
    """This machine as seen by a run on `device`."""
    hardware = {"cpu": cpu_model(), "machine": platform.machine(), "gpu": gpu_facts(device)}
    core = json.dumps(hardware, sort_keys=True)
    details: dict[str, Any] = {
        "hardware": hardware,
        "cores": {"visible": os.cpu_count(), "usable": usable_cores(), "cgroup_quota": cgroup_quota()},
        "memory_bytes": memory_bytes(),
        "devices": list(list_devices()),
        "system": {"name": platform.system(), "release": platform.release(), "python": platform.python_version()},
        "libraries": {name: found for name in LIBRARIES if (found := installed_version(name))},
    }
    return EnvironmentRow(hashlib.sha256(core.encode()).hexdigest()[:16], details)


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as the kernel tells it."""
    try:
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def memory_bytes() -> int | None:
    """Physical memory of the host."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def gpu_facts(device: str) -> dict[str, Any] | None:
    """Name, driver's major version and power cap of an NVIDIA device; what cannot be read is None, no device is None."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return None if kind == "cpu" else {"kind": kind}
    try:
        import pynvml
    except ImportError:
        return {"kind": kind, "note": "install nvidia-ml-py for its name, driver and power cap"}
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(index or 0))
        return {
            "kind": kind,
            "name": pynvml.nvmlDeviceGetName(handle),
            "driver_major": str(pynvml.nvmlSystemGetDriverVersion()).partition(".")[0],
            "power_cap_w": pynvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000,
        }
    except pynvml.NVMLError as error:
        return {"kind": kind, "note": f"NVML: {error}"}


def git_commit(folder: Path) -> str | None:
    """Commit of the repository around `folder`, with `+dirty` where tracked files differ; None outside a repository."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+dirty"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
