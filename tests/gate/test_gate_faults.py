"""Faults that must never pass, each put into a run that passes without it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from benchrun.runner.gate.decision import decide
from benchrun.runner.gate.launches import Launch, Reading
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.verdict import verdict_json
from tests.gate.builders import book, edit, make_plan, metric_of, noisy, point_of, run_gate

PLAN = make_plan()
Change = Callable[[Launch, Reading], Reading | None]


def clean() -> list[Launch]:
    launches, stopped = run_gate(PLAN, noisy())
    assert not stopped
    assert decide(PLAN, launches).exit_code == 0
    return launches


def confirmed() -> list[Launch]:
    """A run whose p1 goes through stage 2 and passes there."""
    launches, _ = run_gate(PLAN, noisy(slower={"p1": 1.024}))
    verdict = decide(PLAN, launches)
    assert verdict.exit_code == 0
    assert metric_of(verdict, "p1").stage == "confirm"
    return launches


def on(
    point: str, side: str | None = None, stage: int | None = None, pair: int | None = None
) -> Callable[[Launch, Reading], bool]:
    def hit(launch: Launch, reading: Reading) -> bool:
        wanted = ((side, launch.side), (stage, launch.stage), (pair, launch.pair))
        return reading.point == point and all(want is None or want == has for want, has in wanted)

    return hit


def with_fields(hit: Callable[[Launch, Reading], bool], **fields: object) -> Change:
    return lambda launch, each: replace(each, **fields) if hit(launch, each) else each  # type: ignore[arg-type]


def dropped(hit: Callable[[Launch, Reading], bool]) -> Change:
    return lambda launch, each: None if hit(launch, each) else each


def scaled(hit: Callable[[Launch, Reading], bool], ratio: float) -> Change:
    def change(launch: Launch, each: Reading) -> Reading:
        if not hit(launch, each):
            return each
        assert each.p50_ms is not None
        assert each.throughput_seq_s is not None
        return replace(each, p50_ms=each.p50_ms * ratio, throughput_seq_s=each.throughput_seq_s / ratio)

    return change


ONE_POINT: dict[str, tuple[Change, str]] = {
    "point gone on both sides": (dropped(on("p1")), "MISSING"),
    "point gone on the new side": (dropped(on("p1", "new")), "MISSING"),
    "point gone from one launch": (dropped(on("p1", "base", 1, 2)), "MISSING"),
    "crash once": (with_fields(on("p1", "new", 1, 0), status="crashed", error="SIGSEGV"), "MISSING"),
    "out of memory": (with_fields(on("p1", "new"), status="oom", p50_ms=None, throughput_seq_s=None, n=0), "MISSING"),
    "time-out": (with_fields(on("p1", "base", 1, 1), status="timeout"), "MISSING"),
    "interrupted": (with_fields(on("p1", "base", 1, 1), status="interrupted"), "MISSING"),
    "unknown status": (with_fields(on("p1", "base", 1, 1), status="fine"), "MISSING"),
    "NaN median": (with_fields(on("p1", "new", 1, 0), p50_ms=float("nan")), "MISSING"),
    "infinite rate": (with_fields(on("p1", "new", 1, 0), throughput_seq_s=float("inf")), "MISSING"),
    "no rate": (with_fields(on("p1", "new", 1, 0), throughput_seq_s=None), "MISSING"),
    "zero median": (with_fields(on("p1", "new", 1, 0), p50_ms=0.0), "MISSING"),
    "negative median": (with_fields(on("p1", "new", 1, 0), p50_ms=-10.0), "MISSING"),
    "too few samples": (with_fields(on("p1", "new", 1, 0), n=29), "MISSING"),
    "seconds for milliseconds, new": (scaled(on("p1", "new"), 1e-3), "INVALID"),
    "seconds for milliseconds, base": (scaled(on("p1", "base"), 1e-3), "INVALID"),
    "microseconds for milliseconds, new": (scaled(on("p1", "new"), 1e3), "INVALID"),
    "seconds in one launch": (scaled(on("p1", "new", 1, 0), 1e-3), "MISSING"),  # its stage 2 was never taken
    "copied values on a side": (with_fields(on("p1", "new"), p50_ms=10.0, throughput_seq_s=100.0), "INVALID"),
    "one value for all, clock too coarse": (with_fields(on("p1", "new"), p50_ms=10.0), "INVALID"),
    "wrong answers": (with_fields(on("p1", "new"), parity_ok=False), "INVALID"),
    "status invalid": (with_fields(on("p1", "new"), status="invalid"), "INVALID"),
    "throttled throughout": (with_fields(on("p1", "new"), throttled=True), "INVALID"),
    "shared throughout": (with_fields(on("p1"), foreign=True), "INVALID"),
    "throttled once, never replaced": (with_fields(on("p1", "new", 1, 0), throttled=True), "MISSING"),
    "clock lock lost on the new side": (with_fields(on("p1", "new"), clock_mhz=1300.0), "INVALID"),
    "clock lock lost on both": (
        lambda launch, each: replace(each, clock_mhz=1500.0 - 120 * launch.order) if each.point == "p1" else each,
        "MISSING",  # two pairs to replace, which was never done
    ),
}


@pytest.mark.parametrize("fault", ONE_POINT)
def test_a_fault_at_one_point_never_passes(fault: str) -> None:
    change, expected = ONE_POINT[fault]
    verdict = decide(PLAN, edit(clean(), change))
    assert point_of(verdict, "p1").verdict == expected
    assert point_of(verdict, "p1").reason
    assert verdict.exit_code == 3
    if fault != "seconds in one launch":  # whose variance is pooled, so that all points ask for stage 2
        assert [point_of(verdict, key).verdict for key in ("p0", "p2", "p3")] == ["PASS"] * 3


LATE: dict[str, tuple[Change, str]] = {
    "point gone from one fresh launch": (dropped(on("p1", "new", 2, 3)), "MISSING"),
    "crash in stage 2": (with_fields(on("p1", "new", 2, 7), status="crashed"), "MISSING"),
    "NaN in stage 2": (with_fields(on("p1", "base", 2, 0), p50_ms=float("nan")), "MISSING"),
    "units change in stage 2": (scaled(on("p1", "new", 2), 1e-3), "INVALID"),
    "copied values in stage 2": (with_fields(on("p1", "new", 2), p50_ms=10.0, throughput_seq_s=100.0), "INVALID"),
    "identical medians in stage 2": (with_fields(on("p1", "new", 2), p50_ms=10.0), "INVALID"),
    "throttled in stage 2": (with_fields(on("p1", "new", 2), throttled=True), "INVALID"),
    "clock lock lost in stage 2": (with_fields(on("p1", "new", 2), clock_mhz=1300.0), "INVALID"),
}


@pytest.mark.parametrize("fault", LATE)
def test_a_fault_in_stage_two_never_passes(fault: str) -> None:
    change, expected = LATE[fault]
    verdict = decide(PLAN, edit(confirmed(), change))
    assert point_of(verdict, "p1").verdict == expected
    assert verdict.exit_code == 3
    assert point_of(verdict, "p0").verdict == "PASS"


def renumbered(launches: list[Launch]) -> list[Launch]:
    return [
        *launches,
        *(replace(each, order=each.order + 100, pair=each.pair + 100) for each in launches if each.stage),
    ]


def swapped(launches: list[Launch]) -> list[Launch]:
    return [replace(each, side="new" if each.side == "base" else "base") for each in launches]


def relabelled(launches: list[Launch]) -> list[Launch]:
    """Swapped sides, with subjects that fit: only the order of the launches can tell."""
    return [replace(each, subject=PLAN.subject(each.side)) for each in swapped(launches)]


def blocked(launches: list[Launch]) -> list[Launch]:
    ordered = sorted(launches, key=lambda each: (each.side, each.order))
    return [replace(each, order=place) for place, each in enumerate(ordered)]


def changed(launches: list[Launch], place: int, /, **fields: object) -> list[Launch]:
    return [replace(each, **fields) if each.order == place else each for each in launches]  # type: ignore[arg-type]


WHOLE_RUN: dict[str, tuple[Callable[[list[Launch]], list[Launch]], str]] = {
    "nothing came back": (lambda launches: [], "MISSING"),
    "one launch fewer": (lambda launches: launches[:-1], "MISSING"),
    "a launch in the middle is gone": (lambda launches: [each for each in launches if each.order != 4], "MISSING"),
    "a whole side is gone": (lambda launches: [each for each in launches if each.side == "base"], "MISSING"),
    "killed worker: a launch without rows": (lambda launches: changed(launches, 5, readings=()), "MISSING"),
    "other driver on the new side": (
        lambda launches: [replace(each, fingerprint="0ther") if each.side == "new" else each for each in launches],
        "MISSING",
    ),
    "other hardware in one launch": (lambda launches: changed(launches, 6, fingerprint="0ther"), "MISSING"),
    "hardware unknown": (lambda launches: [replace(each, fingerprint="") for each in launches], "MISSING"),
    "launches of two sessions": (lambda launches: changed(launches, 7, session="s2"), "INVALID"),
    "sides swapped": (swapped, "INVALID"),
    "sides swapped without a trace": (relabelled, "INVALID"),
    "base ran on both sides": (
        lambda launches: [replace(each, subject=PLAN.base) if each.stage else each for each in launches],
        "INVALID",
    ),
    "sides one after the other": (blocked, "INVALID"),
    "rows twice": (lambda launches: [*launches, *launches], "INVALID"),
    "one launch twice": (lambda launches: [*launches, launches[4]], "INVALID"),
    "rows twice under new numbers": (renumbered, "INVALID"),
    "one pair taken twice": (lambda launches: [*launches, replace(launches[-1], order=50)], "INVALID"),
    "two launches at one place": (lambda launches: changed(launches, 5, order=4), "INVALID"),
    "control absent": (lambda launches: changed(launches, 5, control_ms=None), "INVALID"),
    "control not finite": (lambda launches: changed(launches, 5, control_ms=float("nan")), "INVALID"),
    "control copied": (lambda launches: [replace(each, control_ms=5.0) for each in launches], "INVALID"),
    "control moved with the side": (
        lambda launches: [
            replace(each, control_ms=(each.control_ms or 0) * (1.05 if each.side == "new" else 1)) for each in launches
        ],
        "INVALID",
    ),
    "control faster with the side": (
        lambda launches: [
            replace(each, control_ms=(each.control_ms or 0) * (0.9 if each.side == "new" else 1)) for each in launches
        ],
        "INVALID",
    ),
}


@pytest.mark.parametrize("fault", WHOLE_RUN)
def test_a_fault_of_the_run_never_passes(fault: str) -> None:
    change, expected = WHOLE_RUN[fault]
    verdict = decide(PLAN, change(clean()))
    assert {each.verdict for each in verdict.points} == {expected}
    assert verdict.verdict == expected
    assert verdict.exit_code == 3
    assert all(each.reason for each in verdict.points)


def test_copied_rows_do_not_raise_the_count() -> None:
    verdict = decide(PLAN, renumbered(clean()))
    assert all(each.launches <= 3 for point in verdict.points for each in point.metrics)
    verdict = decide(PLAN, [*clean(), *clean()])
    assert all(point.launches_base == 3 for point in verdict.points)


def test_copies_are_seen_without_digests_too() -> None:
    bare = edit(clean(), lambda launch, each: replace(each, digest=""))
    assert decide(PLAN, bare).exit_code == 0
    source = {each.point: each for each in bare[2].readings}
    copied = edit(bare, lambda launch, each: source[each.point] if launch.order == 6 else each)
    assert {each.verdict for each in decide(PLAN, copied).points} == {"INVALID"}


def test_a_run_invalid_as_a_whole_cannot_fail_either() -> None:
    launches, _ = run_gate(PLAN, noisy(slower={"p1": 1.3}))
    assert decide(PLAN, launches).exit_code == 1
    moved = [replace(each, control_ms=(each.control_ms or 0) * (1.3 if each.side == "new" else 1)) for each in launches]
    verdict = decide(PLAN, moved)
    assert verdict.exit_code == 3
    said = r"the control workload moved by \+(29|30|31)\.\d\d %, beyond doubt more than 1 %: the machine differed between the sides"
    assert re.fullmatch(said, point_of(verdict, "p1").reason)
    assert metric_of(verdict, "p1").ratio == pytest.approx(1.3, rel=0.02)  # still shown


def test_a_control_that_moves_within_one_percent_is_no_fault() -> None:
    moved = [
        replace(each, control_ms=(each.control_ms or 0) * (1.008 if each.side == "new" else 1)) for each in clean()
    ]
    assert decide(PLAN, moved).exit_code == 0


def test_a_run_without_control_says_so() -> None:
    settings = GateSettings(control=False)
    launches = [replace(each, control_ms=None) for each in clean()]
    verdict = decide(PLAN, launches, settings)
    assert verdict.exit_code == 0
    assert verdict.control.verdict == "not measured"


def test_rows_of_unknown_points_are_left_out_with_a_warning() -> None:
    launches = clean()
    stranger = replace(launches[3].readings[0], point="p99", digest="other")
    verdict = decide(PLAN, changed(launches, 3, readings=(*launches[3].readings, stranger)))
    assert verdict.exit_code == 0
    assert "'p99'" in verdict.warnings[0]


def test_a_launch_that_two_workers_finished_is_one() -> None:
    launches = clean()
    whole = launches[4]
    first = replace(whole, readings=whole.readings[:1])
    rest = replace(whole, readings=whole.readings[1:])
    verdict = decide(PLAN, [*launches[:4], rest, *launches[5:], first])
    assert verdict_json(verdict) == verdict_json(decide(PLAN, launches))


def test_unsteady_launches_are_kept_and_shown() -> None:
    launches = edit(clean(), with_fields(on("p2", "new"), steady=False))
    verdict = decide(PLAN, launches)
    assert verdict.exit_code == 0
    assert "3 launches were not steady (kept)" in point_of(verdict, "p2").notes


def test_neighbours_on_the_cpu_are_blamed_where_nothing_could_be_told() -> None:
    blame = "the CPU was not the gate's alone during 3 of 6 launches: that widens the intervals"
    launches = edit(clean(), with_fields(on("p2", "new"), noisy=True))
    assert not decide(PLAN, launches).warnings  # it passed all the same
    verdict = decide(PLAN, edit(launches, scaled(on("p2", "new"), 1.5)), stopped="max_launches")
    assert verdict.exit_code == 4 and verdict.warnings == (blame,)
    assert not decide(PLAN, edit(clean(), scaled(on("p2", "new"), 1.5)), stopped="max_launches").warnings


def test_a_slow_launch_is_never_left_out() -> None:
    slow = edit(clean(), scaled(on("p2", "new", 1, 1), 1.5))
    orders: list[Launch] = []
    measure = noisy()
    from benchrun.runner.gate.schedule import next_batch

    while batch := next_batch(PLAN, [*slow, *orders], GateSettings(), seed=1).launches:
        orders += [book(order, PLAN, measure) for order in batch]
    verdict = decide(PLAN, [*slow, *orders])
    assert metric_of(verdict, "p2").stage == "confirm"
    assert metric_of(verdict, "p2").ratio > 1.005
    assert not point_of(verdict, "p2").notes
