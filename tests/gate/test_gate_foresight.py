"""Whether a gate says early that its time will not do: the pure part (a real gate that says so is in test_gate_suites)."""

from __future__ import annotations

import math

import pytest

from benchrun.runner.gate.foresight import TimedLaunch, estimate_seconds, foresee_end, foresee_room
from benchrun.runner.gate.launches import CONFIRM, SCREEN, WARMUP, Side
from benchrun.runner.gate.schedule import LaunchOrder
from benchrun.runner.gate.settings import GateSettings

SIDES_OF_STAGE_1: tuple[Side, ...] = ("base", "new", "new", "base", "base", "new")
POINTS = tuple(f"p{i}" for i in range(4))


def order(place: int, side: Side, stage: int = SCREEN, points: tuple[str, ...] = POINTS) -> LaunchOrder:
    return LaunchOrder(place, side, stage, place // 2, points)


STAGE_1 = [order(place, side) for place, side in enumerate(SIDES_OF_STAGE_1)]
FIRST_PAIR = [TimedLaunch(STAGE_1[0], 20.0), TimedLaunch(STAGE_1[1], 40.0)]


def limited(minutes: float) -> GateSettings:
    return GateSettings(max_minutes=minutes)


def test_what_is_to_come_goes_by_side_and_share_of_the_points() -> None:
    assert estimate_seconds(FIRST_PAIR, STAGE_1[2:]) == 2 * 20 + 2 * 40
    few = [order(6, "base", CONFIRM, POINTS[:1]), order(7, "new", CONFIRM, POINTS[:1])]
    assert estimate_seconds(FIRST_PAIR, few) == 5 + 10
    assert estimate_seconds(FIRST_PAIR, few, whole=True) == 20 + 40
    # once the stage has launches of its own they tell, and more points than were timed are not made up
    confirmed = [*FIRST_PAIR, TimedLaunch(few[0], 8.0)]
    assert estimate_seconds(confirmed, few) == 8 + 10
    assert estimate_seconds([TimedLaunch(few[0], 8.0)], STAGE_1[:1]) == 8
    assert estimate_seconds(FIRST_PAIR, []) == 0


def test_nothing_is_known_before_both_sides_were_timed() -> None:
    discarded = [TimedLaunch(order(0, side, WARMUP), 500.0) for side in ("base", "new")]
    assert math.isnan(estimate_seconds(discarded, STAGE_1))
    assert math.isnan(estimate_seconds(FIRST_PAIR[:1], STAGE_1[1:]))
    assert foresee_end(discarded, STAGE_1, limited(1), 1000.0) == ""
    assert foresee_end(FIRST_PAIR, STAGE_1[2:], GateSettings(), 60.0) == ""
    assert foresee_end(FIRST_PAIR, [], limited(1), 59.0) == ""


@pytest.mark.parametrize(("minutes", "enough"), [(1.9, False), (2.0, False), (2.01, True)])
def test_stage_1_has_to_reach_its_last_pair(minutes: float, enough: bool) -> None:
    """60 s are gone, the last pair begins 60 s later; that it ends after the limit does not matter."""
    said = foresee_end(FIRST_PAIR, STAGE_1[2:], limited(minutes), 60.0)
    if enough:
        assert "leaves no time at this pace to confirm" in said
    else:
        assert said == (
            f"the limit of {minutes:g} min will not be enough: at this pace the launches known to come take about 2 min more, and "
            "what lacks launches is INCONCLUSIVE; allow 3 min at least, or measure fewer points"
        )


def test_an_alarm_has_to_be_confirmable() -> None:
    """After stage 1 (180 s in all) 16 launches of one point in four: 8 · (5 + 10) s."""
    said = foresee_end(FIRST_PAIR, STAGE_1[2:], limited(5.0), 60.0)
    assert said == (
        "the limit of 5 min leaves no time at this pace to confirm an alarm, which takes 16 launches more: what looks slower would be "
        "INCONCLUSIVE, never FAIL; allow 5 min at least"
    )
    assert foresee_end(FIRST_PAIR, STAGE_1[2:], limited(5.01), 60.0) == ""
    # in stage 2 it is known what is to come, once both sides were timed with the points of that stage
    fresh = [order(6 + at, STAGE_1[at % 2].side, CONFIRM) for at in range(16)]
    assert foresee_end(FIRST_PAIR, fresh, limited(4), 180.0) == ""
    timed = [*FIRST_PAIR, *(TimedLaunch(each, 30.0) for each in fresh[:2])]
    assert foresee_end(timed[:3], fresh[1:], limited(4), 180.0) == ""
    assert "about 7 min more" in foresee_end(timed, fresh[2:], limited(8), 180.0)
    assert foresee_end(timed, fresh[2:], limited(30), 180.0) == ""


def test_room_for_an_alarm_is_known_from_the_start() -> None:
    assert foresee_room(GateSettings()) == foresee_room(GateSettings(max_launches=24)) == ""
    assert foresee_room(GateSettings(max_launches=22, warmup=False)) == ""
    said = "max_launches 23 leaves no room to confirm an alarm, which takes 24 launches in all"
    assert foresee_room(GateSettings(max_launches=23)).startswith(said)
