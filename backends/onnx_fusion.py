"""Rewrites an exported graph into ONNX Runtime's fused operators.

ONNX Runtime fuses attention itself only where it recognises one of the graphs that older exporters wrote; for the graphs of
`onnx_export` it leaves six operators and a score matrix in memory. The rewrites here know exactly that export:

    attention              → one attention operator (the forms below), with sequence lengths instead of an additive mask
    add bias, add, norm    → com.microsoft.SkipLayerNormalization
    add bias, gelu         → com.microsoft.BiasGelu (erf) or FastGelu (tanh)

Nothing is approximated. The lengths say the same as the mask only where padding is on the right: callers check that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.backends.contract import BuildFailed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

CONTRIB = "com.microsoft"
# What each attention form is for; the kernels are those that ONNX Runtime 1.30 chooses on CUDA.
FORMS: Mapping[str, str] = {
    "onnx": "ai.onnx.Attention 24 with lengths: flash attention in fp16 and bf16, memory-efficient attention in fp32",
    "multihead": "com.microsoft.MultiHeadAttention with lengths: cuDNN's attention from compute capability 9.0",
    "cumulated": "com.microsoft.MultiHeadAttention with cumulated lengths: memory-efficient attention",
    "packed": "com.microsoft.Attention: query, key and value in one product, with lengths: kernels as multihead",
}
EXTERNAL_DATA_BYTES = 1_000_000_000  # as in the export
ATTENTION_OPSET = 24  # the first whose Attention takes lengths (nonpad_kv_seqlen)


@dataclass(frozen=True, slots=True)
class Projection:
    """`source · weight + bias`, as it stood before its rewrite."""

    source: ir.Value
    product: ir.Value
    weight: ir.Value
    bias: ir.Value


@dataclass(frozen=True, slots=True)
class AttentionBlock:
    """One exported attention: its projections, its scale, and the value that its rewrite replaces."""

    query: Projection
    key: Projection
    value: Projection
    heads: int
    scale: float
    output: ir.Value
    summed: tuple[ir.Value, ir.Value, ir.Value]


def fuse(model: ir.Model, form: str, layers: int, *, strict: bool = True) -> dict[str, int]:
    """Rewrite `model` in place and count the rewrites by kind.

    Raises BuildFailed where not every one of the `layers` encoder layers was recognised: a half fused graph would be
    measured under a name that promises more. Without `strict` a layer need not have a Gelu (relu, or a tanh gelu that the
    exporter spells out): then as many are asked for as the graph has.
    """
    from onnx_ir.passes import common

    graph = model.graph
    gelus = layers if strict else min(layers, sum(_is_gelu(node) for node in graph))
    blocks = [block for node in list(graph) if node.op_type == "Softmax" and (block := _match_attention(node))]
    if blocks:
        lengths = _lengths(graph, form)
        for block in blocks:
            replace_node(graph, block.output, _attention_node(graph, block, form, lengths))
    counts = {
        "attention": len(blocks),
        "skip_layer_norm": sum(_fuse_skip_layer_norm(graph, node) for node in list(graph)),
        "bias_gelu": sum(_fuse_bias_gelu(graph, node) for node in list(graph)),
    }
    graph.opset_imports[CONTRIB] = 1
    if form == "onnx":
        graph.opset_imports[""] = ATTENTION_OPSET
    common.RemoveUnusedNodesPass()(model)
    wanted = {"attention": layers, "skip_layer_norm": 2 * layers, "bias_gelu": gelus}
    missing = [f"{counts[kind]} of {count} {kind}" for kind, count in wanted.items() if counts[kind] != count]
    if missing:
        raise BuildFailed(
            f"transformer fusion recognised only {', '.join(missing)}; use --opt fusion=off for this model"
        )
    return counts


def _match_attention(softmax: ir.Node) -> AttentionBlock | None:
    """The attention around a Softmax, where it is the one that `onnx_export` writes."""
    masked = _producer(softmax.inputs[0], "Add")
    scores = _producer(masked.inputs[0], "MatMul") if masked else None
    context = _consumer(softmax.outputs[0], "MatMul")
    scaled = _producer(scores.inputs[0], "Mul") if scores else None
    if scores is None or context is None or scaled is None:
        return None
    merged = _consumer(context.outputs[0], "Transpose")
    result = _consumer(merged.outputs[0], "Reshape") if merged else None
    factor = _constant(scaled.inputs[1])
    parts = (
        _match_heads(scaled.inputs[0], (0, 2, 1, 3)),
        _match_heads(scores.inputs[1], (0, 2, 3, 1)),
        _match_heads(context.inputs[1], (0, 2, 1, 3)),
    )
    if result is None or factor is None or factor.size != 1:
        return None
    query, key, value = parts
    if query is None or key is None or value is None:
        return None
    return AttentionBlock(
        query=query[0],
        key=key[0],
        value=value[0],
        heads=query[1],
        scale=float(factor.reshape(-1)[0]),
        output=result.outputs[0],
        summed=(query[2], key[2], value[2]),
    )


def _match_heads(value: ir.Value | None, order: tuple[int, ...]) -> tuple[Projection, int, ir.Value] | None:
    """A projection split into heads: transpose(reshape(source · weight + bias)); with the number of heads and the sum."""
    transpose = _producer(value, "Transpose")
    if transpose is None or tuple(transpose.attributes["perm"].as_ints()) != order:
        return None
    reshape = _producer(transpose.inputs[0], "Reshape")
    shape = _constant(reshape.inputs[1]) if reshape else None
    if reshape is None or shape is None or shape.size != 4:
        return None
    summed = reshape.inputs[0]
    projection = _match_projection(summed)
    return (projection, int(shape[2]), summed) if projection and summed is not None else None


def _match_projection(value: ir.Value | None) -> Projection | None:
    """`source · weight + bias` with a constant matrix and a constant vector."""
    add = _producer(value, "Add")
    if add is None:
        return None
    for product, bias in ((add.inputs[0], add.inputs[1]), (add.inputs[1], add.inputs[0])):
        matmul = _producer(product, "MatMul")
        vector = _constant(bias)
        if matmul is None or vector is None or vector.ndim != 1 or product is None or bias is None:
            continue
        source, weight = matmul.inputs
        matrix = _constant(weight)
        if source is not None and weight is not None and matrix is not None and matrix.ndim == 2:
            return Projection(source, product, weight, bias)
    return None


def _attention_node(graph: ir.Graph, block: AttentionBlock, form: str, lengths: ir.Value) -> ir.Node:
    import numpy as np
    import onnx_ir as ir

    parts = (block.query, block.key, block.value)
    name = f"attention_{block.output.name}"
    if form == "onnx":
        heads = {"q_num_heads": block.heads, "kv_num_heads": block.heads, "scale": block.scale}
        return ir.node("Attention", [*block.summed, None, None, None, lengths], attributes=heads, name=name)
    bias = add_initializer(graph, f"{name}_bias", np.concatenate([_array(part.bias) for part in parts]))
    attributes = {"num_heads": block.heads, "scale": block.scale}
    if form == "packed":
        if any(part.source is not block.query.source for part in parts):
            raise BuildFailed("query, key and value are not projected from one tensor, so they cannot be packed")
        weight = add_initializer(
            graph, f"{name}_weight", np.concatenate([_array(part.weight) for part in parts], axis=1)
        )
        inputs: list[ir.Value | None] = [block.query.source, weight, bias, lengths]
        return ir.node("Attention", inputs, attributes=attributes, domain=CONTRIB, name=name)
    inputs = [*(part.product for part in parts), bias, lengths]
    return ir.node("MultiHeadAttention", inputs, attributes=attributes, domain=CONTRIB, name=name)


def _lengths(graph: ir.Graph, form: str) -> ir.Value:
    """Nodes that turn the 0/1 mask [batch, seq] into what a form's operator takes; all of them run on the device.

    onnx: int64 [batch]; multihead and packed: int32 [batch]; cumulated: int32 [3 · batch + 2], which is the lengths and twice
    the first row of each sequence in the flattened batch, closed by the number of rows.
    """
    import numpy as np
    import onnx_ir as ir

    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    nodes: list[ir.Node] = []

    def add(op_type: str, inputs: Sequence[ir.Value], name: str, **attributes: Any) -> ir.Value:
        nodes.append(ir.node(op_type, inputs, attributes=attributes, name=name))
        nodes[-1].outputs[0].name = name
        return nodes[-1].outputs[0]

    axis = add_initializer(graph, "lengths_axis", np.array([1], dtype=np.int64))
    narrow = mask if form == "onnx" else add("Cast", [mask], "mask_int32", to=ir.DataType.INT32)
    lengths = add("ReduceSum", [narrow, axis], "lengths", keepdims=0)
    if form == "cumulated":
        one = add_initializer(graph, "lengths_one", np.array(1, dtype=np.int32))
        zero = add_initializer(graph, "lengths_zero", np.array([0], dtype=np.int32))
        first = add_initializer(graph, "lengths_first_axis", np.array(0, dtype=np.int64))
        rows = add("ReduceSum", [add("Max", [narrow, one], "ones"), axis], "rows", keepdims=0)
        starts = add("Concat", [zero, add("CumSum", [rows, first], "ends")], "starts", axis=0)
        lengths = add("Concat", [lengths, starts, starts], "cumulated_lengths", axis=0)
    graph.insert_before(graph[0], nodes)
    return lengths


def _fuse_skip_layer_norm(graph: ir.Graph, norm: ir.Node) -> bool:
    """layer norm(product + bias + skip) → SkipLayerNormalization."""
    import onnx_ir as ir

    if norm.op_type != "LayerNormalization" or norm.inputs[2] is None:
        return False
    add = _producer(norm.inputs[0], "Add")
    if add is None or len(list(add.outputs[0].uses())) != 1:
        return False
    for summed, skip in ((add.inputs[0], add.inputs[1]), (add.inputs[1], add.inputs[0])):
        projection = _match_projection(summed)
        if projection is None or skip is None or _constant(skip) is not None:
            continue
        inputs = [projection.product, skip, norm.inputs[1], norm.inputs[2], projection.bias]
        epsilon = norm.attributes.get("epsilon")
        attributes = {"epsilon": epsilon.as_float() if epsilon else 1e-5}  # ONNX's default
        name = f"skip_{norm.outputs[0].name}"
        replace_node(
            graph,
            norm.outputs[0],
            ir.node("SkipLayerNormalization", inputs, attributes=attributes, domain=CONTRIB, name=name),
        )
        return True
    return False


def _fuse_bias_gelu(graph: ir.Graph, gelu: ir.Node) -> bool:
    """gelu(product + bias) → BiasGelu, or FastGelu where the export says tanh."""
    import onnx_ir as ir

    if not _is_gelu(gelu):
        return False
    projection = _match_projection(gelu.inputs[0])
    if projection is None:
        return False
    approximate = gelu.attributes.get("approximate")
    op_type = "FastGelu" if approximate and approximate.as_string() == "tanh" else "BiasGelu"
    name = f"bias_{gelu.outputs[0].name}"
    replace_node(
        graph, gelu.outputs[0], ir.node(op_type, [projection.product, projection.bias], domain=CONTRIB, name=name)
    )
    return True


def _is_gelu(node: ir.Node) -> bool:
    return node.op_type == "Gelu" and not node.domain


def replace_node(graph: ir.Graph, old: ir.Value, node: ir.Node) -> None:
    """Put `node` where `old` was made, with its name, type and shape, also where it is an output of the graph."""
    new = node.outputs[0]
    new.name, new.shape, new.type = old.name, old.shape, old.type
    old_node = old.producer()
    assert old_node is not None
    graph.insert_before(old_node, node)
    for user, index in list(old.uses()):
        user.replace_input_with(index, new)
    for index, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[index] = new
    graph.remove(old_node, safe=True)


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node of that type that makes `value`."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type and not node.domain else None


def _consumer(value: ir.Value, op_type: str) -> ir.Node | None:
    """The only user of `value`, where it is a node of that type."""
    users = [user for user, _ in value.uses()]
    return users[0] if len(users) == 1 and users[0].op_type == op_type else None


def _constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    return None if value is None or value.const_value is None else _array(value)


def _array(value: ir.Value) -> npt.NDArray[Any]:
    assert value.const_value is not None
    return value.const_value.numpy()


def add_initializer(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """A new constant of the graph."""
    import onnx_ir as ir

    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value


def save_graph(model: ir.Model, path: Path) -> bool:
    """Save, with weights beside the graph where they are large; tells whether they are."""
    import onnx_ir as ir

    weights = [value.const_value for value in model.graph.initializers.values()]
    large = sum(weight.nbytes for weight in weights if weight is not None) > EXTERNAL_DATA_BYTES
    ir.save(model, path, external_data=f"{path.name}.data" if large else None)
    return large
