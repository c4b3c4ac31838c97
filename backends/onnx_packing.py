"""Rewrites a fused graph so that padding is taken out behind the embeddings and put back before the head: ONNX Runtime's packing operators.

    embeddings [batch, seq, hidden]
    RemovePadding(states, lengths)         → states [T, hidden], offsets of the tokens [batch, seq], cumulated lengths [batch + 1]
    layers, all in them token by token     on [T, hidden], T of all sequences together
      MultiHeadAttention                   → PackedMultiHeadAttention, which is told the cumulated lengths
      Attention (one product)              → PackedAttention
    RestorePadding(states, offsets)        → [batch, seq, hidden], zeros at the padding

Inputs and outputs of the graph stay what they were. The operators (com.microsoft, in ONNX Runtime's ContribOperators.md) have kernels for
CUDA only, in fp32 and fp16. RemovePadding waits until the number of tokens has come to the host, so a call cannot be captured in a graph.

`onnxruntime.transformers.convert_to_packing_mode` does the same to a whole protobuf; it says nothing where it gives up, and it puts modules
with names like `constants` on the import path. The tests hold this rewrite against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchrun.backends.contract import BuildFailed, Point, Unsupported
from benchrun.backends.onnx_fusion import CONTRIB, fuse, replace_node

if TYPE_CHECKING:
    import onnx_ir as ir

FORM = 1  # counts up whenever another packed graph comes out of the same fused one
DTYPES = ("fp16", "fp32", "tf32")
# forms of the fused attention that have a packed twin, and how far benchrun's authors have verified each
FORMS = {
    "multihead": "executed on an H200 with ONNX Runtime 1.30: BERT-base b16 in fp16, fp32, tf32, all heads",
    "packed": "built, and checked on a CPU with the operators' definitions in plain ONNX; never run on a GPU by benchrun's authors",
}
INSTEAD = "use the layout padded or bucketed"
# fused attention → its packed twin, the inputs that this takes over, and the place of the lengths
TWINS: Mapping[str, tuple[str, int, int]] = {
    "MultiHeadAttention": ("PackedMultiHeadAttention", 4, 4),
    "Attention": ("PackedAttention", 3, 3),
}
NORMS = ("LayerNormalization", "SkipLayerNormalization")
# what may stand in a layer besides attention: each computes a token from that token alone, whatever the shape before the last dimension
TOKENWISE = (
    *NORMS,
    *(
        "MatMul",
        "Add",
        "Mul",
        "Div",
        "Sub",
        "Sqrt",
        "Pow",
        "Tanh",
        "Erf",
        "Sigmoid",
        "Relu",
        "LeakyRelu",
        "Elu",
        "Selu",
    ),
    *("Gelu", "BiasGelu", "FastGelu", "Cast", "CastLike", "Identity"),
)


def check_packing(point: Point) -> None:
    """Raises Unsupported where ONNX Runtime's packing operators, or this rewrite, cannot do a point of layout `packed`."""
    if point.variant != "cuda":
        raise Unsupported(
            f"ONNX Runtime's operators for packed sequences (RemovePadding, PackedMultiHeadAttention) run on its CUDA provider only, "
            f"so {point.engine} cannot pack: {INSTEAD}"
        )
    if point.dtype not in DTYPES:
        raise Unsupported(
            f"ONNX Runtime's operators for packed sequences have kernels for fp16 and fp32, not for {point.dtype}: use fp16, or the layout "
            "padded or bucketed"
        )
    if point.option("fusion", "auto") == "off":
        raise Unsupported("ort packs fused attention only: leave out --opt ort.fusion=off, or " + INSTEAD)
    asked = str(point.option("attention", "auto"))
    if asked not in ("auto", *FORMS):
        raise Unsupported(
            f"ort.attention={asked} has no packed twin: choose auto, multihead (PackedMultiHeadAttention) or packed (PackedAttention)"
        )
    if point.option("cuda_graph", "off") == "on":
        raise Unsupported(
            "a packed call of ort cannot be captured, since RemovePadding waits for the device: leave out --opt ort.cuda_graph=on, or "
            + INSTEAD
        )


def packed_form(point: Point) -> str:
    """The form of fused attention (a key of `onnx_fusion.FORMS`) that is packed: `multihead`, whose twin has a flash kernel."""
    asked = str(point.option("attention", "auto"))
    return "multihead" if asked == "auto" else asked


def fuse_packed(model: ir.Model, form: str, layers: int, *, strict: bool = True) -> dict[str, int]:
    """Fuse and pack `model` in place and count the rewrites by kind. Raises Unsupported where a layer is not recognised."""
    try:
        counts = fuse(model, form, layers, strict=strict)
    except BuildFailed as error:
        raise Unsupported(f"ort packs only graphs whose layers it can all fuse ({error}): {INSTEAD}") from error
    return counts | pack(model)


def pack(model: ir.Model) -> dict[str, int]:
    """Pack a fused graph (forms of FORMS) in place and count the rewrites by kind.

    Raises Unsupported where something in the layers needs to know where a token stands.
    """
    import onnx_ir as ir

    graph = model.graph
    attentions = [node for node in graph if node.domain == CONTRIB and node.op_type in TWINS]
    norms = [node for node in graph if node.op_type in NORMS]
    if not attentions or not norms:
        raise Unsupported(f"this model's graph has no fused attention to pack: {INSTEAD}")
    states, last = _first_states(attentions[0]), norms[-1].outputs[0]
    lengths = _lengths(attentions)
    layers = _layers(graph, states, last, lengths)

    tokens = ir.SymbolicDim("tokens")
    for node in layers:
        for value in node.outputs:
            if value.shape is not None and value is not last:
                value.shape = ir.Shape([tokens, value.shape[-1]])
    names = ("packed_states", "token_offset", "cumulated_lengths", "longest")
    remove = ir.node("RemovePadding", [states, lengths], domain=CONTRIB, num_outputs=len(names), name="remove_padding")
    for value, name in zip(remove.outputs, names, strict=True):
        value.name, value.type = name, ir.TensorType(ir.DataType.INT32)
    packed, offset, cumulated, _ = remove.outputs
    packed.type = states.type
    packed.shape = None if states.shape is None else ir.Shape([tokens, states.shape[-1]])
    graph.insert_before(next(node for node in graph if node in layers), remove)
    for user, index in list(states.uses()):
        if user in layers:
            user.replace_input_with(index, packed)

    for old in attentions:
        op_type, kept, _ = TWINS[old.op_type]
        inputs = [*old.inputs[:kept], offset, cumulated]
        attributes = {name: old.attributes[name] for name in ("num_heads", "scale")}
        twin = ir.node(op_type, inputs, attributes=attributes, domain=CONTRIB, name=f"packed_{old.name}")
        replace_node(graph, old.outputs[0], twin)

    last = norms[-1].outputs[0]
    restore = ir.node("RestorePadding", [last, offset], domain=CONTRIB, name="restore_padding")
    whole = restore.outputs[0]
    whole.name, whole.type, whole.shape = last.name, last.type, last.shape
    last.name = f"{last.name}_packed"
    last.shape = None if whole.shape is None else ir.Shape([tokens, whole.shape[-1]])
    for user, index in list(last.uses()):
        if user is not restore:
            user.replace_input_with(index, whole)
    for index, output in enumerate(graph.outputs):
        if output is last:
            graph.outputs[index] = whole
    graph.insert_after(norms[-1], restore)
    return {"packed_attention": len(attentions), "remove_padding": 1, "restore_padding": 1}


def _first_states(attention: ir.Node) -> ir.Value:
    """What the first layer is given: the source of its query."""
    query = attention.inputs[0]
    if attention.op_type != "Attention" and query is not None:
        product = query.producer()
        query = product.inputs[0] if product is not None else None
    if query is None:
        raise Unsupported(f"this model's first attention has no query to pack: {INSTEAD}")
    return query


def _lengths(attentions: list[ir.Node]) -> ir.Value:
    """The lengths [batch], int32, that all attentions are told."""
    found = {id(value): value for node in attentions if (value := node.inputs[TWINS[node.op_type][2]]) is not None}
    if len(found) != 1:
        raise Unsupported(f"this model's layers do not share one mask, so they cannot be packed together: {INSTEAD}")
    return next(iter(found.values()))


def _layers(graph: ir.Graph, states: ir.Value, last: ir.Value, lengths: ir.Value) -> set[ir.Node]:
    """The nodes from `states` to `last`. Raises Unsupported unless all of them work token by token, or are attention, and nothing
    else goes in or out."""
    import onnx_ir as ir

    inside: set[ir.Node] = set()
    waiting: list[ir.Value] = [last]
    while waiting:
        value = waiting.pop()
        if value is states or value is lengths or value.const_value is not None:
            continue
        node = value.producer()
        known = node is not None and (node.op_type in TOKENWISE or (node.domain == CONTRIB and node.op_type in TWINS))
        if node is None or not known:
            what = f"the input {value.name}" if node is None else f"an operator {node.op_type}"
            raise Unsupported(f"{what} in this model's layers cannot be packed: {INSTEAD}")
        if node not in inside:
            inside.add(node)
            waiting.extend(each for each in node.inputs if isinstance(each, ir.Value))
    out = [
        value.name
        for node in inside
        for value in node.outputs
        if value is not last and not _stays(graph, value, inside)
    ]
    if out:
        raise Unsupported(
            f"this model uses what its layers compute on the way ({out[0]}), so they cannot be packed: {INSTEAD}"
        )
    return inside


def _stays(graph: ir.Graph, value: ir.Value, inside: set[ir.Node]) -> bool:
    return all(user in inside for user, _ in value.uses()) and all(value is not each for each in graph.outputs)
