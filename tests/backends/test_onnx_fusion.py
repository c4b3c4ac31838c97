"""Fused graphs against PyTorch: every attention form, padded batches, and what is left in the graph."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from benchrun.backends.contract import BuildFailed
from benchrun.backends.models import Model, load_model, named_spec
from benchrun.backends.onnx_export import FILE_NAME, export_onnx
from benchrun.backends.onnx_fusion import FORMS, fuse, save_graph
from tests.backends.build_double import RecordingBuild

MAX_SEQ = 64
LENGTHS = ((7, (7,)), (33, (33, 1, 20)), (MAX_SEQ, (5, MAX_SEQ)))


def small(family: str = "tiny", head: str = "layers", **overrides: str | int) -> Model:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4} | overrides
    return load_model(named_spec(family, head, **sizes), MAX_SEQ)


def exported(model: Model, dtype: str = "fp32") -> ir.Model:
    return ir.load(export_onnx(model, dtype, RecordingBuild.shared()).path / FILE_NAME)


def worst_error(model: Model, path: Path) -> float:
    """Largest relative L2 error to PyTorch over batches with and without padding."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for seq, lengths in LENGTHS:
        mask = (torch.arange(seq)[None, :] < torch.tensor(lengths)[:, None]).long()
        generator = torch.Generator().manual_seed(seq)
        made = {
            "input_ids": torch.randint(3, model.config.vocab_size, mask.shape, generator=generator),
            "attention_mask": mask,
            "hidden_states": torch.randn((*mask.shape, model.config.hidden_size), generator=generator),
        }
        inputs = {name: made[name] for name in model.input_names}
        with torch.no_grad():
            expected = model.module(*inputs.values())
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        for array, tensor in zip(found, expected, strict=True):
            difference = np.linalg.norm(np.asarray(array) - tensor.numpy())
            worst = max(worst, float(difference / np.linalg.norm(tensor.numpy())))
    return worst


@pytest.mark.parametrize("form", FORMS)
def test_every_form_equals_torch(tmp_path: Path, form: str) -> None:
    model = small()
    graph = exported(model)
    assert fuse(graph, form, 2) == {"attention": 2, "skip_layer_norm": 4, "bias_gelu": 2}
    save_graph(graph, tmp_path / "fused.onnx")
    assert worst_error(model, tmp_path / "fused.onnx") <= 1e-5


def test_roberta_with_a_head(tmp_path: Path) -> None:
    model = small("roberta-base", "classification", num_hidden_layers=1)
    graph = exported(model)
    fuse(graph, "multihead", 1)
    save_graph(graph, tmp_path / "fused.onnx")
    assert worst_error(model, tmp_path / "fused.onnx") <= 1e-5


OPERATORS = {
    "onnx": {"MatMul": 12, "Add": 6, "Attention": 2},
    "multihead": {"MatMul": 12, "MultiHeadAttention": 2, "Cast": 1},
    "cumulated": {"MatMul": 12, "MultiHeadAttention": 2, "Cast": 1, "Max": 1, "CumSum": 1, "Concat": 2, "ReduceSum": 2},
    "packed": {"MatMul": 6, "Attention": 2, "Cast": 1},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_nothing_unfused_is_left(form: str, dtype: str) -> None:
    graph = exported(small(), dtype)
    fuse(graph, form, 2)
    counts = Counter(node.op_type for node in graph.graph)
    expected = {"SkipLayerNormalization": 4, "BiasGelu": 2, "ReduceSum": 1, **OPERATORS[form]}
    assert counts == expected
    element = {"fp32": ir.DataType.FLOAT, "bf16": ir.DataType.BFLOAT16}[dtype]
    floats = {value.dtype for value in graph.graph.initializers.values()} - {ir.DataType.INT64, ir.DataType.INT32}
    assert floats == {element}
    assert [value.name for value in graph.graph.outputs] == ["last_hidden_state"]


def test_the_tanh_gelu_stays_one(tmp_path: Path) -> None:
    model = small(hidden_act="gelu_pytorch_tanh", num_hidden_layers=1)
    graph = exported(model)
    fuse(graph, "multihead", 1)
    counts = Counter(node.op_type for node in graph.graph)
    assert counts["FastGelu"] == 1 and counts["BiasGelu"] == 0
    save_graph(graph, tmp_path / "fused.onnx")
    assert worst_error(model, tmp_path / "fused.onnx") <= 1e-5


def test_a_graph_that_is_only_half_recognised_is_refused() -> None:
    with pytest.raises(
        BuildFailed, match="2 of 3 attention, 4 of 6 skip_layer_norm, 2 of 3 bias_gelu; use --opt fusion=off"
    ):
        fuse(exported(small()), "multihead", 3)
    unknown = small(hidden_act="relu", num_hidden_layers=1)
    with pytest.raises(BuildFailed, match="only 0 of 1 bias_gelu"):
        fuse(exported(unknown), "multihead", 1)


@pytest.mark.parametrize(("activation", "gelus"), [("relu", 0), ("gelu_new", 0), ("gelu", 1)])
def test_without_strictness_only_the_gelus_that_are_there_must_fuse(
    tmp_path: Path, activation: str, gelus: int
) -> None:
    model = small(hidden_act=activation, num_hidden_layers=1)
    graph = exported(model)
    assert fuse(graph, "multihead", 1, strict=False) == {"attention": 1, "skip_layer_norm": 2, "bias_gelu": gelus}
    save_graph(graph, tmp_path / "fused.onnx")
    assert worst_error(model, tmp_path / "fused.onnx") <= 1e-5


def test_without_strictness_a_gelu_that_is_there_must_fuse() -> None:
    graph = exported(small(num_hidden_layers=1))
    gelu = next(node for node in graph.graph if node.op_type == "Gelu")
    gelu.replace_input_with(0, graph.graph.outputs[0])
    with pytest.raises(BuildFailed, match="only 0 of 1 bias_gelu"):
        fuse(graph, "multihead", 1, strict=False)


def spoil_mask_addition(graph: ir.Graph) -> None:
    softmax = next(node for node in graph if node.op_type == "Softmax")
    masked = softmax.inputs[0]
    assert masked is not None and masked.producer() is not None
    softmax.replace_input_with(0, masked.producer().inputs[0])  # type: ignore[union-attr]


def spoil_split(graph: ir.Graph) -> None:
    transpose = next(node for node in graph if node.op_type == "Transpose")
    transpose.attributes["perm"] = ir.AttrInt64s("perm", [0, 1, 2, 3])


def spoil_bias(graph: ir.Graph) -> None:
    add = next(node for node in graph if node.op_type == "Add" and node.outputs[0].name == "linear")
    add.replace_input_with(1, graph.inputs[0])


@pytest.mark.parametrize("spoil", [spoil_mask_addition, spoil_split, spoil_bias])
def test_a_lookalike_is_not_fused(spoil: object) -> None:
    graph = exported(small(num_hidden_layers=1))
    assert callable(spoil)
    spoil(graph.graph)
    with pytest.raises(BuildFailed, match="0 of 1 attention"):
        fuse(graph, "multihead", 1)


def test_packing_wants_one_source() -> None:
    graph = exported(small(num_hidden_layers=1))
    product = next(node for node in graph.graph if node.op_type == "MatMul")
    twin = ir.node("Identity", [product.inputs[0]])
    twin.outputs[0].name = "twin"
    graph.graph.insert_before(product, twin)
    product.replace_input_with(0, twin.outputs[0])
    with pytest.raises(BuildFailed, match="not projected from one tensor"):
        fuse(graph, "packed", 1)


def test_large_graphs_keep_weights_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchrun.backends.onnx_fusion.EXTERNAL_DATA_BYTES", 1000)
    model = small()
    graph = exported(model)
    fuse(graph, "multihead", 2)
    assert save_graph(graph, tmp_path / "fused.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fused.onnx", "fused.onnx.data"]
    assert worst_error(model, tmp_path / "fused.onnx") <= 1e-5
