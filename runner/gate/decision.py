"""The decision: launches in, verdicts out. Pure: equal launches, in any order, give an equal verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from benchrun.runner.gate.acceptance import Acceptance, find_acceptance, find_strangers
from benchrun.runner.gate.case import Case
from benchrun.runner.gate.confirm import confirm_points
from benchrun.runner.gate.launches import GatePlan, Launch
from benchrun.runner.gate.limits import Evidence, Limit, LimitVerdict, judge_limit
from benchrun.runner.gate.screen import screen_points
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.table import tabulate
from benchrun.runner.gate.validity import Control, check_control
from benchrun.runner.gate.verdict import (
    ControlVerdict,
    GateVerdict,
    PointVerdict,
    Verdict,
    find_exit_code,
    find_worst,
)


def decide(
    plan: GatePlan,
    launches: Iterable[Launch],
    settings: GateSettings | None = None,
    *,
    stopped: str = "",
    limits: Sequence[Limit] = (),
    acceptances: Sequence[Acceptance] = (),
) -> GateVerdict:
    """Decide a gate run.

    `stopped` is the bound that ended it early (`max_launches`, `max_minutes`, `interrupted`), as `next_batch` reports
    it: then what lacks launches is INCONCLUSIVE, otherwise MISSING. `limits` apply to every point that the new side
    measures, NEW ones too.
    """
    settings = settings or GateSettings()
    table = tabulate(plan, launches, settings)
    screen = screen_points(table, plan, settings)
    control = check_control(table, settings, stopped=bool(stopped))
    broken = table.broken[0] if table.broken else control.reason
    case = Case(plan, settings, table, screen, confirm_points(table, settings, screen), stopped, broken)
    standings = [case.standing(j) for j in range(len(table.points))]
    limited = [_judge_limit(case, limit, standings) for limit in limits]
    points = tuple(
        _judge_point(case, j, standings[j], tuple(each[j] for each in limited), acceptances)
        for j in range(len(table.points))
    )
    return GateVerdict(
        verdict=find_worst([*(each.verdict for each in points), *(("INVALID",) if broken else ())]),
        exit_code=find_exit_code(points, broken=bool(broken)),
        base=plan.base,
        new=plan.new,
        aa=plan.aa,
        session=table.launches[0].session if table.launches else "",
        points=points,
        control=_show_control(control),
        launches=len(table.launches),
        stopped=stopped,
        warnings=(
            *table.broken,
            *find_strangers([(each.key, each.label) for each in table.points], acceptances),
            *(f"rows of {key!r}, which is no point of this gate, were left out" for key in table.unexpected),
        ),
        settings=asdict(settings),
    )


def _judge_point(
    case: Case,
    j: int,
    standing: tuple[Verdict | None, str],
    limits: tuple[LimitVerdict, ...],
    acceptances: Sequence[Acceptance],
) -> PointVerdict:
    outcome, reason = standing
    metrics = tuple(
        case.show(m, j, *((outcome, reason) if outcome is not None else case.judge(m, j)))
        for m in range(len(case.plan.metrics))
    )
    reasons: tuple[tuple[Verdict, str], ...] = (
        *((each.verdict, each.reason) for each in metrics),
        *((each.verdict, each.reason) for each in limits),
    )
    verdict = find_worst(each for each, _ in reasons)
    planned, asked, new = case.table.points[j], case.table.asked[:, j], case.table.new
    accepted, notes = find_acceptance(planned.key, planned.label, acceptances)
    return PointVerdict(
        point=planned.key,
        label=planned.label or planned.key,
        verdict=verdict,
        reason=next(reason for worst, reason in reasons if worst == verdict),
        metrics=metrics,
        limits=limits,
        notes=(*case.notes(j), *notes),
        improved=verdict == "PASS" and any(each.improved for each in metrics),
        accepted=accepted if verdict == "FAIL" else "",
        launches_base=int((asked & ~new).sum()),
        launches_new=int((asked & new).sum()),
    )


def _judge_limit(case: Case, limit: Limit, standings: Sequence[tuple[Verdict | None, str]]) -> list[LimitVerdict]:
    """One limit at every point; where the launches themselves are missing or invalid, so is the limit."""
    mask = case.measured()
    verdicts: dict[int, LimitVerdict] = {}
    evidence: dict[int, Evidence] = {}
    for j, (point, (outcome, reason)) in enumerate(zip(case.table.points, standings, strict=True)):
        if outcome == "MISSING" or outcome == "INVALID":
            verdicts[j] = LimitVerdict(limit=limit.text, verdict=outcome, reason=reason)
        elif case.broken:
            verdicts[j] = LimitVerdict(limit=limit.text, verdict="INVALID", reason=case.broken)
        else:
            readings = [case.table.readings[int(i) * len(case.table.points) + j] for i in mask[:, j].nonzero()[0]]
            values = tuple(float(getattr(each, limit.column) or "nan") for each in readings)
            evidence[j] = Evidence(values, sum(each.n for each in readings), point.device_class)
    judged = judge_limit(limit, list(evidence.values()), case.settings)
    verdicts.update(zip(evidence, judged, strict=True))
    return [verdicts[j] for j in range(len(case.table.points))]


def _show_control(control: Control) -> ControlVerdict:
    return ControlVerdict(
        verdict="INVALID" if control.reason else "PASS" if control.checked else "not measured",
        reason=control.reason,
        launches_base=control.launches_base,
        launches_new=control.launches_new,
        ratio=control.ratio,
        ratio_low=control.low,
        ratio_high=control.high,
    )
