"""What a point costs at least, from the model's shape: floating-point operations, bytes, kernel launches. Pure.

Floating-point operations are those of the matrix products, two for each multiplication with its addition, as PyTorch's own counter has
them; element-wise work is left out. For an encoder layer of width h and feed-forward f at sequence length s that is
8h² + 4hf + 4sh a token, which for f = 4h is 24h² + 4sh. Where attention heads were cut out and a width a
is left, it is 8ha + 4hf + 4sa.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchrun.backends.catalogue import ModelShape

DTYPE_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "fp16-amp": 2, "bf16": 2, "int8": 1, "fp8": 1}
# Kernels that even a well fused layer needs: attention's input product, attention, its output product, two normalisations with their
# additions, two products of the feed-forward (the activation fused into the first).
LAUNCHES_PER_LAYER = 7
# Bytes that an update moves for each weight: fp32 weight and both moments, read and written. Gradients may stay on the chip.
UPDATE_BYTES = 2 * 3 * 4
ANSWER_LABELS = 2  # of question answering (start and end), and of classification with the models' defaults


@dataclass(frozen=True, slots=True)
class Work:
    """The least work of one call."""

    flops: float
    least_bytes: int
    launches: int


def forward_flops(shape: ModelShape, batch: int, seq: int) -> float:
    """Floating-point operations of the encoder layers for [batch, seq]. Embeddings are look-ups, heads are apart."""
    return _layer_flops(shape, batch * seq, batch * seq * seq)


def _layer_flops(shape: ModelShape, tokens: int, squares: int) -> float:
    """The same for sequences of any lengths: `tokens` is the sum of the lengths, `squares` that of their squares, as attention has it."""
    h, f, a = shape.hidden_size, shape.intermediate_size, shape.attention_width
    return float(shape.layers * (tokens * (8 * h * a + 4 * h * f) + squares * 4 * a))


def head_flops(shape: ModelShape, head: str, batch: int, tokens: int) -> float:
    """Floating-point operations of what comes after the layers. A pooler, or the first layer of RoBERTa's classifier, works on one token a
    sequence, question answering on all."""
    h = shape.hidden_size
    dense = 2.0 * batch * h * h
    labels = 2.0 * h * ANSWER_LABELS
    return {
        "pooler": dense,
        "qa": labels * tokens,
        "classification": dense + labels * batch,
    }.get(head, 0.0)


def parameters(shape: ModelShape, head: str) -> int:
    """Weights that a call reads whole: those of the layers and of the head, biases and normalisations included."""
    h, f, a = shape.hidden_size, shape.intermediate_size, shape.attention_width
    layer = 3 * (h * a + a) + (a * h + h) + (h * f + f) + (f * h + h) + 4 * h
    answer = h * ANSWER_LABELS + ANSWER_LABELS
    ends = {"pooler": h * h + h, "qa": answer, "classification": h * h + h + answer}
    return round(shape.layers * layer) + ends.get(head, 0) + (0 if head == "layers" else 2 * h)


def least_work(shape: ModelShape, head: str, dtype: str, lengths: Sequence[int], *, captured: bool = False) -> Work:
    """The least that one call on sequences of these true lengths does. Padding is no work: whoever computes it shows a lower rate.

    Bytes: every weight once in its dtype, the inputs once (token ids as int64 with the rows of the embedding tables that they look up, or
    hidden states), the outputs once. What passes between layers is taken to stay on the chip, so this is a lower bound. Launches: of a
    fused implementation; one where the whole call is `captured` in a graph.
    """
    size, h = DTYPE_BYTES[dtype], shape.hidden_size
    batch, tokens = len(lengths), sum(lengths)
    ids = tokens * 8 * len(shape.input_names(head))
    given = tokens * h * size if head == "layers" else ids + 3 * tokens * h * size
    taken = {"qa": tokens * 2, "classification": batch * ANSWER_LABELS, "pooler": tokens * h + batch * h}.get(
        head, tokens * h
    )
    moved = parameters(shape, head) * size + given + taken * size
    launches = 1 if captured else LAUNCHES_PER_LAYER * shape.layers
    flops = _layer_flops(shape, tokens, sum(each * each for each in lengths)) + head_flops(shape, head, batch, tokens)
    return Work(flops, moved, launches)


def training_work(shape: ModelShape, head: str, batch: int, seq: int, accumulate: int) -> Work:
    """The least that one training step on `accumulate` batches does.

    Operations: three times those of the forward pass, since each matrix product has two in the backward pass, one for either factor;
    what attention kernels compute once more is not counted. Bytes: the fp32 weights once for the passes, and the update's (Adam's two
    moments; the embedding tables are updated too). Launches: three times those of the forward passes, and one for the update.
    """
    forward = least_work(shape, head, "fp32", (seq,) * batch)
    tables = (shape.vocab_size + shape.positions + shape.token_types) * shape.hidden_size
    weights = parameters(shape, head)
    moved = accumulate * forward.least_bytes + (weights + tables) * UPDATE_BYTES
    return Work(3 * accumulate * forward.flops, moved, 3 * accumulate * forward.launches + 1)
