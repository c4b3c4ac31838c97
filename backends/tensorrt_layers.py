"""Which layers an engine really has, and in which types they compute: read back from TensorRT, never from the request.

Two sources say the same: the engine inspector, as JSON, which needs the engine on a GPU; and the layer listing that the
TensorRT-RTX builder writes to its log, which is all there is where an engine is built without a GPU. Both need
`ProfilingVerbosity.DETAILED` while the engine is built.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNKNOWN = "unknown"
NONE = "none"
LOG_HEADING = "Layers:\n"
# In this order: "BFloat16" has "Float" in it. Spellings: of `Datatype`, and of the format sentences of older versions.
SPELLINGS = (
    ("bf16", re.compile(r"BFloat16|BF16", re.IGNORECASE)),
    ("fp16", re.compile(r"Half|FP16", re.IGNORECASE)),
    ("fp8", re.compile(r"FP8", re.IGNORECASE)),
    ("int8", re.compile(r"Int8", re.IGNORECASE)),
    ("int32", re.compile(r"Int32", re.IGNORECASE)),
    ("int64", re.compile(r"Int64", re.IGNORECASE)),
    ("bool", re.compile(r"Bool", re.IGNORECASE)),
    ("fp32", re.compile(r"Float|FP32", re.IGNORECASE)),
)
NOT_COMPUTED_IN = {"int32", "int64", "bool", UNKNOWN}  # indices, shapes and masks
# "__myl_FcAddGelu_myl0_3" is a fused layer that starts with a fully connected one
MATMUL = re.compile(r"gemm|matrix_?multiply|matmul|fullyconnected|__myl_\w*?(?-i:Fc)", re.IGNORECASE)
FUSED_ATTENTION = re.compile(r"mha|flash", re.IGNORECASE)
SOFTMAX = re.compile(r"softmax|scaled_dot_product", re.IGNORECASE)
LAYERNORM = re.compile(r"layer_?norm|normalization", re.IGNORECASE)
ERF = re.compile(r"erf", re.IGNORECASE)
TANH = re.compile(r"tanh", re.IGNORECASE)
LOG_LAYER = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), StreamId: .*?, Metadata: (?P<origin>.*)"
)
LOG_TENSOR = re.compile(r"\{ Name: .*?, Dimensions: \[(?P<dimensions>[-\d,]*)\],.*?Datatype: (?P<dtype>\w+)")


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a layer reads or writes: benchrun's name of its type, and how many elements (0 where that is dynamic)."""

    dtype: str
    elements: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a built engine. `constants` is None where the engine lists none; `origin` names ONNX nodes."""

    name: str
    kind: str
    inputs: tuple[Tensor, ...] = ()
    constants: tuple[Tensor, ...] | None = None
    outputs: tuple[Tensor, ...] = ()
    tactic: str = ""
    origin: str = ""

    @property
    def dtype(self) -> str:
        """The type of its first floating or quantised input, else of its first such output, else `none`.

        A matrix product of fp16 inputs with weights kept in INT8 computes in fp16, and its first input says so.
        """
        found = (tensor.dtype for tensor in (*self.inputs, *self.outputs) if tensor.dtype not in NOT_COMPUTED_IN)
        return next(found, NONE)

    @property
    def has_weights(self) -> bool:
        """False only where the engine lists constants, and this layer has none with more than one element."""
        return self.constants is None or any(constant.elements > 1 for constant in self.constants)

    @property
    def layer_class(self) -> str:
        """`matmul` (with weights), `attention`, `layernorm` or `other`."""
        named = f"{self.kind} {self.name} {self.origin}"
        if self.fuses_attention:
            return "attention"
        if MATMUL.search(f"{self.kind} {self.name}"):
            return "matmul" if self.has_weights else "attention"
        if SOFTMAX.search(named):
            return "attention"
        return "layernorm" if LAYERNORM.search(named) else "other"

    @property
    def fuses_attention(self) -> bool:
        """True for both matrix products and the softmax of an attention in one kernel."""
        return bool(FUSED_ATTENTION.search(f"{self.name} {self.tactic}"))


def read_inspector(text: str) -> tuple[Layer, ...]:
    """The layers in the inspector's JSON. Layers of an engine built without details are bare names."""
    found: Sequence[Any] = json.loads(text).get("Layers", ())
    return tuple(_inspected(item) if isinstance(item, Mapping) else Layer(str(item), UNKNOWN) for item in found)


def read_log(messages: Iterable[str]) -> tuple[Layer, ...]:
    """The layers in the builder's log: a message that starts with `Layers:`, one line a layer. Empty without one."""
    listing = next((message for message in messages if message.startswith(LOG_HEADING)), "")
    return tuple(_logged(match) for match in LOG_LAYER.finditer(listing))


def spelled_dtype(text: str) -> str:
    """benchrun's name of a type as TensorRT spells it: `Half` and `Row major linear FP16 format` are `fp16`."""
    return next((name for name, pattern in SPELLINGS if pattern.search(text)), UNKNOWN)


def layer_facts(layers: Sequence[Layer], *, tf32_allowed: bool) -> dict[str, Any]:
    """What the layers say, as facts of a session.

    TF32 is no type of a tensor: fp32 matrix products count as tf32 where the engine was built with the flag that allows
    it, or where a kernel has it in its name.
    """
    by_class: dict[str, set[str]] = {}
    for layer in layers:
        if layer.layer_class != "other" and layer.dtype != NONE:
            by_class.setdefault(layer.layer_class, set()).add(layer.dtype)
    compute_dtypes = {name: "+".join(sorted(dtypes)) for name, dtypes in sorted(by_class.items())}
    tf32_kernels = sum("tf32" in layer.tactic.lower() for layer in layers)
    if tf32_allowed or tf32_kernels:
        products = {name: compute_dtypes[name] for name in ("matmul", "attention") if name in compute_dtypes}
        compute_dtypes |= {name: dtype.replace("fp32", "tf32") for name, dtype in products.items()}
    return {
        "compute_dtypes": compute_dtypes,
        "layers": len(layers),
        "layers_by_dtype": dict(sorted(Counter(layer.dtype for layer in layers).items())),
        "matmul_layers": sum(layer.layer_class == "matmul" for layer in layers),
        "attention": _attention(layers),
        "activation": _activation(layers),
        "tf32_allowed": tf32_allowed,
        "tf32_kernels": tf32_kernels,
    }


def _attention(layers: Sequence[Layer]) -> str:
    if fused := sum(layer.fuses_attention for layer in layers):
        return f"fused: {fused} kernels"
    parts = sum(layer.layer_class == "attention" for layer in layers)
    return f"not fused: {parts} kernels" if parts else UNKNOWN


def _activation(layers: Sequence[Layer]) -> str:
    """`gelu` computes erf; `fast_gelu` tanh, in more than one layer, since a pooler has one tanh of its own."""
    if any(ERF.search(f"{layer.name} {layer.tactic}") for layer in layers):
        return "gelu"
    return "fast_gelu" if sum(bool(TANH.search(f"{layer.name} {layer.tactic}")) for layer in layers) > 1 else UNKNOWN


def _inspected(item: Mapping[str, Any]) -> Layer:
    constants = item.get("Constants")
    return Layer(
        str(item.get("Name", "")),
        str(item.get("LayerType", UNKNOWN)),
        _tensors(item.get("Inputs", ())),
        None if constants is None else _tensors(constants),
        _tensors(item.get("Outputs", ())),
        str(item.get("TacticName", "")),
        str(item.get("Metadata", "")),
    )


def _tensors(items: Sequence[Mapping[str, Any]]) -> tuple[Tensor, ...]:
    found = []
    for item in items:
        spelled = item.get("Datatype") or item.get("Format/Datatype") or item.get("Format") or ""
        found.append(Tensor(spelled_dtype(str(spelled)), _elements(item.get("Dimensions", (0,)))))
    return tuple(found)


def _logged(match: re.Match[str]) -> Layer:
    inputs, constants, outputs = (
        tuple(
            Tensor(spelled_dtype(tensor["dtype"]), _elements([int(n) for n in tensor["dimensions"].split(",") if n]))
            for tensor in LOG_TENSOR.finditer(match[part])
        )
        for part in ("inputs", "constants", "outputs")
    )
    return Layer(match["name"], match["kind"], inputs, constants, outputs, match["tactic"], match["origin"])


def _elements(dimensions: Sequence[int]) -> int:
    return 0 if any(size < 0 for size in dimensions) else math.prod(dimensions)
