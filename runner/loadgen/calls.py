"""Timing an executor's own calls, to know what LoadGen may ask: how long a query takes, and how many samples a second can be done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchrun.runner.loadgen.executors import Executor, Places
    from benchrun.runner.loadgen.library import Library

LEAST_CALLS = 5
WARMUP_CALLS = 2
MOST_CALLS = 5000


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of the quickest and of the median call, and samples a second of all calls together; copies are inside."""

    calls: int
    least_s: float
    median_s: float
    samples_s: float


def run_call(executor: Executor, places: Places) -> float:
    """Seconds of one call with these samples, from making its inputs to its answers."""
    began = time.perf_counter()
    call = executor.stage(places)
    executor.start(call)
    executor.finish(call)
    return time.perf_counter() - began


def measure_pace(executor: Executor, library: Library, count: int, window_s: float, seed: int = 0) -> Pace:
    """Calls with up to `count` random samples for `window_s` seconds, at least LEAST_CALLS of them, after WARMUP_CALLS."""
    random = np.random.default_rng(seed)
    taken: list[float] = []
    samples = 0
    deadline = time.perf_counter() + window_s
    for number in range(MOST_CALLS):
        places = random.integers(0, library.count, count)
        places = places[executor.order(places)]  # as Offline would have it
        places = places[: executor.fit(places)]
        seconds = run_call(executor, places)
        if number >= WARMUP_CALLS:
            taken.append(seconds)
            samples += len(places)
        if len(taken) >= LEAST_CALLS and time.perf_counter() >= deadline:
            break
    return Pace(len(taken), min(taken), median(taken), samples / sum(taken))
