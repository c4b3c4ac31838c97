"""Whether a gate can end in time, from the launches that it has taken: said after the first pair, not only at the end. Pure.

Estimates, for people: more launches may turn out to be needed than are known to come, and a launch of half the points is taken
to cost half, though a process has to start all the same and points are not alike. No verdict depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchrun.runner.durations import describe_seconds
from benchrun.runner.gate.launches import SCREEN, SIDES, WARMUP
from benchrun.runner.gate.schedule import LaunchOrder
from benchrun.runner.gate.settings import GateSettings


@dataclass(frozen=True, slots=True)
class TimedLaunch:
    """A launch that was taken, and the seconds that it took, the control included."""

    order: LaunchOrder
    seconds: float


def estimate_seconds(taken: Sequence[TimedLaunch], ahead: Sequence[LaunchOrder], *, whole: bool = False) -> float:
    """What the launches `ahead` take at the pace of those taken; NaN while a side that they need has not been
    timed. Discarded launches tell nothing: they measure fewer points, on a cold machine.

    `whole`: a launch measures everything, whichever points it was asked for (a command).
    """
    counted = [each for each in taken if each.order.stage != WARMUP]
    total = 0.0
    for order in ahead:
        on_side = [each for each in counted if each.order.side == order.side]
        alike = [each for each in on_side if each.order.stage == order.stage] or on_side
        if not alike:
            return math.nan
        shares = [1.0 if whole else min(1.0, len(order.points) / len(each.order.points)) for each in alike]
        total += math.fsum(s * each.seconds for s, each in zip(shares, alike, strict=True)) / len(alike)
    return total


def foresee_end(
    taken: Sequence[TimedLaunch],
    ahead: Sequence[LaunchOrder],
    settings: GateSettings,
    elapsed_s: float,
    *,
    whole: bool = False,
    confirms: bool = True,
) -> str:
    """One sentence where `max_minutes` will end the run too early, or leave no time to confirm an alarm; empty where it
    will not, or where that is not known yet. `ahead`: all launches that are known to come. `confirms`: an alarm has to
    repeat on fresh launches (not against a stored run).
    """
    if settings.max_minutes is None or not ahead:
        return ""
    limit_s, given = settings.max_minutes * 60, f"the limit of {settings.max_minutes:g} min"
    stage = ahead[0].stage
    if {each.side for each in ahead} - {each.order.side for each in taken if each.order.stage == stage}:
        return ""  # the other stage's launches had other points: too little to warn by
    left_s = estimate_seconds(taken, ahead, whole=whole)
    before = _find_last_pair(taken, ahead)
    if before is not None and elapsed_s + estimate_seconds(taken, ahead[:before], whole=whole) >= limit_s:
        return (
            f"{given} will not be enough: at this pace the launches known to come take about {describe_seconds(left_s)} more, and what "
            f"lacks launches is INCONCLUSIVE; allow {math.ceil((elapsed_s + left_s) / 60)} min at least, or measure fewer points"
        )
    if stage != SCREEN or not confirms:
        return ""
    confirming = _confirm_one(ahead[0], settings)
    confirming_s = left_s + estimate_seconds(taken, confirming, whole=whole)
    if elapsed_s + left_s + estimate_seconds(taken, confirming[: -len(SIDES)], whole=whole) >= limit_s:
        return (
            f"{given} leaves no time at this pace to confirm an alarm, which takes {2 * settings.confirm_launches_min} launches more: what "
            f"looks slower would be INCONCLUSIVE, never FAIL; allow {math.ceil((elapsed_s + confirming_s) / 60)} min at least"
        )
    return ""


def foresee_room(settings: GateSettings) -> str:
    """One sentence where `max_launches` leaves no room to confirm an alarm, which is known from the start; else empty."""
    needed = 2 * (settings.screen_launches + settings.warmup + settings.confirm_launches_min)
    if settings.max_launches is None or settings.max_launches >= needed:
        return ""
    return (
        f"max_launches {settings.max_launches} leaves no room to confirm an alarm, which takes {needed} launches in all: what "
        "looks slower is INCONCLUSIVE, never FAIL"
    )


def _find_last_pair(taken: Sequence[TimedLaunch], ahead: Sequence[LaunchOrder]) -> int | None:
    """Where in `ahead` the last pair begins; None where it has begun. The limit is looked at before a pair, and one that
    has begun is taken whole.
    """
    pairs = [(each.stage, each.pair) for each in ahead]
    begun = taken[-1].order
    return None if pairs[-1] == (begun.stage, begun.pair) else pairs.index(pairs[-1])


def _confirm_one(like: LaunchOrder, settings: GateSettings) -> list[LaunchOrder]:
    """The fewest launches that confirm an alarm of one point."""
    point = like.points[:1]
    return [
        LaunchOrder(like.order, side, like.stage, like.pair, point)
        for _ in range(settings.confirm_launches_min)
        for side in SIDES
    ]
