from __future__ import annotations

import getpass
import json
import platform
import re
import socket
import subprocess
import sys
import types
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from benchrun.results.rows import EnvironmentRow
from benchrun.results.store import open_store
from benchrun.runner import environment
from benchrun.runner import plan as plan_module
from benchrun.runner.cli import env_command
from benchrun.runner.cli.env_command import compare_environments
from benchrun.runner.devices import CudaDevice
from benchrun.runner.environment import (
    benchrun_version,
    cpu_model,
    git_commit,
    gpu_facts,
    installed_version,
    library_versions,
    memory_bytes,
    read_environment,
    read_fingerprint,
)
from benchrun.runner.plan import SweepRequest, make_plan
from benchrun.runner.sweep import open_run


def test_what_is_recorded() -> None:
    row = read_environment("cpu")
    details = row.details
    assert re.fullmatch("[0-9a-f]{16}", row.fingerprint)
    assert read_fingerprint("cpu") == row.fingerprint
    assert set(details) == {"hardware", "cores", "memory_bytes", "devices", "system", "libraries", "settings"}
    assert details["hardware"] == {"cpu": cpu_model(), "machine": platform.machine(), "gpu": None}
    assert details["libraries"]["torch"] == version("torch") and "tensorrt-nosuch" not in details["libraries"]
    assert details["system"]["python"] == platform.python_version()
    assert 1 <= details["cores"]["usable"] <= details["cores"]["visible"]
    assert details["memory_bytes"] == memory_bytes() > 1 << 28
    json.dumps(details)


def test_neither_names_nor_paths_nor_addresses_are_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    text = json.dumps(read_environment("cpu").details)
    words = set(re.findall(r"[\w.-]+", text))
    assert "/" not in text
    for private in (getpass.getuser(), socket.gethostname(), Path.home().name, tmp_path.name, "hf_secret"):
        assert private not in words


def test_the_fingerprint_is_the_hardwares_and_not_the_softwares(monkeypatch: pytest.MonkeyPatch) -> None:
    here = read_environment("cpu").fingerprint
    assert read_environment("cpu").fingerprint == here
    with monkeypatch.context() as patch:
        patch.setattr(environment, "installed_version", lambda name: "99.0")
        assert read_environment("cpu").fingerprint == here
    monkeypatch.setattr(environment, "cpu_model", lambda: "another processor")
    assert read_environment("cpu").fingerprint != here


def test_the_processors_name(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: Fast CPU: the 2nd\n")
    assert cpu_model(told) == "Fast CPU: the 2nd"
    told.write_text("processor\t: 0\n")
    assert cpu_model(told) == cpu_model(tmp_path / "nosuch") == (platform.processor() or "unknown")


def test_an_engines_own_library_and_plug_ins_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"aitemplate": "0.3.1", "tensorrt-cu12": "10.9", "onnxruntime-rocm": "1.22", "nvidia-cudnn-cu12": "9.1"}
    monkeypatch.setattr(environment, "installed_version", told.get)
    dist = types.SimpleNamespace(name="benchrun-fast", version="2.0")
    own = types.SimpleNamespace(name="benchrun-inference", version="1")
    entries = [types.SimpleNamespace(dist=each) for each in (dist, own, None)]
    monkeypatch.setattr(environment, "entry_points", lambda group: entries if group == "benchrun.backends" else [])
    assert library_versions() == {**told, "benchrun-fast": "2.0"}


def test_versions_come_from_metadata() -> None:
    assert benchrun_version() == version("benchrun-inference")
    assert installed_version("no-such-distribution") is None


class NVMLError(Exception):
    pass


H200 = CudaDevice("NVIDIA H200", 150754820096, 132, "0000:CB:00.0")
SLICE = CudaDevice("NVIDIA H200 MIG 1g.18gb", 18 << 30, 16, "0000:CB:00.0")
PLACES = {"0000:1A:00.0": 0, "0000:CB:00.0": 1}


def refuse(*_: object) -> None:
    raise NVMLError("Not Supported")


def fake_nvml(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """NVML with two cards, the second one an H200."""
    module = types.ModuleType("pynvml")
    calls: dict[str, object] = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetHandleByPciBusId": lambda place: PLACES[place],
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetName": lambda handle: ["NVIDIA L4", "NVIDIA H200"][handle],
        "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        "nvmlDeviceGetPowerManagementLimit": lambda handle: [72_000, 700_000][handle],
        "nvmlDeviceGetMigMode": lambda handle: [0, 0],
    }
    for name, value in (calls | changes).items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", module)


def see(monkeypatch: pytest.MonkeyPatch, *shown: CudaDevice) -> None:
    """Let CUDA's driver show these devices to this process."""
    monkeypatch.setattr(environment, "describe_cuda", lambda index: shown[index] if index < len(shown) else None)


def fingerprint(device: str) -> str:
    return read_environment(device).fingerprint


def test_an_nvidia_gpu_is_described_by_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch)
    expected = {"kind": "cuda", "name": "NVIDIA H200", "driver_major": "580", "power_cap_w": 700.0}
    see(monkeypatch)
    assert gpu_facts("cuda:1") == expected
    see(monkeypatch, H200)  # CUDA_VISIBLE_DEVICES=1, or CUDA's order of speed: its first is NVML's second
    assert gpu_facts("cuda:0") == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    see(monkeypatch)
    assert gpu_facts("cuda:0") == expected
    assert gpu_facts("cpu") is None


def test_the_fingerprint_of_an_h200_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in docs/measurements; every database that NVML was there for keeps its series."""
    fake_nvml(monkeypatch, nvmlDeviceGetHandleByIndex=lambda index: 1)
    see(monkeypatch, H200)
    told = '{"driver_major": "580", "kind": "cuda", "name": "NVIDIA H200", "power_cap_w": 700.0}'
    assert json.dumps(gpu_facts("cuda:0"), sort_keys=True) == told


def test_a_part_of_a_card_is_other_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, nvmlDeviceGetMigMode=lambda handle: [1, 1])
    see(monkeypatch, SLICE)
    facts = gpu_facts("cuda:0")
    assert facts == {
        "kind": "cuda", "name": "NVIDIA H200", "driver_major": "580", "power_cap_w": 700.0,
        "partition": "MIG", "multiprocessors": 16, "memory_gib": 18,
    }  # fmt: skip
    see(monkeypatch)
    assert (gpu_facts("cuda:1") or {})["partition"] == "MIG"


def test_without_nvml_cudas_driver_tells_cards_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    see(monkeypatch, H200, CudaDevice("NVIDIA L4", 24 << 30, 58, "0000:1A:00.0"))
    assert gpu_facts("cuda:0") == {"kind": "cuda", "name": "NVIDIA H200", "multiprocessors": 132}
    assert fingerprint("cuda:0") != fingerprint("cuda:1")
    details = read_environment("cuda:0").details
    assert "nvidia-ml-py" in details["unknown"]["device"] and "CB:00" not in json.dumps(details)
    see(monkeypatch)
    assert gpu_facts("cuda:0") == {"kind": "cuda"}


def test_what_a_driver_refuses_is_left_out_and_not_why(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, H200)
    fake_nvml(monkeypatch, nvmlInit=refuse)
    assert gpu_facts("cuda:0") == {"kind": "cuda", "name": "NVIDIA H200", "multiprocessors": 132}
    fake_nvml(monkeypatch, nvmlDeviceGetPowerManagementLimit=refuse, nvmlDeviceGetMigMode=refuse)
    assert gpu_facts("cuda:0") == {"kind": "cuda", "name": "NVIDIA H200", "driver_major": "580"}
    fake_nvml(monkeypatch, nvmlDeviceGetName=refuse)
    assert (gpu_facts("cuda:0") or {})["name"] == "NVIDIA H200"


def test_without_amdsmi_the_kernels_topology_tells_gpus_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    nodes = [{"simd_count": 416, "gfx_target_version": 90010, "device_id": 29708}, {"simd_count": 1216}]
    monkeypatch.setattr(environment, "rocm_nodes", lambda: nodes)
    assert gpu_facts("rocm:0") == {"kind": "rocm", **nodes[0]} and gpu_facts("rocm:1") == {"kind": "rocm", **nodes[1]}
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    assert gpu_facts("rocm:0") == {"kind": "rocm", **nodes[1]}
    assert gpu_facts("rocm:7") == {"kind": "rocm"}


def test_here_is_compared_on_the_device_of_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    db = str(tmp_path / "a.db")
    plan = make_plan(SweepRequest(models=("tiny",), device="cpu", threads=1))
    with open_store(db) as store:
        slow = open_run(store, plan, "")
        moved = tuple(replace(each, point=replace(each.point, device="cuda:3")) for each in plan.points)
        fast = open_run(store, replace(plan, points=moved), "")
    seen: list[str] = []

    def read(device: str) -> EnvironmentRow:
        seen.append(device)
        return EnvironmentRow("0" * 16, {})

    monkeypatch.setattr(environment, "read_environment", read)
    for present in (("cuda:0", "cuda:3", "cpu"), ("cuda:0", "cpu"), ("cpu",)):
        monkeypatch.setattr(env_command, "list_devices", lambda present=present: present)
        monkeypatch.setattr(plan_module, "list_devices", lambda present=present: present)
        compare_environments(fast, "here", None, db, as_json=True)
    compare_environments("here", slow, None, db, as_json=True)
    monkeypatch.setattr(env_command, "list_devices", lambda: ("cuda:0", "cpu"))
    compare_environments("here", slow, None, db, as_json=True)
    assert seen == ["cuda:3", "cuda:0", "cpu", "cpu", "cpu"]


def test_the_commit_of_a_repository(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    assert git_commit(tmp_path) is None
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "first")
    git("tag", "v1")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD") + "+dirty"
