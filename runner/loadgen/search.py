"""The highest rate of queries that still keeps its deadline: short runs first, by bisection between 0 and what the engine can do, then runs
of full length between what was VALID and what was not. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

PRECISION = 0.02  # the search ends where what is left is so narrow
RAISE, MOST_RAISES = 1.6, 6
KEPT_UP = 0.98  # of the scheduled rate must be completed: less is a backlog that grows
MOST_FULL_RUNS = 8


@dataclass(frozen=True, slots=True)
class Probe:
    """A short run at a rate. `p99_ms` is LoadGen's; `met`: it kept the deadline, and kept up."""

    qps: float
    p99_ms: float
    met: bool
    queries: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, rounded for reading."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class FullRun:
    """A run of full length. `completed` queries a second, None where that is unknown."""

    qps: float
    valid: bool
    completed: float | None = None


@dataclass(frozen=True, slots=True)
class Bracket:
    """The highest rate that was VALID and the lowest that was not, None where there was none; `by`: what showed the latter."""

    valid_qps: float | None
    invalid_qps: float | None
    by: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, rounded for reading."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def find_rate(most: float, least: float, probe: Callable[[float], Probe]) -> tuple[float | None, list[Probe]]:
    """The highest rate that met the deadline, None where not even `least` did; all probes in order.

    `most` should be out of reach. It is tried first, and raised while it is not: a guess made on a busy machine is too low. `least`
    ends the search downwards: a probe has so many queries at least, and lasts the longer the fewer come a second.
    """
    low, high = 0.0, most
    probes = [probe(high)]
    while probes[-1].met and len(probes) < MOST_RAISES:
        low, high = high, RAISE * high
        probes.append(probe(high))
    if probes[-1].met:
        return high, probes
    while high - low > PRECISION * high and high > least:
        probes.append(probe(max((low + high) / 2, least)))
        if probes[-1].met:
            low = probes[-1].qps
        else:
            high = probes[-1].qps
    return (low or None), probes


def keeps_up(queries: int | None, scheduled: float | None, completed: float | None, p50_ms: float | None) -> bool:
    """Whether a run completed its queries about as quickly as they came (both a second); the last one may take the median latency.

    A backlog that has just begun to grow fits under the limit of a short run and not of a long one. True where a figure is missing.
    """
    if not (queries and scheduled and completed) or p50_ms is None:
        return True
    return queries / completed - p50_ms / 1000 <= queries / scheduled / KEPT_UP


def next_rate(runs: Sequence[FullRun]) -> float | None:
    """The rate of the next run of full length; None where the last bracket is narrow enough, the first run was VALID, or all are used up.

    Below the lowest INVALID rate: at what that run completed, and further down in doubling steps, to half of it at most, while nothing is
    VALID; then half-way.
    """
    bracket = bracket_of(runs, ())
    high = bracket.invalid_qps
    if high is None or len(runs) >= MOST_FULL_RUNS:
        return None
    low = bracket.valid_qps
    if low is not None:
        return (low + high) / 2 if high - low > PRECISION * high else None
    below = high * max(1 / 2, 1 - PRECISION * 2.0 ** (len(runs) - 1))
    completed = min(runs, key=lambda each: each.qps).completed
    return below if completed is None or completed <= 0 else min(below, completed)


def bracket_of(runs: Sequence[FullRun], probes: Sequence[Probe]) -> Bracket:
    """What is known of the limit. Probes count above the highest VALID rate, where no full run was INVALID."""
    valid = max((each.qps for each in runs if each.valid), default=None)
    invalid = min((each.qps for each in runs if not each.valid), default=None)
    if invalid is not None:
        return Bracket(valid, invalid, "full run")
    missed = [each.qps for each in probes if not each.met and (valid is None or each.qps > valid)]
    return Bracket(valid, min(missed, default=None), "probe")
