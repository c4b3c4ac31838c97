"""ONNX export: one file per model, head and dtype, with dynamic batch and sequence length, kept in the artefact cache.

The graph is the same whatever PyTorch (2.11 to 2.13) and transformers (5.17 to 5.23) wrote it: attention is exported as
its six plain operators (scale, transpose, product, mask, softmax, product) by a translation of our own, and the padding
mask is one additive tensor [batch, 1, 1, seq] that all layers share. Engines that recognise attention look for that form,
and `onnx_fusion` rewrites it for ONNX Runtime.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from benchrun.backends.contract import Build, BuildFailed, Unsupported
from benchrun.backends.models import Model

if TYPE_CHECKING:
    import onnx_ir as ir

    from benchrun.backends.cache import Artefact
    from benchrun.backends.models import Encoder

FILE_NAME = "model.onnx"
EXTERNAL_DATA_NAME = "model.onnx.data"
EXTERNAL_DATA_BYTES = 1_000_000_000  # protobuf ends at 2 GiB; well below it, weights move to a file beside the graph
OPSET = 20  # the first with Gelu as one operator
FORM = 2  # counts up whenever this module writes another graph from the same model
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SAMPLE_BATCH, SAMPLE_SEQ = 2, 8  # torch.export treats sizes 0 and 1 as constants
# what a config says of where it came from, not of the graph
PROVENANCE = ("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype")
LIBRARIES = ("torch", "transformers", "onnx", "onnxscript", "onnx-ir")


def export_onnx(model: Model, dtype: str, build: Build) -> Artefact:
    """The folder that holds `model` as `model.onnx` in `dtype` (fp32, fp16 or bf16), exported where the cache lacks it.

    Inputs and outputs have the names of the model; ids and mask are int64 [batch, seq], `hidden_states` and all outputs
    are of `dtype`. Weights of more than EXTERNAL_DATA_BYTES lie in a file beside the graph, so open it by its path.
    The time is booked as `export`; the caller tells `build.artefact` what it loads. Raises Unsupported, BuildFailed.
    """
    if dtype not in DTYPES:
        raise Unsupported(f"models are exported to ONNX in {', '.join(DTYPES)}, not in {dtype}")

    def make(folder: Path) -> None:
        with build.phase("export"):
            write_onnx(model, dtype, folder)

    return build.cache.obtain("onnx", export_ingredients(model, dtype), make)


def export_ingredients(model: Model, dtype: str) -> dict[str, object]:
    """All that decides what the exported file holds, as plain JSON values."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in PROVENANCE}
    return {
        "weights": model.weights_hash,
        "config": config,
        "head": model.spec.head,
        "dtype": dtype,
        "form": FORM,
        "opset": OPSET,
        "versions": library_versions(LIBRARIES),
    }


def library_versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Versions of the distributions that are installed."""
    found = {}
    for name in distributions:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_onnx(model: Model, dtype: str, folder: Path) -> Path:
    """Export into `folder` and check the result. Raises BuildFailed."""
    try:
        import onnx
        import onnx_ir as ir
    except ImportError as error:
        raise BuildFailed(f"ONNX export needs more packages ({error}): pip install onnx onnxscript") from error
    path = folder / FILE_NAME
    try:
        with _quiet():
            exported = _export(model, DTYPES[dtype])
        _tidy(exported)
        weights = [value.const_value for value in exported.graph.initializers.values()]
        large = sum(weight.nbytes for weight in weights if weight is not None) > EXTERNAL_DATA_BYTES
        ir.save(exported, path, external_data=EXTERNAL_DATA_NAME if large else None)
        onnx.checker.check_model(str(path), full_check=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the exporter and the checker raise dozens of types
        reason = (str(error).strip().splitlines() or [""])[0]
        raise BuildFailed(f"exporting {model.spec.name} to ONNX failed: {type(error).__name__}: {reason}") from error
    return path


class MaskedEncoder(nn.Module):
    """The encoder with its int64 mask turned into the additive one, so that the graph has that once and in this form.

    transformers passes a mask of four dimensions on to the attention as it is.
    """

    def __init__(self, encoder: Encoder, dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder = encoder
        self._lowest = torch.finfo(dtype).min
        self._dtype = dtype
        self._mask_index = encoder.input_names.index("attention_mask")

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        named = list(inputs)
        absent = (1 - named[self._mask_index]).to(self._dtype)
        named[self._mask_index] = (absent * self._lowest)[:, None, None, :]
        outputs: tuple[torch.Tensor, ...] = self.encoder(*named)
        return outputs


def _export(model: Model, dtype: torch.dtype) -> ir.Model:
    import copy

    module = MaskedEncoder(copy.deepcopy(model.module).to(dtype), dtype).eval()
    inner: Any = module.encoder.inner
    inner.set_attn_implementation("sdpa")
    axes = tuple({0: "batch", 1: "seq"} for _ in model.input_names)
    translations: dict[Any, Any] = {torch.ops.aten.scaled_dot_product_attention.default: _attention}
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            _samples(model, dtype),
            dynamo=True,
            input_names=list(model.input_names),
            output_names=list(model.output_names),
            dynamic_shapes=(axes,),
            opset_version=OPSET,
            custom_translation_table=translations,
            verbose=False,
        )
    if program is None:
        raise BuildFailed("torch.onnx.export returned nothing")
    return program.model


def _samples(model: Model, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    shape = (SAMPLE_BATCH, SAMPLE_SEQ)
    samples: Mapping[str, torch.Tensor] = {
        "input_ids": torch.ones(shape, dtype=torch.long),
        "attention_mask": torch.ones(shape, dtype=torch.long),
        "token_type_ids": torch.zeros(shape, dtype=torch.long),
        "hidden_states": torch.zeros((*shape, model.config.hidden_size), dtype=dtype),
    }
    return tuple(samples[name] for name in model.input_names)


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(scale · query · keyᵀ + mask) · value in plain operators; tensors are [batch, heads, seq, head size].

    The query is scaled before the product, so that fp16 scores cannot overflow.
    """
    from onnxscript import opset20

    op: Any = opset20  # its methods are typed by tensor classes; what comes here are symbolic values of the exporter
    if dropout_p or is_causal or enable_gqa:
        raise BuildFailed("only plain encoder attention is exported: no dropout, causal mask or grouped heads")
    factor = 1.0 / math.sqrt(query.shape[3]) if scale is None else scale
    scaled = op.Mul(query, op.CastLike(op.Constant(value_float=factor), query))
    scores = op.MatMul(scaled, op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _tidy(model: ir.Model) -> None:
    """Make reshapes constant, and drop notes on where in the source each node came from."""
    import numpy as np
    import onnx_ir as ir
    from onnx_ir.passes import common

    for node in model.graph:
        if node.op_type == "Reshape" and (target := _static_target(node)) is not None:
            name = f"{node.outputs[0].name}_shape"
            model.graph.register_initializer(
                constant := ir.Value(name=name, const_value=ir.tensor(np.array(target, dtype=np.int64), name=name))
            )
            node.replace_input_with(1, constant)
            node.attributes.pop("allowzero", None)  # the exporter sets it, and then 0 would mean an empty tensor
    common.ClearMetadataAndDocStringPass()(model)
    common.RemoveUnusedNodesPass()(model)


def _static_target(node: ir.Node) -> list[int] | None:
    """The shape of a Reshape with 0 ("as it was") for dynamic sizes; None where one of those is not in its old place."""
    old, new = node.inputs[0], node.outputs[0]
    if old is None or old.shape is None or new.shape is None:
        return None
    target = []
    for index, size in enumerate(new.shape):
        if isinstance(size, int):
            target.append(size)
        elif index < len(old.shape) and old.shape[index] == size:
            target.append(0)
        else:
            return None
    return target


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own deprecated calls and of axis names that it merges; neither concerns a user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
