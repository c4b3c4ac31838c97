"""What a run was measured on: hardware, operating system, driver, libraries, and settings that stay. Imports no engine.

Never recorded: user names, host names, serial numbers, paths, tokens, addresses. The sources read here do not have them, and every text
is redacted all the same. What changes from minute to minute (clocks, temperature, load) is recorded with each measurement instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from benchrun.backends.contract import ENTRY_POINT_GROUP
from benchrun.results.rows import EnvironmentRow
from benchrun.runner.devices import CudaDevice, cgroup_quota, describe_cuda, list_devices, rocm_nodes, usable_cores
from benchrun.runner.privacy import redact_values
from benchrun.runner.telemetry.interface import open_telemetry
from benchrun.runner.telemetry.nvidia import find_handle, text
from benchrun.runner.telemetry.state import MachineState

DISTRIBUTION = "benchrun-inference"
HOST_SETTINGS = ("governor", "turbo", "smt", "numa_nodes", "max_clock_mhz")
DEVICE_SETTINGS = (
    *("max_clock_mhz", "max_memory_clock_mhz", "target_clock_mhz", "default_power_cap_w", "ecc", "partition"),
    *("persistence", "exclusive", "memory_total_bytes"),
)
LIBRARIES = (
    "torch",
    *("transformers", "tokenizers", "safetensors", "numpy"),
    *("onnx", "onnxscript", "onnx-ir", "aitemplate", "triton", "flash-attn", "pytorch-optimizer", "mlcommons-loadgen"),
    *(
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxruntime-migraphx",
        "onnxruntime-rocm",
        "onnxruntime-openvino",
        "onnxruntime-directml",
    ),
    *(
        "tensorrt",
        "tensorrt-cu12",
        "tensorrt-cu13",
        "tensorrt-rtx",
        "tensorrt-rtx-cu13-bindings",
        "tensorrt-rtx-cu13-libs",
    ),
    *(
        "nvidia-cuda-runtime",
        "nvidia-cublas",
        "nvidia-cudnn",
    ),  # from CUDA 13 on; before that and for cuDNN with a suffix
    *(f"nvidia-{part}-cu{major}" for part in ("cuda-runtime", "cublas", "cudnn") for major in (12, 13)),
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
    hardware = read_hardware(device)
    state = open_telemetry(device).read()
    details: dict[str, Any] = {
        "hardware": hardware,
        "cores": {"visible": os.cpu_count(), "usable": usable_cores(), "cgroup_quota": cgroup_quota()},
        "memory_bytes": memory_bytes(),
        "devices": list(list_devices()),
        "system": {"name": platform.system(), "release": platform.release(), "python": platform.python_version()},
        "libraries": library_versions(),
        "settings": settings(state),
    }
    if state.device is not None:
        details["driver"] = state.device.driver
        if reason := state.device.notes.get("all"):
            details["unknown"] = {
                "device": reason
            }  # beside the hardware, not of it: a reason must not change the fingerprint
    return EnvironmentRow(_digest(hardware), redact_values(details))


def read_hardware(device: str) -> dict[str, Any]:
    """What the fingerprint is of."""
    hardware: dict[str, Any] = redact_values(
        {"cpu": cpu_model(), "machine": platform.machine(), "gpu": gpu_facts(device)}
    )
    return hardware


def read_fingerprint(device: str) -> str:
    """That of `read_environment`, without the time that the rest takes: for every launch of a gate."""
    return _digest(read_hardware(device))


def _digest(hardware: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(hardware, sort_keys=True).encode()).hexdigest()[:16]


def library_versions() -> dict[str, str]:
    """Distribution → version, from metadata: libraries that engines run on, and distributions that plug engines in. Nothing is imported."""
    found = {name: told for name in LIBRARIES if (told := installed_version(name))}
    plugged = {
        entry.dist.name: entry.dist.version for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.dist is not None
    }
    return found | {name: told for name, told in sorted(plugged.items()) if name != DISTRIBUTION}


def settings(state: MachineState) -> dict[str, Any]:
    """What somebody has set, of host and device, as far as it can be read; not what changes by itself."""
    found = {
        part: {name: getattr(values, name) for name in names if getattr(values, name) is not None}
        for part, values, names in (("host", state.host, HOST_SETTINGS), ("device", state.device, DEVICE_SETTINGS))
        if values is not None
    }
    return {part: values for part, values in found.items() if values}


def driving_software(device: str) -> dict[str, str]:
    """The versions that decide what a matrix product or a copy can reach: PyTorch's, and the device's driver."""
    state = open_telemetry(device).read().device
    found = {"torch": installed_version("torch"), "driver": state.driver if state else None}
    return {name: version for name, version in found.items() if version is not None}


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
    """What tells one GPU's hardware from another's, the driver's major version and the power cap among it; None without a GPU.

    Part of the fingerprint: it must not depend on which of several equal GPUs it is, nor on why something is unknown.
    """
    kind, _, index = device.partition(":")
    if kind == "rocm":
        return {"kind": kind, **_amd_facts(device, int(index or 0))}
    return {"kind": kind, **_nvidia_facts(int(index or 0))} if kind == "cuda" else None


def _nvidia_facts(index: int) -> dict[str, Any]:
    """By NVML; where that tells no name, by CUDA's driver. Of a card in MIG mode also which part of it computes."""
    seen = describe_cuda(index)
    facts: dict[str, Any] = {}
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = find_handle(pynvml, index, os.environ.get("CUDA_VISIBLE_DEVICES"), seen.bus_id if seen else None)
    except Exception:  # no library, no driver, or a device list that cannot be understood
        return _seen_facts(seen)
    calls: dict[str, Callable[[], Any]] = {
        "name": lambda: text(pynvml.nvmlDeviceGetName(handle)),
        "driver_major": lambda: text(pynvml.nvmlSystemGetDriverVersion()).partition(".")[0],
        "power_cap_w": lambda: pynvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000,
    }
    for name, call in calls.items():
        with suppress(Exception):  # not supported by this device, or no right
            facts[name] = call()
    parted = False
    with suppress(Exception):
        parted = bool(pynvml.nvmlDeviceGetMigMode(handle)[0])
    if parted or "name" not in facts or " MIG " in facts["name"]:
        part = _seen_facts(seen)
        if parted and seen is not None:
            part["memory_gib"] = round(seen.memory_bytes / 2**30)
        facts = {**part, **facts} | ({"partition": "MIG"} if parted else {})
    return facts


def _seen_facts(seen: CudaDevice | None) -> dict[str, Any]:
    return {} if seen is None else {"name": seen.name, "multiprocessors": seen.multiprocessors}


def _amd_facts(device: str, index: int) -> dict[str, Any]:
    """By amdsmi; without it by the topology of the kernel driver."""
    state = open_telemetry(device).read().device
    names = ("name", "partition", "power_cap_w")
    facts = {name: getattr(state, name) for name in names if getattr(state, name) is not None}
    if state is not None and state.driver:
        facts["driver_major"] = state.driver.partition(".")[0]
    if "name" not in facts:
        shown = [
            name.strip() for name in os.environ.get("HIP_VISIBLE_DEVICES", "").split(",") if name.strip().isdigit()
        ]
        place = int(shown[index]) if index < len(shown) else index
        nodes = rocm_nodes()
        known = nodes[place] if place < len(nodes) else {}
        facts |= {name: known[name] for name in ("gfx_target_version", "device_id", "simd_count") if name in known}
    return facts


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
