"""Descriptive statistics of one launch's samples. Derived from raw samples, so they can always be computed again.

Sources: sample percentiles by linear interpolation (Hyndman & Fan type 7, numpy's default); the order-statistic
interval of a quantile from the binomial distribution of ranks (David & Nagaraja, *Order Statistics*, 7.1); the one-sided
99 % bound exists from the sample counts of MLPerf's early-stopping rule (44 for p90, 90 for p95, 459 for p99).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
BOUND_SAMPLES = {
    "p90": 44,
    "p95": 90,
    "p99": 459,
}  # that a one-sided 99 % upper bound takes, as for p99: 0.99^459 < 1 %


@dataclass(frozen=True, slots=True)
class Summary:
    """One clock's samples in milliseconds. `p50_low`, `p50_high`: two-sided 95 % interval; `p90_upper` and the like:
    one-sided 99 % upper bound, None where n is too small for one."""

    n: int
    mean_ms: float
    std_ms: float | None  # n − 1; None for one sample
    min_ms: float
    max_ms: float
    mad_ms: float  # median absolute deviation, not scaled
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    p50_low_ms: float | None
    p50_high_ms: float | None
    p90_upper_ms: float | None
    p95_upper_ms: float | None
    p99_upper_ms: float | None
    p99_9_upper_ms: float | None
    autocorrelation: float | None  # lag 1
    drift: float | None  # median of the last third over median of the first, minus 1
    steady: bool | None  # None below 30 samples


@dataclass(frozen=True, slots=True)
class ReportedSummary:
    """What a foreign tool says of samples that it did not keep: the columns of `Summary`, None where it does not say.

    Its percentiles follow that tool's own definition, which the point's protocol id names.
    """

    n: int | None = None
    mean_ms: float | None = None
    std_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    mad_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    p99_9_ms: float | None = None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    p90_upper_ms: float | None = None
    p95_upper_ms: float | None = None
    p99_upper_ms: float | None = None
    p99_9_upper_ms: float | None = None
    autocorrelation: float | None = None
    drift: float | None = None
    steady: bool | None = None


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Mean of the finite values that are there; None where there is none."""
    there = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(there) / len(there) if there else None


def summarise(samples_ns: npt.NDArray[np.int64]) -> Summary:
    """Summarise samples [n] in nanoseconds, n ≥ 1."""
    import numpy as np

    if samples_ns.size == 0:
        raise ValueError("there are no samples to summarise")
    ms = samples_ns.astype(np.float64) / 1e6
    n = int(ms.size)
    ordered = np.sort(ms)
    median = float(np.median(ms))
    p50, p90, p95, p99, p99_9 = (float(v) for v in np.percentile(ms, PERCENTILES))
    low, high = median_interval(ordered)
    drift, steady = steadiness(ms)
    return Summary(
        n=n,
        mean_ms=float(ms.mean()),
        std_ms=float(ms.std(ddof=1)) if n > 1 else None,
        min_ms=float(ordered[0]),
        max_ms=float(ordered[-1]),
        mad_ms=float(np.median(np.abs(ms - median))),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        p99_9_ms=p99_9,
        p50_low_ms=low,
        p50_high_ms=high,
        p90_upper_ms=upper_bound(ordered, 0.90),
        p95_upper_ms=upper_bound(ordered, 0.95),
        p99_upper_ms=upper_bound(ordered, 0.99),
        p99_9_upper_ms=upper_bound(ordered, 0.999),
        autocorrelation=autocorrelation(ms),
        drift=drift,
        steady=steady,
    )


def median_interval(ordered: npt.NDArray[np.float64], confidence: float = 0.95) -> tuple[float | None, float | None]:
    """Two-sided order-statistic interval of the median of sorted samples; (None, None) where n is too small.

    The ranks are the narrowest symmetric pair (r, n + 1 − r) with P(Binomial(n, ½) < r) ≤ (1 − confidence) / 2.
    """
    from scipy.special import bdtr

    n = ordered.size
    rank = 0  # largest r such that cdf(r - 1) ≤ tail
    while rank < n / 2 and float(bdtr(rank, n, 0.5)) <= (1 - confidence) / 2:
        rank += 1
    if rank == 0:
        return None, None
    return float(ordered[rank - 1]), float(ordered[n - rank])


def upper_bound(ordered: npt.NDArray[np.float64], quantile: float, confidence: float = 0.99) -> float | None:
    """One-sided upper confidence bound of a quantile of sorted samples; None where n is too small for one.

    The smallest order statistic x(k) with P(Binomial(n, quantile) ≤ k − 1) ≥ confidence.
    """
    import numpy as np
    from scipy.special import bdtr

    n = ordered.size
    ranks = np.arange(1, n + 1)
    enough = np.flatnonzero(bdtr((ranks - 1).astype(np.float64), n, quantile) >= confidence)
    return float(ordered[enough[0]]) if enough.size else None


def autocorrelation(values: npt.NDArray[np.float64]) -> float | None:
    """Lag-1 autocorrelation of values [n]; None below 3 values or without variance."""
    import numpy as np

    if values.size < 3:
        return None
    centred = values - values.mean()
    total = float(np.dot(centred, centred))
    return float(np.dot(centred[:-1], centred[1:])) / total if total > 0 else None


def steadiness(values: npt.NDArray[np.float64]) -> tuple[float | None, bool | None]:
    """Drift between the first and the last third of values [n], and whether they count as steady.

    Not steady: the thirds' medians differ by more than max(2 %, 3 standard errors of that difference), the standard
    errors taken from the medians of blocks of 10 samples, so that autocorrelation does not shrink them. Below 30 values the
    second figure is None, below 3 the first is too.
    """
    import numpy as np

    third = values.size // 3
    if third < 1:
        return None, None
    first, last = values[:third], values[-third:]
    start = float(np.median(first))
    if start <= 0:
        return None, None
    difference = float(np.median(last)) - start
    drift = difference / start
    if third < 10:
        return drift, None
    limit = max(0.02 * start, 3 * float(np.hypot(_block_error(first), _block_error(last))))
    return drift, abs(difference) <= limit


def _block_error(values: npt.NDArray[np.float64], block: int = 10) -> float:
    """Standard error of the median of values [n ≥ 10], from the spread of its blocks' medians (one block: from MAD)."""
    import numpy as np

    count = values.size // block
    if count < 2:
        mad = float(np.median(np.abs(values - np.median(values))))
        return 1.2533 * 1.4826 * mad / float(np.sqrt(values.size))
    medians = np.median(values[: count * block].reshape(count, block), axis=1)
    return float(medians.std(ddof=1)) / float(np.sqrt(count))
