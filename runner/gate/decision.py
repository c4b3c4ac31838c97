"""The decision: launches in, verdicts out. Pure: equal launches, in any order, give an equal verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from benchrun.runner.gate.acceptance import Acceptance, find_acceptance, find_strangers
from benchrun.runner.gate.case import Case
from benchrun.runner.gate.confirm import confirm_points
from benchrun.runner.gate.launches import GatePlan, Launch
from benchrun.runner.gate.limits import Limit, LimitVerdict, Standing, judge_limits
from benchrun.runner.gate.screen import screen_points
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.table import tabulate
from benchrun.runner.gate.validity import Control, check_control
from benchrun.runner.gate.verdict import (
    ControlVerdict,
    GateVerdict,
    PointVerdict,
    Verdict,
    describe_stop,
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
    limited = _judge_limits(case, limits, standings)
    points = tuple(_judge_point(case, j, standings[j], limited[j], acceptances) for j in range(len(table.points)))
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
            *_blame_neighbours(table.launches, points),
        ),
        settings=asdict(settings),
    )


def _blame_neighbours(launches: Sequence[Launch], points: Sequence[PointVerdict]) -> tuple[str, ...]:
    """Why points are undecided, where other processes had a part in it."""
    if all(each.verdict != "INCONCLUSIVE" for each in points):
        return ()
    noisy = sum(any(reading.noisy for reading in each.readings) for each in launches)
    if not noisy:
        return ()
    return (f"the CPU was not the gate's alone during {noisy} of {len(launches)} launches: that widens the intervals",)


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


def _judge_limits(
    case: Case, limits: Sequence[Limit], standings: Sequence[tuple[Verdict | None, str]]
) -> list[tuple[LimitVerdict, ...]]:
    """The limits at every point, new ones too."""
    points, mask = case.table.points, case.measured()
    readings = [
        [case.table.readings[int(i) * len(points) + j] for i in mask[:, j].nonzero()[0]] for j in range(len(points))
    ]
    held = [_stand_for_limits(case, j, standings[j]) for j in range(len(points))]
    return judge_limits(limits, held, readings, [each.device_class for each in points], case.settings)


def _stand_for_limits(case: Case, j: int, standing: tuple[Verdict | None, str]) -> Standing | None:
    """Where launches of a point are missing, invalid or were cut short, so are its limits; None where they are judged."""
    outcome, reason = standing
    if outcome == "MISSING" or outcome == "INVALID" or outcome == "INCONCLUSIVE":
        return outcome, reason
    if case.broken:
        return "INVALID", case.broken
    # no base to compare with: how far it came is not asked before
    taken, wanted = int((case.table.asked[:, j] & case.table.new).sum()), case.settings.screen_launches
    if outcome == "NEW" and case.stopped and taken < wanted:
        return "INCONCLUSIVE", f"{taken} of {wanted} launches, {describe_stop(case.stopped)}"
    return None


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
