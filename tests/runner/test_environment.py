from __future__ import annotations

import getpass
import json
import platform
import re
import socket
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import pytest

from benchrun.runner import environment
from benchrun.runner.environment import (
    benchrun_version,
    cpu_model,
    git_commit,
    gpu_facts,
    installed_version,
    memory_bytes,
    read_environment,
)


def test_what_is_recorded() -> None:
    row = read_environment("cpu")
    details = row.details
    assert re.fullmatch("[0-9a-f]{16}", row.fingerprint)
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


def test_versions_come_from_metadata() -> None:
    assert benchrun_version() == version("benchrun-inference")
    assert installed_version("no-such-distribution") is None


class NVMLError(Exception):
    pass


def fake_nvml(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    module = types.ModuleType("pynvml")
    calls: dict[str, object] = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: f"handle {index}",
        "nvmlDeviceGetName": lambda handle: f"NVIDIA H200 ({handle})",
        "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        "nvmlDeviceGetPowerManagementLimit": lambda handle: 700_000,
    }
    for name, value in (calls | changes).items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", module)


def test_an_nvidia_gpu_is_described_by_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch)
    assert gpu_facts("cuda:1") == {
        "kind": "cuda", "name": "NVIDIA H200 (handle 1)", "driver_major": "580", "power_cap_w": 700.0,
    }  # fmt: skip
    assert gpu_facts("cpu") is None and gpu_facts("rocm:0") == {"kind": "rocm"}


def test_what_nvml_does_not_tell_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise NVMLError("Driver Not Loaded")

    fake_nvml(monkeypatch, nvmlInit=refuse)
    assert gpu_facts("cuda:0") == {"kind": "cuda", "note": "NVML: Driver Not Loaded"}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = gpu_facts("cuda:0")
    assert found is not None and "nvidia-ml-py" in found["note"]


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
