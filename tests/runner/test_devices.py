from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from benchrun.runner import devices
from benchrun.runner.devices import CudaDevice, cgroup_quota, list_devices, usable_cores


def test_gpus_come_before_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, rocm, listed in [
        (0, 0, ("cpu",)),
        (2, 0, ("cuda:0", "cuda:1", "cpu")),
        (0, 2, ("rocm:0", "rocm:1", "cpu")),
    ]:
        monkeypatch.setattr(devices, "cuda_count", lambda count=cuda: count)
        monkeypatch.setattr(devices, "rocm_count", lambda count=rocm: count)
        assert list_devices() == listed


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "CUDA_DRIVER", "libnosuchdriver.so.1")
    assert devices.cuda_count.__wrapped__() == 0
    assert devices.rocm_count.__wrapped__(tmp_path / "nosuch") == 0


def test_what_cudas_driver_says_of_a_device(driver_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = devices.describe_cuda.__wrapped__
    monkeypatch.setattr(devices, "CUDA_DRIVER", str(driver_library))
    double = ctypes.CDLL(str(driver_library))
    double.restart()
    assert ask(0) == CudaDevice("Card 0", 141 << 30, 132, "0000:CB:00.0")
    assert ask(1) == CudaDevice("Card 1", 80 << 30, 114, "0000:1A:00.0")
    assert ask(2) is None  # there are two
    double.fail_with(999)
    assert ask(0) is None
    double.restart()
    monkeypatch.setattr(devices, "CUDA_DRIVER", "libnosuchdriver.so.1")
    assert ask(0) is None


def test_amd_gpus_are_the_nodes_with_compute_units(tmp_path: Path) -> None:
    for node, simds in enumerate(["0", "304", "304"]):
        (tmp_path / str(node)).mkdir()
        (tmp_path / str(node) / "properties").write_text(f"cpu_cores_count 8\nsimd_count {simds}\nmem_banks_count 1\n")
    (tmp_path / "3").mkdir()  # a GPU that this container may not see
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "properties").write_text("")
    (tmp_path / "10").mkdir()  # after 2, not after 1
    (tmp_path / "10" / "properties").write_text("simd_count 208\ngfx_target_version 90010\nname text\n")
    assert devices.rocm_count.__wrapped__(tmp_path) == 3
    assert [node["simd_count"] for node in devices.rocm_nodes(tmp_path)] == [304, 304, 208]


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_cgroup_of_either_version(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_quota(tmp_path) == quota


def test_usable_cores_are_cut_to_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    assert usable_cores(tmp_path) == 8
    for text, cores in [("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("max 100000", 8)]:
        (tmp_path / "cpu.max").write_text(text)
        assert usable_cores(tmp_path) == cores
