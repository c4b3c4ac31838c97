"""The launches as columns, sorted, so that equal rows in any order are equal tables. Copied and contradictory rows
are found here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchrun.runner.gate.launches import METRICS, SCREEN, GatePlan, Launch, PlannedPoint, Reading, first_side
from benchrun.runner.gate.settings import GateSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Masks = npt.NDArray[np.bool_]
    Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Table:
    """L launches by P points (in the order of their keys), M metrics in the plan's order.

    `broken` says why the whole run is invalid; `copied` why a point is (by its place), with the stage that shows it;
    `unexpected` lists keys that are not in the plan.
    """

    points: tuple[PlannedPoint, ...]
    launches: tuple[Launch, ...]
    stage: Numbers  # [L]
    new: Masks  # [L] True on the new side
    asked: Masks  # [L, P]
    readings: Mapping[int, Reading]  # by launch · P + point
    usable: Masks  # [L, P] there, ok, enough samples, finite in every metric
    flagged: Masks  # [L, P] throttled, foreign process or wrong answer
    unsteady: Masks  # [L, P]
    samples: Floats  # [L, P]
    clock: Floats  # [L, P] MHz, NaN where unknown
    y: Floats  # [M, L, P] NaN where there is none
    floor: Floats  # [L, P] clock resolution over median
    broken: tuple[str, ...]
    copied: Mapping[int, tuple[int, str]]
    unexpected: tuple[str, ...]


def tabulate(plan: GatePlan, launches: Iterable[Launch], settings: GateSettings) -> Table:
    """Turn launches, in any order, into columns. Launches of the warm-up are left out."""
    import numpy as np

    points = tuple(sorted(plan.points, key=lambda each: each.key))
    place = {each.key: j for j, each in enumerate(points)}
    width = len(points)
    taken, broken = _merge(plan, [each for each in launches if each.stage >= SCREEN])
    length = len(taken)

    spots: list[int] = []
    kept: list[Reading] = []
    wanted: list[int] = []
    unexpected: set[str] = set()
    for i, launch in enumerate(taken):
        row = i * width
        wanted += [row + place[key] for key in launch.points if key in place]
        for reading in launch.readings:
            j = place.get(reading.point)
            if j is None:
                unexpected.add(reading.point)
            else:
                spots.append(row + j)
                kept.append(reading)
    copied = _find_copies(taken, spots, kept, width)

    size, at = length * width, np.array(spots, dtype=np.int64)

    def column(values: list[float | None], absent: float) -> Floats:
        full = np.full(size, absent)
        full[at] = np.array(values, dtype=np.float64)
        return full.reshape(length, width)

    def flags(values: list[bool]) -> Masks:
        full = np.zeros(size, dtype=np.bool_)
        full[at] = values
        return full.reshape(length, width)

    asked = np.zeros(size, dtype=np.bool_)
    asked[np.array(wanted, dtype=np.int64)] = True
    raw = {
        "p50": [each.p50_ms for each in kept],
        "throughput": [each.throughput_seq_s for each in kept],
    }
    values = [
        column(raw[name] if name in raw else [getattr(each, METRICS[name].column) for each in kept], np.nan)
        for name in plan.metrics
    ]
    signs = [METRICS[name].sign for name in plan.metrics]
    samples = column([each.n for each in kept], 0.0)
    median = column(raw["p50"], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.stack(
            [sign * np.log(np.where(each > 0, each, np.nan)) for sign, each in zip(signs, values, strict=True)]
        )
        floor = column([each.resolution_ns for each in kept], 0.0) / (median * 1e6)
    # a wrong answer is timed: the launch is there, and invalid
    there = flags([each.status in ("ok", "invalid") for each in kept])
    usable = there & (samples >= min_samples(plan, settings)) & np.isfinite(y).all(axis=0)
    return Table(
        points=points,
        launches=tuple(taken),
        stage=np.array([each.stage for each in taken], dtype=np.int64),
        new=np.array([each.side == "new" for each in taken], dtype=np.bool_),
        asked=asked.reshape(length, width),
        readings=dict(zip(spots, kept, strict=True)),
        usable=usable,
        flagged=flags(
            [each.throttled or each.foreign or not each.parity_ok or each.status == "invalid" for each in kept]
        ),
        unsteady=flags([each.steady is False for each in kept]),
        samples=samples,
        clock=column([each.clock_mhz for each in kept], np.nan),
        y=y,
        floor=np.where(np.isfinite(floor), floor, 0.0),
        broken=tuple(broken),
        copied=copied,
        unexpected=tuple(sorted(unexpected)),
    )


def min_samples(plan: GatePlan, settings: GateSettings) -> int:
    """Fewest samples that a launch of this plan needs."""
    return settings.min_rounds if plan.foreign else settings.min_samples


def _merge(plan: GatePlan, launches: list[Launch]) -> tuple[list[Launch], list[str]]:
    """Launches in the order taken, one for each place in it, and what makes the run as a whole invalid."""
    broken: list[str] = []
    by_place: dict[tuple[str, int], list[Launch]] = {}
    for each in launches:
        by_place.setdefault((each.session, each.order), []).append(each)
    taken: list[Launch] = []
    for (_, order), claims in sorted(by_place.items()):
        if len({_head(each) for each in claims}) > 1:
            broken.append(f"two different launches claim place {order + 1} of the session")
        # a worker that died was followed by another one; the rows of a copy meet their likes in _find_copies
        taken.append(claims[0] if len(claims) == 1 else _join(sorted(claims, key=repr)))
    sessions = {each.session for each in taken}
    if len(sessions) > 1:
        broken.append(f"the launches come from {len(sessions)} sessions: both sides have to be measured in one")
    broken += [
        f"launch {each.order + 1} is booked as {each.side} but ran {each.subject!r}, not {plan.subject(each.side)!r}"
        for each in taken
        if each.subject != plan.subject(each.side)
    ]
    pairs: dict[tuple[int, int], list[Launch]] = {}
    for each in taken:
        pairs.setdefault((each.stage, each.pair), []).append(each)
    for (stage, pair), members in pairs.items():
        first = first_side(pair)
        sides = [each.side for each in members]
        if len(members) > 2 or len(set(sides)) < len(sides):
            broken.append(f"pair {pair} of stage {stage} has more than one launch on a side")
        elif len(members) == 2 and (sides[0] != first or members[1].order != members[0].order + 1):
            broken.append(
                f"pair {pair} of stage {stage} was not taken as planned: {first} first, the other side right after it"
            )
    return taken, broken


def _head(launch: Launch) -> tuple[object, ...]:
    return (launch.side, launch.stage, launch.pair, launch.subject, launch.fingerprint, launch.control_ms)


def _join(claims: list[Launch]) -> Launch:
    points = tuple(dict.fromkeys(key for each in claims for key in each.points))
    return replace(claims[0], points=points, readings=tuple(reading for each in claims for reading in each.readings))


def _find_copies(taken: list[Launch], spots: list[int], kept: list[Reading], width: int) -> dict[int, tuple[int, str]]:
    """Points whose rows are there twice, under the same launch or under another one's name, and the first stage that
    shows it.
    """
    twice: dict[int, tuple[int, str]] = {}

    def note(keys: list[tuple[object, ...]], at: list[int], text: str) -> None:
        if len(set(keys)) == len(keys):
            return
        seen: set[tuple[object, ...]] = set()
        for key, spot in sorted(zip(keys, at, strict=True), key=lambda each: each[1]):
            if key in seen:
                twice.setdefault(spot % width, (taken[spot // width].stage, text))
            seen.add(key)

    note([(spot,) for spot in spots], spots, "a launch has more than one row of this point (copied rows)")
    for found in (
        [((spot % width, each.digest), spot) for spot, each in zip(spots, kept, strict=True) if each.digest],
        [
            ((spot % width, each.p50_ms, each.throughput_seq_s), spot)
            for spot, each in zip(spots, kept, strict=True)
            if each.p50_ms is not None and each.throughput_seq_s is not None
        ],
    ):
        note(
            [key for key, _ in found], [spot for _, spot in found], "two launches carry the same samples (copied rows)"
        )
    return twice
