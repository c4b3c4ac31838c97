"""One gate run with everything computed, read point by point: from masks and figures to verdicts with their reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchrun.runner.gate.confirm import Confirmation
from benchrun.runner.gate.launches import METRICS, GatePlan
from benchrun.runner.gate.screen import Screen
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.table import Table
from benchrun.runner.gate.validity import describe_loss
from benchrun.runner.gate.verdict import MetricVerdict, Verdict, describe_stop
from benchrun.runner.gate.welch import detectable_log_ratio

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Case:
    """`stopped`: the bound that ended the run early; `broken`: why the run as a whole is invalid. Both may be empty."""

    plan: GatePlan
    settings: GateSettings
    table: Table
    screen: Screen
    confirmation: Confirmation
    stopped: str
    broken: str

    def standing(self, j: int) -> tuple[Verdict | None, str]:
        """The verdict that point `j` gets before any statistics, and why; None where statistics decide."""
        planned, screen, end = self.table.points[j], self.screen, self.confirmation
        if not planned.in_new:
            return "MISSING", "the new side no longer has this point"
        lost = bool(end.standing.lost[:, j].any())  # of a point without a base too: it was to be measured
        if lost and (end.lost[j] or not planned.in_base):
            return "MISSING", describe_loss(self.table, self.plan, self.settings, end.standing, j)
        if not planned.in_base:
            return "NEW", "there is no base to compare with"
        if end.lost[j]:
            return "MISSING", "the launches did not all run on one known hardware"
        if screen.waiting[j]:
            return self._lacking(int(screen.pairs.valid[j]), self.settings.screen_launches, "launches")
        if self.broken:
            return "INVALID", self.broken
        if j in self.table.copied:
            return "INVALID", self.table.copied[j][1]
        if screen.spoilt[j] or end.spoilt[j]:
            return "INVALID", "more launches were throttled, shared, slow-clocked or wrong than may be replaced"
        if screen.identical[j] or end.identical[j]:
            return "INVALID", "all launches of a side are identical: copied rows or a clock too coarse"
        if screen.absurd[j] or end.absurd[j]:
            factor = f"{self.settings.implausible_ratio:g}"
            return "INVALID", f"the sides differ by more than a factor of {factor}: check units and results"
        return None, ""

    def judge(self, m: int, j: int) -> tuple[Verdict, str]:
        """The verdict of statistics on one metric of point `j`, and why."""
        screen, end, settings = self.screen, self.confirmation, self.settings
        if not screen.finite[m, j]:
            return "INVALID", "the figures are not finite"
        tested = bool(end.tested[m, j])
        if not screen.escalated[m, j]:
            return "PASS", ""
        if not tested:
            return self._lacking(int(end.pairs.valid[j]), int(screen.point_fresh[j]), "fresh launches")
        p, adjusted, fresh = (float(each[m, j]) for each in (end.p, end.p_adjusted, end.fresh_difference))
        upper = float(end.difference[m, j] + end.margin[m, j])
        if not (math.isfinite(p) and math.isfinite(upper)):
            return "INVALID", "the figures are not finite"
        if adjusted <= settings.alpha and fresh >= math.log(settings.fail_ratio):
            return "FAIL", f"{100 * math.expm1(fresh):.1f} % slower on {end.pairs.valid[j]} fresh launches a side"
        needed = settings.pooled_samples(self.plan.metrics[m])
        if end.samples[j] < needed:
            return "INCONCLUSIVE", f"needs {needed} samples a side over all launches, there are {end.samples[j]:.0f}"
        if upper < math.log(settings.regression_ratio):
            return "PASS", ""
        return "INCONCLUSIVE", f"only slowdowns above {100 * math.expm1(upper):.1f} % are ruled out"

    def show(self, m: int, j: int, verdict: Verdict, reason: str) -> MetricVerdict:
        """A verdict with all figures that there are."""
        screen, end, settings = self.screen, self.confirmation, self.settings
        metric = METRICS[self.plan.metrics[m]]
        escalated, later = bool(screen.escalated[m, j]), math.isfinite(end.difference[m, j])
        base, new = (end.base, end.new) if later else (screen.pairs.base, screen.pairs.new)
        figures = (end.difference, end.margin, end.sd) if later else (screen.difference, screen.margin, screen.sd)
        difference, margin, sd = (float(each[m, j]) for each in figures)
        launches = int(base[:, j].sum())
        upper = difference + margin
        improved = verdict == "PASS" and upper < math.log(settings.improved_ratio)
        return MetricVerdict(
            metric=metric.name,
            verdict=verdict,
            stage="" if not math.isfinite(difference) else "confirm" if escalated else "screen",
            reason=reason,
            launches=launches,
            ratio=exp(difference),
            ratio_low=exp(difference - margin),
            ratio_high=exp(upper),
            fresh_ratio=exp(float(end.fresh_difference[m, j])),
            fresh_launches=int(screen.point_fresh[j]) if escalated else 0,
            p=float(end.p[m, j]),
            p_adjusted=float(end.p_adjusted[m, j]),
            sd=sd,
            excluded_slowdown=exp(upper) - 1,
            detectable_slowdown=exp(detectable_log_ratio(sd, launches, settings.detectable_factor)) - 1,
            base=self.level(m, j, base),
            new=self.level(m, j, new if screen.gated[j] else self.measured()),
            improved=improved,
            check_work=improved and upper < math.log(settings.suspicious_ratio),
        )

    def measured(self) -> Masks:
        """Valid launches [L, P] of the new side, whether or not they have a partner."""
        return self.confirmation.standing.valid & self.table.new[:, None]

    def level(self, m: int, j: int, mask: Masks) -> float:
        """Geometric mean of a metric over the marked launches, in its own unit; NaN of none."""
        y = self.table.y[m, mask[:, j], j]
        return exp(METRICS[self.plan.metrics[m]].sign * math.fsum(y) / len(y)) if len(y) else math.nan

    def notes(self, j: int) -> tuple[str, ...]:
        """What is worth telling of point `j` and changes nothing."""
        table, end = self.table, self.confirmation
        counts = (
            (int(table.unsteady[:, j].sum()), "launches were not steady (kept)"),
            (
                int(end.standing.invalid[:, j].sum()),
                "launches were invalid and left out, each with its partner on the other side",
            ),
            (
                int(self.screen.pairs.extra[j] + end.pairs.extra[j]),
                "pairs of launches beyond the planned ones were left out",
            ),
        )
        return tuple(f"{count} {text}" for count, text in counts if count)

    def _lacking(self, have: int, want: int, what: str) -> tuple[Verdict, str]:
        text = f"{have} of {want} {what} a side"
        return ("INCONCLUSIVE", f"{text}, {describe_stop(self.stopped)}") if self.stopped else ("MISSING", text)


def exp(value: float) -> float:
    """e to that power; infinite instead of an error where it is too large."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
