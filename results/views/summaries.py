"""From launches to points: one figure with an interval for each point. Pure: frames in, frames out.

A figure is the arithmetic mean of its launches' figures, as `benchrun show` prints it. The interval of p50 is

- `launches` (3 launches or more): two-sided 95 % t interval of the mean of the logarithms of the launches' medians,
- `range` (2 launches): from the smaller to the larger median,
- `samples` (1 launch): the order-statistic interval inside that launch, which says nothing of other launches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchrun.results.records import UNMEASURED
from benchrun.results.views.frames import POINT_COLUMNS, RUN_COLUMNS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

INTERVALS = ("launches", "range", "samples")
SUMMARY_COLUMNS = (
    *("point_key", *POINT_COLUMNS, *RUN_COLUMNS, "status", "phase", "error", "launches", "n"),
    *("mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p50_low_ms", "p50_high_ms", "interval"),
    *("log_p50_ms", "var_p50_ms", "log_p95_ms", "var_p95_ms", "log_p99_ms", "var_p99_ms", "log_mean_ms", "var_mean_ms"),
    *("log_throughput_seq_s", "var_throughput_seq_s", "p95_upper_ms", "p99_upper_ms"),
    *("throughput_seq_s", "throughput_low", "throughput_high", "isolated", "tokens_s", "padding_fraction"),
    *("parity_ok", "parity_rel_l2", "flags", "threads", "build_s", "peak_device_bytes", "peak_host_bytes", "started"),
)
_MEANS = ("mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms")
_UPPERS = ("p95_upper_ms", "p99_upper_ms")
_TRUTHS = ("throughput_isolated", "parity_ok")
COMPARED = ("p50_ms", "p95_ms", "p99_ms", "mean_ms", "throughput_seq_s")  # figures with `log_…` and `var_…`


def summarise(launches: pd.DataFrame, clock: str = "host") -> pd.DataFrame:
    """One row for each (run, point) of a launches frame, in its order, by one clock (`host`, `device`).

    `status` follows `records.point_status` over the launches that are there (a point of a run in progress is `ok` with the launches it
    has): the first real failure counts. Figures are of the launches that have them (`ok` and
    `invalid`); a point that failed in any launch has none, unless its status is `invalid`. `log_…` and `var_…` are mean and variance
    (k − 1) of the logarithms of the launches' figures. `flags` is a sorted tuple of all launches' flags.
    """
    import numpy as np
    import pandas as pd

    if launches.empty:
        return pd.DataFrame({name: pd.Series(dtype="object") for name in SUMMARY_COLUMNS})
    work = launches.copy(deep=False)
    figures = (*_MEANS, "n", "p50_low_ms", "p50_high_ms", *_UPPERS)
    for name in figures:
        work[name] = work[f"{clock}_{name}"]
    for name in _TRUTHS:
        work[name] = pd.to_numeric(work[name], errors="coerce").astype("float64")
    for name in COMPARED:
        work[f"log_{name}"] = np.log(work[name].where(work[name] > 0))
    work["flags_text"] = work["flags"].map(lambda flags: "\0".join(sorted(flags)) if isinstance(flags, list) else "")
    grouped = work.groupby(["run_id", "point_key"], sort=False, dropna=False)
    first = grouped[[*POINT_COLUMNS, *RUN_COLUMNS[1:], "threads", "padding_fraction"]].first()
    statuses = grouped["status"].agg(list)
    table = first.assign(
        status=[_status(found) for found in statuses],
        launches=grouped["p50_ms"].count(),
        n=grouped["n"].sum(),
        **{name: grouped[name].mean() for name in _MEANS},
        **{name: _highest(grouped, name) for name in _UPPERS},
        low=grouped["p50_ms"].min(),
        high=grouped["p50_ms"].max(),
        inner_low=grouped["p50_low_ms"].first(),
        inner_high=grouped["p50_high_ms"].first(),
        **{f"log_{name}": grouped[f"log_{name}"].mean() for name in COMPARED},
        **{f"var_{name}": grouped[f"log_{name}"].var(ddof=1) for name in COMPARED},
        throughput_seq_s=grouped["throughput_seq_s"].mean(),
        throughput_low=grouped["throughput_seq_s"].min(),
        throughput_high=grouped["throughput_seq_s"].max(),
        isolated=_true(grouped["throughput_isolated"].max()),
        tokens_s=grouped["tokens_s"].mean(),
        parity_ok=_true(grouped["parity_ok"].min()),
        parity_rel_l2=grouped["parity_rel_l2"].max(),
        build_s=grouped["build_s"].mean(),
        peak_device_bytes=grouped["peak_device_bytes"].max(),
        peak_host_bytes=grouped["peak_host_bytes"].max(),
        started=grouped["started"].first(),
        flags=_objects([_union(found) for found in grouped["flags_text"].agg(list)]),
    ).reset_index()
    table = _add_reasons(table, work)
    table = _add_interval(table)
    failed = ~table["status"].isin(["ok", "invalid"])
    blank = [
        *_MEANS,
        *_UPPERS,
        "p50_low_ms",
        "p50_high_ms",
        "throughput_seq_s",
        "throughput_low",
        "throughput_high",
        "tokens_s",
    ]
    table.loc[failed, [*blank, *(f"{kind}_{name}" for name in COMPARED for kind in ("log", "var"))]] = np.nan
    return table[list(SUMMARY_COLUMNS)]


def _status(statuses: list[Any]) -> str:
    present = [status for status in statuses if isinstance(status, str)]
    failed = [status for status in present if status not in ("ok", UNMEASURED)]
    if failed:
        return failed[0]
    return "ok" if present and all(status == "ok" for status in present) else UNMEASURED


def _add_reasons(table: pd.DataFrame, work: pd.DataFrame) -> pd.DataFrame:
    """Phase and sentence of the first launch that failed."""
    failed = work[work["status"].notna() & ~work["status"].isin(["ok", UNMEASURED])]
    error = failed["error"].where(failed["error"].notna(), failed["parity_reason"])
    reasons = (
        failed.assign(error=error)
        .groupby(["run_id", "point_key"], sort=False)[["phase", "error"]]
        .agg(_first)
        .reset_index()
    )
    return table.merge(reasons, on=["run_id", "point_key"], how="left")


def _add_interval(table: pd.DataFrame) -> pd.DataFrame:
    import numpy as np

    count = table["launches"].to_numpy(dtype=float)
    low, high = table["low"].to_numpy(dtype=float), table["high"].to_numpy(dtype=float)
    one = count == 1
    low = np.where(one, table["inner_low"].to_numpy(dtype=float), low)
    high = np.where(one, table["inner_high"].to_numpy(dtype=float), high)
    many = count >= 3
    if many.any():
        half = t_quantile(np.where(many, count - 1, 2)) * np.sqrt(
            table["var_p50_ms"].to_numpy(dtype=float) / np.maximum(count, 1)
        )
        centre = table["log_p50_ms"].to_numpy(dtype=float)
        low, high = np.where(many, np.exp(centre - half), low), np.where(many, np.exp(centre + half), high)
    kind = np.where(many, "launches", np.where(count == 2, "range", np.where(one, "samples", "")))
    return table.assign(p50_low_ms=low, p50_high_ms=high, interval=kind)


def t_quantile(freedom: Floats, confidence: float = 0.95) -> Floats:
    """Two-sided quantile of Student's t for degrees of freedom [n] > 0."""
    import numpy as np
    from scipy.special import stdtrit

    return np.asarray(stdtrit(freedom, 0.5 + confidence / 2), dtype=np.float64)


def _highest(grouped: Any, name: str) -> pd.Series[float]:
    """The largest bound of each group, NaN where any launch has none."""
    largest: pd.Series[float] = grouped[name].max().where(grouped[name].count() == grouped.size())
    return largest


def _true(shares: pd.Series[float]) -> npt.NDArray[np.object_]:
    """1 and 0 as truth, NaN as None."""
    return _objects([None if share != share else bool(share) for share in shares])


def _objects(values: Sequence[Any]) -> npt.NDArray[np.object_]:
    """A column of Python objects, tuples among them."""
    import numpy as np

    return np.fromiter(values, dtype=np.object_, count=len(values))


def _first(values: pd.Series[Any]) -> Any:
    present = values.dropna()
    return None if present.empty else present.iloc[0]


def _union(texts: list[str]) -> tuple[str, ...]:
    return tuple(sorted({flag for text in texts for flag in text.split("\0") if flag}))
