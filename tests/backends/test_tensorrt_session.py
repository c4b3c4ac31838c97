"""The run path, with a double in the place of execution on a GPU: calls, shapes, addresses, capture, answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorrt_rtx_bindings
import torch

from benchrun.backends import tensorrt, tensorrt_build
from benchrun.backends.cache import Artefact
from benchrun.backends.contract import BuildFailed, Inputs, OutOfMemory, Point, Unsupported
from benchrun.backends.models import Model, load_model, named_spec
from benchrun.backends.onnx_export import FILE_NAME, export_onnx
from benchrun.backends.tensorrt import TensorRtBackend
from benchrun.backends.tensorrt_layers import Layer, Tensor
from benchrun.backends.tensorrt_names import FLAVOURS, Flavour, members
from benchrun.backends.tensorrt_session import CAPTURE_WARMUPS, Engine, TensorRtSession
from tests.backends import tensorrt_doubles as doubles
from tests.backends.build_double import RecordingBuild
from tests.backends.tensorrt_doubles import Behaviour, DoubleBindings, DoubleDevice

BATCH, SEQ = 3, 16


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(named_spec("tiny"), 64)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> RecordingBuild:
    return RecordingBuild.at(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def graphs(model: Model, build: RecordingBuild) -> Callable[[str], Path]:
    """The model's ONNX file in a dtype."""
    return lambda dtype: export_onnx(model, dtype, build).path / FILE_NAME


def make_point(**fields: Any) -> Point:
    given: dict[str, Any] = {
        "model": "tiny",
        "weights": "random:0",
        "head": "encoder",
        "backend": "trt",
        "variant": "rtx",
        "device": "cuda:0",
        "dtype": "fp32",
        "batch": BATCH,
        "seq": SEQ,
        "workload": "padded",
        "protocol": "test",
    }
    return Point(**(given | fields))


def make_inputs(model: Model, index: int, lengths: tuple[int, ...] = (SEQ, 5, 9)) -> Inputs:
    random = np.random.default_rng(index)
    mask = (np.arange(SEQ)[None] < np.array(lengths)[:, None]).astype(np.int64)
    ids = random.integers(0, model.spec.shape.vocab_size, mask.shape)
    return Inputs(index, {"input_ids": ids, "attention_mask": mask, "token_type_ids": 1 - mask}, lengths)


def expected(model: Model, inputs: Inputs) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        answer: np.ndarray[Any, Any] = model.module(*(torch.from_numpy(inputs.arrays[n]) for n in model.input_names))[
            0
        ].numpy()
    return answer


def relative_error(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def open_session(
    behaviour: Behaviour, model: Model, flavour: str = "rtx", *, cuda_graph: bool = True, **more: Any
) -> TensorRtSession:
    engine = Engine(FLAVOURS[flavour], DoubleBindings(behaviour), b"plan")  # type: ignore[arg-type]
    shapes = tensorrt.input_shapes(model, make_point())
    return TensorRtSession(engine, shapes, behaviour.device, cuda_graph=cuda_graph, **more)


@pytest.fixture
def behaviour(graphs: Callable[[str], Path]) -> Behaviour:
    return Behaviour(DoubleDevice(), graphs("fp32"))


def test_the_doubles_have_no_name_that_the_bindings_lack() -> None:
    pairs = {
        "Runtime": doubles.DoubleRuntime,
        "ICudaEngine": doubles.DoubleEngine,
        "IExecutionContext": doubles.DoubleContext,
        "IRuntimeConfig": doubles.DoubleRuntimeConfig,
        "IRuntimeCache": doubles.DoubleRuntimeCache,
        "EngineInspector": doubles.DoubleInspector,
    }
    protocols = FLAVOURS["rtx"].protocols
    for name, double in pairs.items():
        listed = {member for protocol in protocols[name] for member in members(protocol)}
        own = {member for member in vars(double) if not member.startswith("_")} - {"fail", "strategy", "blob"}
        assert own == listed, name
        assert all(hasattr(getattr(tensorrt_rtx_bindings, name), member) for member in own)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("cuda_graph", [True, False])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_answers_are_those_of_the_bound_inputs(
    behaviour: Behaviour, model: Model, graphs: Callable[[str], Path], flavour: str, cuda_graph: bool, dtype: str
) -> None:
    behaviour.onnx = graphs(dtype)
    session = open_session(behaviour, model, flavour, cuda_graph=cuda_graph)
    for index in (0, 1, 0):  # the second time the set is on the device already
        inputs = make_inputs(model, index)
        session.bind(inputs)
        session.poison()
        assert np.isnan(session.outputs()["last_hidden_state"]).all()
        session.enqueue()
        session.synchronize()
        found = session.outputs()["last_hidden_state"]
        assert found.dtype == np.float32
        assert relative_error(found, expected(model, inputs)) < (1e-5 if dtype == "fp32" else 5e-3)
    assert session.stream == doubles.STREAM


def test_rtx_calls_come_in_the_order_that_the_library_wants(behaviour: Behaviour, model: Model) -> None:
    session = open_session(behaviour, model)
    log = behaviour.device.log
    inputs = ["set_input_shape", "set_tensor_address"] * 3
    memory = ["update_device_memory_size_for_shapes", "set_device_memory"]
    runs = ["execute_async_v3"] * CAPTURE_WARMUPS
    capture = ["capture", "execute_async_v3"]
    assert log == [*inputs, *memory, "set_tensor_address", "infer_shapes", *runs, "synchronize", *capture]
    assert behaviour.kernel_strategy == tensorrt_rtx_bindings.DynamicShapesKernelSpecializationStrategy.EAGER
    log.clear()
    session.bind(make_inputs(model, 0))
    session.enqueue()
    session.synchronize()
    assert log == ["replay", "synchronize"]  # the context itself is not called again


def test_tensorrt_takes_its_own_memory_and_is_called_each_time_without_a_graph(
    behaviour: Behaviour, model: Model
) -> None:
    session = open_session(behaviour, model, "tensorrt", cuda_graph=False)
    log = behaviour.device.log
    assert "set_device_memory" not in log and "capture" not in log
    log.clear()
    session.enqueue()
    assert log == ["execute_async_v3"]
    assert session.kernels() == b""
    assert (doubles.SCRATCH_BYTES,) not in [shape for shape, _ in behaviour.device.allocated]


def test_binding_a_known_set_copies_and_allocates_nothing(behaviour: Behaviour, model: Model) -> None:
    session = open_session(behaviour, model)
    sets = [make_inputs(model, index) for index in range(2)]
    for each in sets:
        session.bind(each)
    known = dict(session._sets)
    allocated = len(behaviour.device.allocated)
    for each in sets:
        session.bind(each)
    assert len(behaviour.device.allocated) == allocated
    assert all(session._sets[index] is known[index] for index in known)


def test_a_set_that_comes_once_is_copied_and_not_kept(behaviour: Behaviour, model: Model) -> None:
    session = open_session(behaviour, model)
    allocated = len(behaviour.device.allocated)
    for seed in range(3):
        given = make_inputs(model, seed)
        session.bind(Inputs(-1, given.arrays, given.lengths))
        assert all(np.array_equal(tensor.numpy(), given.arrays[name]) for name, tensor in session._inputs.items())
    assert not session._sets and len(behaviour.device.allocated) == allocated


def test_inputs_of_another_shape_are_refused(behaviour: Behaviour, model: Model) -> None:
    session = open_session(behaviour, model)
    inputs = make_inputs(model, 0, (SEQ, 4))
    with pytest.raises(BuildFailed, match=r"input input_ids has shape \(2, 16\), and the session is for \(3, 16\)"):
        session.bind(inputs)


def test_stored_kernels_reach_the_runtime_and_new_ones_come_back(behaviour: Behaviour, model: Model) -> None:
    session = open_session(behaviour, model, kernels=b"stored earlier")
    assert behaviour.given_kernels == b"stored earlier"
    assert session.kernels() == doubles.KERNELS
    behaviour.given_kernels = None
    open_session(behaviour, model, kernels=b"")
    assert behaviour.given_kernels == b""


def test_facts_are_the_inspectors(behaviour: Behaviour, model: Model) -> None:
    half, weights = Tensor("fp16", 0), Tensor("fp16", 64)
    behaviour.layers = [
        Layer("node_MatMul_1", "gemm", (half,), (weights,), (half,)),
        Layer("_gemm_mha_v2_myl0_7", "kgen", (half,), (), (half,)),
    ]
    notes = {"library": "TensorRT-RTX 1", "tf32_allowed": False}
    facts = open_session(behaviour, model, notes=notes).facts()
    assert facts["compute_dtypes"] == {"matmul": "fp16", "attention": "fp16"}
    assert facts["compute_dtypes_from"] == "engine inspector"
    assert facts["library"] == "TensorRT-RTX 1"
    assert facts["cuda_graph"] is True
    assert facts["attention"] == "fused: 1 kernels"
    assert open_session(behaviour, model, cuda_graph=False).facts()["cuda_graph"] is False


def test_a_closed_session_lets_go(behaviour: Behaviour, model: Model) -> None:
    session = open_session(behaviour, model)
    session.bind(make_inputs(model, 0))
    session.close()
    assert behaviour.device.closed
    assert session.outputs() == {}
    with pytest.raises(RuntimeError, match="closed"):
        session.enqueue()
    session.close()  # a second time is no error


def test_a_run_that_fails_later_gives_its_own_reason(behaviour: Behaviour, model: Model) -> None:
    session = open_session(behaviour, model, cuda_graph=False)
    behaviour.refuses, behaviour.error = "execute_async_v3", "CUDA error: out of memory"
    with pytest.raises(OutOfMemory, match="TensorRT-RTX failed to run: CUDA error: out of memory"):
        session.enqueue()


WRONG_GPU = (
    "The engine cannot run on this GPU, which has compute capability 9.0. TensorRT-RTX does not support this compute "
    "capability, so the engine cannot be rebuilt for it."
)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"loads": False}, BuildFailed, "cannot load the engine: IRuntime: Error Code 1: something broke"),
        ({"loads": False, "error": WRONG_GPU}, Unsupported, "cannot run on this GPU, which has compute capability 9.0"),
        ({"loads": False, "error": "CUDA error: out of memory"}, OutOfMemory, "cannot load the engine"),
        ({"makes_context": False}, BuildFailed, "cannot create an execution context: IRuntime"),
        ({"refuses": "set_input_shape"}, BuildFailed, r"refuses shape \(3, 16\)"),
        ({"refuses": "set_tensor_address"}, BuildFailed, "refuses the address of input_ids"),
        ({"refuses": "set_tensor_address", "refuses_after": 3}, BuildFailed, "the address of last_hidden_state"),
        ({"refuses": "infer_shapes"}, BuildFailed, "does not know all shapes"),
        ({"refuses": "execute_async_v3"}, RuntimeError, "failed to run"),
    ],
)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_fails_says_why(
    behaviour: Behaviour, model: Model, flavour: str, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    for name, value in fields.items():
        setattr(behaviour, name, value)
    with pytest.raises(error, match=message):
        open_session(behaviour, model, flavour)


def test_an_engine_that_cannot_be_captured_is_unsupported(behaviour: Behaviour, model: Model) -> None:
    behaviour.capturable = False
    with pytest.raises(Unsupported, match="cannot be captured in a CUDA graph: use cuda_graph=off"):
        open_session(behaviour, model)
    open_session(behaviour, model, cuda_graph=False)


def test_an_engine_with_other_inputs_is_refused(behaviour: Behaviour, model: Model) -> None:
    engine = Engine(FLAVOURS["rtx"], DoubleBindings(behaviour), b"plan")  # type: ignore[arg-type]
    with pytest.raises(
        BuildFailed, match=r"the engine's inputs are .*token_type_ids.*, and the model's are attention_mask, input_ids$"
    ):
        TensorRtSession(engine, {"input_ids": (1, 2), "attention_mask": (1, 2)}, behaviour.device, cuda_graph=False)


def test_a_type_that_is_not_fed_is_refused(behaviour: Behaviour) -> None:
    engine = Engine(FLAVOURS["rtx"], DoubleBindings(behaviour), b"plan")  # type: ignore[arg-type]
    engine.handle.inputs["input_ids"] = "INT8"  # type: ignore[attr-defined]
    with pytest.raises(BuildFailed, match="input_ids is of type INT8"):
        engine.dtype("input_ids")


# --- prepare: from the model to a session, with the real exporter, cache and builder


@contextmanager
def double_library(
    monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour, version: str | None = None
) -> Iterator[list[Flavour]]:
    """The adapter gets the double's bindings; the answer lists who asked."""
    asked: list[Flavour] = []

    def load(flavour: Flavour) -> Any:
        asked.append(flavour)
        return DoubleBindings(behaviour, version or tensorrt_rtx_bindings.__version__)

    with monkeypatch.context() as patch:
        patch.setattr(tensorrt, "load_bindings", load)
        patch.setattr(tensorrt_build, "load_bindings", load)
        yield asked


def backend_for(behaviour: Behaviour, **gpu: Any) -> TensorRtBackend:
    return TensorRtBackend(lambda: doubles.one_gpu(**gpu), lambda index: behaviour.device)


def entries(build: RecordingBuild, kind: str) -> list[str]:
    return [entry.key for entry in build.cache.entries() if entry.kind == kind]


def test_prepare_builds_once_and_loads_after_that(
    monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour, model: Model, build: RecordingBuild, tmp_path: Path
) -> None:
    points = [make_point(batch=batch, seq=seq) for batch in (1, BATCH) for seq in (8, SEQ)]
    first, second = RecordingBuild(build.cache, points), RecordingBuild(build.cache, points)
    with double_library(monkeypatch, behaviour):
        backend = backend_for(behaviour)
        for each in (first, second):
            session = backend.prepare(model, make_point(), each)
            inputs = make_inputs(model, 5)
            session.bind(inputs)
            session.enqueue()
            session.synchronize()
            assert relative_error(session.outputs()["last_hidden_state"], expected(model, inputs)) < 1e-5
            facts = session.facts()
            assert facts["profile"] == {"low": [1, 8], "tuned": [BATCH, 8], "high": [BATCH, SEQ]}
            assert facts["engine_for"] == "4 points of the sweep"
            assert facts["target"] == "SM86" and facts["tf32_allowed"] is False and facts["cuda_graph"] is True
            session.close()
        assert set(first.seconds) == {"compile", "load"}  # the export was made by the fixture
        assert set(second.seconds) == {"load"}
        assert [hit for _, hit in first.artefacts] == [False, False]
        assert [hit for _, hit in second.artefacts] == [True, True]
        assert behaviour.given_kernels == doubles.KERNELS
        before = entries(build, "trt_engine")
        shapes_apart = RecordingBuild(build.cache, points)
        alone = backend.prepare(model, make_point(options=(("engine_per_point", "on"),)), shapes_apart)
        assert alone.facts()["engine_for"] == "this point"
        assert alone.facts()["profile"]["low"] == alone.facts()["profile"]["high"] == [BATCH, SEQ]
        assert len(entries(build, "trt_engine")) == len(before) + 1


def test_a_session_that_fails_gives_the_device_back(
    monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour, model: Model, build: RecordingBuild
) -> None:
    behaviour.makes_context = False
    with double_library(monkeypatch, behaviour), pytest.raises(BuildFailed, match="execution context"):
        backend_for(behaviour).prepare(model, make_point(), RecordingBuild(build.cache))
    assert behaviour.device.closed


def test_options_reach_the_session(
    monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour, model: Model, build: RecordingBuild
) -> None:
    with double_library(monkeypatch, behaviour):
        session = backend_for(behaviour).prepare(
            model, make_point(options=(("cuda_graph", "off"),)), RecordingBuild(build.cache)
        )
    assert session.facts()["cuda_graph"] is False
    assert "capture" not in behaviour.device.log


def test_tensorrt_keeps_a_timing_cache_and_starts_from_the_last_one(
    monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour, model: Model, build: RecordingBuild
) -> None:
    """With RTX's builder in TensorRT's place: its timing caches do nothing any more, and say so, but they are there."""
    seeds: list[bytes] = []
    real = tensorrt_build.build_engine

    def spy(*arguments: Any, **named: Any) -> tensorrt_build.BuiltEngine:
        seeds.append(named["timing_cache"])
        return real(*arguments, **named)

    monkeypatch.setattr("benchrun.backends.tensorrt_artefacts.build_engine", spy)
    with double_library(monkeypatch, behaviour, "11.4.0"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Use Deprecated in TensorRT-RTX 1.2. Timing cache", DeprecationWarning)
        backend = backend_for(behaviour, name="NVIDIA H200", capability=(9, 0))
        sessions = [
            backend.prepare(model, make_point(variant="tensorrt", seq=seq), RecordingBuild(build.cache))
            for seq in (8, SEQ)
        ]
        artefact = newest(build, "trt_engine")
        timings = (artefact.path / "timing.cache").read_bytes()
        assert timings and seeds == [b"", timings]
        assert sessions[0].facts()["library"] == "TensorRT 11.4.0" and sessions[0].facts()["target"] == "SM90"
        other = backend_for(behaviour, name="NVIDIA L4", capability=(8, 9))
        other.prepare(model, make_point(variant="tensorrt"), RecordingBuild(build.cache))
        assert seeds[-1] == b""  # timings are a GPU's own


def newest(build: RecordingBuild, kind: str) -> Artefact:
    entry = next(entry for entry in build.cache.entries() if entry.kind == kind)
    return Artefact(entry.path, True, entry.n_bytes, entry.key)
