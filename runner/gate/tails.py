"""p90, p95 and p99 over all launches of a side, with their one-sided 99 % upper bounds. For reports: pooling ignores
how launches differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchrun.results.statistics import upper_bound

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float64]

TAILS = (("p90", 0.90), ("p95", 0.95), ("p99", 0.99))
POOLING_NOTE = "pooled over launches: the bound ignores how launches differ"
SMALL_NOTE = "n too small"


@dataclass(frozen=True, slots=True)
class Tail:
    """A sample percentile in milliseconds over `n` samples of `launches` launches; `upper_ms` is None, and `note`
    says so, where n is too small.
    """

    name: str
    n: int
    launches: int
    value_ms: float
    upper_ms: float | None
    note: str


def pool_tails(samples_ms: Sequence[Samples]) -> tuple[Tail, ...]:
    """Tails of one side's samples, one array [n] a launch; none where there are no samples."""
    import numpy as np

    full = [each for each in samples_ms if each.size]
    if not full:
        return ()
    ordered = np.sort(np.concatenate(full))
    tails = []
    for name, quantile in TAILS:
        bound = upper_bound(ordered, quantile)
        note = SMALL_NOTE if bound is None else POOLING_NOTE if len(full) > 1 else ""
        value = float(np.percentile(ordered, 100 * quantile)) if np.isfinite(ordered).all() else math.nan
        tails.append(Tail(name, int(ordered.size), len(full), value, bound, note))
    return tuple(tails)
