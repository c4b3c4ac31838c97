"""Where the level of a series moved. Pure: numbers in, places out.

Binary segmentation: the split of a stretch that two-sided tests find most unlikely, if at least `LEAST_SIDE` values lie
on both sides, its p-value times the number of splits tried is at most `LIKELIHOOD`, and the geometric means differ by
`LEAST_EFFECT`; then both sides again. Deterministic. It is a reader's aid over history, and never a verdict: the gate
measures both sides together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LIKELIHOOD = 0.001
LEAST_EFFECT = 1.03
LEAST_SIDE = 3


@dataclass(frozen=True, slots=True)
class Step:
    """From value `place` on the level is `ratio` times the one before."""

    place: int
    ratio: float


def find_steps(values: Sequence[float]) -> list[Step]:
    """Steps of a series of positive figures in order of time."""
    import numpy as np

    logs = np.log(np.asarray(values, dtype=np.float64))
    places = sorted(_split(logs, 0, len(logs)))
    edges = [0, *places, len(logs)]
    found = []
    for before, place, after in zip(edges, edges[1:], edges[2:], strict=False):
        found.append(Step(place, float(np.exp(logs[place:after].mean() - logs[before:place].mean()))))
    return found


def _split(logs: npt.NDArray[np.float64], start: int, end: int) -> list[int]:
    """Places of steps in logs[start:end]."""
    import numpy as np
    from scipy.special import stdtr

    n = end - start
    if n < 2 * LEAST_SIDE:
        return []
    part = logs[start:end] - logs[start:end].mean()
    cuts = np.arange(LEAST_SIDE, n - LEAST_SIDE + 1)
    sums, squares = np.cumsum(part), np.cumsum(part**2)
    left, right = cuts.astype(float), (n - cuts).astype(float)
    left_mean, right_mean = sums[cuts - 1] / left, (sums[-1] - sums[cuts - 1]) / right
    left_var = np.maximum(squares[cuts - 1] - left * left_mean**2, 0) / (left - 1)
    right_var = np.maximum(squares[-1] - squares[cuts - 1] - right * right_mean**2, 0) / (right - 1)
    errors = np.maximum(left_var / left, 1e-12), np.maximum(right_var / right, 1e-12)
    total = errors[0] + errors[1]
    t = np.abs(right_mean - left_mean) / np.sqrt(total)
    freedom = total**2 / (errors[0] ** 2 / (left - 1) + errors[1] ** 2 / (right - 1))
    chances = 2 * stdtr(freedom, -t)
    # Where a few values on one side agree by chance, Welch is too sure: a pooled test has to agree.
    pooled = np.maximum(((left - 1) * left_var + (right - 1) * right_var) / (n - 2), 1e-12)
    agreed = 2 * stdtr(float(n - 2), -np.abs(right_mean - left_mean) / np.sqrt(pooled * (1 / left + 1 / right)))
    chances = np.maximum(chances, agreed) * len(cuts)
    best = int(np.argmin(chances))
    size = abs(float(right_mean[best] - left_mean[best]))
    if chances[best] > LIKELIHOOD or size < np.log(LEAST_EFFECT):
        return []
    place = start + int(cuts[best])
    return [place, *_split(logs, start, place), *_split(logs, place, end)]
