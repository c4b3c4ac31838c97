"""Welch's t for many pairs of samples at once, from their means and variances; Holm's adjustment; the sizing
formulas.

Sources: Welch, *Biometrika* 34 (1947), with the Welch–Satterthwaite degrees of freedom (as
`scipy.stats.ttest_ind(equal_var=False)`); Holm, *Scandinavian Journal of Statistics* 6 (1979).
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
    Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and variance (n − 1) of samples, arrays of one shape. The variance is NaN below two values, the
    mean below one.
    """

    n: Floats
    mean: Floats
    var: Floats


@dataclass(frozen=True, slots=True)
class Contrast:
    """new − base: the difference of means, its standard error and degrees of freedom, arrays of one shape."""

    difference: Floats
    error: Floats
    df: Floats

    def p_greater(self) -> Floats:
        """One-sided p of 'new is not larger than base'; NaN where there is no variance."""
        import numpy as np
        from scipy.special import stdtr

        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(stdtr(self.df, -self.difference / self.error), dtype=np.float64)

    def margin(self, confidence: float) -> Floats:
        """Half the width of the two-sided interval at that confidence."""
        import numpy as np
        from scipy.special import stdtrit

        return np.asarray(stdtrit(self.df, 0.5 + confidence / 2) * self.error, dtype=np.float64)


def moments(values: Floats, mask: Masks) -> Moments:
    """Moments over the first but last axis: values [..., launches, points], mask [launches, points] → arrays [...,
    points].
    """
    import numpy as np

    # sums along an outer axis are plain sums in row order: the same on every processor
    n = mask.sum(axis=0, dtype=np.float64)
    kept = np.where(mask, values, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = kept.sum(axis=-2) / n
        away = np.where(mask, values - mean[..., None, :], 0.0)
        var = np.where(n > 1, (away * away).sum(axis=-2) / (n - 1), np.nan)
    return Moments(np.broadcast_to(n, mean.shape), mean, var)


def welch(base: Moments, new: Moments) -> Contrast:
    """Welch's contrast; df and what follows from it are NaN where both variances are 0 or one is undefined."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        of_base, of_new = base.var / base.n, new.var / new.n
        square = of_base + of_new
        df = square**2 / (of_base**2 / (base.n - 1) + of_new**2 / (new.n - 1))
        return Contrast(new.mean - base.mean, np.sqrt(square), df)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    m = len(p_values)
    adjusted = [1.0] * m
    largest = 0.0
    for rank, i in enumerate(sorted(range(m), key=lambda i: (p_values[i], i))):
        largest = max(largest, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def t_quantile(df: float, probability: float) -> float:
    """Quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def round_significant(value: float, digits: int = 6) -> float:
    """Rounded to that many significant digits."""
    return float(f"{value:.{digits}g}")


def detectable_log_ratio(sd: float, launches: int, factor: float) -> float:
    """Minimum detectable effect as a log ratio: factor · sd · sqrt(2 / launches a side)."""
    return factor * sd * math.sqrt(2 / launches) if launches > 0 else math.nan
