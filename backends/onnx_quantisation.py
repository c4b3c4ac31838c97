"""INT8 for matrix products with constant weights: dynamic (scales found at run time) or static (Q/DQ with calibrated scales).

ONNX Runtime quantises an activation tensor with one scale. Three things keep the answer all the same:

* Smoothing (Xiao et al., "SmoothQuant", 2022, arXiv:2211.10438): in a transformer a few channels are up to twenty times the median
  one. Channel j of an activation is divided by s_j and row j of the weights multiplied by it, which is exact in real arithmetic.
* The product that ends a feed-forward block stays in floating point: its input, after the gelu, has the widest spread, over
  tokens too.
* Bias correction (Nagel et al., 2019, arXiv:1906.04721, section 4.2): rounding shifts the mean of each output channel, and attention
  averages noise away but not a shift, so it changes the *size* of the answer. The shift on calibration rows is
  taken off the bias that follows the product, and costs nothing at run time.

docs/engines.md has the figures on all-MiniLM-L6-v2.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.backends.contract import BuildFailed
from benchrun.backends.onnx_calibration import Seen, watch
from benchrun.backends.onnx_fusion import add_initializer, save_graph

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

    from benchrun.backends.onnx_calibration import Feeds, Floats

METHODS = ("dynamic", "static")
MIGRATION = (
    0.75  # α of the paper: how much of an activation's spread moves into the weights; 0.5 left twice the error here
)
SMALLEST = 1e-5  # a channel that is always zero must not divide by zero


def quantise(model: ir.Model, target: Path, method: str, feeds: Sequence[Feeds]) -> dict[str, Any]:
    """Write the fp32 graph `model` to `target` with its constant-weight products in int8, calibrated on `feeds`.

    Products that narrow (feed-forward to hidden size) stay in floating point. Weights are signed and have a scale per output
    channel; activations are unsigned. `model` is changed. Intermediate files lie in a folder beside `target` until the
    end. Returns what was done, for the facts. Raises BuildFailed.
    """
    with_weights = [node for node in model.graph if node.op_type == "MatMul" and _shape(node.inputs[1])]
    products = [node for node in with_weights if _widens(node)]
    if not products:
        raise BuildFailed("the graph has no matrix product with constant weights to quantise")
    kept = Counter("{} → {}".format(*_shape(node.inputs[1])) for node in with_weights if not _widens(node))
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        activations = [node.inputs[0] for node in products if node.inputs[0] is not None]
        seen = watch(model, activations, feeds, Path(scratch) / "watched.onnx")
        corrected = _smooth(model, products, seen)
        smoothed = Path(scratch) / "smoothed.onnx"
        large = save_graph(model, smoothed)
        chosen = [str(node.name) for node in products]
        _quantise(smoothed, target, method, feeds, chosen, large=large)
    return {
        "quantisation": method,
        "quantised_weights": "int8, a scale for each output channel",
        "quantised_activations": f"uint8, a scale for each tensor, {'found in each call' if method == 'dynamic' else 'calibrated'}",
        "smoothing": MIGRATION,
        "corrected_biases": corrected,
        "kept_in_float": [
            *(f"{count} products {shape} (they narrow)" for shape, count in kept.items()),
            "the products within attention, softmax, norms and embeddings",
        ],
    }


def _smooth(model: ir.Model, products: Sequence[ir.Node], seen: Mapping[str, Seen]) -> int:
    """Move the spread of activation channels into the weights; products that share an activation share its scales.

    Also corrects the biases behind the products for what rounding will shift; returns how many were found.
    """
    import numpy as np
    import onnx_ir as ir

    groups: dict[str, list[ir.Node]] = {}
    for node in products:
        groups.setdefault(str(node.inputs[0].name if node.inputs[0] else ""), []).append(node)
    corrected = 0
    for name, nodes in groups.items():
        weights = [_weight(node) for node in nodes]
        rows = np.maximum(np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0), SMALLEST)
        scale = np.maximum(seen[name].largest, SMALLEST) ** MIGRATION / rows ** (1 - MIGRATION)
        # around 1, so that nothing else changes size
        scale = (scale / np.exp(np.mean(np.log(scale)))).astype(np.float32)
        source = nodes[0].inputs[0]
        assert source is not None
        factor = add_initializer(model.graph, f"{name}_smoothing", (1 / scale).astype(np.float32))
        mul = ir.node("Mul", [source, factor], name=f"{name}_smoothing")
        mul.outputs[0].name, mul.outputs[0].type, mul.outputs[0].shape = f"{name}_smoothed", source.type, source.shape
        model.graph.insert_before(nodes[0], mul)
        given = Seen(seen[name].low / scale, seen[name].high / scale, seen[name].rows / scale)
        for node, weight in zip(nodes, weights, strict=True):
            node.replace_input_with(0, mul.outputs[0])
            smoothed = add_initializer(model.graph, f"{node.outputs[0].name}_weight", weight * scale[:, None])
            node.replace_input_with(1, smoothed)
            corrected += _correct_bias(model.graph, node, rounding_shift(given, weight * scale[:, None]))
    from onnx_ir.passes import common

    common.RemoveUnusedNodesPass()(model)
    return corrected


def rounding_shift(given: Seen, weight: Floats) -> Floats:
    """How much quantising both sides changes each output's mean over the rows seen: E[Q(x)·Q(W)] − E[x·W]."""
    import numpy as np

    low, high = min(float(given.low.min()), 0.0), max(float(given.high.max()), 0.0)
    step = max(high - low, SMALLEST) / 255
    zero = round(-low / step)
    inputs = (np.clip(np.rint(given.rows / step) + zero, 0, 255) - zero) * step
    steps = np.maximum(np.abs(weight).max(axis=0), SMALLEST) / 127
    rounded = np.rint(weight / steps) * steps
    return np.asarray((inputs @ rounded - given.rows @ weight).mean(axis=0), dtype=np.float32)


def _correct_bias(graph: ir.Graph, product: ir.Node, shift: Floats) -> bool:
    """Subtract `shift` from the constant bias that is added to a product; False where there is none to be seen.

    Fused operators take the bias as an input of their own; attention takes those of query, key and value in one.
    """
    users = list(product.outputs[0].uses())
    if len(users) != 1:
        return False
    user, place = users[0]
    index = {"Add": 1 - place, "BiasGelu": 1, "FastGelu": 1, "SkipLayerNormalization": 4, "MultiHeadAttention": 3}.get(
        user.op_type
    )
    bias = user.inputs[index] if index is not None and index < len(user.inputs) else None
    if index is None or bias is None or bias.const_value is None or len(bias.const_value.shape) != 1:
        return False
    array = bias.const_value.numpy().copy()
    start = place * shift.size if user.op_type == "MultiHeadAttention" else 0
    array[start : start + shift.size] -= shift
    name = f"{product.outputs[0].name}_bias_{len(graph.initializers)}"
    user.replace_input_with(index, add_initializer(graph, name, array))
    return True


def _quantise(
    path: Path, target: Path, method: str, feeds: Sequence[Feeds], products: Sequence[str], *, large: bool
) -> None:
    from onnxruntime import quantization

    reader: Any = Calibration(feeds)
    common: dict[str, Any] = {
        "op_types_to_quantize": ["MatMul"],
        "nodes_to_quantize": list(products),  # not the products within an unfused attention, which have no weights
        "per_channel": True,
        "weight_type": quantization.QuantType.QInt8,
        "use_external_data_format": large,
    }
    try:
        with _quiet():
            if method == "dynamic":
                quantization.quantize_dynamic(path, target, **common)
            else:
                quantization.quantize_static(
                    path,
                    target,
                    reader,
                    quant_format=quantization.QuantFormat.QDQ,
                    activation_type=quantization.QuantType.QUInt8,
                    calibrate_method=quantization.CalibrationMethod.MinMax,
                    # a product's output goes on in float: quantising it as well costs accuracy and saves nothing
                    extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
                    **common,
                )
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the quantisers raise many types
        reason = (str(error).strip().splitlines() or [""])[0]
        raise BuildFailed(f"{method} quantisation failed: {type(error).__name__}: {reason}") from error


class Calibration:
    """What ONNX Runtime calls a CalibrationDataReader: one feed at a time, then None."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def _weight(node: ir.Node) -> npt.NDArray[np.float32]:
    assert node.inputs[1] is not None and node.inputs[1].const_value is not None
    return node.inputs[1].const_value.numpy()


def _shape(weight: ir.Value | None) -> tuple[int, ...]:
    """Inputs and outputs of a constant matrix; empty where it is not constant."""
    return () if weight is None or weight.const_value is None else tuple(weight.const_value.shape.numpy())


def _widens(node: ir.Node) -> bool:
    """A product with at least as many outputs as inputs."""
    rows, columns = _shape(node.inputs[1])
    return rows <= columns


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantisers log advice to the root logger and warn of their own calls."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
