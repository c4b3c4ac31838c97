"""Input sets: token ids from a stored seed, several sets that are rotated during a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchrun.backends.contract import Inputs
from benchrun.runner.protocol import INPUT_SETS

if TYPE_CHECKING:
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
