"""Input sets: token ids from a stored seed, several sets that are rotated during a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchrun.backends.contract import Inputs
from benchrun.runner.protocol import INPUT_SETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchrun.backends.catalogue import ModelShape

# hidden states of b256 s4096 are 3 GB a set: rotating inputs matters where they fit into a cache, not there
MOST_BYTES = 2 << 30


def make_inputs(shape: ModelShape, head: str, batch: int, seq: int, seed: int) -> list[Inputs]:
    """`INPUT_SETS` sets of [batch, seq] at full length, or as many of them as `MOST_BYTES` holds, at least one.

    Ids are uniform over the vocabulary without the padding and special ids; sequences open and close with the model's special ids
    where it has them and there is room. Head `layers` gets standard normal hidden states instead.
    """
    one = batch * seq * (4 * shape.hidden_size if head == "layers" else 3 * 8)  # float32 states, or three int64 arrays
    return [
        _make_set(shape, head, batch, seq, np.random.default_rng((seed, batch, seq, index)), index)
        for index in range(max(1, min(INPUT_SETS, MOST_BYTES // one)))
    ]


def make_mixed_inputs(
    shape: ModelShape, head: str, lengths: Sequence[int], seq: int, seed: int, sets: int | None = None
) -> list[Inputs]:
    """Sets of [batch, seq] whose sequences have `lengths`, padded on the right; `sets` of them, by default as `make_inputs` has.

    All hold the same lengths, set 0 in the order given, the others in orders of their own. Ids as of `make_inputs`; at the padding is the
    model's padding id, mask and token types are zero there. Hidden states are zero at the padding.
    """
    batch = len(lengths)
    found = []
    for inputs in make_inputs(shape, head, batch, seq, seed)[:sets]:
        random = np.random.default_rng((seed, batch, seq, inputs.index, 1))
        order = np.arange(batch) if inputs.index == 0 else random.permutation(batch)
        found.append(shorten(inputs, [lengths[int(row)] for row in order], shape))
    return found


def make_text_inputs(
    shape: ModelShape, rows: Sequence[tuple[Sequence[int], Sequence[int]]], seq: int, seed: int
) -> list[Inputs]:
    """Sets of [batch, seq] that hold these (ids, token types), padded on the right: set 0 in the order given, the others in others."""
    found = []
    for index in range(INPUT_SETS):
        random = np.random.default_rng((seed, len(rows), seq, index, 1))
        order = np.arange(len(rows)) if index == 0 else random.permutation(len(rows))
        arrays = {name: np.zeros((len(rows), seq), dtype=np.int64) for name in shape.input_names("encoder")}
        arrays["input_ids"][:] = shape.pad_token_id
        for place, row in enumerate(order):
            ids, types = rows[int(row)]
            arrays["input_ids"][place, : len(ids)] = ids
            arrays["attention_mask"][place, : len(ids)] = 1
            if "token_type_ids" in arrays:
                arrays["token_type_ids"][place, : len(ids)] = types
        found.append(Inputs(index, arrays, tuple(len(rows[int(row)][0]) for row in order)))
    return found


def shorten(inputs: Inputs, lengths: Sequence[int], shape: ModelShape) -> Inputs:
    """A set at full length, cut to these true lengths. Each sequence keeps its opening id and gets its closing one at its new end."""
    ends = np.array(lengths, dtype=np.int64)[:, None]
    places = np.arange(next(iter(inputs.arrays.values())).shape[1])[None, :]
    true = places < ends
    arrays = dict(inputs.arrays)
    arrays["attention_mask"] = true.astype(np.int64)
    if "hidden_states" in arrays:
        arrays["hidden_states"] = np.where(true[:, :, None], arrays["hidden_states"], np.float32(0))
    if "input_ids" in arrays:
        ids = np.where(true, arrays["input_ids"], shape.pad_token_id)
        if shape.special_ids is not None:
            ids[(places == ends - 1) & (ends >= 2)] = shape.special_ids[1]
        arrays["input_ids"] = ids
    if "token_type_ids" in arrays:
        second = true & (places >= ends // 2)
        arrays["token_type_ids"] = second.astype(np.int64) * (shape.token_types - 1)
    return Inputs(inputs.index, arrays, tuple(int(each) for each in lengths))


def _make_set(shape: ModelShape, head: str, batch: int, seq: int, random: np.random.Generator, index: int) -> Inputs:
    mask = np.ones((batch, seq), dtype=np.int64)
    lengths = (seq,) * batch
    if head == "layers":
        hidden = random.standard_normal((batch, seq, shape.hidden_size), dtype=np.float32)
        return Inputs(index, {"hidden_states": hidden, "attention_mask": mask}, lengths)
    special = shape.special_ids
    reserved = {shape.pad_token_id, *(special or ())}
    valid = np.setdiff1d(np.arange(shape.vocab_size, dtype=np.int64), np.array(sorted(reserved), dtype=np.int64))
    if valid.size == 0:  # a toy vocabulary of special ids only
        valid = np.arange(shape.vocab_size, dtype=np.int64)
    ids = random.choice(valid, size=(batch, seq))
    if special is not None and seq >= 2:
        ids[:, 0], ids[:, -1] = special
    arrays = {"input_ids": ids, "attention_mask": mask}
    if shape.feeds_token_types:
        types = np.zeros((batch, seq), dtype=np.int64)
        types[:, seq // 2 :] = shape.token_types - 1  # the second half is the second segment, where there are two
        arrays["token_type_ids"] = types
    return Inputs(index, arrays, lengths)
