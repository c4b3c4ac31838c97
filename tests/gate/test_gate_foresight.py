"""Whether a gate says early that its time will not do: the pure part (a real gate that says so is in test_gate_endings)."""

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


@pytest.mark.parametrize("done", [1, 2, 3, 4, 5])
def test_the_last_pair_begins_when_it_begins(done: int) -> None:
    """Six launches of 60 s: the last pair begins after 4 min, whether or not a pair is half done."""
    taken = [TimedLaunch(each, 60.0) for each in STAGE_1[:done]]
    enough = [
        "will not be enough" not in foresee_end(taken, STAGE_1[done:], limited(minutes), 60.0 * done)
        for minutes in (3.9, 4.0, 4.1, 4.5, 4.99)
    ]
    if done in (1, 5):  # one side was not timed yet; the last pair has begun, and is taken whole
        assert enough == [True] * 5
    else:
        assert enough == [False, False, True, True, True]


def test_hours_are_told_as_hours() -> None:
    taken = [TimedLaunch(each, 3600.0) for each in STAGE_1[:2]]
    assert "take about 4.0 h more" in foresee_end(taken, STAGE_1[2:], limited(150), 7200.0)


def test_launches_of_one_side_are_pairs_of_one() -> None:
    """Against a stored run: five launches of 60 s, the last begins after 4 min; no alarm is confirmed."""
    launches = [LaunchOrder(at, "new", SCREEN, at, POINTS) for at in range(5)]
    for done in range(1, 5):
        taken = [TimedLaunch(each, 60.0) for each in launches[:done]]
        said = [
            foresee_end(taken, launches[done:], limited(minutes), 60.0 * done, confirms=False)
            for minutes in (4.0, 4.01, 60.0)
        ]
        assert [bool(each) for each in said] == [True, False, False] and "will not be enough" in said[0]


def test_an_alarm_has_to_be_confirmable() -> None:
    """After stage 1 (180 s in all) 16 launches of one point in four: 8 · (5 + 10) s, the last pair of them after 285 s."""
    said = foresee_end(FIRST_PAIR, STAGE_1[2:], limited(4.75), 60.0)
    assert said == (
        "the limit of 4.75 min leaves no time at this pace to confirm an alarm, which takes 16 launches more: what looks slower would be "
        "INCONCLUSIVE, never FAIL; allow 5 min at least"
    )
    assert foresee_end(FIRST_PAIR, STAGE_1[2:], limited(4.76), 60.0) == ""
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
