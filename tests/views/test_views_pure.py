"""Summaries, ratios and pairs: against scipy and against plain arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchrun.results.views.environments import differences, flatten
from benchrun.results.views.frames import COLUMNS, launches_frame
from benchrun.results.views.pairing import SAME_SHAPE, pair
from benchrun.results.views.ratios import add_ratios, certain_size
from benchrun.results.views.summaries import SUMMARY_COLUMNS, summarise

SPREAD = st.lists(st.integers(500, 2000).map(lambda n: n / 1000), min_size=2, max_size=8, unique=True)
MEDIANS = st.lists(st.floats(min_value=0.1, max_value=100), min_size=1, max_size=6)


def only(table: pd.DataFrame) -> Any:
    """The one row of a table."""
    (row,) = table.itertuples()
    return row


def launches(medians: list[float], status: list[str] | None = None, **more: Any) -> pd.DataFrame:
    """A frame of launches of one point."""
    rows = []
    for replicate, (median, word) in enumerate(zip(medians, status or ["ok"] * len(medians), strict=True)):
        row: dict[str, Any] = {
            "point_key": "a",
            "run_id": "r",
            "replicate": replicate,
            "status": word,
            "batch": 4,
            "seq": 32,
            "model": "tiny",
            "flags": [],
        }
        row |= {
            f"host_{name}": median * share
            for name, share in (("p50_ms", 1), ("mean_ms", 1.1), ("p90_ms", 1.2), ("p95_ms", 1.3), ("p99_ms", 1.5))
        }
        row |= {
            "host_n": 60,
            "host_p50_low_ms": median * 0.9,
            "host_p50_high_ms": median * 1.2,
            "throughput_seq_s": 1 / median,
            "settings": {"threads": 2},
        }
        rows.append(row | more)
    return launches_frame(rows)


@settings(deadline=None)  # the first example pays for imports
@given(MEDIANS)
def test_a_figure_is_the_mean_of_its_launches(medians: list[float]) -> None:
    row = only(summarise(launches(medians)))
    assert row.p50_ms == pytest.approx(np.mean(medians)) and row.p95_ms == pytest.approx(1.3 * np.mean(medians))
    assert (row.launches, row.n, row.status, row.threads) == (len(medians), 60 * len(medians), "ok", 2)
    logs = np.log(medians)
    if len(medians) >= 3:
        low, high = stats.t.interval(0.95, len(medians) - 1, logs.mean(), max(stats.sem(logs), 1e-300))
        assert row.interval == "launches"
        assert (row.p50_low_ms, row.p50_high_ms) == pytest.approx((math.exp(low), math.exp(high)), rel=1e-9)
    elif len(medians) == 2:
        assert (row.interval, row.p50_low_ms, row.p50_high_ms) == ("range", min(medians), max(medians))
    else:
        assert row.interval == "samples" and row.p50_low_ms == pytest.approx(0.9 * medians[0])


@pytest.mark.parametrize(
    ("statuses", "status", "figures"),
    [
        (["ok", "oom"], "oom", False),
        (["interrupted", "ok"], "interrupted", False),
        (["invalid", "ok"], "invalid", True),
        (["interrupted", "crashed"], "crashed", False),
    ],
)
def test_a_failed_launch_decides(statuses: list[str], status: str, figures: bool) -> None:
    row = only(summarise(launches([1.0, 2.0], statuses, error="why", phase="measure", parity_ok=False)))
    assert row.status == status and math.isnan(row.p50_ms) is not figures
    assert (row.error == "why") == (status != "interrupted") and row.parity_ok is False


def test_a_planned_point_is_interrupted() -> None:
    frame = launches_frame([{"point_key": "a", "run_id": "r"}])
    row = only(summarise(frame))
    assert (row.status, row.launches, row.flags) == ("interrupted", 0, ()) and list(frame.columns) == list(COLUMNS)
    assert list(summarise(frame.iloc[:0]).columns) == list(SUMMARY_COLUMNS)


def test_flags_and_bounds_of_launches_are_joined() -> None:
    two = pd.concat(
        [launches([1.0], flags=["b", "a"], host_p95_upper_ms=2.0), launches([2.0], flags=["c"], host_p95_upper_ms=3.0)]
    )
    row = only(summarise(two))
    assert row.flags == ("a", "b", "c") and row.p95_upper_ms == 3.0
    two["host_p95_upper_ms"] = [np.nan, 3.0]
    assert math.isnan(only(summarise(two)).p95_upper_ms)


def test_the_device_clock_is_another_one() -> None:
    row = only(summarise(launches([2.0], host_p50_ms=9.0, device_p50_ms=2.0), "device"))
    assert row.p50_ms == 2.0
    assert math.isnan(only(summarise(launches([2.0]), "device")).p50_ms)


def sides(base: list[float], new: list[float], figure: str = "p50_ms") -> pd.DataFrame:
    logs = {"base": np.log(base), "new": np.log(new)}
    return pd.DataFrame(
        {f"log_{figure}_{side}": [each.mean()] for side, each in logs.items()}
        | {f"var_{figure}_{side}": [each.var(ddof=1) if len(each) > 1 else np.nan] for side, each in logs.items()}
        | {f"launches_{side}": [len(each)] for side, each in logs.items()}
    )


@settings(deadline=None)
@given(SPREAD, SPREAD)
def test_ratios_are_welchs(base: list[float], new: list[float]) -> None:
    row = add_ratios(sides(base, new)).iloc[0]
    welch = stats.ttest_ind(np.log(new), np.log(base), equal_var=False).confidence_interval(0.95)
    assert row["ratio"] == pytest.approx(math.exp(np.log(new).mean() - np.log(base).mean()))
    assert (math.log(row["ratio_low"]), math.log(row["ratio_high"])) == pytest.approx(
        (welch.low, welch.high), rel=1e-6, abs=1e-9
    )
    turned = add_ratios(sides(new, base, "throughput_seq_s"), "throughput_seq_s", more_is_better=True).iloc[0]
    assert turned["ratio_low"] == pytest.approx(row["ratio_low"])


@pytest.mark.parametrize(
    ("base", "new", "word"),
    [
        ([1.0, 1.01, 0.99], [1.2, 1.21, 1.19], "slower"),
        ([1.2, 1.21, 1.19], [1.0, 1.01, 0.99], "faster"),
        ([1.0, 1.001, 0.999], [1.002, 1.003, 1.001], "same"),
        ([1.0, 1.0001, 0.9999], [1.02, 1.0201, 1.0199], "same"),  # certain, but below 3 %
        ([1.0, 1.3, 0.8], [1.1, 1.4, 0.7], "unclear"),
        ([1.0], [2.0, 2.1], "one launch"),
        ([1.0, 1.0], [1.5, 1.5], "one launch"),  # copied rows: no spread to judge by
    ],
)
def test_words_are_careful(base: list[float], new: list[float], word: str) -> None:
    found = add_ratios(sides(base, new))
    assert found["word"].iloc[0] == word
    assert (certain_size(found)[0] > 0) == (
        word in ("slower", "faster") or (word == "same" and found["ratio_low"].iloc[0] > 1)
    )


def test_no_figure_no_word() -> None:
    assert add_ratios(sides([1.0, 2.0], [1.0, 2.0]).assign(log_p50_ms_new=np.nan))["word"].iloc[0] is None


def test_pairs_and_those_without_a_partner() -> None:
    def side(*shapes: tuple[int, str, float]) -> pd.DataFrame:
        frames = [
            launches([ms, ms * 1.01, ms * 0.99], [status] * 3, point_key=f"p{batch}", batch=batch)
            for batch, status, ms in shapes
        ]
        return summarise(pd.concat(frames))

    base = side((1, "ok", 1.0), (2, "ok", 1.0), (4, "ok", 1.0), (8, "ok", 1.0))
    new = side((1, "ok", 1.1), (2, "ok", 0.5), (4, "invalid", 0.1), (16, "ok", 1.0))
    for on in (("point_key",), SAME_SHAPE):
        found = pair(base, new, on)
        assert found.rows["batch"].tolist() == [2, 1]  # what matters most first; a wrong answer never wins
        assert (len(found.failed), found.only_base, found.only_new) == (1, 1, 1)
    rate = pair(base, new, figure="throughput_seq_s", more_is_better=True)
    assert rate.rows["ratio"].tolist() == pytest.approx([0.5, 1.1])
    assert pair(base.iloc[:0], new).rows.empty


def test_details_are_flattened_and_compared() -> None:
    one = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": "x"}
    assert flatten(one) == {"a.b": "1", "a.c": "1, 2", "e": "x"}
    assert differences(one, {"a": {"b": 2, "c": [1, 2]}, "f": 3}) == [
        ("a.b", "1", "2"),
        ("e", "x", None),
        ("f", None, "3"),
    ]
