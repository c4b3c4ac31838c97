"""What our adapter costs beside LoadGen itself: SingleStream with an engine that does nothing, and a bare LoadGen run beside it, in turns.

    python -m tests.benchmarks.loadgen_overhead

Prints the median of the rounds' p50 of both, in µs, by LoadGen's own log. The bound: 20 µs, and ten times the bare run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.backends.contract import Inputs, Session
from benchrun.runner.loadgen.executors import Ladder, Shape
from benchrun.runner.loadgen.library import Library
from benchrun.runner.loadgen.systems import Direct, Reply, quick_switches
from benchrun.runner.loadgen.trial import Demand, Logs, import_loadgen, run_test
from benchrun.runner.loops import quiet

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray

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
    """Medians over the rounds of LoadGen's p50, in µs."""

    bare_us: float
    ours_us: float


def library() -> Library:
    """Samples of 384 tokens, with the three inputs of a BERT."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    arrays = {name: np.ones((SAMPLES, SEQ), dtype=np.int64) for name in names}
    return Library.of(Inputs(0, arrays, (SEQ,) * SAMPLES))


def single_stream(queries: int) -> Demand:
    return Demand("single-stream", False, 0.001, queries, 2e6, 130.0)


def run_ours(queries: int, *, answers: bool = True) -> Logs:
    """A null engine through library, ladder and reply."""
    samples = library()
    executor = Ladder(samples, {Shape(1, SEQ): NullSession()}, answers=answers)
    system = Direct(executor, Reply(import_loadgen(), samples, log_answers=False))
    with quick_switches(), quiet():
        return run_test(single_stream(queries), SAMPLES, system, executor.load)


def run_bare(queries: int) -> Logs:
    """LoadGen with nothing behind it."""
    with quick_switches(), quiet():
        return run_test(single_stream(queries), SAMPLES, BareSystem(), _nothing)


def measure_overhead(rounds: int = ROUNDS, queries: int = QUERIES) -> Overhead:
    """Both in turns."""
    bare, ours = [], []
    for _ in range(rounds):
        bare.append(p50_us(run_bare(queries)))
        ours.append(p50_us(run_ours(queries)))
    return Overhead(median(bare), median(ours))


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
    times = found.ours_us / found.bare_us
    print(
        f"bare LoadGen {found.bare_us:.2f} µs, through benchrun with a null engine {found.ours_us:.2f} µs: {times:.1f} times"
    )
    return 0 if found.ours_us <= MOST_US and times <= MOST_TIMES else 1


if __name__ == "__main__":
    sys.exit(main())
