"""What ONNX Runtime really executed, read back from its own profiler: every node with its provider and the types it was fed.

The profile of one run names the nodes of the graph that is left after all of ONNX Runtime's optimisations, so it tells
fused, quantised and fallen-back nodes from what was asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CPU_PROVIDER = "CPUExecutionProvider"
NODE_SUFFIX = "_kernel_time"
ELEMENT_TYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}
QUANTISED = re.compile(r"Quant|QLinear|QAttention|QGemm|Integer")
FUSED_GRAPH = "compiled by the provider"
CLASS_OF: Mapping[str, str] = {
    **dict.fromkeys(("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "TransposeMatMul"), "matmul"),
    **dict.fromkeys(("QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), "matmul"),
    "QGemm": "matmul",
    **dict.fromkeys(("Attention", "MultiHeadAttention", "QAttention"), "attention"),
    **dict.fromkeys(("PackedAttention", "PackedMultiHeadAttention"), "attention"),
    **dict.fromkeys(("LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization"), "layernorm"),
    **dict.fromkeys(("Gelu", "BiasGelu", "FastGelu"), "gelu"),
}
EXACT_GELU, TANH_GELU = ("Gelu", "BiasGelu", "Erf"), ("FastGelu",)
# What ONNX Runtime says about the attention kernel it takes: standard ONNX operator, then com.microsoft's.
KERNEL_LINES = (re.compile(r"Attention: using ([A-Za-z ]+?)(?: path)?\s*\("), re.compile(r"SdpaKernel=([A-Z_]+)"))


@dataclass(frozen=True, slots=True)
class ExecutedNode:
    """One node of a profiled run. `types` are the element types of its inputs as the profiler spells them."""

    name: str
    op_type: str
    provider: str
    types: tuple[str, ...]

    @property
    def dtype(self) -> str:
        """What the node computes in: int8 for quantised operators, else its first floating-point input's type."""
        if QUANTISED.search(self.op_type):
            return "int8"
        return next((ELEMENT_TYPES[each] for each in self.types if each in ELEMENT_TYPES), "other")


@dataclass(frozen=True, slots=True)
class Trace:
    """The nodes of one run, in order, and the attention kernel that the engine said it took ("" where it said nothing)."""

    nodes: tuple[ExecutedNode, ...]
    attention_kernel: str = ""

    def to_json(self) -> str:
        """As it is stored in the artefact cache."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Trace:
        """Reads what `to_json` wrote."""
        stored = json.loads(text)
        nodes = (ExecutedNode(**{**each, "types": tuple(each["types"])}) for each in stored["nodes"])
        return cls(tuple(nodes), stored["attention_kernel"])

    def facts(self, provider: str) -> dict[str, Any]:
        """Facts of `Session.facts` that the trace knows; `provider` is the one that was asked for."""
        operators = Counter(node.op_type for node in self.nodes)
        attention = [op for op, layer in CLASS_OF.items() if layer == "attention" and operators[op]]
        compiled = [node for node in self.nodes if node.provider == provider and _is_compiled(node)]
        found: dict[str, Any] = {
            "compute_dtypes": compute_dtypes(self.nodes),
            "activation": _activation(operators),
            "attention": "+".join(attention) or ("unfused" if operators["Softmax"] else FUSED_GRAPH),
            "providers": dict(Counter(node.provider for node in self.nodes)),
            "operators": dict(operators.most_common()),
            "fallback_nodes": [f"{node.name} ({node.op_type})" for node in self.nodes if node.provider != provider],
            "quantised_products": sum(n for op, n in operators.items() if op in CLASS_OF and QUANTISED.search(op)),
        }
        if self.attention_kernel:
            found["attention_kernel"] = self.attention_kernel
        if compiled:
            found["compiled_subgraphs"] = len(compiled)
        return found


def read_profile(path: Path) -> tuple[ExecutedNode, ...]:
    """The executed nodes of a profile that ONNX Runtime wrote, each once."""
    nodes: dict[str, ExecutedNode] = {}
    for event in json.loads(path.read_text(encoding="utf-8")):
        if event.get("cat") != "Node" or not event["name"].endswith(NODE_SUFFIX):
            continue
        details = event["args"]
        name = event["name"].removesuffix(NODE_SUFFIX)
        types = tuple(kind for tensor in details.get("input_type_shape", ()) for kind in tensor)
        nodes.setdefault(name, ExecutedNode(name, details["op_name"], details.get("provider", ""), types))
    return tuple(nodes.values())


def compute_dtypes(nodes: Sequence[ExecutedNode]) -> dict[str, str]:
    """Layer class → dtype, several joined by `+`. Empty where the provider compiled the graph and shows no operators."""
    found: dict[str, set[str]] = {}
    for node in nodes:
        if layer := CLASS_OF.get(node.op_type):
            found.setdefault(layer, set()).add(node.dtype)
            if layer == "attention":  # it holds two products of its own, com.microsoft.Attention three more
                found.setdefault("matmul", set()).add(node.dtype)
    return {layer: "+".join(sorted(dtypes)) for layer, dtypes in sorted(found.items())}


def attention_kernel(log: str) -> str:
    """The attention kernel that a log names; several are joined by `+`."""
    names = {match.strip() for pattern in KERNEL_LINES for match in pattern.findall(log)}
    return "+".join(sorted(names))


@contextlib.contextmanager
def captured_output() -> Iterator[Path]:
    """Send what the process writes to its standard streams, from Python or from C, to a file; yields the file.

    Engines report the kernels that they choose nowhere else.
    """
    with tempfile.NamedTemporaryFile(prefix="benchrun-", suffix=".log") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        try:
            for descriptor in kept:
                os.dup2(file.fileno(), descriptor)
            yield Path(file.name)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, copy in kept.items():
                os.dup2(copy, descriptor)
                os.close(copy)


def _activation(operators: Counter[str]) -> str:
    if any(operators[each] for each in EXACT_GELU):
        return "gelu"
    return "fast_gelu" if any(operators[each] for each in TANH_GELU) else "unknown"


def _is_compiled(node: ExecutedNode) -> bool:
    """Providers that compile name their subgraphs after themselves, not after an operator."""
    return node.provider.removesuffix("ExecutionProvider").lower() in node.op_type.lower()
