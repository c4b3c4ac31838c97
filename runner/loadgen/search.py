"""The highest rate of queries that still keeps its deadline, by bisection between 0 and what the engine can do. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

PRECISION = 0.02  # of the upper bound: the search ends where it is that narrow
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
    """The highest rate that met the deadline among the halves tried below `most`, None where none did; all probes in order."""
    low, high = 0.0, most
    probes: list[Probe] = []
    while high - low > PRECISION * most:
        probes.append(probe((low + high) / 2))
        if probes[-1].met:
            low = probes[-1].qps
        else:
            high = probes[-1].qps
    return (low or None), probes
