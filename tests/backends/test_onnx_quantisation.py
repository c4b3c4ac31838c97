"""INT8 graphs: what is quantised, that smoothing changes nothing, and how errors end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from benchrun.backends import onnx_calibration, onnx_quantisation
from benchrun.backends.contract import BuildFailed
from benchrun.backends.models import Model, load_model, named_spec
from benchrun.backends.onnx_calibration import calibration_feeds, watch
from benchrun.backends.onnx_export import FILE_NAME, export_onnx
from benchrun.backends.onnx_fusion import fuse, save_graph
from benchrun.backends.onnx_quantisation import METHODS, quantise
from tests.backends.build_double import RecordingBuild


def small(head: str = "layers") -> Model:
    return load_model(named_spec("tiny", head, hidden_size=32, num_hidden_layers=2, num_attention_heads=4), 64)


def graph_of(model: Model, *, fused: bool = True) -> ir.Model:
    graph = ir.load(export_onnx(model, "fp32", RecordingBuild.shared()).path / FILE_NAME)
    if fused:
        fuse(graph, "multihead", 2)
    return graph


def run(path: Path, feeds: Any) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(feeds))[0])


# of 12 products with weights 10 are quantised, whose activations are 6 tensors; those that end a feed-forward block are not
QUANTISED = {"dynamic": {"MatMulInteger": 10, "MatMul": 2}, "static": {"MatMul": 12, "QuantizeLinear": 6}}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fused", [True, False])
def test_which_products_are_quantised(tmp_path: Path, method: str, fused: bool) -> None:
    model = small()
    feeds = calibration_feeds(model.spec.shape, "layers")
    plain = tmp_path / "plain.onnx"
    save_graph(graph_of(model, fused=fused), plain)
    notes = quantise(graph_of(model, fused=fused), tmp_path / "int8.onnx", method, feeds)
    assert notes["quantisation"] == method and notes["corrected_biases"] == 10
    assert notes["kept_in_float"][0] == "2 products 512 → 32 (they narrow)" and len(notes["kept_in_float"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8.onnx", "plain.onnx"]

    proto = onnx.load(tmp_path / "int8.onnx")
    counts = Counter(node.op_type for node in proto.graph.node)
    attention_products = 0 if fused else 4  # query · keyᵀ and scores · value stay in floating point
    assert counts["MatMulInteger"] == QUANTISED[method].get("MatMulInteger", 0)
    assert counts["MatMul"] == QUANTISED[method].get("MatMul", 0) + attention_products
    assert counts["QuantizeLinear"] == QUANTISED[method].get("QuantizeLinear", 0)
    assert {tensor.data_type for tensor in proto.graph.initializer} >= {onnx.TensorProto.INT8}

    exact, found = run(plain, feeds[0]).ravel(), run(tmp_path / "int8.onnx", feeds[0]).ravel()
    assert float(exact @ found / np.linalg.norm(exact) / np.linalg.norm(found)) >= 0.999
    assert not np.allclose(exact, found, rtol=0, atol=1e-6)


def test_smoothing_changes_nothing_but_the_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    layer: Any = model.module.get_submodule("inner.encoder.layer.0.attention.output.LayerNorm")
    layer.weight[5] *= 20  # a channel that sticks out, as real models have them
    feeds = calibration_feeds(model.spec.shape, "layers")
    graph = graph_of(model)
    save_graph(graph, tmp_path / "plain.onnx")
    products = [node for node in graph.graph if node.op_type == "MatMul"]
    activations = [node.inputs[0] for node in products if node.inputs[0] is not None]
    seen = watch(graph, activations, feeds, tmp_path / "watched.onnx")
    assert len(graph.graph.outputs) == 1
    spread = {name: float(each.largest.max() / np.median(each.largest)) for name, each in seen.items()}
    monkeypatch.setattr(onnx_quantisation, "_correct_bias", lambda *_: False)
    onnx_quantisation._smooth(graph, products, seen)
    save_graph(graph, tmp_path / "smoothed.onnx")
    smooth = [node.inputs[0] for node in products if node.inputs[0] is not None]
    after = {name: each.largest for name, each in watch(graph, smooth, feeds, tmp_path / "watched.onnx").items()}
    assert len(spread) == len(after) == 8
    widest = max(spread, key=lambda name: spread[name])
    smoothed = after[f"{widest}_smoothed"]
    assert spread[widest] > 10 and smoothed.max() / np.median(smoothed) < spread[widest] / 2
    exact, found = run(tmp_path / "plain.onnx", feeds[1]), run(tmp_path / "smoothed.onnx", feeds[1])
    assert float(np.linalg.norm(exact - found) / np.linalg.norm(exact)) <= 1e-6


def test_the_shift_that_rounding_makes_is_what_quantised_arithmetic_shows() -> None:
    random = np.random.default_rng(1)
    rows, weight = random.normal(0.3, 1, (512, 16)), random.normal(0, 1, (16, 4))
    shift = onnx_quantisation.rounding_shift(onnx_calibration.Seen(rows.min(axis=0), rows.max(axis=0), rows), weight)
    low, step = rows.min(), (rows.max() - rows.min()) / 255
    codes, steps = np.round(rows / step) + round(-low / step), np.abs(weight).max(axis=0) / 127
    by_hand = ((codes - round(-low / step)) @ np.round(weight / steps)) * step * steps - rows @ weight
    assert np.allclose(shift, by_hand.mean(axis=0), atol=1e-6) and np.abs(shift).max() > 1e-4


@pytest.mark.parametrize("fused", [True, False])
def test_a_bias_is_corrected_where_its_product_shows_it(fused: bool, tmp_path: Path) -> None:
    model = small("qa")
    feeds, graph = calibration_feeds(model.spec.shape, "qa"), graph_of(model, fused=fused)
    save_graph(graph, tmp_path / "plain.onnx")
    products = [node for node in graph.graph if node.op_type == "MatMul" and onnx_quantisation._shape(node.inputs[1])]
    for node in products:
        width = onnx_quantisation._shape(node.inputs[1])[1]
        assert onnx_quantisation._correct_bias(graph.graph, node, np.full(width, 0.25, np.float32))
    assert len(products) == 13  # 6 in each of two layers, and the head
    for node in products:  # adding it to each product again gives the model as it was
        width = onnx_quantisation._shape(node.inputs[1])[1]
        onnx_quantisation._correct_bias(graph.graph, node, np.full(width, -0.25, np.float32))
    save_graph(graph, tmp_path / "back.onnx")
    assert np.allclose(run(tmp_path / "plain.onnx", feeds[0]), run(tmp_path / "back.onnx", feeds[0]), atol=1e-5)


def test_a_product_without_a_bias_is_left_alone() -> None:
    graph = graph_of(small())
    product = next(node for node in graph.graph if node.op_type == "MatMul")
    user, place = next(iter(product.outputs[0].uses()))
    shift = np.zeros(32, np.float32)
    user.replace_input_with(3, graph.graph.inputs[0])  # attention's bias is no constant any more
    assert not onnx_quantisation._correct_bias(graph.graph, product, shift)
    graph.graph.outputs.append(product.outputs[0])
    user.replace_input_with(place, graph.graph.inputs[0])
    assert not onnx_quantisation._correct_bias(graph.graph, product, shift)


def test_calibration_inputs_are_seeded_and_like_those_that_are_measured() -> None:
    shape = small("encoder").spec.shape
    first, again = calibration_feeds(shape, "encoder"), calibration_feeds(shape, "encoder")
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(first, again, strict=True) for name in a)
    assert set(first[0]) == {"input_ids", "attention_mask", "token_type_ids"}
    assert [feed["input_ids"].shape[1] for feed in first] == [16, 16, 64, 64, 128, 128, 384, 384]
    assert first[4]["attention_mask"].sum(axis=1).tolist() == [128, 128, 128, 64]
    assert shape.special_ids is not None
    for feed in first:
        assert (feed["input_ids"][:, [0, -1]] == shape.special_ids).all() and set(feed["token_type_ids"].flat) == {0, 1}
    assert calibration_feeds(shape, "layers")[0]["hidden_states"].dtype == np.float32


def test_errors_are_one_sentence(tmp_path: Path) -> None:
    model = small()
    graph = graph_of(model)
    save_graph(graph, tmp_path / "plain.onnx")
    with pytest.raises(BuildFailed, match=r"static quantisation failed: \w+: ") as caught:
        onnx_quantisation._quantise(tmp_path / "plain.onnx", tmp_path / "out.onnx", "static", [], [], large=False)
    assert "\n" not in str(caught.value)
    for node in list(graph.graph):
        if node.op_type == "MatMul":
            node.replace_input_with(1, graph.graph.inputs[0])
    with pytest.raises(BuildFailed, match="no matrix product with constant weights"):
        quantise(graph, tmp_path / "out.onnx", "dynamic", [])
