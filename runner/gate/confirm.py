"""Stage 2: the test of the escalated pairs on fresh launches alone, and the interval over all launches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchrun.runner.gate.launches import CONFIRM, SCREEN
from benchrun.runner.gate.screen import Screen, pooled_samples
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.table import Table
from benchrun.runner.gate.validity import Pairs, Standing, assess, find_absurd, find_identical, select_pairs
from benchrun.runner.gate.welch import adjust_holm, moments, welch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The outcome of stage 2 for M metrics by P points; figures are NaN where a pair was not tested.

    `fresh_difference` and `p` come from the fresh launches, `difference` and `margin` (two-sided interval) from all
    k1 + k2, or as many as there are where launches are still to come.
    """

    standing: Standing
    pairs: Pairs
    base: Masks  # [L, P] all launches used on the base side, both stages
    new: Masks  # [L, P]
    lost: Masks  # [P] MISSING
    spoilt: Masks  # [P] INVALID
    identical: Masks  # [P] INVALID
    absurd: Masks  # [P] INVALID
    waiting: Masks  # [P] launches are still to come
    tested: Masks  # [M, P] escalated, and all its launches are there
    p: Floats  # [M, P]
    p_adjusted: Floats  # [M, P]; the whole family has one, NaN outside it
    fresh_difference: Floats  # [M, P]
    difference: Floats  # [M, P]
    margin: Floats  # [M, P]
    sd: Floats  # [M, P] of all launches used, within the sides
    samples: Floats  # [P]


def confirm_points(table: Table, settings: GateSettings, screen: Screen) -> Confirmation:
    """Judge stage 2, for the family that `screen` froze. A pair that cannot be tested stays in it with p = 1."""
    import numpy as np

    standing = assess(table, settings, CONFIRM)
    fresh = select_pairs(table, standing, CONFIRM, screen.point_fresh)
    # seen from the end of the session, a launch of stage 1 may turn out to have run at a wrong clock
    early = select_pairs(table, standing, SCREEN, np.full(len(table.points), settings.screen_launches, dtype=np.int64))
    base, new = early.base | fresh.base, early.new | fresh.new
    k2 = screen.point_fresh
    lost = screen.gated & (standing.lost.any(axis=0) | standing.strange)
    allowed = np.array([settings.replaceable(int(each)) for each in k2])
    spoilt = (
        screen.gated
        & ~lost
        & ((early.spoilt > settings.replaceable(settings.screen_launches)) | (fresh.spoilt > allowed))
    )
    alive = screen.judged & ~lost & ~spoilt & ~np.isin(np.arange(len(k2)), list(table.copied))
    waiting = alive & (fresh.valid < k2)
    identical = alive & ~waiting & find_identical(table, fresh.base, fresh.new)

    fresh_base, fresh_new = moments(table.y, fresh.base), moments(table.y, fresh.new)
    absurd = alive & ~waiting & find_absurd(fresh_new.mean - fresh_base.mean, settings)
    ready = screen.escalated & alive & ~waiting & ~identical & ~absurd
    shape = ready.shape
    all_base, all_new = moments(table.y, base), moments(table.y, new)
    freedom = np.maximum(all_base.n + all_new.n - 2, 1.0)
    sd = np.sqrt(((all_base.n - 1) * all_base.var + (all_new.n - 1) * all_new.var) / freedom)
    p, p_adjusted, fresh_difference, difference, margin = (np.full(shape, np.nan) for _ in range(5))
    tested = ready
    # a run that a bound ended shows what its launches say so far; they decide nothing
    shown = ready | (screen.escalated & waiting & (fresh.valid > 0))
    if shown.any():
        alone = welch(fresh_base, fresh_new)
        together = welch(all_base, all_new)
        p = np.where(ready, alone.p_greater(), np.nan)
        fresh_difference = np.where(ready, alone.difference, np.nan)
        difference = np.where(shown, together.difference, np.nan)
        margin = np.where(shown, together.margin(settings.confidence), np.nan)
    family = np.argwhere(screen.escalated)
    if len(family):
        values = [float(p[m, j]) if tested[m, j] and np.isfinite(p[m, j]) else 1.0 for m, j in family]
        p_adjusted[family[:, 0], family[:, 1]] = adjust_holm(values)
    return Confirmation(
        standing=standing,
        pairs=fresh,
        base=base,
        new=new,
        lost=lost,
        spoilt=spoilt,
        identical=identical,
        absurd=absurd,
        waiting=waiting,
        tested=tested,
        p=p,
        p_adjusted=p_adjusted,
        fresh_difference=fresh_difference,
        difference=difference,
        margin=margin,
        sd=sd,
        samples=pooled_samples(table, base, new),
    )
