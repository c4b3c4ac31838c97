"""The highest rate of queries that still keeps its deadline, by bisection between 0 and what the engine can do. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

PRECISION = 0.02  # the search ends where what is left is so narrow
RAISE, MOST_RAISES = 1.6, 6
LEAST_SHARE = 0.01  # of the first guess: below that no rate is looked for
BACK_OFF = (0.96, 0.9, 0.8)  # a full run that is INVALID is followed by others at so much of its rate


@dataclass(frozen=True, slots=True)
class Probe:
    """A short run at a rate. `p99_ms` is LoadGen's; `met`: it kept the deadline."""

    qps: float
    p99_ms: float
    met: bool
    queries: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, rounded for reading."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def find_rate(most: float, probe: Callable[[float], Probe]) -> tuple[float | None, list[Probe]]:
    """The highest rate that met the deadline, None where none did; all probes in order.

    `most` should be out of reach. It is tried first, and raised while it is not: a guess made on a busy machine is too low.
    """
    low, high = 0.0, most
    probes = [probe(high)]
    while probes[-1].met and len(probes) < MOST_RAISES:
        low, high = high, RAISE * high
        probes.append(probe(high))
    if probes[-1].met:
        return high, probes
    while high - low > PRECISION * high and high > LEAST_SHARE * most:
        probes.append(probe((low + high) / 2))
        if probes[-1].met:
            low = probes[-1].qps
        else:
            high = probes[-1].qps
    return (low or None), probes
