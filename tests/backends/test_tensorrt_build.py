"""Engines built for real by TensorRT-RTX, which needs no GPU for it; their layer types read back from the builder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from benchrun.backends import tensorrt_build
from benchrun.backends.contract import BuildFailed, OutOfMemory, Point, Unsupported
from benchrun.backends.models import Model, load_model, named_spec
from benchrun.backends.tensorrt import TensorRtBackend
from benchrun.backends.tensorrt_artefacts import points_of_engine, read_plan, read_record
from benchrun.backends.tensorrt_build import Messages, Profile, build_engine, build_error, listen, targets
from benchrun.backends.tensorrt_names import RTX, load_bindings
from tests.backends.build_double import RecordingBuild
from tests.backends.test_tensorrt_session import make_point

BATCHES, SEQS = (1, 8), (16, 64)


@pytest.fixture(scope="module")
def tiny() -> Model:
    return load_model(named_spec("tiny"), 64)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> RecordingBuild:
    return RecordingBuild.at(tmp_path_factory.mktemp("cache"))


def sweep_of(**fields: Any) -> list[Point]:
    return [make_point(batch=batch, seq=seq, **fields) for batch in BATCHES for seq in SEQS]


@pytest.mark.parametrize(
    ("dtype", "target", "matmul", "attention"),
    [
        ("fp32", "SM89", "fp32", "fp32"),
        ("tf32", "SM80", "tf32", "tf32"),
        ("fp16", "SM86", "fp16", "fp16"),
        ("bf16", "SM120", "bf16", "bf16"),
        ("int8", "SM75", "int8", "fp16"),
        ("fp8", "SM89", "fp8", "fp16"),
        ("fp16", "SM121", "fp16", "fp16"),
    ],
)
def test_each_dtype_is_built_as_such(
    tiny: Model, build: RecordingBuild, dtype: str, target: str, matmul: str, attention: str
) -> None:
    (artefact,) = TensorRtBackend().build_ahead(tiny, sweep_of(dtype=dtype), target, build)
    record = read_record(artefact.path)
    facts = record["facts"]
    assert facts["compute_dtypes"]["matmul"] == matmul
    assert facts["compute_dtypes"]["attention"] == attention
    assert facts["activation"] == "gelu"
    assert facts["matmul_layers"] == 2 * 4  # query, key and value are one product
    assert record["tf32"] is (dtype == "tf32") is facts["tf32_allowed"]
    assert record["target"] == target
    assert record["profile"] == {"low": [1, 16], "tuned": [8, 16], "high": [8, 64]}
    assert record["version"] == load_bindings(RTX).__version__
    if dtype in ("fp16", "bf16"):
        assert record["parsed"]["MATRIX_MULTIPLY"] == {"fp16": "HALF", "bf16": "BF16"}[dtype]
        assert facts["attention"] == "fused: 2 kernels"
    assert record["calibrated_on"] == ({"drawn": "token ids"} if dtype in ("int8", "fp8") else {})
    if dtype in ("int8", "fp8"):
        assert record["parsed"]["QUANTIZE"] == dtype.upper()
    assert len(read_plan(artefact.path)) > 1_000_000


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_bert_base_is_built_without_a_gpu(bert_base: Model, build: RecordingBuild, dtype: str) -> None:
    points = [make_point(model="bert-base", dtype=dtype, batch=b, seq=s) for b in (1, 8, 32, 128) for s in (128, 384)]
    (artefact,) = TensorRtBackend().build_ahead(bert_base, points, "SM86", build)
    facts = read_record(artefact.path)["facts"]
    assert facts["compute_dtypes"]["matmul"] == facts["compute_dtypes"]["attention"] == dtype
    assert facts["matmul_layers"] == 12 * 4
    parameters = sum(parameter.numel() for parameter in bert_base.module.parameters())
    in_weights = artefact.n_bytes / parameters
    assert in_weights == pytest.approx({"fp32": 4, "fp16": 2, "bf16": 2}[dtype], rel=0.05)
    build.cache.remove()  # a gigabyte


@pytest.fixture(scope="module")
def bert_base() -> Model:
    return load_model(named_spec("bert-base"), 384)


def test_the_second_build_is_a_hit_and_per_point_engines_are_apart(tiny: Model, tmp_path: Path) -> None:
    build = RecordingBuild.at(tmp_path)
    backend = TensorRtBackend()
    (first,) = backend.build_ahead(tiny, sweep_of(dtype="fp16"), "SM86", build)
    assert set(build.seconds) == {"export", "compile"}
    seconds = dict(build.seconds)
    (second,) = backend.build_ahead(tiny, sweep_of(dtype="fp16"), "SM86", build)
    assert second.hit and not first.hit and second.key == first.key
    assert build.seconds == seconds
    apart = backend.build_ahead(tiny, sweep_of(dtype="fp16", options=(("engine_per_point", "on"),)), "SM86", build)
    assert len(apart) == len(BATCHES) * len(SEQS)
    assert {json.dumps(read_record(each.path)["profile"]["low"]) for each in apart} == {
        json.dumps([batch, seq]) for batch in BATCHES for seq in SEQS
    }
    (elsewhere,) = backend.build_ahead(tiny, sweep_of(dtype="fp16"), "SM89", build)
    assert elsewhere.key != first.key


@pytest.mark.parametrize(
    ("fields", "target", "message"),
    [
        ({"dtype": "bf16"}, "SM75", r"bf16 needs compute capability 8\.0, and SM75 has 7\.5"),
        ({"dtype": "fp8"}, "SM86", r"fp8 needs compute capability 8\.9, and SM86 has 8\.6"),
        ({"dtype": "int4"}, "SM86", "runs fp32, tf32, fp16, bf16, int8, fp8, not int4"),
        ({}, "SM90", "cannot build for SM90: choose one of SM75, SM80, SM86, SM89, SM120, SM121$"),
        ({}, "CURRENT", "cannot build for CURRENT: choose"),
        ({"variant": "tensorrt"}, "SM86", "only on the GPU that will run them: to build ahead of time use trt:rtx"),
        ({"workload": "packed"}, "SM86", "no packed workload"),
    ],
)
def test_what_cannot_be_built_ahead_says_why(
    tiny: Model, build: RecordingBuild, fields: dict[str, Any], target: str, message: str
) -> None:
    with pytest.raises(Unsupported, match=message):
        TensorRtBackend().build_ahead(tiny, [make_point(**fields)], target, build)


def write_graph(
    path: Path, nodes: list[Any], inputs: dict[str, int], shape: tuple[str | int, ...] = ("batch", "seq")
) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, dtype, shape) for name, dtype in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("acme", 1)])
    model.ir_version = 9
    onnx.save(model, path)
    return path


def build_small(path: Path, **more: Any) -> tensorrt_build.BuiltEngine:
    given: dict[str, Any] = {"flavour": RTX, "target": "SM86", "profile": Profile((1, 2), (2, 4), (3, 8))}
    return build_engine(path, **(given | more))


def test_a_good_small_network_is_built(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx", [helper.make_node("Erf", ["x"], ["y"])], {"x": TensorProto.FLOAT})
    engine = build_small(path)
    engine.write(tmp_path)
    assert read_plan(tmp_path) == engine.plan
    assert read_record(tmp_path)["parsed"] == {"UNARY": "FLOAT"}
    assert not (tmp_path / "timing.cache").exists()


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "an operator that does not exist": (
        lambda folder: write_graph(
            folder / "m.onnx",
            [helper.make_node("Frobnicate", ["x"], ["y"], name="the_node", domain="acme")],
            {"x": TensorProto.FLOAT},
        ),
        r"Plugin not found, are the plugin name, version, and namespace correct.*\(node 'the_node', operator Frob",
    ),
    "types that do not fit": (
        lambda folder: write_graph(
            folder / "m.onnx",
            [helper.make_node("Add", ["x", "z"], ["y"], name="the_sum")],
            {"x": TensorProto.FLOAT, "z": TensorProto.FLOAT16},
        ),
        r"must have same input types. But they are of types Float and Half.*\(node 'the_sum', operator Add\)",
    ),
    "no ONNX file at all": (lambda folder: write_bytes(folder / "m.onnx"), "Failed to parse the ONNX model"),
    "no file": (lambda folder: folder / "nowhere.onnx", "Input file cannot be found"),
}


def write_bytes(path: Path) -> Path:
    path.write_bytes(b"junk")
    return path


def test_a_file_that_holds_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")  # an empty protobuf message is a valid one
    with pytest.raises(BuildFailed, match=r"parser found no network in m\.onnx"):
        build_small(path)


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_network_is_refused_with_the_parsers_own_message(tmp_path: Path, what: str) -> None:
    make, message = REFUSED[what]
    with pytest.raises(BuildFailed, match="TensorRT-RTX's ONNX parser refused the network: .*" + message):
        build_small(make(tmp_path))


def test_a_network_that_the_builder_cannot_build_is_refused_with_its_message(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16), helper.make_node("Sqrt", ["b"], ["s"])]
    nodes.append(helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT))
    path = write_graph(tmp_path / "m.onnx", nodes, {"x": TensorProto.FLOAT})
    with pytest.raises(Unsupported, match=r"cannot build this for the target: .*Cannot compile for target.*sm75.*b16"):
        build_small(path, target="SM75")


def test_what_the_builder_cannot_compute_on_a_target_is_unsupported(tiny: Model, build: RecordingBuild) -> None:
    with pytest.raises(Unsupported, match=r"Turing \(SM75\): FP32 GEMM is not supported"):
        TensorRtBackend().build_ahead(tiny, sweep_of(dtype="fp32"), "SM75", build)


@pytest.mark.parametrize("shape", [(2, 4), ("batch", 4), ("batch", "seq", "more"), ("batch",)])
def test_inputs_must_be_dynamic_in_batch_and_seq(tmp_path: Path, shape: tuple[str | int, ...]) -> None:
    path = write_graph(tmp_path / "m.onnx", [helper.make_node("Erf", ["x"], ["y"])], {"x": TensorProto.FLOAT}, shape)
    with pytest.raises(BuildFailed, match="input x of the network has shape"):
        build_small(path)


def test_an_unknown_target_is_unsupported(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx", [helper.make_node("Erf", ["x"], ["y"])], {"x": TensorProto.FLOAT})
    with pytest.raises(Unsupported, match="cannot build for SM90"):
        build_small(path, target="SM90")


def test_the_targets_are_those_of_nvidias_list() -> None:
    assert {"SM75", "SM80", "SM86", "SM89", "SM120"} <= set(targets(load_bindings(RTX)))


def test_hidden_states_keep_their_width(tmp_path: Path) -> None:
    model = load_model(named_spec("tiny", "layers"), 64)
    build = RecordingBuild.at(tmp_path)
    (artefact,) = TensorRtBackend().build_ahead(model, sweep_of(head="layers", dtype="fp16"), "SM86", build)
    assert read_record(artefact.path)["facts"]["compute_dtypes"]["matmul"] == "fp16"
    profile = Profile((1, 2), (2, 4), (3, 8))
    assert profile.shapes((-1, -1, 768), "hidden_states") == ((1, 2, 768), (2, 4, 768), (3, 8, 768))


def test_a_profile_spans_its_points_and_is_tuned_for_the_middle_one() -> None:
    points = [make_point(batch=batch, seq=seq) for batch in (128, 1, 8) for seq in (384, 128)]
    assert Profile.of(points) == Profile((1, 128), (8, 384), (128, 384))
    assert Profile.of(points[:1]) == Profile((128, 384), (128, 384), (128, 384))


def test_an_engine_serves_the_points_that_differ_in_shape_only() -> None:
    here = make_point(batch=1)
    sweep = [here, make_point(batch=8), make_point(batch=8, dtype="fp16"), make_point(batch=2, variant="tensorrt")]
    assert points_of_engine(here, sweep) == (here, make_point(batch=8))
    assert points_of_engine(here, []) == (here,)
    alone = make_point(options=(("engine_per_point", "on"),))
    assert points_of_engine(alone, [alone, make_point(batch=9, options=alone.options)]) == (alone,)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("Requested amount of GPU memory (1 bytes) could not be allocated. OutOfMemory", OutOfMemory),
        ("Error Code 1: Cuda Runtime (out of memory)", OutOfMemory),
        ("Error Code 10: could not find any implementation for node", BuildFailed),
    ],
)
def test_a_build_that_ran_out_of_memory_is_told_apart(message: str, error: type[Exception]) -> None:
    messages = Messages()
    messages.note("WARNING", "out of memory, trying another tactic")
    messages.note("ERROR", message)
    messages.note("ERROR", "and what follows from it")
    found = build_error(RTX, messages)
    assert type(found) is error
    assert message.replace("\n", " ") in str(found)
    assert "gave no reason" in str(build_error(RTX, Messages()))


def test_the_logger_keeps_what_is_of_use() -> None:
    bindings = load_bindings(RTX)
    logger: Any
    logger, messages = listen(bindings)
    severity: Any = bindings.ILogger.Severity
    for each in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
        logger.log(getattr(severity, each), f"{each}\n  twice")
    logger.log(severity.VERBOSE, "Layers:\nName: a")
    assert messages == Messages(["INTERNAL_ERROR twice", "ERROR twice"], ["WARNING twice"], ["Layers:\nName: a"])
    again, others = listen(bindings)  # the library keeps the first logger that it is given
    assert again is logger and others == Messages()
    logger.log(severity.ERROR, "later")
    assert others.errors == ["later"] and "later" not in messages.errors


def test_memory_that_runs_out_for_a_whole_sweep_names_the_way_out(
    tiny: Model, build: RecordingBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*arguments: Any, **named: Any) -> None:
        raise OutOfMemory("TensorRT-RTX ran out of memory while building: no more")

    monkeypatch.setattr("benchrun.backends.tensorrt_artefacts.build_engine", no_memory)
    points = [make_point(dtype="fp16", batch=batch, seq=40) for batch in (1, 2)]
    with pytest.raises(
        OutOfMemory, match=r"no more \(one engine for all shapes up to b2 s40: --engine-per-point asks for"
    ):
        TensorRtBackend().build_ahead(tiny, points, "SM86", build)
    with pytest.raises(OutOfMemory, match=r"no more$"):
        TensorRtBackend().build_ahead(tiny, points[:1], "SM86", build)
