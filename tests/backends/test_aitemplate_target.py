"""What AITemplate needs around it, on small written trees: installations, headers, compilers, static files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchrun.backends import aitemplate_target as target
from benchrun.backends.contract import BuildFailed, Unsupported


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_checkout(root: Path) -> Path:
    """The shape of a checkout of Meta's repository with its submodules. Returns the folder to put on the path."""
    write(root / "python/aitemplate/__init__.py")
    write(root / "python/aitemplate/_libinfo.py", '__version__ = "0.3.dev0"\n')
    write(root / "python/aitemplate/backend/target.py", "CUDA = 1\n")
    write(root / "static/include/cuda_device_functions.h", DEVICE_FUNCTIONS)
    write(root / "static/include/rocm_device_functions.h", "<< prop.clockRate\n")
    write(root / "static/csrc/model_container.cpp")
    write(root / "3rdparty/cutlass/include/cutlass/cutlass.h")
    write(root / "3rdparty/picojson/picojson.h")
    return root / "python"


DEVICE_FUNCTIONS = """\
      << "\\n     Max global memory clock frequency in khz: "
      << prop.memoryClockRate
      << (prop.memoryClockRate / 1e6) * (prop.memoryBusWidth / 8) * 2
      << prop.clockRate
      << prop.myclockRate << prop.clockRates
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(write_checkout(tmp_path / "AITemplate"))
    return tmp_path / "AITemplate"


def test_a_checkout_is_found_with_its_headers(checkout: Path) -> None:
    found = target.find_installation()
    assert found.root == checkout / "python/aitemplate"
    assert found.version == "0.3.dev0" and len(found.digest) == 16 and found.commit is None
    assert found.third_party == checkout / "3rdparty" and found.static_files == checkout / "static"
    target.check_third_party(found, "cuda")
    with pytest.raises(Unsupported, match="lacks its submodule 3rdparty/composable_kernel"):
        target.check_third_party(found, "rocm")


def test_an_installed_package_has_its_headers_inside(checkout: Path) -> None:
    shutil.move(checkout / "3rdparty", checkout / "python/aitemplate/3rdparty")
    shutil.move(checkout / "static", checkout / "python/aitemplate/static")
    found = target.find_installation()
    assert found.static_files == checkout / "python/aitemplate/static"
    target.check_third_party(found, "cuda")


def test_a_local_change_is_another_engine(checkout: Path) -> None:
    before = target.find_installation().digest
    write(checkout / "3rdparty/cutlass/include/cutlass/more.h")
    assert target.find_installation().digest == before
    write(checkout / "python/aitemplate/backend/target.py", "CUDA = 2\n")
    assert target.find_installation().digest != before


def test_the_commit_of_a_git_checkout_is_told(checkout: Path) -> None:
    git = ["git", "-C", str(checkout), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert target.find_installation().commit == head


def test_the_commit_that_pip_recorded_is_told(checkout: Path) -> None:
    write(
        checkout / "python/aitemplate-0.3.dev0.dist-info/METADATA",
        "Metadata-Version: 2.1\nName: aitemplate\nVersion: 0.3.dev0\n",
    )
    recorded = {"url": "https://example.org/AITemplate", "vcs_info": {"vcs": "git", "commit_id": "c8aad377"}}
    write(checkout / "python/aitemplate-0.3.dev0.dist-info/direct_url.json", json.dumps(recorded))
    assert target.find_installation().commit == "c8aad377"


def test_another_repository_around_it_gives_no_commit(checkout: Path) -> None:
    subprocess.run(["git", "-C", str(checkout.parent), "init", "-q"], check=True)
    assert target.find_installation().commit is None


def test_absence_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(
        Unsupported, match=r"not installed .*the package aitemplate on the index is another.* from source"
    ):
        target.find_installation()


def test_the_unrelated_package_of_that_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as pip unpacks AITemplate 0.1.0 (2018, "just for test"): its module has another case, so only metadata collide
    write(tmp_path / "AITemplate/__init__.py")
    write(tmp_path / "AITemplate-0.1.0.dist-info/METADATA", "Metadata-Version: 2.0\nName: AITemplate\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Unsupported, match=r"package AITemplate 0\.1\.0 is unrelated .* pip uninstall aitemplate"):
        target.find_installation()


def test_an_unrelated_module_of_that_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "aitemplate/__init__.py")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Unsupported, match=r"module at .* is unrelated to AITemplate"):
        target.find_installation()
    write(tmp_path / "aitemplate/_libinfo.py", "version = 3\n")
    with pytest.raises(Unsupported, match="is unrelated to AITemplate"):
        target.find_installation()


def test_missing_static_files_are_said(checkout: Path) -> None:
    shutil.rmtree(checkout / "static")
    with pytest.raises(Unsupported, match="lacks its folder static"):
        target.find_installation()


@pytest.mark.parametrize(
    ("capability", "arch", "noted"),
    [((8, 0), "80", False), ((8, 9), "80", True), ((9, 0), "90", False), ((10, 0), "90", True), ((12, 1), "90", True)],
)
def test_cuda_architectures(capability: tuple[int, int], arch: str, noted: bool) -> None:
    found, facts = target.cuda_arch(capability)
    assert found == arch and facts["arch"] == f"sm_{arch}" and ("arch_note" in facts) is noted


def test_old_gpus_are_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"compute capability 8\.0 or newer; this GPU has 7\.5"):
        target.cuda_arch((7, 5))


def test_rocm_architectures() -> None:
    assert target.rocm_arch("gfx90a:sramecc+:xnack-") == ("gfx90a", {"arch": "gfx90a"})
    with pytest.raises(Unsupported, match=r"gfx908 and gfx90a only .*this is gfx942"):
        target.rocm_arch("gfx942")


def test_rocm_profilers_that_cannot_be_called_are_unsupported() -> None:
    def as_called(func_attrs: object, workdir: object, profiler_filename: object, dim_info_dict: object) -> None:
        raise NotImplementedError

    def as_written(func_attrs: object, workdir: object, dim_info_dict: object) -> None:
        raise NotImplementedError

    target.check_rocm_profiler(as_called)
    with pytest.raises(Unsupported, match="passes 4 arguments to gen_profiler, and its ROCm operators take 3"):
        target.check_rocm_profiler(as_written)


def test_clock_rates_are_taken_out_of_a_copy(checkout: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert target.correct_static_files(checkout / "static", copy) == 3
    corrected = (copy / "include/cuda_device_functions.h").read_text()
    assert corrected == (
        '      << "\\n     Max global memory clock frequency in khz: "\n'
        "      << 0\n      << (0 / 1e6) * (prop.memoryBusWidth / 8) * 2\n      << 0\n"
        "      << prop.myclockRate << prop.clockRates\n"
    )
    assert (copy / "include/rocm_device_functions.h").read_text() == "<< prop.clockRate\n"
    assert (copy / "csrc/model_container.cpp").exists()
    assert (checkout / "static/include/cuda_device_functions.h").read_text() == DEVICE_FUNCTIONS


def compiler(folder: Path, version: str = "13.0", name: str = "nvcc") -> target.Compiler:
    """A script that answers `--version` as the compiler does."""
    text = (
        f"Cuda compilation tools, release {version}, V{version}.88" if name == "nvcc" else f"HIP version: {version}-0"
    )
    path = write(folder / "bin" / name, f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)
    return target.Compiler(path, version)


def test_compilers_are_asked_for_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    with pytest.raises(BuildFailed, match="compiles with nvcc, which is not on the PATH"):
        target.find_compiler("cuda")
    wanted = compiler(tmp_path)
    assert target.find_compiler("cuda") == wanted and wanted.major == 13
    hipcc = compiler(tmp_path, "5.2.21153", "hipcc")
    assert target.find_compiler("rocm") == hipcc
    write(tmp_path / "bin/nvcc", "#!/bin/sh\nexit 1\n")
    with pytest.raises(BuildFailed, match="--version failed"):
        target.find_compiler("cuda")
    with pytest.raises(BuildFailed, match="does not tell its version: 'hello'"):
        target.parse_compiler_version("hello", "nvcc")


def test_curand_is_looked_for_in_the_toolkit_then_cpath_then_packages(tmp_path: Path) -> None:
    nvcc = compiler(tmp_path / "cuda")
    packages = tmp_path / "site-packages"
    with pytest.raises(BuildFailed, match="pip install nvidia-curand"):
        target.curand_include(nvcc, [packages], {})
    wheel = write(packages / "nvidia/cu13/include/curand_kernel.h").parent
    assert target.curand_include(nvcc, [packages], {}) == wheel
    given = write(tmp_path / "given/curand_kernel.h").parent
    assert target.curand_include(nvcc, [packages], {"CPATH": f"/nowhere{os.pathsep}{given}"}) is None
    write(tmp_path / "cuda/targets/x86_64-linux/include/curand_kernel.h")
    assert target.curand_include(nvcc, [packages], {}) is None


def test_environment_for_cuda_13(tmp_path: Path) -> None:
    nvcc = target.Compiler(tmp_path / "nvcc", "13.0")
    given = {"CPATH": "/a", "NVCC_APPEND_FLAGS": "-v", "NUM_BUILDERS": "3"}
    found = target.compile_environment(nvcc, "cuda", tmp_path, Path("/b"), 16, given)
    assert found == {
        "CACHE_DIR": str(tmp_path),
        "NUM_BUILDERS": "3",
        "CPATH": f"/a{os.pathsep}/b",
        "NVCC_APPEND_FLAGS": "-v -static-global-template-stub=false",
    }
    assert set(target.corrections(nvcc, "cuda")) == {"cudaDeviceProp.clockRate", "kernel stubs"}


def test_environment_for_other_compilers(tmp_path: Path) -> None:
    older = target.Compiler(tmp_path / "nvcc", "12.8")
    hip = target.Compiler(tmp_path / "hipcc", "13.1")
    for each, kind in ((older, "cuda"), (hip, "rocm")):
        found = target.compile_environment(each, kind, tmp_path, None, 16, {})
        assert found == {"CACHE_DIR": str(tmp_path), "NUM_BUILDERS": "16"}
        assert target.corrections(each, kind) == {}


def test_dummy_tactics_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"CI_FLAG=CIRCLECI .* unset it"):
        target.compile_environment(
            target.Compiler(tmp_path, "13.0"), "cuda", tmp_path, None, 1, {"CI_FLAG": "CIRCLECI"}
        )


def test_the_engines_own_settings_are_kept() -> None:
    given = {"AIT_USE_FAST_MATH": "0", "PATH": "/bin", "AIT_COMPILER_OPT": "-O1"}
    assert target.engine_settings(given) == {"AIT_COMPILER_OPT": "-O1", "AIT_USE_FAST_MATH": "0"}


def test_settings_tell_no_paths() -> None:
    given = {
        "AIT_COMPILER_OPT": "-O1",
        "AIT_CUSTOM_HEADERS": "/home/ada/headers",
        "AIT_CACHE": "~ada",
        "AIT_TWO": "-I/home/ada/include -O2",
        "AIT_THREE": r"C:\\Users\\ada",
        "AIT_FOUR": "folder/below",
        "AIT_USE_FAST_MATH": "0",
    }
    shown = target.shown_settings(target.engine_settings(given))
    assert shown.keys() == given.keys()
    assert {name for name, value in shown.items() if value != "(a path)"} == {"AIT_COMPILER_OPT", "AIT_USE_FAST_MATH"}
    assert "ada" not in str(shown) and shown["AIT_COMPILER_OPT"] == "-O1"


def test_variables_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIR", "before")
    monkeypatch.delenv("NUM_BUILDERS", raising=False)
    with target.environment_set({"CACHE_DIR": "now", "NUM_BUILDERS": "2"}):
        assert (os.environ["CACHE_DIR"], os.environ["NUM_BUILDERS"]) == ("now", "2")
    assert os.environ["CACHE_DIR"] == "before" and "NUM_BUILDERS" not in os.environ


def test_environments_have_folders_of_their_own() -> None:
    one = target.environment_id("NVIDIA H200", "90", "13.0")
    assert len(one) == 16 and one == target.environment_id("NVIDIA H200", "90", "13.0")
    assert one != target.environment_id("NVIDIA H100", "90", "13.0")
