"""The statistics against numpy, against theory, and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from benchrun.results.statistics import autocorrelation, median_interval, steadiness, summarise, upper_bound

LATENCIES = st.lists(st.integers(1, 10**12), min_size=1, max_size=300)


@given(LATENCIES)
def test_a_summary_agrees_with_numpy(samples: list[int]) -> None:
    ns = np.array(samples, dtype=np.int64)
    ms = ns / 1e6
    summary = summarise(ns)
    assert summary.n == len(samples)
    assert summary.mean_ms == pytest.approx(np.mean(ms), rel=1e-12)
    assert (summary.min_ms, summary.max_ms) == (ms.min(), ms.max())
    found = [summary.p50_ms, summary.p90_ms, summary.p95_ms, summary.p99_ms, summary.p99_9_ms]
    assert found == pytest.approx([np.quantile(ms, q) for q in (0.5, 0.9, 0.95, 0.99, 0.999)], rel=1e-12)
    assert summary.mad_ms == pytest.approx(np.median(np.abs(ms - np.median(ms))), rel=1e-9, abs=1e-9)
    if len(samples) == 1:
        assert summary.std_ms is None
    else:
        assert summary.std_ms == pytest.approx(np.std(ms, ddof=1), rel=1e-9, abs=1e-12)


@given(LATENCIES)
def test_intervals_hold_the_percentiles_they_belong_to(samples: list[int]) -> None:
    summary = summarise(np.array(samples, dtype=np.int64))
    if summary.p50_low_ms is not None and summary.p50_high_ms is not None:
        assert summary.min_ms <= summary.p50_low_ms <= summary.p50_ms <= summary.p50_high_ms <= summary.max_ms
    for percentile, bound in (
        (summary.p90_ms, summary.p90_upper_ms),
        (summary.p95_ms, summary.p95_upper_ms),
        (summary.p99_ms, summary.p99_upper_ms),
        (summary.p99_9_ms, summary.p99_9_upper_ms),
    ):
        assert bound is None or percentile <= bound <= summary.max_ms


@given(LATENCIES, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_only_matters_to_what_is_about_order(samples: list[int], random: object) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (summarise(np.array(each, dtype=np.int64)) for each in (samples, shuffled))
    for name in ("n", "min_ms", "max_ms", "p50_ms", "p99_ms", "p50_low_ms", "p50_high_ms", "p95_upper_ms", "mad_ms"):
        assert getattr(one, name) == getattr(other, name)


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarise(np.array([], dtype=np.int64))


@pytest.mark.parametrize(("quantile", "least"), [(0.90, 44), (0.95, 90), (0.99, 459), (0.999, 4603)])
def test_the_99_percent_bound_exists_from_mlperfs_sample_counts(quantile: float, least: int) -> None:
    """1 − q^n ≥ 0.99 first holds at n = 44, 90, 459, 4603."""
    assert upper_bound(np.arange(least - 1, dtype=np.float64), quantile) is None
    assert upper_bound(np.arange(least, dtype=np.float64), quantile) == least - 1
    assert 1 - quantile**least >= 0.99 > 1 - quantile ** (least - 1)


@pytest.mark.parametrize("n", [44, 100, 200, 1000])
def test_the_bound_is_the_smallest_order_statistic_that_is_sure_enough(n: int) -> None:
    bound = upper_bound(np.arange(1, n + 1, dtype=np.float64), 0.90)
    assert bound is not None
    rank = round(bound)
    assert binom.cdf(rank - 1, n, 0.90) >= 0.99 > binom.cdf(rank - 2, n, 0.90)


@pytest.mark.parametrize("n", range(1, 6))
def test_the_median_has_no_interval_below_six_samples(n: int) -> None:
    assert median_interval(np.arange(n, dtype=np.float64)) == (None, None)


@pytest.mark.parametrize("n", [6, 7, 10, 11, 50, 199, 200, 1000])
def test_the_medians_interval_is_the_narrowest_sure_enough_pair(n: int) -> None:
    low, high = median_interval(np.arange(1, n + 1, dtype=np.float64))
    assert low is not None and high is not None
    assert low + high == n + 1
    rank = round(low)
    assert binom.cdf(rank - 1, n, 0.5) <= 0.025 < binom.cdf(rank, n, 0.5)


@pytest.mark.parametrize("n", [10, 50, 200])
def test_the_medians_interval_covers_the_true_median(n: int) -> None:
    """By simulation, on skewed samples: at least 95 %, as the exact coverage says to within sampling error."""
    draws = np.sort(np.random.default_rng(n).lognormal(size=(4000, n)), axis=1)
    low, high = np.array([median_interval(each) for each in draws], dtype=np.float64).T
    rank = int(np.flatnonzero(draws[0] == low[0])[0]) + 1
    exact = float(binom.cdf(n - rank, n, 0.5) - binom.cdf(rank - 1, n, 0.5))
    covered = float(np.mean((low <= 1.0) & (high >= 1.0)))  # the median of a standard lognormal is 1
    assert exact >= 0.95
    assert covered == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000))


@pytest.mark.parametrize(("quantile", "n"), [(0.90, 60), (0.95, 200), (0.99, 1000)])
def test_the_upper_bound_covers_the_true_percentile(quantile: float, n: int) -> None:
    draws = np.sort(np.random.default_rng(7).exponential(size=(2000, n)), axis=1)
    bounds = np.array([upper_bound(each, quantile) for each in draws], dtype=np.float64)
    covered = float(np.mean(bounds >= -math.log(1 - quantile)))
    assert covered >= 0.99 - 4 * math.sqrt(0.99 * 0.01 / 2000)


def test_drift_and_steadiness_of_a_level_and_of_a_rising_series() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 300)
    drift, steady = steadiness(10 + noise)
    assert drift is not None and abs(drift) < 0.01 and steady is True
    drift, steady = steadiness(10 + noise + np.linspace(0, 1, 300))
    assert drift == pytest.approx(0.066, abs=0.01) and steady is False


def test_a_shift_below_two_percent_counts_as_steady_however_sharp_the_samples() -> None:
    for last, expected in ((10.19, True), (10.21, False)):
        drift, steady = steadiness(np.repeat([10.0, 10.0, last], 100))
        assert drift == pytest.approx(last / 10 - 1) and steady is expected


def test_slow_waves_do_not_pass_for_a_small_standard_error() -> None:
    """Blocks of 10 see a wave that samples taken for independent would not."""
    waves = 10 + 0.5 * np.sin(np.arange(300) / 8) + np.repeat([0.0, 0.0, 0.25], 100)
    assert steadiness(waves)[1] is True


@pytest.mark.parametrize(
    ("n", "has_drift", "has_verdict"), [(2, False, False), (3, True, False), (29, True, False), (30, True, True)]
)
def test_steadiness_says_nothing_of_few_samples(n: int, has_drift: bool, has_verdict: bool) -> None:
    drift, steady = steadiness(np.full(n, 5.0))
    assert (drift is not None, steady is not None) == (has_drift, has_verdict)


def test_false_alarms_of_steadiness_are_rare_on_independent_samples() -> None:
    draws = np.random.default_rng(3).lognormal(sigma=0.2, size=(1000, 200))
    alarms = sum(steadiness(each)[1] is False for each in draws)
    assert alarms <= 30


def test_autocorrelation_of_known_series() -> None:
    assert autocorrelation(np.array([1.0, 2.0])) is None
    assert autocorrelation(np.full(10, 3.0)) is None
    assert autocorrelation(np.tile([1.0, -1.0], 500)) == pytest.approx(-1, abs=0.01)
    generator = np.random.default_rng(1)
    values = np.zeros(5000)
    for i in range(1, 5000):
        values[i] = 0.6 * values[i - 1] + generator.normal()
    assert autocorrelation(values) == pytest.approx(0.6, abs=0.05)


def test_times_of_zero_have_no_relative_drift() -> None:
    assert steadiness(np.zeros(60)) == (None, None)
