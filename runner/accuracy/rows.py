"""Rows of tokens as input sets: padded on the right to [batch, seq], the last batch filled up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchrun.backends.contract import Inputs

if TYPE_CHECKING:
    from benchrun.backends.catalogue import ModelShape
    from benchrun.backends.tokenisation import Frame

ONCE = -1  # the index of a set that no session needs to keep


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence without padding: token ids and token types."""

    ids: tuple[int, ...]
    types: tuple[int, ...]


def frame_row(frame: Frame, first: tuple[int, ...], second: tuple[int, ...] | None = None) -> Row:
    """One text, or two, with what the tokeniser puts around them."""
    return Row(*frame.around(first, second))


def make_set(rows: Sequence[Row], batch: int, seq: int, shape: ModelShape, index: int = ONCE) -> Inputs:
    """At most `batch` rows of at most `seq` tokens; where there are fewer rows, the first one fills up the batch."""
    filled = [*rows, *[rows[0]] * (batch - len(rows))]
    ids = np.full((batch, seq), shape.pad_token_id, dtype=np.int64)
    mask = np.zeros((batch, seq), dtype=np.int64)
    types = np.zeros((batch, seq), dtype=np.int64)
    for place, row in enumerate(filled):
        ids[place, : len(row.ids)] = row.ids
        mask[place, : len(row.ids)] = 1
        types[place, : len(row.ids)] = row.types
    arrays = {"input_ids": ids, "attention_mask": mask}
    if shape.feeds_token_types:
        arrays["token_type_ids"] = types
    return Inputs(index, arrays, tuple(len(row.ids) for row in filled))


def split_rows(rows: Sequence[Row], batch: int) -> Iterator[Sequence[Row]]:
    """The rows in order, `batch` at a time."""
    for start in range(0, len(rows), batch):
        yield rows[start : start + batch]
