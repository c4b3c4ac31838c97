"""Validity, before any statistics: which launches count, which points are MISSING or INVALID, and whether the control
held still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchrun.runner.gate.launches import GatePlan
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.table import Table, min_samples
from benchrun.runner.gate.welch import moments, welch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Masks = npt.NDArray[np.bool_]
    Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Standing:
    """What the launches of some stages are worth, launch by point."""

    valid: Masks  # [L, P]
    invalid: Masks  # [L, P] there, but throttled, shared, slow-clocked or with a wrong answer
    lost: Masks  # [L, P] asked for, and nothing usable came back
    strange: Masks  # [P] the hardware is not one and the same


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of one stage. `base` and `new` [L, P] mark the first `wanted` valid ones of each point, one launch of
    each side a pair.
    """

    base: Masks
    new: Masks
    valid: Numbers  # [P] valid pairs, not counting those beyond the wanted ones
    spoilt: Numbers  # [P] pairs with an invalid launch
    extra: Numbers  # [P] valid pairs beyond the wanted ones: kept out
    even: Numbers  # [P] valid pairs that began with the base, to know which kind a replacement must be


@dataclass(frozen=True, slots=True)
class Control:
    """The control workload over all launches. `low`, `high`: interval of the time ratio; `reason` is empty where it
    held still.
    """

    checked: bool
    launches_base: int = 0
    launches_new: int = 0
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str = ""


def assess(table: Table, settings: GateSettings, upto: int) -> Standing:
    """Judge each launch of the stages up to `upto` by itself and by its point's median clock over those stages."""
    import numpy as np

    asked = table.asked & (table.stage <= upto)[:, None]
    clock = np.where(asked, table.clock, np.nan)
    slow = np.zeros_like(asked)
    if np.isfinite(clock).any():
        known = np.isfinite(clock).any(axis=0)
        median = np.full(clock.shape[1], np.nan)
        median[known] = np.nanmedian(clock[:, known], axis=0)
        with np.errstate(invalid="ignore"):
            slow = clock < settings.clock_share * median
    lost = asked & ~table.usable
    invalid = asked & table.usable & (table.flagged | slow)
    prints = [each.fingerprint for each in table.launches]
    strange = np.zeros(asked.shape[1], dtype=np.bool_)
    for name in set(prints):
        here = np.array([each == name for each in prints], dtype=np.bool_)[:, None]
        strange |= (asked & here).any(axis=0) & ((asked & ~here).any(axis=0) if name else True)
    return Standing(asked & ~lost & ~invalid, invalid, lost, strange)


def select_pairs(table: Table, standing: Standing, stage: int, wanted: Numbers) -> Pairs:
    """The first `wanted` [P] valid pairs of a stage, in the order they were taken.

    A launch that is invalid for a point takes its partner with it, so that both sides lose alike.
    """
    import numpy as np

    length, width = table.asked.shape
    base, new = np.zeros((length, width), dtype=np.bool_), np.zeros((length, width), dtype=np.bool_)
    members: dict[int, list[int]] = {}
    for i, launch in enumerate(table.launches):
        if launch.stage == stage:
            members.setdefault(launch.pair, []).append(i)
    whole = [
        (pair, *each) for pair, each in members.items() if len(each) == 2 and table.new[each[0]] != table.new[each[1]]
    ]
    if not whole:
        none = np.zeros(width, dtype=np.int64)
        return Pairs(base, new, none, none, none, none)
    pair, one, two = (np.array(each, dtype=np.int64) for each in zip(*whole, strict=True))
    on_base, on_new = np.where(table.new[one], two, one), np.where(table.new[one], one, two)
    both = table.asked[on_base] & table.asked[on_new]
    valid = standing.valid[on_base] & standing.valid[on_new]
    spoilt = both & (standing.invalid[on_base] | standing.invalid[on_new])
    used = valid & (np.cumsum(valid, axis=0) <= wanted)
    base[on_base], new[on_new] = used, used
    return Pairs(
        base=base,
        new=new,
        valid=used.sum(axis=0),
        spoilt=spoilt.sum(axis=0),
        extra=valid.sum(axis=0) - used.sum(axis=0),
        even=used[pair % 2 == 0].sum(axis=0),
    )


def find_identical(table: Table, base: Masks, new: Masks) -> Masks:
    """Points [P] of which some metric is bit-identical in all launches of a side, with more than one launch."""
    import numpy as np

    found = np.zeros(base.shape[1], dtype=np.bool_)
    for mask in (base, new):
        many = mask.sum(axis=0) > 1
        if many.any():
            top = np.where(mask, table.y, -np.inf).max(axis=1)
            bottom = np.where(mask, table.y, np.inf).min(axis=1)
            found |= many & (top == bottom).any(axis=0)
    return found


def find_absurd(difference: Floats, settings: GateSettings) -> Masks:
    """Points [P] whose sides differ in some metric by more than any real change: differences [M, P] of logarithms."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(difference) > math.log(settings.implausible_ratio)).any(axis=0), dtype=np.bool_)


def describe_loss(table: Table, plan: GatePlan, settings: GateSettings, standing: Standing, j: int) -> str:
    """Why point `j` lost its first lost launch."""
    import numpy as np

    i = int(np.flatnonzero(standing.lost[:, j])[0])
    launch = table.launches[i]
    where = f"launch {launch.order + 1} ({launch.side})"  # as progress counts them
    reading = table.readings.get(i * len(table.points) + j)
    if reading is None:
        return f"no row from {where}"
    if reading.status not in ("ok", "invalid"):
        return f"{reading.status} in {where}" + (f": {reading.error}" if reading.error else "")
    needed = min_samples(plan, settings)
    if reading.n < needed:
        return f"only {reading.n} samples in {where}, at least {needed} are needed"
    bad = [name for m, name in enumerate(plan.metrics) if not np.isfinite(table.y[m, i, j])]
    return f"no finite {' nor '.join(bad)} in {where}"


def check_control(table: Table, settings: GateSettings, *, stopped: bool) -> Control:
    """Whether the control held still: INVALID only if its interval lies wholly beyond the allowed ratio, either way."""
    import numpy as np

    if not settings.control:
        return Control(checked=False)
    values = [each.control_ms if each.control_ms is not None else math.nan for each in table.launches]
    y = np.array([math.log(each) if 0 < each < math.inf else math.nan for each in values])[None, :, None]
    absent = [each.order for each, value in zip(table.launches, y[0, :, 0], strict=True) if not math.isfinite(value)]
    n_new = int(table.new.sum())
    n_base = len(table.launches) - n_new
    if absent:
        return Control(True, n_base, n_new, reason=f"the control was not measured beside launch {absent[0] + 1}")
    if min(n_base, n_new) < 2:
        return Control(
            True, n_base, n_new, reason="" if stopped else "there are too few launches to judge the control by"
        )
    sides = (~table.new[:, None], table.new[:, None])
    if any(np.ptp(y[0, side[:, 0], 0]) == 0 for side in sides):
        return Control(
            True, n_base, n_new, reason="the control's launches are identical: copied rows or a clock too coarse"
        )
    contrast = welch(moments(y, sides[0]), moments(y, sides[1]))
    difference, margin = float(contrast.difference[0, 0]), float(contrast.margin(settings.control_confidence)[0, 0])
    low, high = difference - margin, difference + margin
    limit = math.log(settings.control_ratio)
    reason = ""
    if not (math.isfinite(low) and math.isfinite(high)):
        reason = "the control's interval is not finite"
    elif low > limit or high < -limit:
        reason = (
            f"the control workload moved by {100 * math.expm1(difference):+.2f} %, "
            f"beyond doubt more than {100 * (settings.control_ratio - 1):.3g} %: the machine differed between the sides"
        )
    return Control(True, n_base, n_new, math.exp(difference), math.exp(low), math.exp(high), reason)
