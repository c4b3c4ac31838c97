"""How two sides compare: a ratio of times with an interval, and a careful word for it. Pure.

Per side the mean m, the variance v (k − 1) and the number k of the logarithms of its launches' figures (medians, say). The ratio is
exp(m_new − m_base), above 1 slower; its two-sided 95 % interval is Welch's (Welch, Biometrika 34, 1947) on the logarithms. Launches are the
unit: with one launch on a side there is no interval, whatever the number of samples.

These words are not verdicts of the gate: the sides were measured at different times, and each point is judged alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchrun.results.views.summaries import t_quantile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

LEAST_EFFECT = 1.03  # a smaller difference is not called faster or slower
SAME_WITHIN = 1.05  # an interval inside 1/1.05 … 1.05 is called the same
WORDS = ("slower", "faster", "same", "unclear", "one launch")


def add_ratios(pairs: pd.DataFrame, figure: str = "p50_ms", *, more_is_better: bool = False) -> pd.DataFrame:
    """Adds `ratio`, `ratio_low`, `ratio_high`, `word` to rows with `log_FIGURE_…`, `var_FIGURE_…`, `launches_…` of sides `base` and `new`.

    The ratio is one of times: a rate (`more_is_better`) is turned over.
    """
    import numpy as np

    def column(name: str, side: str) -> Floats:
        return pairs[f"{name}_{side}"].to_numpy(dtype=np.float64)

    with np.errstate(all="ignore"):
        difference = column(f"log_{figure}", "new") - column(f"log_{figure}", "base")
        difference = -difference if more_is_better else difference
        counts = {side: column("launches", side) for side in ("new", "base")}
        errors = {side: column(f"var_{figure}", side) / counts[side] for side in ("new", "base")}
        total = errors["new"] + errors["base"]
        freedom = total**2 / sum(errors[side] ** 2 / (counts[side] - 1) for side in ("new", "base"))
        enough = (counts["new"] >= 2) & (counts["base"] >= 2) & (total > 0)
        half = np.where(enough, t_quantile(np.where(enough, freedom, 1.0)) * np.sqrt(total), np.nan)
        ratio, low, high = np.exp(difference), np.exp(difference - half), np.exp(difference + half)
    return pairs.assign(ratio=ratio, ratio_low=low, ratio_high=high, word=_words(ratio, low, high))


def _words(ratio: Floats, low: Floats, high: Floats) -> npt.NDArray[np.object_]:
    import numpy as np

    conditions = [
        np.isnan(ratio),
        np.isnan(low),
        (low > 1) & (ratio >= LEAST_EFFECT),
        (high < 1) & (ratio <= 1 / LEAST_EFFECT),
        (low > 1 / SAME_WITHIN) & (high < SAME_WITHIN),
    ]
    found = np.select(conditions, ["", "one launch", "slower", "faster", "same"], default="unclear")
    return np.array([str(word) or None for word in found], dtype=object)


def certain_size(pairs: pd.DataFrame) -> Floats:
    """How large a difference is at least, as |logarithm| of the interval's end nearer to 1; 0 where it holds 1 or there is none."""
    import numpy as np

    low, high = pairs["ratio_low"].to_numpy(dtype=np.float64), pairs["ratio_high"].to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(low > 1, np.log(low), np.where(high < 1, -np.log(high), 0.0))
    size: Floats = np.nan_to_num(found)
    return size
