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

from benchrun.backends import onnx_quantisation
from benchrun.backends.contract import BuildFailed
from benchrun.backends.models import Model, load_model, named_spec
from benchrun.backends.onnx_export import FILE_NAME, export_onnx
from benchrun.backends.onnx_fusion import fuse, save_graph
from benchrun.backends.onnx_quantisation import METHODS, calibration_feeds, quantise
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
    quantise(graph_of(model, fused=fused), tmp_path / "int8.onnx", method, feeds)
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


def test_smoothing_changes_nothing_but_the_spread(tmp_path: Path) -> None:
    model = small()
    layer: Any = model.module.get_submodule("inner.encoder.layer.0.attention.output.LayerNorm")
    layer.weight[5] *= 20  # a channel that sticks out, as real models have them
    feeds = calibration_feeds(model.spec.shape, "layers")
    graph = graph_of(model)
    save_graph(graph, tmp_path / "plain.onnx")
    products = [node for node in graph.graph if node.op_type == "MatMul"]
    largest = onnx_quantisation._largest(graph, products, feeds, tmp_path / "watched.onnx")
    assert len(graph.graph.outputs) == 1
    spread = {name: float(peak.max() / np.median(peak)) for name, peak in largest.items()}
    onnx_quantisation._smooth(graph, products, largest)
    save_graph(graph, tmp_path / "smoothed.onnx")
    after = onnx_quantisation._largest(graph, products, feeds, tmp_path / "watched.onnx")
    assert len(spread) == len(after) == 8
    widest = max(spread, key=lambda name: spread[name])
    smoothed = after[f"{widest}_smoothed"]
    assert spread[widest] > 10 and smoothed.max() / np.median(smoothed) < spread[widest] / 2
    exact, found = run(tmp_path / "plain.onnx", feeds[1]), run(tmp_path / "smoothed.onnx", feeds[1])
    assert float(np.linalg.norm(exact - found) / np.linalg.norm(exact)) <= 1e-6


def test_calibration_inputs_are_seeded_and_partly_padded() -> None:
    shape = small("encoder").spec.shape
    first, again = calibration_feeds(shape, "encoder"), calibration_feeds(shape, "encoder")
    assert len(first) == onnx_quantisation.CALIBRATION_SETS
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(first, again, strict=True) for name in a)
    assert set(first[0]) == {"input_ids", "attention_mask", "token_type_ids"}
    assert first[0]["attention_mask"].sum(axis=1).tolist() == [128, 128, 128, 64]
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
