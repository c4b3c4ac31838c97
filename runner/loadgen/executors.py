"""What runs samples: prepared sessions behind one small interface. LoadGen asks for any number of samples, sessions have fixed shapes.

    executor.order(places)    the order in which to run all of them: positions in `places`
    executor.fit(places)      how many of the first ones go into one call
    executor.choose(places)   which of those that wait, the oldest first, go into the next one: positions in `places`, rising
    executor.stage(places)    one call's input set, made on the host
    executor.start(call)      copied to the device and begun
    executor.finish(call)     waited for; the answers where they are wanted

`places` are those of the library, as an array of int64. One call is in flight at a time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from benchrun.backends.contract import FloatArray, Inputs, Session
    from benchrun.runner.loadgen.library import Library

    Places = npt.NDArray[np.int64]
    Answers = Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """What a session takes: sequences, tokens of each, and where it packs the tokens of all together."""

    batch: int
    seq: int
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a session. `computed` counts its tokens with padding and copies, `true` those of the samples."""

    session: Session
    inputs: Inputs
    count: int
    true: int
    computed: int


@dataclass(slots=True)
class Tally:
    """What an executor has run."""

    calls: int = 0
    samples: int = 0
    true_tokens: int = 0
    computed_tokens: int = 0

    def add(self, call: Call) -> None:
        """One more call."""
        self.calls += 1
        self.samples += call.count
        self.true_tokens += call.true
        self.computed_tokens += call.computed

    @property
    def padding(self) -> float | None:
        """Share of the computed tokens that belong to no sample; None before the first call."""
        return 1 - self.true_tokens / self.computed_tokens if self.computed_tokens else None


class Executor(Protocol):
    """See the module. `most`: samples that a call can hold; `sessions` by what they take, the largest last."""

    tally: Tally
    most: int

    @property
    def sessions(self) -> Mapping[Shape, Session]: ...

    def load(self, places: Sequence[int]) -> None: ...

    def order(self, places: Places) -> Places: ...

    def fit(self, places: Places) -> int: ...

    def choose(self, places: Places) -> Places: ...

    def stage(self, places: Places) -> Call: ...

    def start(self, call: Call) -> None: ...

    def finish(self, call: Call) -> Answers | None: ...


class Ladder:
    """Sessions for 1, 2, 4, … sequences, and where lengths are bucketed for several lengths: a batch goes up to the next rung of both.

    What is missing to a rung is filled with copies of the last sample. With `answers` they are copied back to the host after each call.
    """

    def __init__(self, library: Library, sessions: Mapping[Shape, Session], *, answers: bool) -> None:
        self.sessions: Mapping[Shape, Session] = dict(sorted(sessions.items()))
        self._library = library
        self._rungs = {(shape.batch, shape.seq): session for shape, session in sessions.items()}
        self._answers = answers
        self._sizes = sorted({size for size, _ in self._rungs})
        self._widths = sorted({width for _, width in self._rungs})
        self.most = self._sizes[-1]
        self.tally = Tally()
        self._ones: dict[int, Call] = {}

    def load(self, places: Sequence[int]) -> None:
        """Make the input sets of single samples, which SingleStream then only has to pick: the samples are in memory anyway."""
        size, library = self._sizes[0], self._library
        if size != 1:
            return
        for place in places:
            length = int(library.lengths[place])
            width = self._widths[bisect_left(self._widths, length)]
            self._ones[place] = Call(self._rungs[size, width], library.one(place, width), 1, length, width)

    def order(self, places: Places) -> Places:
        """By length, the longest first, where there are several buckets: batches are then of like lengths, and the last one is quick."""
        if len(self._widths) == 1:
            return np.arange(places.size)
        return np.argsort(-self._library.lengths[places], kind="stable")

    def fit(self, places: Places) -> int:
        return min(len(places), self.most)

    def choose(self, places: Places) -> Places:
        """The oldest. Where there are several buckets, those of the oldest one's, as many as fill a rung: what is left over
        waits for more of its kind, which costs less than calls that hold all lengths or copies.
        """
        if len(self._widths) == 1:
            return np.arange(self.fit(places))
        buckets = np.searchsorted(self._widths, self._library.lengths[places])
        alike = np.flatnonzero(buckets == buckets[0])
        return alike[: self._sizes[max(0, bisect_right(self._sizes, alike.size) - 1)]]

    def stage(self, places: Places | Sequence[int]) -> Call:
        count = len(places)
        if count == 1 and (known := self._ones.get(places[0])) is not None:
            return known
        chosen = np.asarray(places, dtype=np.int64)
        lengths = self._library.lengths[chosen]
        size = self._sizes[bisect_left(self._sizes, count)]
        width = self._widths[bisect_left(self._widths, int(lengths.max()))]
        if size > count:
            chosen = np.concatenate((chosen, np.full(size - count, chosen[-1])))
        inputs = self._library.gather(chosen, width)
        return Call(self._rungs[size, width], inputs, count, int(lengths.sum()), size * width)

    def start(self, call: Call) -> None:
        call.session.bind(call.inputs)
        call.session.enqueue()

    def finish(self, call: Call) -> Answers | None:
        call.session.synchronize()
        self.tally.add(call)
        return call.session.outputs() if self._answers else None


class Packing:
    """Sessions of layout `packed`, one for each capacity in tokens: any samples that fit, one after the other without padding.

    `exact`: they compute true tokens only, not always their capacity.
    """

    def __init__(self, library: Library, sessions: Mapping[Shape, Session], *, answers: bool) -> None:
        self.sessions: Mapping[Shape, Session] = dict(sorted(sessions.items()))
        self._library = library
        self._capacities = {shape.tokens or 0: session for shape, session in sessions.items()}
        self._tokens = sorted(self._capacities)
        self._answers = answers
        self.most = max(shape.batch for shape in sessions)
        self.exact = False
        self.tally = Tally()

    def load(self, places: Sequence[int]) -> None:
        """Samples are in memory anyway."""

    def order(self, places: Places) -> Places:
        """Short and long ones in turns, so that the calls hold equally many tokens and samples."""
        ranked = np.argsort(self._library.lengths[places], kind="stable")
        mixed = np.empty_like(ranked)
        half = (len(ranked) + 1) // 2
        mixed[0::2], mixed[1::2] = ranked[:half], ranked[half:][::-1]
        return mixed

    def fit(self, places: Places) -> int:
        tokens = self._library.lengths[places[: self.most]].cumsum()
        return max(1, int(tokens.searchsorted(self._tokens[-1], side="right")))

    def choose(self, places: Places) -> Places:
        """The oldest, up to the room for tokens."""
        return np.arange(self.fit(places))

    def stage(self, places: Places) -> Call:
        true = int(self._library.lengths[places].sum())
        capacity = self._tokens[bisect_left(self._tokens, true)]
        session = self._capacities[capacity]
        inputs = self._library.gather(places, self._library.seq)
        return Call(session, inputs, len(places), true, true if self.exact else capacity)

    def start(self, call: Call) -> None:
        call.session.bind(call.inputs)
        call.session.enqueue()

    def finish(self, call: Call) -> Answers | None:
        call.session.synchronize()
        self.tally.add(call)
        return call.session.outputs() if self._answers else None


def rung_sizes(most: int, factor: int = 2) -> list[int]:
    """1, factor, factor², … below `most`, and `most`."""
    sizes = [1]
    while sizes[-1] * factor < most:
        sizes.append(sizes[-1] * factor)
    return sizes if most == 1 else [*sizes, most]
