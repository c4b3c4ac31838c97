"""What our adapter costs beside LoadGen itself: SingleStream with an engine that does nothing, and a bare LoadGen run beside it, in turns.

    python -m tests.benchmarks.loadgen_overhead

Prints the best of the rounds' p50 of both, in µs, by LoadGen's own log: what the path costs where nothing else runs. The bound: 20 µs, and
ten times the bare run. Beside it, without a bound, the same with what an engine adds at least: answers copied out, by a ladder and packed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.backends.contract import Inputs, Session
from benchrun.runner.loadgen.executors import Ladder, Packing, Shape
from benchrun.runner.loadgen.library import Library
from benchrun.runner.loadgen.systems import Direct, Reply, quick_switches
from benchrun.runner.loadgen.trial import Demand, Logs, import_loadgen, run_test
from benchrun.runner.loops import quiet

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray
    from benchrun.runner.loadgen.executors import Executor

SAMPLES, SEQ = 64, 384
QUERIES, ROUNDS = 20_000, 5
MOST_US, MOST_TIMES = 20.0, 10.0


class NullSession(Session):
    """An engine that does nothing."""

    def bind(self, inputs: Inputs) -> None:
        pass

    def enqueue(self) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def outputs(self) -> Mapping[str, FloatArray]:
        return {}

    def facts(self) -> Mapping[str, Any]:
        return {}


class AnsweringSession(NullSession):
    """Does nothing, and copies two rows of logits out as a session on a CPU does."""

    def __init__(self) -> None:
        self._logits = {name: np.zeros((1, SEQ), np.float32) for name in ("start_logits", "end_logits")}

    def outputs(self) -> Mapping[str, FloatArray]:
        return {name: array.copy() for name, array in self._logits.items()}


class BareSystem:
    """The least that LoadGen accepts."""

    def __init__(self) -> None:
        loadgen = import_loadgen()
        self._response, self._complete = loadgen.QuerySampleResponse, loadgen.QuerySamplesComplete
        self.failure: BaseException | None = None

    def issue(self, ids: list[int], places: list[int]) -> None:
        self._complete([self._response(ids[0], 0, 0)])

    def flush(self) -> None:
        pass

    def run(self, start: Callable[[], None]) -> None:
        start()


@dataclass(frozen=True)
class Overhead:
    """The least of the rounds' p50 by LoadGen, in µs: bare, ours, and ours with answers through a ladder and packed."""

    bare_us: float
    ours_us: float
    ladder_us: float
    packed_us: float

    @property
    def times(self) -> float:
        """Ours as a multiple of the bare run."""
        return self.ours_us / self.bare_us


def library() -> Library:
    """Samples of 384 tokens, with the three inputs of a BERT."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    arrays = {name: np.ones((SAMPLES, SEQ), dtype=np.int64) for name in names}
    return Library.of(Inputs(0, arrays, (SEQ,) * SAMPLES))


def single_stream(queries: int) -> Demand:
    return Demand("single-stream", False, 0.001, queries, 2e6, 130.0)


def run_ours(queries: int, executor: Executor | None = None) -> Logs:
    """Library, executor and reply; without another executor a ladder with an engine that does nothing."""
    samples = library()
    executor = executor or Ladder(samples, {Shape(1, SEQ): NullSession()}, answers=True)
    system = Direct(executor, Reply(import_loadgen(), samples, log_answers=False))
    with quick_switches(), quiet():
        return run_test(single_stream(queries), SAMPLES, system, executor.load)


def run_ladder(queries: int) -> Logs:
    """With answers."""
    return run_ours(queries, Ladder(library(), {Shape(1, SEQ): AnsweringSession()}, answers=True))


def run_packed(queries: int) -> Logs:
    """With answers, every query's input set packed anew."""
    return run_ours(queries, Packing(library(), {Shape(1, SEQ, SEQ): AnsweringSession()}, answers=True))


def run_bare(queries: int) -> Logs:
    """LoadGen with nothing behind it."""
    with quick_switches(), quiet():
        return run_test(single_stream(queries), SAMPLES, BareSystem(), _nothing)


def measure_overhead(rounds: int = ROUNDS, queries: int = QUERIES) -> Overhead:
    """All in turns."""
    runs = (run_bare, run_ours, run_ladder, run_packed)
    best = [math.inf] * len(runs)
    for _ in range(rounds):
        best = [min(least, p50_us(each(queries))) for least, each in zip(best, runs, strict=True)]
    return Overhead(*best)


def p50_us(logs: Logs) -> float:
    """By LoadGen's log."""
    host = logs.read().host
    assert host is not None and host.p50_ms is not None
    return host.p50_ms * 1000


def _nothing(_: Sequence[int]) -> None:
    pass


def main() -> int:
    """Measure and tell; 1 where the bound is broken."""
    found = measure_overhead()
    print(
        f"bare LoadGen {found.bare_us:.2f} µs, through benchrun with a null engine {found.ours_us:.2f} µs: {found.times:.1f} times; "
        f"with answers copied out {found.ladder_us:.2f} µs, packed {found.packed_us:.2f} µs"
    )
    return 0 if found.ours_us <= MOST_US and found.times <= MOST_TIMES else 1


if __name__ == "__main__":
    sys.exit(main())
