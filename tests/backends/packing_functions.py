"""What ONNX Runtime's packing operators compute, written in plain ONNX as functions of a model, so that a packed graph runs without a GPU.

From the operators' descriptions in ONNX Runtime's ContribOperators.md. Attention is one block-diagonal product over all tokens: it knows
sequences by their cumulated lengths alone, like the kernels. Names of the types that a Cast needs are filled in by `with_functions`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx
from onnx import helper, parser

DOMAIN = "benchrun.test"

# tokens in the order of the sequences, then the places of the padding; lengths and cumulated lengths are int32
REMOVE = """
<domain: "benchrun.test", opset_import: ["": 20]>
RemovePadding (states, lengths) => (packed, offset, cumulated, longest)
{
    shape = Shape (states)
    size = Shape <start = 1, end = 2> (states)
    zero = Constant <value_int = 0> ()
    zeros = Constant <value_ints = [0]> ()
    one = Constant <value_int = 1> ()
    ones = Constant <value_ints = [1]> ()
    flat = Constant <value_ints = [-1]> ()
    width = Squeeze (size)
    place = Range (zero, width, one)
    long = Cast <to = 7> (lengths)
    column = Unsqueeze (long, ones)
    true = Less (place, column)
    line = Reshape (true, flat)
    counted = Cast <to = 7> (line)
    there = NonZero (line)
    other = Not (line)
    absent = NonZero (other)
    kept = Squeeze (there, zeros)
    left = Squeeze (absent, zeros)
    order = Concat <axis = 0> (kept, left)
    narrow = Cast <to = 6> (order)
    grid = Shape <end = 2> (states)
    offset = Reshape (narrow, grid)
    hidden = Shape <start = 2> (states)
    rows_shape = Concat <axis = 0> (flat, hidden)
    rows = Reshape (states, rows_shape)
    packed = Gather (rows, kept)
    ends = CumSum (long, zero)
    starts = Concat <axis = 0> (zeros, ends)
    cumulated = Cast <to = 6> (starts)
    most = ReduceMax (long)
    longest = Cast <to = 6> (most)
}
"""
RESTORE = """
<domain: "benchrun.test", opset_import: ["": 20]>
RestorePadding (packed, offset) => (states)
{
    flat = Constant <value_ints = [-1]> ()
    zeros = Constant <value_ints = [0]> ()
    ones = Constant <value_ints = [1]> ()
    count = Size (offset)
    total = Reshape (count, ones)
    hidden = Shape <start = 1> (packed)
    all = Concat <axis = 0> (total, hidden)
    nothing_wide = ConstantOfShape (all)
    nothing = CastLike (nothing_wide, packed)
    long = Cast <to = 7> (offset)
    order = Reshape (long, flat)
    tokens = Shape <end = 1> (packed)
    used = Slice (order, zeros, tokens)
    where = Unsqueeze (used, ones)
    rows = ScatterND (nothing, where, packed)
    grid = Shape (offset)
    whole = Concat <axis = 0> (grid, hidden)
    states = Reshape (rows, whole)
}
"""
ATTEND = """
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    zeros = Constant <value_ints = [0]> ()
    ones = Constant <value_ints = [1]> ()
    split_shape = Constant <value_ints = [0, HEADS, -1]> ()
    joined_shape = Constant <value_ints = [0, -1]> ()
    q_heads = Reshape (q, split_shape)
    k_heads = Reshape (k, split_shape)
    v_heads = Reshape (v, split_shape)
    q_first = Transpose <perm = [1, 0, 2]> (q_heads)
    k_last = Transpose <perm = [1, 2, 0]> (k_heads)
    v_first = Transpose <perm = [1, 0, 2]> (v_heads)
    scores = MatMul (q_first, k_last)
    wide = Constant <value_float = SCALE> ()
    factor = CastLike (wide, scores)
    scaled = Mul (scores, factor)
    tokens = Shape <end = 1> (q)
    count = Squeeze (tokens)
    place = Range (zero, count, one)
    line = Unsqueeze (place, ones)
    long = Cast <to = 7> (cumulated)
    far = Constant <value_ints = [9223372036854775807]> ()
    ends = Slice (long, ones, far)
    passed = GreaterOrEqual (line, ends)
    steps = Cast <to = 7> (passed)
    sequence = ReduceSum <keepdims = 0> (steps, ones)
    row = Unsqueeze (sequence, zeros)
    column = Unsqueeze (sequence, ones)
    same = Equal (row, column)
    lowest_wide = Constant <value_float = -30000.0> ()
    lowest = CastLike (lowest_wide, scores)
    masked = Where (same, scaled, lowest)
    shares = Softmax <axis = -1> (masked)
    context = MatMul (shares, v_first)
    merged = Transpose <perm = [1, 0, 2]> (context)
    output = Reshape (merged, joined_shape)
}
"""
MULTIHEAD = """
<domain: "benchrun.test", opset_import: ["": 20]>
PackedMultiHeadAttention (query, key, value, bias, offset, cumulated) => (output)
{
    three = Constant <value_int = 3> ()
    q_bias, k_bias, v_bias = Split <axis = 0, num_outputs = 3> (bias)
    q = Add (query, q_bias)
    k = Add (key, k_bias)
    v = Add (value, v_bias)
"""
ONE_PRODUCT = """
<domain: "benchrun.test", opset_import: ["": 20]>
PackedAttention (states, weight, bias, offset, cumulated) => (output)
{
    product = MatMul (states, weight)
    all = Add (product, bias)
    q, k, v = Split <axis = -1, num_outputs = 3> (all)
"""


def with_functions(path: Path, to: Path, *, heads: int, scale: float, only: Collection[str] | None = None) -> Path:
    """The model of `path` with functions in the place of its packing operators (those of `only`, where it is given), under `to`.

    All its layers have as many heads. ONNX Runtime prefers its own operators to functions of their names, so these go by another domain.
    """
    model = onnx.load(path)
    attention = ATTEND.replace("HEADS", str(heads)).replace("SCALE", f"{scale:.9f}")
    for text in (REMOVE, RESTORE, MULTIHEAD + attention, ONE_PRODUCT + attention):
        function = parser.parse_function(text)
        own = [node for node in model.graph.node if node.op_type == function.name and node.domain == "com.microsoft"]
        if not own or (only is not None and function.name not in only):
            continue
        model.functions.append(function)
        for node in own:
            node.domain = DOMAIN
            del node.attribute[:]
            while not node.input[-1]:  # an input that is left out
                node.input.pop()
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    onnx.save(model, to)
    return to
