"""Explicit quantisation of an ONNX graph: QuantizeLinear and DequantizeLinear around the products with weights.

Both inputs of every linear layer are quantised, symmetrically: weights with a scale per output channel, activations
with one per tensor. Attention's own products, softmax, normalisations and embeddings stay in fp16.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.backends.contract import BuildFailed
from benchrun.backends.tensorrt_calibrate import LARGEST, SMALLEST_SCALE, InputScale, linear_layers

if TYPE_CHECKING:
    import torch

    from benchrun.backends.models import Model

BASE_DTYPE = "fp16"  # what a quantised network computes in elsewhere
FIRST_OPSET = {"int8": 19, "fp8": 19}  # in which QuantizeLinear takes fp16 scales, and FP8


def quantise_onnx(source: Path, target: Path, model: Model, scales: Sequence[InputScale], kind: str) -> int:
    """Write `source` to `target` with each product with a linear layer's weights quantised to `kind` (int8 or fp8).

    `source` is the export of `model` in fp16. Returns how many products were quantised. Raises BuildFailed where one of
    the model's linear layers is not found in the graph, which then would run unquantised.
    """
    import onnx

    graph_model = onnx.load(source)
    opset = max(entry.version for entry in graph_model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < FIRST_OPSET[kind]:
        raise BuildFailed(f"the exported graph has opset {opset}, and {kind} in fp16 needs {FIRST_OPSET[kind]}")
    names = {weight_digest(layer.weight): name for name, layer in linear_layers(model)}
    rewrite = Rewrite(graph_model.graph, names, {name: scale for scale in scales for name in scale.layers}, kind)
    rewrite.run()
    if unseen := sorted(set(names.values()) - rewrite.done):
        raise BuildFailed(
            f"cannot quantise {len(unseen)} linear layers that the exported graph does not show: {unseen[0]} …"
        )
    onnx.save(graph_model, target)
    return rewrite.products


def weight_digest(weight: torch.Tensor) -> str:
    """Identifies a weight matrix as an ONNX MatMul holds it: [in, out], fp16. Names of nodes are up to the exporter."""
    import torch

    return array_digest(weight.detach().t().to(torch.float16).numpy())


def array_digest(array: Any) -> str:
    """SHA-256 of an array's bytes in row-major order."""
    import numpy as np

    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


class Rewrite:
    """Quantises one graph in place. `done` names the linear layers that were met, `products` counts their nodes."""

    def __init__(self, graph: Any, names: dict[str, str], scales: dict[str, InputScale], kind: str) -> None:
        self.graph = graph
        self.names = names
        self.scales = scales
        self.kind = kind
        self.done: set[str] = set()
        self.products = 0
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._inputs: dict[tuple[str, InputScale], str] = {}
        self._nodes: list[Any] = []

    def run(self) -> None:
        """Insert the nodes and drop the weights that nothing uses any more."""
        for node in self.graph.node:
            if node.op_type in ("MatMul", "Gemm") and node.input[1] in self._weights:
                self._quantise(node)
            self._nodes.append(node)
        del self.graph.node[:]
        self.graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input} | {output.name for output in self.graph.output}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _quantise(self, node: Any) -> None:
        import numpy as np
        from onnx import numpy_helper

        weight = np.array(numpy_helper.to_array(self._weights[node.input[1]]))
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        name = self.names.get(array_digest(weight.T if transposed else weight))
        if name is None:
            return  # not a linear layer of the model
        self.done.add(name)
        self.products += 1
        scale = self.scales[name]
        wide = weight.astype(np.float32)
        if scale.smooth is not None:
            wide = wide * (scale.smooth if transposed else scale.smooth[:, None])
        node.input[0] = self._input(node.input[0], scale)
        node.input[1] = self._weight(node.input[1], wide, axis=0 if transposed else 1)

    def _input(self, name: str, scale: InputScale) -> str:
        """The quantised and dequantised copy of an activation, made once for all the products that share it."""
        import numpy as np

        if (name, scale) not in self._inputs:
            stem = f"{name}_{self.kind}_{len(self._inputs)}"
            source = name
            if scale.smooth is not None:
                source = f"{stem}_smoothed"
                self._node(
                    "Mul", [name, self._constant(f"{stem}_smoothing", (1 / scale.smooth).astype(np.float16))], source
                )
            constants = self._scale(stem, np.array(scale.scale, np.float16))
            self._node("QuantizeLinear", [source, *constants], f"{stem}_quantised")
            self._node("DequantizeLinear", [f"{stem}_quantised", *constants], f"{stem}_dequantised")
            self._inputs[name, scale] = f"{stem}_dequantised"
        return self._inputs[name, scale]

    def _weight(self, name: str, weight: Any, axis: int) -> str:
        """Weights stored in the small type, with one scale per output channel (along `axis`)."""
        import numpy as np
        from onnx import helper

        scale = np.maximum(np.abs(weight).max(axis=1 - axis) / LARGEST[self.kind], SMALLEST_SCALE).astype(np.float16)
        stem = f"{name}_{self.kind}_{self.products}"
        constants = self._scale(stem, scale)
        small = self._small(weight / np.expand_dims(scale.astype(np.float32), 1 - axis))
        quantised = helper.make_tensor(f"{stem}_quantised", self._type, weight.shape, small, raw=True)
        self.graph.initializer.append(quantised)
        self._node("DequantizeLinear", [quantised.name, *constants], f"{stem}_dequantised", axis)
        return f"{stem}_dequantised"

    def _scale(self, stem: str, scale: Any) -> tuple[str, str]:
        """Constants for a scale (fp16, so that DequantizeLinear gives fp16) and its zero points, all zero."""
        import numpy as np
        from onnx import helper

        zeros = np.zeros(scale.shape, np.uint8).tobytes()
        zero = helper.make_tensor(f"{stem}_zero", self._type, scale.shape, zeros, raw=True)
        self.graph.initializer.append(zero)
        return self._constant(f"{stem}_scale", scale), zero.name

    def _constant(self, name: str, array: Any) -> str:
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, axis: int | None = None) -> None:
        from onnx import helper

        node = helper.make_node(operator, inputs, [output], name=output)
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self._nodes.append(node)

    def _small(self, values: Any) -> bytes:
        """Scaled values rounded to nearest even in the small type, as raw bytes."""
        import numpy as np
        import torch

        top = LARGEST[self.kind]
        if self.kind == "int8":
            return bytes(np.clip(np.rint(values), -top, top).astype(np.int8).tobytes())
        tensor = torch.from_numpy(np.clip(values, -top, top)).to(torch.float8_e4m3fn)
        return bytes(tensor.view(torch.uint8).numpy().tobytes())

    @property
    def _type(self) -> int:
        from onnx import TensorProto

        return int(TensorProto.INT8 if self.kind == "int8" else TensorProto.FLOAT8E4M3FN)
