"""The control: a fixed workload that the gate's own interpreter runs beside every launch. If it moved with the sides,
the machine did.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from benchrun.runner.launcher import pinned

ELEMENTS = 1 << 16  # sorted once a repetition: 2 to 4 ms, one thread, cache and clock alike
REPETITIONS = 25  # before a launch, and as many after it


class ControlWorkload:
    """Sorts the same numbers again and again, on the cores that the launches run on."""

    def __init__(self, cores: Sequence[int] = ()) -> None:
        import numpy as np

        self._numbers = np.random.default_rng(0).random(ELEMENTS)
        self._cores = tuple(cores)
        self.run()  # the first time pays for pages and caches

    def run(self) -> list[float]:
        """Milliseconds of each repetition."""
        taken = []
        with pinned(self._cores):
            for _ in range(REPETITIONS):
                numbers = self._numbers.copy()
                started = time.perf_counter_ns()
                numbers.sort(kind="stable")
                taken.append((time.perf_counter_ns() - started) / 1e6)
        return taken


def summarise_control(taken: Sequence[float]) -> float:
    """The median of all repetitions beside one launch."""
    return statistics.median(taken)
