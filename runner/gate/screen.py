"""Stage 1: which (point, metric) pairs pass at once, which escalate, and how many fresh launches those get.

It sees the launches of stage 1 only. So the Holm family and the sizes of stage 2 are fixed when stage 1 ends,
whatever comes later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchrun.runner.gate.launches import SCREEN, GatePlan
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.table import Table
from benchrun.runner.gate.validity import Pairs, Standing, assess, find_absurd, find_identical, select_pairs
from benchrun.runner.gate.welch import moments, t_quantile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Masks = npt.NDArray[np.bool_]
    Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Screen:
    """The outcome of stage 1 for M metrics by P points; figures are NaN where a point was not judged.

    `difference` = mean(y_new) − mean(y_base); `sd` is s, the largest of the point's own, the pooled and the floor;
    `margin` half the width of the interval, so that U = difference + margin. `fresh` is k2 of each pair, 0 where it
    did not escalate; `point_fresh` that of each point.
    """

    standing: Standing
    pairs: Pairs
    gated: Masks  # [P] on both sides
    lost: Masks  # [P] MISSING
    spoilt: Masks  # [P] INVALID: more launches to replace than allowed
    identical: Masks  # [P] INVALID: bit-identical launches
    absurd: Masks  # [P] INVALID: the sides differ by more than can be
    waiting: Masks  # [P] launches are still to come
    judged: Masks  # [P] takes part in the statistics
    own_sd: Floats  # [M, P]
    sd: Floats  # [M, P]
    difference: Floats  # [M, P]
    margin: Floats  # [M, P]
    finite: Masks  # [M, P]
    escalated: Masks  # [M, P]
    fresh: Numbers  # [M, P]
    point_fresh: Numbers  # [P]


def screen_points(table: Table, plan: GatePlan, settings: GateSettings) -> Screen:
    """Judge stage 1."""
    import numpy as np

    width, count = len(table.points), len(plan.metrics)
    k1 = settings.screen_launches
    gated = np.array([each.in_base and each.in_new for each in table.points], dtype=np.bool_)
    standing = assess(table, settings, SCREEN)
    pairs = select_pairs(table, standing, SCREEN, np.full(width, k1, dtype=np.int64))
    broken = np.full(width, bool(table.broken))
    for j, (stage, _) in table.copied.items():
        broken[j] |= stage <= SCREEN
    lost = gated & (standing.lost.any(axis=0) | standing.strange)
    spoilt = gated & ~lost & (pairs.spoilt > settings.replaceable(k1))
    alive = gated & ~lost & ~spoilt & ~broken
    waiting = alive & (pairs.valid < k1)
    identical = alive & ~waiting & find_identical(table, pairs.base, pairs.new)
    whole = alive & ~waiting & ~identical

    shape = (count, width)
    own_sd, sd, margin = (np.full(shape, np.nan) for _ in range(3))
    base, new = moments(table.y, pairs.base), moments(table.y, pairs.new)
    difference = np.where(whole, new.mean - base.mean, np.nan)
    absurd = find_absurd(difference, settings)
    judged = whole & ~absurd
    if judged.any():
        freedom = base.n + new.n - 2
        own_sd = np.where(
            judged, np.sqrt(((base.n - 1) * base.var + (new.n - 1) * new.var) / np.where(judged, freedom, 1.0)), np.nan
        )
        floor = np.maximum(settings.sd_floor, np.where(pairs.base | pairs.new, table.floor, 0.0).max(axis=0))
        classes = np.array([each.device_class for each in table.points])
        for name in sorted(set(classes[judged].tolist())):
            group = judged & (classes == name)
            pooled = np.sqrt(np.mean(own_sd[:, group] ** 2, axis=1, keepdims=True))
            s = np.maximum(np.maximum(own_sd[:, group], pooled), floor[group])
            df = max(1.0, math.fsum(freedom[0, group]) / 2)
            half = t_quantile(df, 0.5 + settings.confidence / 2)
            sd[:, group] = s
            margin[:, group] = half * s * np.sqrt(1 / base.n[:, group] + 1 / new.n[:, group])
    with np.errstate(invalid="ignore"):
        passed = (difference < math.log(settings.screen_ratio)) & (
            difference + margin < math.log(settings.regression_ratio)
        )
    finite = judged & np.isfinite(difference) & np.isfinite(margin)
    for m, metric in enumerate(plan.metrics):
        needed = settings.pooled_samples(metric)
        if needed:  # too few samples for this percentile cannot pass, more launches may be enough
            passed[m] &= pooled_samples(table, pairs.base, pairs.new) >= needed
    escalated = finite & ~passed
    fresh = np.where(escalated, size_confirmation(sd, settings), 0)
    return Screen(
        standing=standing,
        pairs=pairs,
        gated=gated,
        lost=lost,
        spoilt=spoilt,
        identical=identical,
        absurd=absurd,
        waiting=waiting,
        judged=judged,
        own_sd=own_sd,
        sd=sd,
        difference=difference,
        margin=margin,
        finite=finite,
        escalated=escalated,
        fresh=fresh,
        point_fresh=fresh.max(axis=0),
    )


def pooled_samples(table: Table, base: Masks, new: Masks) -> Floats:
    """Samples [P] over the marked launches, of the side that has fewer."""
    import numpy as np

    of_base, of_new = (np.where(mask, table.samples, 0.0).sum(axis=0) for mask in (base, new))
    return np.asarray(np.minimum(of_base, of_new), dtype=np.float64)


def size_confirmation(sd: Floats, settings: GateSettings) -> Numbers:
    """k2, fresh launches a side, from the standard deviation of stage 1; the largest where that is not finite."""
    import numpy as np

    z = settings.sizing_z_alpha + settings.sizing_z_power
    with np.errstate(invalid="ignore", over="ignore"):
        wanted = np.ceil(settings.sizing_factor * (z * sd / math.log(settings.regression_ratio)) ** 2)
    wanted = np.where(np.isfinite(wanted), wanted, settings.confirm_launches_max)
    bounded = np.clip(wanted, settings.confirm_launches_min, settings.confirm_launches_max)
    return np.asarray(bounded, dtype=np.int64)
