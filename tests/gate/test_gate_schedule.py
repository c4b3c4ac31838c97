from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from benchrun.runner.gate.decision import decide
from benchrun.runner.gate.launches import Launch, PlannedPoint, Reading
from benchrun.runner.gate.schedule import LaunchOrder, next_batch, regular_pairs, shuffle
from benchrun.runner.gate.settings import GateSettings
from tests.gate.builders import Measure, book, make_plan, metric_of, noisy, point_of, run_gate

PLAN = make_plan()
COLD = GateSettings(warmup=False)


def sides(launches: list[Launch], stage: int) -> str:
    return "".join("A" if each.side == "base" else "B" for each in launches if each.stage == stage)


def test_stage_one_is_a_b_b_a_a_b_after_a_discarded_pair() -> None:
    launches, stopped = run_gate(PLAN, noisy())
    assert sides(launches, 0) == "AB"
    assert sides(launches, 1) == "ABBAAB"
    assert not [each for each in launches if each.stage == 2]
    assert [each.order for each in launches] == list(range(8))
    assert not stopped
    assert all(len(each.points) == 1 for each in launches if each.stage == 0)
    assert all(set(each.points) == {"p0", "p1", "p2", "p3"} for each in launches if each.stage == 1)


def test_the_discarded_pair_warms_every_group_and_never_counts() -> None:
    points = tuple(PlannedPoint(key=f"p{j}", group=f"model {j % 2}") for j in range(4))
    plan = make_plan(points=points)
    wild = noisy(slower=dict.fromkeys(("p0", "p1"), 40.0))
    calm = noisy()
    launches, _ = run_gate(plan, lambda order, key: (calm if order.stage else wild)(order, key))
    assert set(launches[0].points) == {"p0", "p1"}
    verdict = decide(plan, launches)
    assert verdict.exit_code == 0
    assert verdict.launches == 6


def test_stage_two_takes_blocks_of_the_escalated_points_only() -> None:
    launches, _ = run_gate(PLAN, noisy(slower={"p2": 1.06}))
    assert sides(launches, 2) == "ABBA" * 4
    assert {each.points for each in launches if each.stage == 2} == {("p2",)}


@pytest.mark.parametrize(
    ("count", "late", "pairs"), [(4, True, (0, 1, 2, 3)), (3, False, (0, 1, 2)), (3, True, (0, 1, 3))]
)
def test_a_rest_of_one_pair_goes_either_way(count: int, late: bool, pairs: tuple[int, ...]) -> None:
    assert regular_pairs(count, late=late) == pairs


def test_the_seed_settles_the_rest_and_both_ways_occur() -> None:
    endings: Counter[str] = Counter()
    for seed in range(24):
        launches, _ = run_gate(PLAN, noisy(sd=0.0215, seed=seed), seed=seed)
        fresh = Counter(key for each in launches if each.stage == 2 and each.side == "new" for key in each.points)
        verdict = decide(PLAN, launches)
        for point in verdict.points:
            wanted = max(each.fresh_launches for each in point.metrics)
            assert fresh[point.point] == wanted
            if wanted % 2:
                pairs = [each for each in launches if each.stage == 2 and point.point in each.points]
                endings[pairs[-1].side] += 1
    assert set(endings) == {"base", "new"}


def test_points_are_shuffled_by_seed_and_place() -> None:
    keys = [f"p{j}" for j in range(20)]
    assert shuffle(keys, 1, 0) == shuffle(reversed(keys), 1, 0)
    assert shuffle(keys, 1, 0) != shuffle(keys, 1, 1)
    assert shuffle(keys, 1, 0) != shuffle(keys, 2, 0)
    assert sorted(shuffle(keys, 1, 0)) == sorted(keys)
    first = Counter(shuffle(keys, seed, 0)[0] for seed in range(400))
    assert len(first) == 20
    assert max(first.values()) < 50


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_asking_after_any_launch_goes_on_where_it_ended(chunk: int) -> None:
    measure = noisy(sd=0.02, slower={"p1": 1.08})
    whole, _ = run_gate(PLAN, measure)
    assert run_gate(PLAN, measure, chunk=chunk)[0] == whole


def test_launches_come_in_any_order() -> None:
    launches, _ = run_gate(PLAN, noisy(slower={"p2": 1.06}))
    part = launches[:11]
    assert next_batch(PLAN, part[::-1], GateSettings(), seed=1) == next_batch(PLAN, part, GateSettings(), seed=1)


def test_a_run_ends_at_its_most_launches_and_is_inconclusive() -> None:
    settings = GateSettings(max_launches=13)
    launches, stopped = run_gate(PLAN, noisy(slower={"p2": 1.06}), settings)
    assert stopped == "max_launches"
    assert len(launches) == 12  # no half pair
    verdict = decide(PLAN, launches, settings, stopped=stopped)
    assert verdict.exit_code == 4
    assert point_of(verdict, "p2").verdict == "INCONCLUSIVE"
    assert "2 of 8 fresh launches a side, ended by max_launches" in point_of(verdict, "p2").reason
    assert point_of(verdict, "p0").verdict == "PASS"
    assert decide(PLAN, launches, settings).exit_code == 3  # nothing says why the rest is missing


def test_a_run_that_ends_in_stage_one_is_inconclusive_throughout() -> None:
    settings = GateSettings(max_launches=4)
    launches, stopped = run_gate(PLAN, noisy(), settings)
    verdict = decide(PLAN, launches, settings, stopped=stopped)
    assert {each.verdict for each in verdict.points} == {"INCONCLUSIVE"}
    assert verdict.exit_code == 4
    assert verdict.control.verdict == "PASS"


def test_no_launch_starts_after_the_last_minute() -> None:
    settings = GateSettings(max_minutes=10)
    assert next_batch(PLAN, [], settings, seed=1, elapsed_s=599).launches
    late = next_batch(PLAN, [], settings, seed=1, elapsed_s=600)
    assert (late.launches, late.stopped) == ((), "max_minutes")
    done, _ = run_gate(PLAN, noisy())
    assert next_batch(PLAN, done, settings, seed=1, elapsed_s=9999).stopped == ""  # nothing was left to do


def spoil(measure: Measure, *hits: tuple[str, str, int, int], **fields: object) -> Measure:
    """Readings of (point, side, stage, pair) get other fields."""

    def spoiled(order: LaunchOrder, key: str) -> Reading:
        reading = measure(order, key)
        hit = (key, order.side, order.stage, order.pair) in hits
        return replace(reading, **(fields or {"throttled": True})) if hit else reading  # type: ignore[arg-type]

    return spoiled


def test_an_invalid_launch_is_replaced_on_both_sides_in_the_same_order() -> None:
    launches, _ = run_gate(PLAN, spoil(noisy(), ("p1", "new", 1, 1)))
    extra = [each for each in launches if each.stage == 1][6:]
    assert [each.side for each in extra] == ["new", "base"]  # pair 1 was B A
    assert [each.points for each in extra] == [("p1",), ("p1",)]
    verdict = decide(PLAN, launches)
    assert verdict.exit_code == 0
    metric = metric_of(verdict, "p1")
    assert metric.launches == 3
    assert "1 launches were invalid" in point_of(verdict, "p1").notes[0]
    assert point_of(verdict, "p0").launches_base == 3


def test_different_pairs_of_different_points_are_replaced_together() -> None:
    launches, _ = run_gate(PLAN, spoil(noisy(), ("p0", "new", 1, 0), ("p1", "base", 1, 1), ("p2", "base", 1, 2)))
    extra = [each for each in launches if each.stage == 1][6:]
    assert [(each.side, set(each.points)) for each in extra] == [
        ("base", {"p0", "p2"}),
        ("new", {"p0", "p2"}),
        ("new", {"p1"}),
        ("base", {"p1"}),
    ]
    assert decide(PLAN, launches).exit_code == 0


@pytest.mark.parametrize("chunk", [None, 1])
def test_a_replacement_is_replaced_once_and_then_the_point_is_invalid(chunk: int | None) -> None:
    two = [("p1", "new", 1, 1), ("p1", "base", 1, 7)]
    launches, _ = run_gate(PLAN, spoil(noisy(), *two), chunk=chunk)
    assert decide(PLAN, launches).exit_code == 0
    three, _ = run_gate(PLAN, spoil(noisy(), *two, ("p1", "new", 1, 9)), chunk=chunk)
    verdict = decide(PLAN, three)
    assert point_of(verdict, "p1").verdict == "INVALID"
    assert verdict.exit_code == 3
    assert len([each for each in three if each.stage == 1]) == 10  # no third replacement


def test_replacements_in_stage_two_stop_at_one_in_three() -> None:
    slow = noisy(slower={"p2": 1.06})
    two = [("p2", "new", 2, 0), ("p2", "base", 2, 5)]
    launches, _ = run_gate(PLAN, spoil(slow, *two))
    assert sides(launches, 2) == "ABBA" * 4 + "ABBA"
    verdict = decide(PLAN, launches)
    assert point_of(verdict, "p2").verdict == "FAIL"
    assert metric_of(verdict, "p2").launches == 11
    three, _ = run_gate(PLAN, spoil(slow, *two, ("p2", "base", 2, 6)))
    assert point_of(decide(PLAN, three), "p2").verdict == "INVALID"


def test_a_replacement_is_finished_before_anything_else() -> None:
    measure = spoil(noisy(), ("p1", "new", 1, 1), ("p3", "new", 1, 0))
    whole, _ = run_gate(PLAN, measure)
    for chunk in (1, 3):
        launches, _ = run_gate(PLAN, measure, chunk=chunk)
        assert decide(PLAN, launches).exit_code == 0
        assert len(launches) == len(whole)


def test_a_point_that_crashed_is_not_taken_again() -> None:
    measure = spoil(noisy(), ("p1", "base", 1, 0), status="crashed")
    launches, _ = run_gate(PLAN, measure, chunk=2)
    assert sum("p1" in each.points for each in launches if each.stage) == 2
    verdict = decide(PLAN, launches)
    assert point_of(verdict, "p1").verdict == "MISSING"
    assert point_of(verdict, "p0").verdict == "PASS"


def test_a_point_on_one_side_only_is_taken_there_only() -> None:
    plan = make_plan(points=(*PLAN.points, PlannedPoint(key="p8", in_new=False), PlannedPoint(key="p9", in_base=False)))
    launches, _ = run_gate(plan, noisy(), COLD)
    assert not [each for each in launches if "p8" in each.points]
    assert [each.side for each in launches if "p9" in each.points] == ["new"] * 3


def test_only_new_points() -> None:
    plan = make_plan(points=(PlannedPoint(key="p9", in_base=False),))
    launches, _ = run_gate(plan, noisy(), COLD)
    assert [each.side for each in launches] == ["new"] * 3
    verdict = decide(plan, launches, GateSettings(control=False))
    assert (verdict.verdict, verdict.exit_code) == ("NEW", 0)


def test_a_run_that_is_invalid_as_a_whole_is_not_continued() -> None:
    launches, _ = run_gate(PLAN, noisy(slower={"p2": 1.06}))
    part = [replace(each, subject="something else") for each in launches[:8]]
    assert not next_batch(PLAN, part, GateSettings(), seed=1).launches


def test_orders_can_be_booked() -> None:
    order = next_batch(PLAN, [], COLD, seed=3).launches[0]
    launch = book(order, PLAN, noisy())
    assert (launch.order, launch.side, launch.points) == (0, "base", order.points)
