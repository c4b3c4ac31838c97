from __future__ import annotations

import math

import numpy as np
import pytest

from benchrun.results.changepoints import ChangeSettings, find_changes, find_level_changes

FLAT = np.random.default_rng(0).normal(0, 0.005, 60)


def test_a_step_is_found_where_it_is() -> None:
    y = FLAT.copy()
    y[40:] += math.log(1.05)
    (change,) = find_changes(y.tolist())
    assert change.index == 40
    assert change.ratio == pytest.approx(1.05, abs=0.006)
    assert change.p < 1e-6


def test_a_rise_and_a_fall_do_not_hide_each_other() -> None:
    y = FLAT.copy()
    y[25:32] += 0.06
    assert [each.index for each in find_changes(y.tolist())] == [25, 32]
    assert [each.ratio > 1 for each in find_changes(y.tolist())] == [True, False]


def test_changes_far_apart_in_a_long_series() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(0, 0.005, 240)
    for at, size in ((60, 0.05), (63, 0.0), (130, -0.07), (200, 0.04)):
        y[at:] += size
    assert [each.index for each in find_changes(y.tolist())] == [60, 130, 200]


def test_a_change_needs_three_points_after_it() -> None:
    y = np.concatenate([FLAT, FLAT[:3] + 0.08])
    assert not find_changes(y[:62].tolist())
    assert [each.index for each in find_changes(y.tolist())] == [60]


def test_a_spike_is_no_change() -> None:
    y = FLAT.copy()
    y[30] += 0.5
    y[57] += 0.3
    assert not find_changes(y.tolist())


def test_a_change_below_three_percent_is_left_alone() -> None:
    y = FLAT.copy() / 10
    y[30:] += 0.025
    assert not find_changes(y.tolist())
    assert find_changes(y.tolist(), ChangeSettings(ratio=1.01))


def test_slow_creep_shows_in_the_end() -> None:
    # 0.2 % a commit: no pairwise gate can see a step of it
    y = FLAT + 0.002 * np.arange(60)
    changes = find_changes(y.tolist())
    assert changes
    assert all(each.ratio > 1.03 for each in changes)


def test_values_that_are_not_finite_are_passed_over() -> None:
    y = FLAT.copy()
    y[40:] += 0.05
    y[[3, 41]] = math.nan
    assert [each.index for each in find_changes(y.tolist())] == [40]


@pytest.mark.parametrize("y", [[], [1.0], [1.0] * 5, [1.0] * 80, [math.nan] * 10])
def test_short_and_flat_series_have_no_changes(y: list[float]) -> None:
    assert find_changes(y) == ()


def test_a_step_without_noise() -> None:
    (change,) = find_changes([0.0] * 10 + [0.1] * 10)
    assert change.index == 10
    assert change.p < 1e-100


def test_equal_series_give_equal_changes() -> None:
    y = (FLAT + 0.05 * (np.arange(60) > 30)).tolist()
    assert len({find_changes(y) for _ in range(20)}) == 1


def false_alarms(sd: float, series: int, settings: ChangeSettings | None = None, spikes: float = 0.0) -> int:
    rng = np.random.default_rng([4, round(sd * 1e4)])
    found = 0
    for _ in range(series):
        y = rng.normal(0, sd, 60) + 0.10 * (rng.random(60) < spikes)
        found += bool(find_changes(y.tolist(), settings))
    return found


def test_false_alarms_are_as_rare_as_those_of_the_kept_library() -> None:
    # Otava on A/A series of 60 points, sd 1 %: 0.5 % of series with a least magnitude of 3 %, 5 % without (gate.md, 3)
    assert false_alarms(0.01, 1000) <= 5
    assert false_alarms(0.01, 300, spikes=0.03) <= 5


def detected(sd: float, after: int, series: int = 200) -> float:
    rng = np.random.default_rng([5, round(sd * 1e4), after])
    hits = 0
    for _ in range(series):
        y = rng.normal(0, sd, 50 + after) + math.log(1.05) * (np.arange(50 + after) >= 50)
        hits += any(abs(each.index - 50) <= 2 for each in find_changes(y.tolist()))
    return hits / series


def test_a_step_of_five_percent_is_found_soon() -> None:
    assert detected(0.01, 3) >= 0.9
    assert detected(0.02, 8) >= 0.8


# --- figures as the dashboard draws them ---


def test_levels_of_figures_are_found_where_they_are() -> None:
    noise = np.random.default_rng(3).normal(0, 0.005, 60)
    levels = np.concatenate([np.zeros(25), np.full(20, 0.06), np.full(15, -0.1)])
    changes = find_level_changes(np.exp(levels + noise).tolist())
    assert [each.index for each in changes] == [25, 45]
    assert [each.ratio for each in changes] == pytest.approx([math.exp(0.06), math.exp(-0.16)], rel=0.01)


def test_a_level_needs_size_and_length() -> None:
    noise = np.random.default_rng(4).normal(0, 0.001, 40)
    small = np.exp(noise + np.repeat([0, math.log(ChangeSettings().ratio) * 0.8], 20))
    assert find_level_changes(small.tolist()) == ()
    spike = np.exp(noise)
    spike[20] *= 3
    assert find_level_changes(spike.tolist()) == ()
    assert find_level_changes([1.0, 1.0, 2.0, 2.0]) == () and find_level_changes([]) == ()


def test_figures_that_are_none_are_passed_over() -> None:
    (change,) = find_level_changes([1.0] * 10 + [0.0, math.nan, -1.0] + [2.0] * 10)
    assert change.index == 13 and change.ratio == pytest.approx(2.0)
