"""The AITemplate backend and its session, with operators that compute in the place of compiled kernels."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchrun.backends import aitemplate
from benchrun.backends.aitemplate import AITemplateBackend, Gpu, accumulation, availability, graph_mode, make_target
from benchrun.backends.aitemplate_compile import engine_messages, import_aitemplate
from benchrun.backends.aitemplate_target import Compiler, find_installation
from benchrun.backends.contract import BuildFailed, Inputs, OptionValue, OutOfMemory, Point, Unsupported, WrongVariant
from benchrun.backends.models import Model, load_model, named_spec
from tests.backends.aitemplate_double import H200, ComputingBackend
from tests.backends.build_double import RecordingBuild
from tests.backends.test_aitemplate_target import compiler, write, write_checkout

BATCH, SEQ = 2, 8


def point(head: str = "encoder", device: str = "cuda:0", **options: OptionValue) -> Point:
    kind = device.partition(":")[0]
    return Point(
        "tiny", "random:0", head, "ait", kind, device, "fp16", BATCH, SEQ, "padded", "p", options=tuple(options.items())
    )


def inputs(model: Model, index: int = 0, lengths: tuple[int, ...] = (SEQ, SEQ)) -> Inputs:
    generator = np.random.default_rng(index)
    if model.input_names[0] == "hidden_states":
        states = generator.standard_normal((BATCH, SEQ, model.config.hidden_size), dtype=np.float32)
        return Inputs(index, {"hidden_states": states, "attention_mask": np.ones((BATCH, SEQ), np.int64)}, lengths)
    ids = generator.integers(5, 1000, (BATCH, SEQ))
    types = generator.integers(0, 2, (BATCH, SEQ))
    arrays = {"input_ids": ids, "attention_mask": np.ones((BATCH, SEQ), np.int64), "token_type_ids": types}
    return Inputs(index, arrays, lengths)


def reference(model: Model, given: Inputs) -> np.ndarray:
    with torch.inference_mode():
        found: torch.Tensor = model.module(*(torch.from_numpy(given.arrays[name]) for name in model.input_names))[0]
    return found.numpy()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with a checkout of AITemplate, nvcc 13.0 and cuRAND's headers."""
    monkeypatch.syspath_prepend(write_checkout(tmp_path / "AITemplate"))
    compiler(tmp_path / "cuda")
    write(tmp_path / "cuda/include/curand_kernel.h")
    monkeypatch.setenv("PATH", f"{tmp_path / 'cuda/bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for name in ("CI_FLAG", "CUDA_VISIBLE_DEVICES", "CPATH"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "aitemplate"]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "aitemplate"]:
        del sys.modules[name]


@pytest.fixture
def build(tmp_path: Path) -> RecordingBuild:
    return RecordingBuild.at(tmp_path / "cache")


@pytest.mark.parametrize("head", ["layers", "encoder"])
def test_a_session_gives_what_the_module_does(head: str, machine: Path, build: RecordingBuild) -> None:
    model = load_model(named_spec("tiny", head), SEQ)
    session = ComputingBackend().prepare(model, point(head), build)
    for index in (0, 1, 0, -1, -1):  # sets are rotated, and some come once
        given = inputs(model, abs(index))
        given = Inputs(index, given.arrays, given.lengths)
        session.bind(given)
        session.poison()
        assert np.isnan(session.outputs()["last_hidden_state"]).all()
        session.enqueue()
        session.synchronize()
        found = session.outputs()["last_hidden_state"]
        wanted = reference(model, given)
        assert found.shape == wanted.shape and found.dtype == np.float32
        assert 1e-5 < np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 5e-3  # weights and output are fp16
    assert session.stream == 7 and sorted(session._buffers.sets) == [0, 1]  # type: ignore[attr-defined]
    session.close()


def test_facts_say_what_was_built(machine: Path, build: RecordingBuild) -> None:
    model = load_model(named_spec("tiny", "layers"), SEQ)
    facts = ComputingBackend().prepare(model, point("layers"), build).facts()
    assert facts["compute_dtypes"] == {"matmul": "fp16", "attention": "fp16", "layernorm": "fp16"}
    assert facts["accumulate_dtype"] == "fp32" and facts["activation"] == "gelu" and facts["output_dtype"] == "fp16"
    assert facts["arch"] == "sm_90" and facts["compiler"] == "13.0" and facts["fast_math"] is True
    assert facts["cuda_graph"] is True and facts["cuda_graph_by"] == "benchrun: captured once, replayed"
    assert facts["aitemplate"]["version"] == "0.3.dev0" and "kernel stubs" in facts["cuda_13"]
    off = ComputingBackend().prepare(model, point("layers", cuda_graph="off"), build).facts()
    assert off["cuda_graph"] is False and off["cuda_graph_by"] == "nobody"


def test_profiling_comes_before_compiling_and_both_once(machine: Path, build: RecordingBuild) -> None:
    model = load_model(named_spec("tiny", "layers"), SEQ)
    backend = ComputingBackend()
    backend.prepare(model, point("layers"), build)
    assert [job.profile_only for job in backend.jobs] == [True, False]
    target = backend.jobs[0].target
    assert (target.kind, target.arch, target.visible, target.corrected) == ("cuda", "90", "0", True)
    assert target.workshop.parent == build.cache.root / "aitemplate" and target.workshop.is_dir()
    assert target.environment["NVCC_APPEND_FLAGS"] == "-static-global-template-stub=false"
    assert set(build.seconds) == {"compile", "load"} and build.artefacts[0][1] is False
    backend.prepare(load_model(named_spec("tiny", "layers"), SEQ), point("layers", cuda_graph="off"), build)
    assert len(backend.jobs) == 2 and build.artefacts[1][1] is True  # only what decides the library is in its address
    backend.prepare(model, replace(point("layers"), batch=3), build)
    assert len(backend.jobs) == 4


def test_a_compiled_library_is_told_as_such(
    machine: Path, build: RecordingBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `benchrun backends`, which imports no engine, from what a measurement that came no further left behind."""
    from benchrun.runner.cli import backends_command

    monkeypatch.setenv("BENCHRUN_CACHE", str(build.cache.root))
    monkeypatch.setattr(backends_command, "executed_here", lambda db: {})

    def levels() -> dict[str, str]:
        return {line.engine: line.verified for line in backends_command.describe_backend("ait", check=False)}

    assert levels() == {"ait:cuda": "never run", "ait:rocm": "never run"}
    ComputingBackend().prepare(load_model(named_spec("tiny", "layers"), SEQ), point("layers"), build)
    assert AITemplateBackend.built(build.cache) == {"cuda": "compiled"}
    assert levels() == {"ait:cuda": "compiled", "ait:rocm": "never run"}

    def make(folder: Path) -> None:
        write(folder / "test.so")

    build.cache.obtain("aitemplate", {"arch": "gfx90a"}, make)
    assert levels() == {"ait:cuda": "compiled", "ait:rocm": "compiled"}
    assert "aitemplate" not in sys.modules


def test_static_files_are_corrected_for_cuda_13_only(
    machine: Path, build: RecordingBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(named_spec("tiny", "layers"), SEQ)
    headers: list[str] = []

    class Reading(ComputingBackend):
        def generate(self, job):  # type: ignore[no-untyped-def]
            headers.append((job.static / "include/cuda_device_functions.h").read_text())
            assert os.environ["CACHE_DIR"] == str(job.target.workshop / "profiles")
            return super().generate(job)

    Reading().prepare(model, point("layers"), build)
    compiler(machine / "cuda", "12.8")
    Reading().prepare(model, point("layers"), build)
    assert ["prop.clockRate\n" in header for header in headers] == [False, False, True, True]
    assert "CACHE_DIR" not in os.environ


def test_another_activation_than_asked_for_is_the_wrong_variant(machine: Path, build: RecordingBuild) -> None:
    backend = ComputingBackend()
    backend.activation = "fast_gelu"
    with pytest.raises(WrongVariant, match="activation 'fast_gelu', not 'gelu'"):
        backend.prepare(load_model(named_spec("tiny", "layers"), SEQ), point("layers"), build)


def test_padded_sets_are_refused(machine: Path, build: RecordingBuild) -> None:
    model = load_model(named_spec("tiny"), SEQ)
    session = ComputingBackend().prepare(model, point(), build)
    with pytest.raises(Unsupported, match="no attention mask"):
        session.bind(inputs(model, lengths=(SEQ, 3)))


def test_without_aitemplate_a_point_is_unsupported(
    tmp_path: Path, build: RecordingBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(named_spec("tiny"), SEQ)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(Unsupported, match="AITemplate is not installed"):
        AITemplateBackend().prepare(model, point(), build)
    probed = AITemplateBackend().probe()
    assert not probed.ok and "AITemplate is not installed" in probed.reason
    assert AITemplateBackend.missing("cuda") == probed.reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what is said where PyTorch sees no GPU")
def test_without_a_gpu_a_point_is_unsupported(machine: Path, build: RecordingBuild) -> None:
    with pytest.raises(Unsupported, match="sees no CUDA device"):
        AITemplateBackend().prepare(load_model(named_spec("tiny"), SEQ), point(), build)
    probed = AITemplateBackend().probe()
    assert not probed.ok and probed.reason == "AITemplate 0.3.dev0 is here, but PyTorch sees no GPU"
    assert AITemplateBackend().torch_device(H200) == torch.device("cuda", 0)


def test_an_installation_that_cannot_be_imported_says_so(machine: Path) -> None:
    write(machine / "AITemplate/python/aitemplate/__init__.py", "raise ImportError('no sympy')\n")
    probed = AITemplateBackend().probe()
    assert not probed.ok and probed.reason.endswith("failed: no sympy")


def test_availability_by_gpu(machine: Path) -> None:
    assert AITemplateBackend.missing("cuda") is None
    found = availability(find_installation(), [H200], {"commit": "c8aad377"})
    assert found.ok and found.devices == ("cuda:0",) and found.dtypes == {"cuda": ("fp16",)}
    assert found.versions == {"commit": "c8aad377", "compiler": "13.0"}
    old = Gpu("cuda", 1, "Tesla T4", (7, 5))
    mixed = availability(find_installation(), [H200, old], {})
    assert mixed.ok and mixed.devices == ("cuda:0",)
    alone = availability(find_installation(), [old], {})
    assert not alone.ok and "compute capability 8.0" in alone.reason
    amd = availability(find_installation(), [Gpu("rocm", 0, "AMD Instinct MI250X", architecture="gfx90a")], {})
    assert not amd.ok and "composable_kernel" in amd.reason


def test_targets_for_amd(tmp_path: Path, machine: Path) -> None:
    gpu = Gpu("rocm", 1, "AMD Instinct MI250X", architecture="gfx90a:sramecc+:xnack-")
    hipcc = Compiler(tmp_path / "hipcc", "5.2.21153")
    found = make_target(gpu, hipcc, find_installation(), "fp32", tmp_path, [], {"HIP_VISIBLE_DEVICES": "4,5"})
    assert (found.kind, found.arch, found.visible, found.corrected) == ("rocm", "gfx90a", "5", False)
    newer = replace(gpu, architecture="gfx942")
    with pytest.raises(Unsupported, match="gfx942"):
        make_target(newer, hipcc, find_installation(), "fp32", tmp_path, [], {})


def test_options() -> None:
    assert accumulation(point()) == "fp32" and accumulation(point(accumulate="fp16")) == "fp16"
    assert graph_mode(point()) == "on" and graph_mode(point(cuda_graph="engine")) == "engine"
    amd = point(device="rocm:0")
    assert graph_mode(amd) == "off" and graph_mode(replace(amd, options=(("cuda_graph", "on"),))) == "on"
    with pytest.raises(Unsupported, match="no graph mode on ROCm"):
        graph_mode(replace(amd, options=(("cuda_graph", "engine"),)))
    with pytest.raises(Unsupported, match="add in fp32 only"):
        accumulation(replace(amd, options=(("accumulate", "fp16"),)))


def test_options_are_described_with_their_default() -> None:
    for option in AITemplateBackend.description.options:
        assert option.default in option.choices
    assert aitemplate.python_packages()


def fail(error: Exception, written: bytes = b"") -> None:
    """What native code does: it writes the reason to file descriptor 2, and Python raises something else."""
    with engine_messages("running the model"):
        assert logging.getLogger("aitemplate").level == logging.INFO
        os.write(2, written)
        raise error


def test_messages_of_native_code_become_the_reason(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger("aitemplate").level
    error = RuntimeError("Error in function: AITemplateModelContainerRun")
    with pytest.raises(BuildFailed, match="running the model: Got cutlass error: Error Internal at: 199"):
        fail(error, b"Got cutlass error: Error Internal at: 199\n")
    assert "Error Internal" in capfd.readouterr().err and logging.getLogger("aitemplate").level == before
    with pytest.raises(OutOfMemory):
        fail(error, b"API call failed: out of memory\n")
    with pytest.raises(Unsupported, match="as it is"):
        fail(Unsupported("as it is"))
    capfd.readouterr()
    with engine_messages("compiling"):
        os.write(2, b"Device Runtime Version: 13000\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"  # what a success writes is noise


def test_importing_the_engine_leaves_the_root_logger_alone(machine: Path) -> None:
    # AITemplate calls logging.basicConfig(level=logging.INFO) when its operators are imported
    text = "import logging\nlogging.basicConfig(level=logging.INFO, force=True)\nNAME = 'written'\n"
    write(machine / "AITemplate/python/aitemplate/__init__.py", text)
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    found = import_aitemplate()
    assert found.NAME == "written" and root.level == level and root.handlers == handlers
