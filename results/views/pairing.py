"""Two sets of points side by side. Pure: frames in, frames out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchrun.results.views.ratios import add_ratios, certain_size
from benchrun.results.views.summaries import COMPARED

if TYPE_CHECKING:
    import pandas as pd

SAME_POINT = ("point_key",)
SAME_SHAPE = ("batch", "seq")
_SIDE = (
    *(
        "status",
        "error",
        "launches",
        "n",
        "p50_ms",
        "p50_low_ms",
        "p50_high_ms",
        "p95_ms",
        "p99_ms",
        "mean_ms",
        "throughput_seq_s",
    ),
    *(f"{kind}_{name}" for name in COMPARED for kind in ("log", "var")),
    *("run_id", "flags", "threads"),
)


@dataclass(frozen=True)
class Pairs:
    """`rows`: pairs of `ok` points with ratio, interval and word, what matters most first. `failed`: pairs with a side that is not
    `ok` or lacks the figure. `only_base`, `only_new`: points without a partner. `twins`: points of either side that were left
    out, because an earlier one of that side has the same identity."""

    rows: pd.DataFrame
    failed: pd.DataFrame
    only_base: int
    only_new: int
    twins: int = 0


def pair(
    base: pd.DataFrame,
    new: pd.DataFrame,
    on: Sequence[str] = SAME_POINT,
    *,
    figure: str = "p50_ms",
    more_is_better: bool = False,
) -> Pairs:
    """Join two frames of points (`summaries.summarise`) on what must be equal; columns of the sides end in `_base` and `_new`.

    Where a side has several points of one identity (several options, say), its first counts, the others are `twins`.
    """
    left, right = (side.drop_duplicates(list(on)) for side in (base, new))
    keep = [name for name in left.columns if name not in _SIDE]
    joined = left.merge(right[[*on, *_SIDE]], on=list(on), how="inner", suffixes=("_base", "_new"))
    both = joined["status_base"].eq("ok") & joined["status_new"].eq("ok")
    measured = joined[f"{figure}_base"].gt(0) & joined[f"{figure}_new"].gt(0)
    rows = add_ratios(joined[both & measured], figure, more_is_better=more_is_better)
    rows = rows.assign(certain=certain_size(rows), size=_log_size(rows))
    rows = rows.sort_values(["certain", "size"], ascending=False, kind="stable")
    ordered = [*keep, *(name for name in rows.columns if name not in keep)]
    alone = len(left) - len(joined), len(right) - len(joined)
    return Pairs(rows[ordered], joined[~(both & measured)], *alone, len(base) + len(new) - len(left) - len(right))


def _log_size(rows: pd.DataFrame) -> pd.Series[float]:
    import numpy as np
    import pandas as pd

    return pd.Series(np.abs(np.log(rows["ratio"].to_numpy(dtype=float))), index=rows.index)
