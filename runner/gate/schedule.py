"""The scheduler: from the launches taken so far to the next ones to take. A pure state machine; the seed settles
every free order.

Stage 0 is one discarded launch on each side, stage 1 measures every point, stage 2 the escalated ones on fresh
launches. Launches come in pairs, A B and B A by turns, so that two pairs are the block A B B A and a drift of the
machine falls on both sides alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchrun.runner.gate.confirm import confirm_points
from benchrun.runner.gate.launches import CONFIRM, SCREEN, SIDES, WARMUP, GatePlan, Launch, Side, first_side
from benchrun.runner.gate.screen import screen_points
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.table import Table, tabulate
from benchrun.runner.gate.validity import Pairs


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """One launch to take: a fresh process on `side` that measures `points` in this order, with the control workload
    beside it.
    """

    order: int
    side: Side
    stage: int
    pair: int
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """The launches to take next, in this order; none where the run is at its end, and then `stopped` names the bound
    that ended it early.

    A batch may be taken whole or in part: `next_batch` asked again after any launch goes on where that ended. Asking
    after every pair lets points that crashed drop out at once, and keeps the limit on minutes.
    """

    launches: tuple[LaunchOrder, ...]
    stopped: str = ""


def next_batch(
    plan: GatePlan, launches: Iterable[Launch], settings: GateSettings, *, seed: int, elapsed_s: float = 0.0
) -> Batch:
    """The launches that the run needs next, given those taken so far and the seconds since it began."""
    taken = tuple(launches)
    wishes = _wish(plan, taken, settings, seed)
    if not wishes:
        return Batch(())
    if settings.max_minutes is not None and elapsed_s >= settings.max_minutes * 60:
        return Batch((), "max_minutes")
    order = max((each.order for each in taken), default=-1) + 1
    known = {(each.stage, each.pair, each.side) for each in taken}
    room = None if settings.max_launches is None else settings.max_launches - len(taken)
    orders: list[LaunchOrder] = []
    for wish in wishes:
        first = first_side(wish.pair)
        sides = (first, SIDES[first == SIDES[0]])
        pair: list[LaunchOrder] = []
        for side in sides:
            keys = [each.key for each in plan.points if each.key in wish.points and each.on(side)]
            if keys and (wish.stage, wish.pair, side) not in known:
                place = order + len(orders) + len(pair)
                pair.append(LaunchOrder(place, side, wish.stage, wish.pair, shuffle(keys, seed, place)))
        if room is not None and len(orders) + len(pair) > room:
            return Batch(tuple(orders), "" if orders else "max_launches")
        orders += pair
    return Batch(tuple(orders))


def shuffle(keys: Iterable[str], seed: int, order: int) -> tuple[str, ...]:
    """Keys in an order that the seed and the launch's place settle, on every machine alike."""
    return tuple(sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/{order}/{key}".encode()).digest()))


@dataclass(frozen=True, slots=True)
class _Wish:
    stage: int
    pair: int
    points: frozenset[str]


def _wish(plan: GatePlan, taken: Sequence[Launch], settings: GateSettings, seed: int) -> list[_Wish]:
    """Pairs to take next, in order."""
    wishes = []
    if (
        settings.warmup
        and len({each.side for each in taken if each.stage == WARMUP}) < len(SIDES)
        and not any(each.stage for each in taken)
    ):
        groups = {
            (each.device_class, each.group): each.key
            for each in sorted(plan.points, key=lambda each: each.key, reverse=True)
        }
        wishes.append(_Wish(WARMUP, 0, frozenset(groups.values())))
    table = tabulate(plan, taken, settings)
    if table.broken:
        return []
    screen = screen_points(table, plan, settings)
    k1 = settings.screen_launches
    fresh = [each.key for each in plan.points if not each.in_base]
    open_points = {table.points[j].key: k1 for j in range(len(table.points)) if screen.waiting[j]}
    wishes += _fill(table, SCREEN, screen.pairs, open_points, dict.fromkeys(fresh, k1), k1, seed)
    if open_points or len(wishes):
        return wishes
    confirmation = confirm_points(table, settings, screen)
    needed = {
        table.points[j].key: int(screen.point_fresh[j])
        for j in range(len(table.points))
        if confirmation.waiting[j] and screen.point_fresh[j]
    }
    return _fill(table, CONFIRM, confirmation.pairs, needed, {}, settings.confirm_launches_max, seed)


def regular_pairs(count: int, *, late: bool) -> tuple[int, ...]:
    """Places of a point's pairs in the run of blocks. An odd rest is the first pair of a block (A B), or the second
    one (B A) if `late`.
    """
    if count % 2 == 0 or not late:
        return tuple(range(count))
    return (*range(count - 1), count)


def _fill(
    table: Table, stage: int, pairs: Pairs, gated: dict[str, int], single: dict[str, int], most: int, seed: int
) -> list[_Wish]:
    """Pairs that points of a stage still lack: the regular ones first, then replacements of the same kind as those
    that were spoilt.

    `gated` and `single` (points that one side has) map keys to launches wanted; `most` is the most that any point may
    want.
    """
    late = stage == CONFIRM and hashlib.sha256(f"{seed}/rest".encode()).digest()[0] % 2 == 1
    place = {each.key: j for j, each in enumerate(table.points)}
    asked: dict[tuple[int, str], set[Side]] = {}
    for launch in table.launches:
        if launch.stage == stage:
            for key in launch.points:
                asked.setdefault((launch.pair, key), set()).add(launch.side)
    todo: dict[int, set[str]] = {}
    replacements: dict[tuple[int, int], set[str]] = {}
    for key, count in (*gated.items(), *single.items()):
        sides = {"new"} if key in single else set(SIDES)
        regular = regular_pairs(count, late=late)
        left = [pair for pair in regular if asked.get((pair, key), set()) != sides]
        left += [
            pair
            for pair, other in asked
            if other == key and key in gated and len(asked[pair, key]) == 1 and pair not in left
        ]
        for pair in left:
            todo.setdefault(pair, set()).add(key)
        if not left and key in gated:
            j = place[key]
            even = sum(pair % 2 == 0 for pair in regular) - int(pairs.even[j])
            odd = count - int(pairs.valid[j]) - even
            for parity, lacking in ((0, even), (1, odd)):
                for i in range(lacking):
                    replacements.setdefault((i, parity), set()).add(key)
    # places beyond all regular ones, even, so that a replacement begins with the side that the spoilt pair began with
    begin = max(
        [
            most + most % 2 + 2,
            *(launch.pair + 2 - launch.pair % 2 for launch in table.launches if launch.stage == stage),
        ]
    )
    wishes = [_Wish(stage, pair, frozenset(keys)) for pair, keys in sorted(todo.items())]
    wishes += [
        _Wish(stage, begin + 2 * i + parity, frozenset(keys)) for (i, parity), keys in sorted(replacements.items())
    ]
    # the partner of a launch that stands alone comes at once, or the two were not taken side by side
    alone = {
        pair for pair, keys in todo.items() if any(len(asked.get((pair, key), ())) == 1 for key in keys & gated.keys())
    }
    return sorted(wishes, key=lambda wish: wish.pair not in alone)
