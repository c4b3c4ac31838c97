"""Where the level of a series moved: the change points of `benchrun history` and of Trends. They never block: they show the slow
creep that no pairwise gate can see. Pure: numbers in, places out.

A change is where the values before and after differ with p ≤ 0.001 and by at least 3 %, with at least 3 points on
either side. Search: binary splitting inside overlapping windows of 50 points at a tenfold weaker level, so that a
rise and a fall do not hide each other; then changes that do not hold against their neighbours are dropped, the
weakest first. The test is Student's t with a common variance, the size a difference of medians, so that one spike is
no change. After Hunter / Apache Otava (arXiv 2301.03034), which splits by E-divisive means; deterministic, no
permutations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSettings:
    """`p`: largest p-value of a change; `weakening`: how much weaker the first search is; `ratio`: smallest change;
    `least`: points a side; `window`: points that one search looks at.
    """

    p: float = 0.001
    weakening: float = 10.0
    ratio: float = 1.03
    least: int = 3
    window: int = 50


@dataclass(frozen=True, slots=True)
class Change:
    """The first value of a new level: its place in the series, the time ratio after ÷ before (above 1: slower), and
    the test's p-value.
    """

    index: int
    ratio: float
    p: float


def find_changes(y: Sequence[float], settings: ChangeSettings | None = None) -> tuple[Change, ...]:
    """Change points of a series y = ±ln(figure), one value a commit in order. Values that are not finite are passed
    over.
    """
    import numpy as np

    settings = settings or ChangeSettings()
    at = [i for i, value in enumerate(y) if math.isfinite(value)]
    values = np.array([y[i] for i in at], dtype=np.float64)
    n, step = len(values), max(settings.window // 2, settings.least)
    cuts: set[int] = set()
    for begin in range(0, max(1, n - step), step):
        cuts |= _split(values, begin, min(n, begin + settings.window), settings)
    return tuple(
        Change(at[cut], math.exp(_shift(before, after)), p)
        for cut, before, after, p in _keep(values, sorted(cuts), settings)
    )


def find_level_changes(figures: Sequence[float]) -> tuple[Change, ...]:
    """Change points of a series of positive figures in order of time; ratios are those of the figures."""
    return find_changes([math.log(each) if each > 0 else math.nan for each in figures])


def _split(values: Floats, begin: int, end: int, settings: ChangeSettings) -> set[int]:
    """Cuts inside [begin, end), found by splitting where t is largest for as long as its p is small."""
    import numpy as np

    cuts: set[int] = set()
    spans = [(begin, end)]
    while spans:
        start, stop = spans.pop()
        places = np.arange(start + settings.least, stop - settings.least + 1)
        if not len(places):
            continue
        t = _statistics(values[start:stop], places - start)
        best = int(np.argmax(t))
        if _p_value(float(t[best]), stop - start - 2) <= settings.p * settings.weakening:
            cut = int(places[best])
            cuts.add(cut)
            spans += [(start, cut), (cut, stop)]
    return cuts


def _keep(values: Floats, cuts: list[int], settings: ChangeSettings) -> list[tuple[int, Floats, Floats, float]]:
    """Cuts that hold between the levels on their two sides: (cut, before, after, p)."""
    import numpy as np

    while True:
        edges = [0, *cuts, len(values)]
        found, weak = [], []
        for i, cut in enumerate(cuts):
            before, after = values[edges[i] : cut], values[cut : edges[i + 2]]
            n = len(before) + len(after)
            # a step that fits best with fewer points on a side than a change needs is a spike, or too young
            t = _statistics(np.concatenate([before, after]), np.arange(1, n))
            best = int(np.argmax(t)) + 1
            p = _p_value(float(t[len(before) - 1]), n - 2)
            young = min(len(before), len(after), best, n - best) < settings.least
            if young or p > settings.p or abs(_shift(before, after)) < math.log(settings.ratio):
                weak.append((float(t[len(before) - 1]), cut))
            found.append((cut, before, after, p))
        if not weak:
            return found
        cuts.remove(min(weak)[1])


def _statistics(values: Floats, places: npt.NDArray[np.int64]) -> Floats:
    """|t| with a common variance of values [n] cut at each of the places."""
    import numpy as np

    n = len(values)
    centred = values - values.mean()
    left = np.cumsum(centred)[places - 1]
    size = places.astype(np.float64)
    explained = left**2 / size + left**2 / (n - size)  # the centred values sum to 0
    rest = np.maximum(float(centred @ centred) - explained, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.sqrt(explained / rest * (n - 2))
    return np.where(np.isnan(t), 0.0, t)


def _p_value(t: float, freedom: int) -> float:
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -t)) if freedom > 0 else 1.0


def _shift(before: Floats, after: Floats) -> float:
    import numpy as np

    return float(np.median(after) - np.median(before))
