"""Mixes of lengths: their spelling, and drawing from them. Pure; see docs/lengths.md.

uniform:LOW-HIGH                 every length of LOW … HIGH equally often
lognormal:MEAN:LOW-HIGH[:SIGMA]  lognormal in shape, cut off at LOW and HIGH; MEAN is that of what is left
file@DIGEST                      the lengths in a file, one integer a line
text@DIGEST                      the lines of a text, by the model's tokenizer
squad@DIGEST                     the windows of a SQuAD file, by the model's tokenizer
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchrun.runner.errors import UsageError

Counts = npt.NDArray[np.int64]

LONGEST = 1_000_000  # tokens; a limit for slips of the pen, far beyond what any of these models takes
SIGMA = (
    0.5  # of the logarithm of the length, where none is given: SQuAD's questions with their passages have about that
)
RANGE = re.compile(r"(\d+)-(\d+)")
BISECTIONS = 200


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every length from `low` to `high` equally often."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"uniform:{self.low}-{self.high}"

    def weights(self) -> npt.NDArray[np.float64]:
        """Probabilities of the lengths low … high."""
        n = self.high - self.low + 1
        return np.full(n, 1.0 / n)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Lengths whose probabilities are proportional to a lognormal density, between `low` and `high`, with mean `mean`."""

    mean: float
    low: int
    high: int
    sigma: float = SIGMA

    def __str__(self) -> str:
        sigma = "" if self.sigma == SIGMA else f":{self.sigma:g}"
        return f"lognormal:{self.mean:g}:{self.low}-{self.high}{sigma}"

    def weights(self) -> npt.NDArray[np.float64]:
        """Probabilities of the lengths low … high; their mean is `mean` to within 1e-6 tokens."""
        return lognormal_weights(solve_mu(self), self.sigma, self.low, self.high)


Mix = Uniform | Lognormal


def lognormal_weights(mu: float, sigma: float, low: int, high: int) -> npt.NDArray[np.float64]:
    """Probabilities of low … high, each proportional to the lognormal density at that length, exp(−(ln k − μ)² / 2σ²) / k.

    Taken relative to the largest, so that no μ makes all of them vanish.
    """
    logs = np.log(np.arange(low, high + 1, dtype=np.float64))
    exponents = -((logs - mu) ** 2) / (2 * sigma**2) - logs
    weights = np.exp(exponents - exponents.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def solve_mu(mix: Lognormal) -> float:
    """The μ for which the mean of what the cut leaves is `mix.mean`: by bisection, as the mean grows with μ."""
    lengths = np.arange(mix.low, mix.high + 1, dtype=np.float64)

    def mean(mu: float) -> float:
        return float(np.dot(lengths, lognormal_weights(mu, mix.sigma, mix.low, mix.high)))

    below = above = math.log(mix.mean)
    step = mix.sigma
    while mean(below) > mix.mean:
        below, step = below - step, step * 2
    step = mix.sigma
    while mean(above) < mix.mean:
        above, step = above + step, step * 2
    for _ in range(BISECTIONS):
        middle = (below + above) / 2
        below, above = (middle, above) if mean(middle) < mix.mean else (below, middle)
    return (below + above) / 2


def draw(mix: Mix, batch: int, seed: int) -> tuple[int, ...]:
    """`batch` lengths, in random order; equal arguments give equal lengths.

    The draw is stratified: of `batch` equal slices of the probability each gives one length. So a batch as a whole follows the mix, and
    its padding differs little from seed to seed.
    """
    random = np.random.default_rng((seed, batch))
    places = (np.arange(batch) + random.random(batch)) / batch
    cumulated = np.cumsum(mix.weights())
    found = mix.low + np.minimum(np.searchsorted(cumulated, places, side="right"), mix.high - mix.low)
    return tuple(int(each) for each in random.permutation(found))


def choose(available: int, batch: int, seed: int) -> Counts:
    """`batch` of the numbers 0 … available − 1: in random order, all of them once before any comes again."""
    random = np.random.default_rng((seed, batch))
    rounds = [random.permutation(available) for _ in range(-(-batch // available))]
    return np.asarray(np.concatenate(rounds)[:batch], dtype=np.int64)


def parse_mix(text: str) -> Mix:
    """`uniform:32-384`, `lognormal:177:32-384`, `lognormal:177:32-384:0.4`. Raises UsageError in one sentence."""
    name, *parts = text.split(":")
    if name == "uniform":
        if len(parts) != 1:
            raise UsageError(
                f"lengths:{text} is not understood: write lengths:uniform:LOW-HIGH, e.g. lengths:uniform:32-384"
            )
        return Uniform(*_range(text, parts[0]))
    if len(parts) not in (2, 3):
        raise UsageError(
            f"lengths:{text} is not understood: write lengths:lognormal:MEAN:LOW-HIGH, e.g. lengths:lognormal:177:32-384, with the "
            "spread of the logarithm behind it where it is not 0.5"
        )
    low, high = _range(text, parts[1])
    mean = _number(text, "mean", parts[0])
    sigma = _number(text, "spread of the logarithm", parts[2]) if len(parts) == 3 else SIGMA
    if not low < mean < high:
        raise UsageError(
            f"lengths:{text}: a mean of {mean:g} cannot come from lengths of {low} to {high}; it must lie between them"
        )
    if not 0.01 <= sigma <= 10:
        raise UsageError(f"lengths:{text}: the spread of the logarithm is {sigma:g}; it must be from 0.01 to 10")
    return Lognormal(mean, low, high, sigma)


def _range(text: str, part: str) -> tuple[int, int]:
    found = RANGE.fullmatch(part)
    if not found:
        raise UsageError(f"lengths:{text}: {part!r} is no range of lengths; write two whole numbers, e.g. 32-384")
    low, high = int(found[1]), int(found[2])
    if not 1 <= low <= high <= LONGEST:
        raise UsageError(
            f"lengths:{text}: the range {low}-{high} is impossible; it must go from 1 or more up to at most {LONGEST}"
        )
    return low, high


def _number(text: str, what: str, part: str) -> float:
    try:
        found = float(part)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise UsageError(f"lengths:{text}: the {what} {part!r} is no number")
    return found
