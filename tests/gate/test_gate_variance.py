from __future__ import annotations

import math

import numpy as np
import pytest

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.variance import (
    SessionSeries,
    expect_launches,
    find_components,
    find_detectable,
    find_drifts,
    find_waves,
    size_fresh,
    size_single_stage,
)


def series(
    sessions: int,
    launches: int,
    *,
    launch: float = 0.0,
    session: float = 0.0,
    drift: float = 0.0,
    rho: float = 0.0,
    seed: int = 0,
) -> list[SessionSeries]:
    rng = np.random.default_rng(seed)
    found = []
    for s in range(sessions):
        noise = rng.normal(0, launch, launches)
        for i in range(1, launches):
            noise[i] = rho * noise[i - 1] + math.sqrt(1 - rho**2) * noise[i]
        y = 2.0 + rng.normal(0, session) + noise + drift * np.arange(launches)
        found.append(SessionSeries(f"s{s}", tuple(y.tolist()), (0.02,) * launches, (0.003,) * launches))
    return found


def test_components_are_found_again() -> None:
    found = find_components(series(60, 20, launch=0.01, session=0.02))
    assert (found.launches, found.sessions) == (1200, 60)
    assert found.launch_sd == pytest.approx(0.01, rel=0.06)
    assert found.launch_sd_low < 0.01 < found.launch_sd_high
    assert found.session_sd == pytest.approx(0.02, rel=0.2)
    assert found.within_sd == pytest.approx(0.02)
    assert found.within_share == pytest.approx(0.09, rel=0.15)
    assert abs(found.drift) < 3 * found.drift_error
    assert abs(found.neighbours) < 0.1
    assert found.paired_sd == pytest.approx(0.01, rel=0.06)


def test_launch_interval_covers() -> None:
    hits = 0
    for seed in range(300):
        found = find_components(series(1, 10, launch=0.01, seed=seed))
        hits += found.launch_sd_low < 0.01 < found.launch_sd_high
    assert 270 <= hits <= 296  # 95 % of 300, with a chance of 0.1 % for what lies outside


def test_drift_and_neighbours_show() -> None:
    drifting = find_components(series(3, 20, launch=0.002, drift=0.001))
    assert drifting.drift == pytest.approx(0.001, rel=0.1)
    assert drifting.drift > 5 * drifting.drift_error
    assert drifting.paired_sd < 0.6 * drifting.launch_sd  # where pairs would help
    related = find_components(series(20, 40, launch=0.01, rho=0.7))
    assert related.neighbours == pytest.approx(0.65, abs=0.1)
    assert related.paired_sd < 0.7 * related.launch_sd


def test_drift_beyond_chance_takes_launches() -> None:
    assert find_drifts([find_components(series(3, 20, launch=0.002, drift=0.001))]) == [True]
    assert find_drifts([find_components(series(3, 20, launch=0.002))]) == [False]
    # three launches in a row that rise: more than 3 standard errors, and one degree of freedom
    three = find_components([SessionSeries("s", (1.0, 1.011, 1.02))])
    assert three.drift > 10 * three.drift_error
    assert find_drifts([three]) == [False]
    assert find_drifts([find_components([SessionSeries("s", (1.0, 1.01))])]) == [False]


def test_many_quiet_points_do_not_drift() -> None:
    """Of 100 machines with 32 points that keep still, one may be told of a drift or of waves (by each point alone it were
    27 and more).
    """
    told = waves = 0
    for machine in range(100):
        quiet = [find_components(series(1, 20, launch=0.01, seed=1000 * machine + point)) for point in range(32)]
        told += any(find_drifts(quiet))
        waves += any(find_waves(quiet))
    assert told <= 4 and waves <= 4
    # a trend that would do for one point of one is not enough among 32
    mild = find_components(series(1, 20, launch=0.01, drift=0.0017, seed=7))
    assert find_drifts([mild]) == [True]
    assert not any(find_drifts([mild, *quiet[1:]]))


def test_a_single_session_knows_nothing_of_sessions() -> None:
    found = find_components([SessionSeries("s", (1.0, 1.01))])
    assert math.isnan(found.session_sd)
    assert math.isnan(found.within_sd)
    assert math.isnan(found.within_share)
    assert math.isnan(found.drift_error)
    assert math.isnan(found.neighbours)
    assert found.launch_sd == pytest.approx(0.01 / math.sqrt(2))


def test_no_variance_at_all() -> None:
    found = find_components([SessionSeries("s", (1.0,) * 5, (0.0,) * 5, (0.0,) * 5)])
    assert found.launch_sd == 0
    assert math.isnan(found.neighbours)


@pytest.mark.parametrize("y", [(), (1.0,), (1.0, math.nan)])
def test_series_that_say_nothing_are_refused(y: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="launch"):
        find_components([SessionSeries("s", y)])


@pytest.mark.parametrize(("sd", "launches"), [(0.005, 2), (0.01, 3), (0.015, 5), (0.02, 9)])
def test_single_stage_sizes(sd: float, launches: int) -> None:
    # the figures of the design, section 0; it gives 1 for 0.5 %, and never fewer than 2
    assert size_single_stage(sd, 32) == launches


@pytest.mark.parametrize(
    ("sd", "fresh"), [(0.0, 8), (0.01, 8), (0.012, 8), (0.015, 8), (0.02, 14), (0.03, 30), (0.09, 32)]
)
def test_fresh_launches(sd: float, fresh: int) -> None:
    assert size_fresh(sd) == fresh


def test_detectable_slowdown() -> None:
    assert find_detectable(0.01, 8) == pytest.approx(math.expm1(5.07 * 0.01 * 0.5))
    assert find_detectable(0.01, 8, GateSettings(detectable_factor=10.14)) > 2 * find_detectable(0.01, 8)


def test_expected_cost() -> None:
    assert expect_launches(0.0, 32) == 6
    assert expect_launches(0.005, 32) == pytest.approx(6, abs=0.01)
    costs = [expect_launches(sd, 32) for sd in (0.01, 0.015, 0.02, 0.03)]
    assert costs == sorted(costs)
    assert costs[0] < 7
    assert costs[1] < 10
    assert expect_launches(0.02, 1) > expect_launches(0.02, 32)  # small sweeps cost more
    assert expect_launches(0.02, 32, metrics=1) < expect_launches(0.02, 32, metrics=2)
