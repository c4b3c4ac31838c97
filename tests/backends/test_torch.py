"""PyTorch on the CPU: real sessions, judged as the runner judges them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchrun.backends import torch_sessions
from benchrun.backends.catalogue import named_spec, resolve_spec
from benchrun.backends.contract import BuildFailed, Inputs, OutOfMemory, Point, Unsupported, WrongVariant
from benchrun.backends.models import Encoder, Model, copy_module, load_model
from benchrun.backends.reference import Reference
from benchrun.backends.torch import TorchBackend, check_dtype, torch_device
from benchrun.backends.torch_sessions import CompileSession, EagerSession, OperatorSpy, StaticSession, memory_errors
from benchrun.runner.inputs import make_inputs
from benchrun.runner.parity import compare, precision_problem, relative_distance
from tests.backends.build_double import RecordingBuild
from tests.backends.minilm import MINILM

CPU = torch.device("cpu")
TINY = load_model(named_spec("tiny"), 64)


def point_of(**changes: Any) -> Point:
    point = Point("tiny", "random:0", "encoder", "torch", "eager", "cpu", "fp32", 2, 32, "padded", "v1")
    return replace(point, **changes)


def inputs_of(model: Model, point: Point) -> list[Inputs]:
    return make_inputs(model.spec.shape, point.head, point.batch, point.seq, seed=0)


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def build(tmp_path: Path) -> RecordingBuild:
    return RecordingBuild.at(tmp_path)


def run(session: Any, inputs: Inputs) -> Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]:
    session.bind(inputs)
    session.poison()
    session.enqueue()
    session.synchronize()
    found: Mapping[str, np.ndarray[Any, np.dtype[np.float32]]] = session.outputs()
    return found


def copy_of(model: Model) -> Encoder:
    """A session may change its module."""
    return copy_module(model, CPU, torch.float32)


# --- what it says of itself ---


def test_the_probe_tells_versions_devices_and_dtypes() -> None:
    found = TorchBackend().probe()
    assert found.ok and found.versions["torch"] == torch.__version__ and "cpu" in found.devices
    assert found.dtypes["cpu"] == ("fp32", "fp16", "bf16")


def test_a_broken_install_is_said_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def fail(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "torch":
            raise OSError("libcudart.so.13: cannot open shared object file")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", fail)
    found = TorchBackend().probe()
    assert not found.ok and "importing torch failed: libcudart.so.13" in found.reason


def fake_gpu(monkeypatch: pytest.MonkeyPatch, hip: str | None, cuda: str | None, count: int = 2) -> list[torch.device]:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


@pytest.mark.parametrize(("hip", "cuda", "kind"), [(None, "13.0", "cuda"), ("7.1", None, "rocm")])
def test_gpus_have_the_name_of_their_vendor(
    monkeypatch: pytest.MonkeyPatch, hip: str | None, cuda: str | None, kind: str
) -> None:
    chosen = fake_gpu(monkeypatch, hip, cuda)
    found = TorchBackend().probe()
    assert found.devices == ("cpu", f"{kind}:0", f"{kind}:1") and found.dtypes[kind] == ("fp32", "tf32", "fp16", "bf16")
    assert found.versions["hip" if hip else "cuda"] == (hip or cuda)
    assert torch_device(point_of(device=f"{kind}:1")) == torch.device("cuda:1") == chosen[0]
    with pytest.raises(Unsupported, match=f"there is no device {kind}:2: PyTorch sees 2"):
        torch_device(point_of(device=f"{kind}:2"))
    other = "rocm" if kind == "cuda" else "cuda"
    with pytest.raises(
        Unsupported, match=f"built for {kind}, so device {other}:0 is out of its reach: use --device {kind}:0"
    ):
        torch_device(point_of(device=f"{other}:0"))


def test_without_a_gpu_the_point_is_unsupported(monkeypatch: pytest.MonkeyPatch, build: RecordingBuild) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda:0", "rocm:1"):
        with pytest.raises(Unsupported, match=f"sees no {device[:4].upper()} device here: install a build of PyTorch"):
            TorchBackend().prepare(TINY, point_of(device=device), build)
    assert TorchBackend().peak_device_bytes() is None
    TorchBackend().reset_peak()


def test_dtypes_that_pytorch_has_not() -> None:
    for dtype, device in (("tf32", "cpu"), ("int8", "cpu"), ("fp8", "cuda:0")):
        with pytest.raises(Unsupported, match=f"torch runs fp32, .* on {device[:4].rstrip(':')}, not {dtype}"):
            check_dtype(point_of(dtype=dtype, device=device))
    check_dtype(point_of(dtype="tf32", device="cuda:0"))


# --- eager ---

MODELS = {"random": "tiny", "MiniLM": str(MINILM), "RoBERTa": "roberta-base"}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    small = {"num_hidden_layers": 2, "vocab_size": 2000} if request.param == "RoBERTa" else {}
    return load_model(resolve_spec(MODELS[request.param], overrides=small), 64)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_the_answer_is_right_and_computed_as_asked(model: Model, dtype: str, build: RecordingBuild) -> None:
    point = point_of(dtype=dtype)
    sets = inputs_of(model, point)
    session = TorchBackend().prepare(model, point, build)
    reference = Reference(model, "cpu")
    for inputs in (sets[1], sets[0]):
        parity = compare(run(session, inputs), reference.exact(inputs), dtype)
        assert parity.ok, parity.reason
    assert session.stream is None and list(build.seconds) == ["load"]
    facts = session.facts()
    assert facts["compute_dtypes"] == {"matmul": dtype, "layernorm": dtype, "gelu": dtype}
    assert (facts["activation"], facts["attention_implementation"]) == ("gelu", "sdpa")
    assert "scaled_dot_product" in facts["attention"] and facts["threads"] == torch.get_num_threads()
    if dtype != "fp32":
        distance = relative_distance(session.outputs(), reference.rounded(sets[0], dtype))
        assert precision_problem(dtype, distance, facts) is None
    session.close()


@pytest.mark.parametrize("head", ["layers", "pooler", "qa", "classification"])
def test_every_head_has_its_outputs(head: str, build: RecordingBuild) -> None:
    head_model = load_model(named_spec("tiny", head), 64)
    point = point_of(head=head)
    (inputs, *_) = inputs_of(head_model, point)
    found = run(TorchBackend().prepare(head_model, point, build), inputs)
    assert tuple(found) == head_model.output_names
    assert compare(found, Reference(head_model, "cpu").exact(inputs), "fp32").ok


def test_input_sets_are_uploaded_once(build: RecordingBuild) -> None:
    session = TorchBackend().prepare(TINY, point_of(), build)
    first, second, *_ = inputs_of(TINY, point_of())
    one, other = run(session, first), run(session, second)
    uploaded = session._sets[0]  # type: ignore[attr-defined]
    assert not np.array_equal(one["last_hidden_state"], other["last_hidden_state"])
    again = run(session, first)
    assert np.array_equal(one["last_hidden_state"], again["last_hidden_state"])
    assert session._sets[0] is uploaded  # type: ignore[attr-defined]


def test_points_of_a_worker_share_the_converted_model(build: RecordingBuild) -> None:
    backend = TorchBackend()
    one, other = (backend.prepare(TINY, point_of(batch=batch), build) for batch in (1, 2))
    assert one._module is other._module is not TINY.module  # type: ignore[attr-defined]
    half = backend.prepare(TINY, point_of(dtype="bf16"), build)
    assert half._module is not one._module  # type: ignore[attr-defined]
    assert next(TINY.module.parameters()).dtype == torch.float32


def test_options_and_threads_land_in_the_facts(build: RecordingBuild) -> None:
    point = point_of(options=(("attention", "eager"), ("threads", 1)))
    session = TorchBackend().prepare(TINY, point, build)
    inputs = inputs_of(TINY, point)[0]
    assert compare(run(session, inputs), Reference(TINY, "cpu").exact(inputs), "fp32").ok
    facts = session.facts()
    assert (facts["attention_implementation"], facts["attention"], facts["threads"]) == ("eager", "_softmax", 1)


def test_the_activation_is_read_from_what_runs(build: RecordingBuild) -> None:
    for asked, found in (("gelu_new", "unknown"), ("gelu_pytorch_tanh", "fast_gelu"), ("relu", "unknown")):
        model = load_model(named_spec("tiny", hidden_act=asked, num_hidden_layers=1), 64)
        session = TorchBackend().prepare(model, point_of(), build)
        session.bind(inputs_of(model, point_of())[0])
        assert session.facts()["activation"] == found


def test_every_way_to_run_out_of_memory_is_known() -> None:
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"),
    ):
        with pytest.raises(OutOfMemory) as raised, memory_errors():
            raise error
        assert str(raised.value) == str(error).splitlines()[0]
    with pytest.raises(RuntimeError, match="shape"), memory_errors():
        raise RuntimeError("shape mismatch")
    with pytest.raises(OutOfMemory), memory_errors():
        torch.empty(1 << 60)


# --- the base of captured and compiled sessions ---


def test_padded_sets_need_a_mask() -> None:
    full, *_ = inputs_of(TINY, point_of())
    padded = Inputs(5, full.arrays, (32, 9))
    with pytest.raises(WrongVariant, match="without its attention mask cannot take padded"):
        StaticSession(copy_of(TINY), point_of(), CPU).bind(padded)


@pytest.mark.parametrize("kind", [EagerSession, StaticSession])
@pytest.mark.parametrize("workload", ["padded", "lengths:test"])
def test_sets_that_come_once_are_not_kept(kind: type[EagerSession], workload: str) -> None:
    session = kind(copy_of(TINY), point_of(workload=workload), CPU)
    kept, *others = inputs_of(TINY, point_of())
    run(session, kept)
    for each in others:
        once = replace(each, index=-1)
        assert compare(run(session, once), Reference(TINY, "cpu").exact(once), "fp32").ok
    assert list(session._sets) == [0]
    assert compare(run(session, kept), Reference(TINY, "cpu").exact(kept), "fp32").ok


def test_inputs_keep_their_addresses() -> None:
    module = copy_of(TINY)
    session = StaticSession(module, point_of(), CPU)
    before = [None if each is None else each.data_ptr() for each in session._args]
    assert before[1] is None  # a mask that masks nothing is left out
    first, second, *_ = inputs_of(TINY, point_of())
    answers = [run(session, each)["last_hidden_state"].copy() for each in (first, second, first)]
    assert [None if each is None else each.data_ptr() for each in session._args] == before
    assert np.array_equal(answers[0], answers[2]) and not np.array_equal(answers[0], answers[1])
    assert compare({"last_hidden_state": answers[1]}, Reference(TINY, "cpu").exact(second), "fp32").ok
    assert session.facts()["attention_mask"] == "left out: full lengths"


def test_a_padded_point_keeps_its_mask() -> None:
    point = point_of(workload="lengths:test")
    full, *_ = inputs_of(TINY, point)
    arrays = {name: array.copy() for name, array in full.arrays.items()}
    arrays["attention_mask"][1, 9:] = 0
    padded = Inputs(0, arrays, (32, 9))
    session = StaticSession(copy_of(TINY), point, CPU)
    assert compare(run(session, padded), Reference(TINY, "cpu").exact(padded), "fp32").ok
    assert session.facts()["attention_mask"] == "applied"


def test_static_buffers_of_the_layers_head() -> None:
    layers = load_model(named_spec("tiny", "layers"), 64)
    point = point_of(head="layers")
    session = StaticSession(copy_of(layers), point, CPU)
    inputs = inputs_of(layers, point)[0]
    assert compare(run(session, inputs), Reference(layers, "cpu").exact(inputs), "fp32").ok


# --- compile ---


@pytest.fixture(scope="module")
def compiled() -> Iterator[tuple[Model, CompileSession]]:
    one_layer = load_model(named_spec("tiny", num_hidden_layers=1), 64)
    session = CompileSession(copy_of(one_layer), point_of(variant="compile"), CPU)
    yield one_layer, session
    session.close()


def test_compiled_code_answers_right_and_proves_that_it_ran(compiled: tuple[Model, CompileSession]) -> None:
    one_layer, session = compiled
    for inputs in inputs_of(one_layer, point_of())[:2]:
        assert compare(run(session, inputs), Reference(one_layer, "cpu").exact(inputs), "fp32").ok
    facts = session.facts()
    assert (facts["compiled_graphs"], facts["compile_mode"], facts["cuda_graph"]) == (1, "default", False)
    assert facts["static_inputs"] is True  # and yet it answers for each input set that is bound
    assert facts["compute_dtypes"]["matmul"] == "fp32" and facts["activation"] == "gelu"
    assert "scaled_dot_product_attention" in facts["attention"]


def test_code_that_was_not_compiled_alone_is_refused(
    compiled: tuple[Model, CompileSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, session = compiled
    counters = torch._dynamo.utils.counters
    monkeypatch.setitem(counters["stats"], "unique_graphs", 2)
    with pytest.raises(WrongVariant, match="not compiled code alone: 2 graphs"):
        session.facts()
    monkeypatch.setitem(counters["stats"], "unique_graphs", 1)
    monkeypatch.setitem(counters["graph_break"], "a call to print", 3)
    with pytest.raises(WrongVariant, match="and 3 graph breaks"):
        session.facts()


def test_inputs_are_told_to_stay_where_they_are_unless_asked_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiles_nothing(module: Any, **_: Any) -> Any:
        return module

    monkeypatch.setattr(torch, "compile", compiles_nothing)
    for asked, marks in ((), {"unguarded"}), ((("static_inputs", "off"),), {None}):
        session = CompileSession(copy_of(TINY), point_of(variant="compile", options=asked), CPU)
        buffers = [each for each in session._args if each is not None]
        assert {getattr(each, "_dynamo_static_input_type", None) for each in buffers} == marks


class Unpredictable(torch.nn.Module):
    """Decides by the values of a tensor, which no graph can hold."""

    def forward(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> SimpleNamespace:
        return SimpleNamespace(y=input_ids if input_ids.sum().item() > 5 else -input_ids)


def test_what_cannot_be_compiled_fails_its_build() -> None:
    encoder = Encoder(Unpredictable(), ("input_ids", "attention_mask"), ("y",))
    with pytest.raises(BuildFailed, match=r"torch\.compile failed: \w+: ") as failed:
        CompileSession(encoder, point_of(variant="compile", options=(("attention", "eager"),)), CPU)
    assert "\n" not in str(failed.value)


def test_running_out_of_memory_while_compiling_is_no_failed_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(OutOfMemory):
        CompileSession(copy_of(TINY), point_of(variant="compile"), CPU)


def test_each_variant_has_its_session(monkeypatch: pytest.MonkeyPatch, build: RecordingBuild) -> None:
    made: list[str] = []
    for name in ("EagerSession", "CompileSession", "GraphSession"):
        monkeypatch.setattr(torch_sessions, name, lambda *_, name=name: made.append(name))
    for variant in ("eager", "compile", "cudagraph"):
        TorchBackend().prepare(TINY, point_of(variant=variant), build)
    assert made == ["EagerSession", "CompileSession", "GraphSession"] and "compile" in build.seconds


# --- the spy ---


def test_the_spy_sees_what_is_really_dispatched() -> None:
    linear = torch.nn.Linear(8, 8)
    with torch.no_grad(), OperatorSpy() as spy:
        torch.nn.functional.gelu(linear(torch.ones(2, 8)), approximate="tanh")
        linear.bfloat16()(torch.ones(2, 8, dtype=torch.bfloat16))
        torch.nn.functional.layer_norm(torch.ones(2, 8, dtype=torch.float64), (8,))
    assert spy.compute_dtypes() == {"gelu": "fp32", "layernorm": "torch.float64", "matmul": "bf16+fp32"}
    assert (spy.activation(), spy.attention()) == ("fast_gelu", "unknown")


def test_the_spy_tells_masked_attention_from_unmasked() -> None:
    states = torch.ones(1, 2, 8, 16)
    attend = torch.nn.functional.scaled_dot_product_attention
    with torch.no_grad():
        with OperatorSpy() as plain:
            attend(states, states, states)
        with OperatorSpy() as masked:
            attend(states, states, states, attn_mask=torch.zeros(8, 8))
    assert "scaled_dot_product" in plain.attention() and "masked" not in plain.attention()
    assert masked.attention().endswith(", masked")
    assert isinstance(EagerSession(TINY.module, point_of(), CPU), EagerSession)


def test_a_capture_needs_a_gpu() -> None:
    with pytest.raises(Unsupported, match="compile_mode=captured records a CUDA graph"):
        CompileSession(copy_of(TINY), point_of(variant="compile", options=(("compile_mode", "captured"),)), CPU)
