"""The query sample library: sequences of token ids in host memory, made once from a seed. Tokenisation is outside of what is timed,
the copy to the device inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from benchrun.backends.contract import Inputs
from benchrun.runner.parity import PER_TOKEN

if TYPE_CHECKING:
    import numpy.typing as npt

    from benchrun.backends.contract import Array

    Places = npt.NDArray[np.int64]

ONCE = -1  # the index of input sets that no session may keep


@dataclass(frozen=True, eq=False)
class Library:
    """Sequences padded on the right: arrays [count, seq, …] by input name, and the true lengths [count]."""

    arrays: Mapping[str, Array]
    lengths: Places

    @classmethod
    def of(cls, inputs: Inputs) -> Library:
        """All sequences of an input set."""
        return cls(dict(inputs.arrays), np.array(inputs.lengths, dtype=np.int64))

    @property
    def count(self) -> int:
        """Number of sequences."""
        return int(self.lengths.size)

    @property
    def seq(self) -> int:
        """Tokens of a sequence with its padding."""
        return int(next(iter(self.arrays.values())).shape[1])

    @cached_property
    def mean_length(self) -> float:
        """Mean true length."""
        return float(self.lengths.mean())

    def gather(self, places: Places, width: int, index: int = ONCE) -> Inputs:
        """The sequences at `places` as one input set of `width` tokens, which the longest of them must not exceed."""
        arrays = {name: array[:, :width].take(places, axis=0) for name, array in self.arrays.items()}
        return Inputs(index, arrays, tuple(self.lengths[places].tolist()))

    def one(self, place: int, width: int) -> Inputs:
        """One sequence as an input set of `width` tokens, without a copy."""
        arrays = {name: array[place : place + 1, :width] for name, array in self.arrays.items()}
        return Inputs(ONCE, arrays, (int(self.lengths[place]),))


def pick_answer(outputs: Mapping[str, npt.NDArray[np.float32]], row: int, length: int) -> npt.NDArray[np.float32]:
    """What is logged as the answer of a sequence: the logits of its tokens (`qa`), its class logits or pooled vector, or the hidden state
    of its first token. One row of float32."""
    parts: list[npt.NDArray[np.float32]] = []
    for name, array in outputs.items():
        if name == "last_hidden_state":
            parts.append(array[row, 0])
        else:
            parts.append(array[row, :length] if name in PER_TOKEN else array[row])
    return np.concatenate(parts).astype(np.float32, copy=False)
