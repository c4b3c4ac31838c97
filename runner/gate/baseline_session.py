"""A gate against a stored run: only the new side is measured, and how much sessions differ has to be known from the
store. Across sessions no verdict is as sharp as within one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.acceptance import find_acceptance, find_strangers
from benchrun.runner.gate.baseline import StoredSession, StoredVerdict, judge_stored
from benchrun.runner.gate.interpreters import Introduction, introduce
from benchrun.runner.gate.launches import METRICS, SCREEN, GatePlan, Launch, PlannedPoint, Reading
from benchrun.runner.gate.limits import LimitVerdict, Standing, judge_limits
from benchrun.runner.gate.outcome import CROSS_SESSION, GateOutcome, GateSide
from benchrun.runner.gate.preparation import (
    Place,
    close_side_run,
    find_place,
    open_side_run,
    place_interpreter,
)
from benchrun.runner.gate.readings import to_reading
from benchrun.runner.gate.request import GateRequest, refuse_loadgen
from benchrun.runner.gate.running import Surroundings, draft_gate, new_ids
from benchrun.runner.gate.schedule import LaunchOrder, shuffle
from benchrun.runner.gate.session import GateSession
from benchrun.runner.gate.stored import GateDraft, begin, finish, read_launches
from benchrun.runner.gate.sweep_side import SweepSide, label_of
from benchrun.runner.gate.verdict import (
    ControlVerdict,
    GateVerdict,
    MetricVerdict,
    PointVerdict,
    Verdict,
    describe_stop,
    find_exit_code,
    find_worst,
)
from benchrun.runner.places import book_requests, read_requests
from benchrun.runner.plan import Plan, Planned, make_plan
from benchrun.runner.sweep import point_row

if TYPE_CHECKING:
    from benchrun.results import Store
    from benchrun.results.gate_rows import GateRecord
    from benchrun.results.records import RunRecord
    from benchrun.results.rows import MeasurementRow


@dataclass(frozen=True, slots=True)
class _Shelf:
    """What the store has of one point: session → its launches, and the hardware they all ran on."""

    fingerprint: str
    sessions: Mapping[str, Sequence[MeasurementRow]]


def run_baseline(request: GateRequest, store: Store, around: Surroundings) -> GateOutcome:
    """Measure the points of a stored run again and judge them against it. Raises UsageError."""
    assert request.baseline is not None
    run_id = store.resolve_run(request.baseline)
    record = store.run(run_id)
    place = find_place(request.new, request.install, around.folder, around.cache, around.tell)
    plan, subject, told = _plan_again(record, request, place)
    gate_id, started, ids = new_ids()
    if record.run.request.get("side") == "new":
        raise UsageError(f"run {run_id} is the new side of a gate: give its base side, or a run of its own")
    session_name = str(record.run.request.get("gate", run_id)) if record.run.origin == "gate" else run_id
    base = GateSide(
        side="base",
        label=f"run {run_id}",
        subject=f"stored run {run_id}",
        commit=record.run.commit,
        run_id=run_id,
        details={"session": session_name, "libraries": record.run.environment.details.get("libraries", {})},
    )
    new = GateSide(
        side="new", label=place.label, subject=subject, commit=place.commit, run_id=ids["new"], details=told.details
    )
    here = {planned.point.key: planned for planned in plan.points if not planned.refusal}
    expected = [planned.point for planned in record.points]
    points = tuple(
        PlannedPoint(
            key=each.key,
            label=label_of(here[each.key], here[each.key])
            if each.key in here
            else f"{each.backend}:{each.variant} {each.key}",
            device_class=(each.device or "cpu").partition(":")[0],
            in_new=each.key in here,
        )
        for each in expected
    )
    if not here.keys() & {each.key for each in expected}:
        raise UsageError(
            f"none of the points of run {run_id} can be measured here (other options, threads, weights or device): "
            "run the sweep here first, and compare with that"
        )
    gate_plan = GatePlan(base=base.subject, new=subject, points=points, metrics=request.gated_metrics())
    mine = {each.key: here[each.key] for each in points if each.in_new}
    known = _find_sessions(store, [each.key for each in points], record.run.environment.fingerprint)
    more = {
        "sessions": sorted({name for shelf in known.values() for name in shelf.sessions}),
        "launches": request.baseline_launches,
    }
    keys = {each.key: (each.key, each.key if each.in_new else None) for each in points}
    draft = draft_gate(
        request,
        around,
        gate_id,
        started,
        gate_plan,
        {"base": base, "new": new},
        keys,
        (CROSS_SESSION, *place.notes),
        more=more,
    )
    device = plan.request.device or "cpu"
    asked = book_requests([plan.request])
    open_side_run(store, gate_id, new, asked, device, [point_row(each.point) for each in mine.values()])
    begin(store, draft)
    side = SweepSide(
        store,
        ids["new"],
        plan,
        mine,
        place_interpreter(place, plan.request.threads or 1, told),
        around.listen_point,
        around.progress_s,
    )
    session = GateSession(
        store, gate_id, request.settings, draft.seed, {"new": side}, None, around.listen, around.clock
    )
    return _conduct(store, draft, session, known, list(mine), request.baseline_launches)


def _conduct(
    store: Store, draft: GateDraft, session: GateSession, known: Mapping[str, _Shelf], keys: list[str], count: int
) -> GateOutcome:
    stopped = ""
    state = "interrupted"
    try:
        try:
            orders = [LaunchOrder(at, "new", SCREEN, at, shuffle(keys, draft.seed, at)) for at in range(count)]
            while orders and not (stopped := session.find_bound()):
                session.take(orders.pop(0), draft.plan, orders)
            state = "finished"
        except KeyboardInterrupt:
            stopped = "interrupted"
        verdict = judge_baseline(draft, session.launches(draft.plan), known, stopped)
    finally:
        close_side_run(store, draft.new, state)
    return finish(store, draft, verdict, "finished" if state == "finished" else "interrupted")


def _plan_again(record: RunRecord, request: GateRequest, place: Place) -> tuple[Plan, str, Introduction]:
    """The stored run's sweeps, planned again for the new side; its subject, and what its interpreter says of itself."""
    sweeps = record.run.request.get("sweeps")
    if record.run.origin not in ("benchrun", "gate") or not sweeps:
        raise UsageError(
            f"run {record.run.id} ({record.run.origin}) was not measured by a sweep of benchrun: "
            "--baseline needs one that can be planned again"
        )
    asked: list[tuple[str, str]] = []

    def collect(backend: str, variant: str) -> str | None:
        asked.append((backend, variant))
        return None

    threads = request.sweep.get("threads")
    requests = read_requests(record.run.request)
    timeout = request.sweep.get("timeout")
    requests = [
        replace(
            each,
            try_all=True,
            launches=1,
            threads=each.threads if threads is None else threads,
            timeout_s=each.timeout_s if timeout is None else float(timeout),
        )
        for each in requests
    ]
    for each in requests:
        refuse_loadgen(planned.point.workload for planned in make_plan(each, collect).points)
    told = introduce(place.python, asked, place.environment, shown=place.label)
    plans = [make_plan(each, lambda name, variant: told.missing.get(f"{name}:{variant}")) for each in requests]
    points: dict[str, Planned] = {planned.point.key: planned for plan in plans for planned in plan.points}
    subject = place.identity or f"environment {told.identity} (python {told.python})"
    return Plan(plans[-1].request, tuple(points.values())), subject, told


def _find_sessions(store: Store, keys: Sequence[str], fingerprint: str) -> dict[str, _Shelf]:
    from benchrun.results.gates import stored_sessions

    found: dict[str, dict[str, list[MeasurementRow]]] = {key: {} for key in keys}
    for session, row in stored_sessions(store, keys, fingerprint):
        found[row.point_key].setdefault(session, []).append(row)
    return {key: _Shelf(fingerprint, sessions) for key, sessions in found.items()}


def redecide_baseline(store: Store, record: GateRecord, draft: GateDraft, stopped: str) -> GateVerdict:
    """Decide a stored baseline gate again, with the sessions that it knew."""
    known: dict[str, _Shelf] = {}
    if draft.base.run_id is not None:
        fingerprint = store.run(draft.base.run_id).run.environment.fingerprint
        names = set(record.gate.request.get("sessions", ()))
        for key, shelf in _find_sessions(store, [each.key for each in draft.plan.points], fingerprint).items():
            known[key] = _Shelf(fingerprint, {name: rows for name, rows in shelf.sessions.items() if name in names})
    return judge_baseline(draft, read_launches(store, record, draft.plan), known, stopped)


def judge_baseline(
    draft: GateDraft, launches: Sequence[Launch], known: Mapping[str, _Shelf], stopped: str
) -> GateVerdict:
    """The verdict of all points against the stored session; INCONCLUSIVE where the run was ended before its last launch.
    Pure.
    """
    planned = draft.plan.points
    readings = [_find_readings(each, launches) for each in planned]
    asked = [sum(each.key in launch.points for launch in launches) for each in planned]
    standings = [
        _find_standing(draft, each, own, count, stopped)
        for each, own, count in zip(planned, readings, asked, strict=True)
    ]
    limited = judge_limits(
        draft.limits,
        standings,
        [[reading for _, reading in own] for own in readings],
        [each.device_class for each in planned],
        draft.settings,
    )
    points = tuple(
        _judge_point(draft, each, count, own, standing, known.get(each.key), limits)
        for each, count, own, standing, limits in zip(planned, asked, readings, standings, limited, strict=True)
    )
    ordered = tuple(sorted(points, key=lambda each: each.point))
    names = [(each.key, each.label) for each in draft.plan.points]
    return GateVerdict(
        verdict=find_worst(each.verdict for each in ordered),
        exit_code=find_exit_code(ordered, broken=False),
        base=draft.plan.base,
        new=draft.plan.new,
        aa=False,
        session=draft.id,
        points=ordered,
        control=ControlVerdict(verdict="not measured", reason="both sides would have to be in one session"),
        launches=len(launches),
        stopped=stopped,
        warnings=(CROSS_SESSION, *find_strangers(names, draft.acceptances)),
        settings=asdict(draft.settings),
    )


def _judge_point(
    draft: GateDraft,
    point: PlannedPoint,
    asked: int,
    readings: Sequence[tuple[Launch, Reading]],
    standing: Standing | None,
    shelf: _Shelf | None,
    limits: tuple[LimitVerdict, ...],
) -> PointVerdict:
    metrics = tuple(_judge_metric(draft, name, point, readings, standing, shelf) for name in draft.plan.metrics)
    reasons: tuple[tuple[Verdict, str], ...] = (
        *((each.verdict, each.reason) for each in metrics),
        *((each.verdict, each.reason) for each in limits),
    )
    verdict = find_worst(each for each, _ in reasons)
    accepted, notes = find_acceptance(point.key, point.label, draft.acceptances)
    return PointVerdict(
        point=point.key,
        label=point.label or point.key,
        verdict=verdict,
        reason=next(reason for worst, reason in reasons if worst == verdict),
        metrics=metrics,
        limits=limits,
        notes=notes,
        accepted=accepted if verdict == "FAIL" else "",
        launches_new=asked,
    )


def _find_readings(point: PlannedPoint, launches: Sequence[Launch]) -> list[tuple[Launch, Reading]]:
    return [(each, reading) for each in launches for reading in each.readings if reading.point == point.key]


def _judge_metric(
    draft: GateDraft,
    name: str,
    point: PlannedPoint,
    readings: Sequence[tuple[Launch, Reading]],
    standing: Standing | None,
    shelf: _Shelf | None,
) -> MetricVerdict:
    baseline = str(draft.base.details.get("session", ""))
    rows = shelf.sessions.get(baseline) if shelf is not None else None
    if standing is None and not rows:
        standing = "MISSING", "the stored run has no good measurement of it"
    if standing is not None or shelf is None:
        verdict, reason = standing or ("MISSING", "nothing is stored of it")
        return MetricVerdict(metric=name, verdict=verdict, reason=reason)
    clock = "device" if all(row.device is not None for each in shelf.sessions.values() for row in each) else "host"
    column = METRICS[name].column

    def values(rows: Sequence[MeasurementRow]) -> tuple[float, ...]:
        return tuple(float(getattr(to_reading(point.key, row, clock), column) or "nan") for row in rows)

    stored = [
        StoredSession(session, shelf.fingerprint, values(each)) for session, each in sorted(shelf.sessions.items())
    ]
    new = StoredSession(
        draft.id, readings[0][0].fingerprint, tuple(float(getattr(each, column) or "nan") for _, each in readings)
    )
    return _show(name, judge_stored(name, stored, baseline, new, draft.settings))


def _find_standing(
    draft: GateDraft, point: PlannedPoint, readings: Sequence[tuple[Launch, Reading]], asked: int, stopped: str
) -> Standing | None:
    """The verdict that a point gets before any statistics; None where they decide."""
    if not point.in_new:
        return "MISSING", "it can no longer be planned on the new side"
    lost = [each for _, each in readings if each.status not in ("ok", "invalid")]
    if lost:
        return "MISSING", f"{lost[0].status}: {lost[0].error}" if lost[0].error else lost[0].status
    planned = int((draft.request or {}).get("launches", 0))  # 0: an early version did not say
    if stopped and (asked < planned or not planned):
        return "INCONCLUSIVE", f"{asked}{f' of {planned}' if planned else ''} launches, {describe_stop(stopped)}"
    if len(readings) < max(2, asked):
        return "MISSING", f"{len(readings)} of {asked} launches"
    few = [each for _, each in readings if each.n < draft.settings.min_samples]
    if few:
        return "MISSING", f"only {few[0].n} samples in a launch, at least {draft.settings.min_samples} are needed"
    if any(each.throttled or each.foreign or not each.parity_ok or each.status == "invalid" for _, each in readings):
        return "INVALID", "a launch was throttled, shared or wrong: measure again"
    return None


def _show(name: str, found: StoredVerdict) -> MetricVerdict:
    return MetricVerdict(
        metric=name,
        verdict=found.verdict,
        stage="baseline",
        reason=found.reason,
        launches=found.launches_new,
        ratio=found.ratio,
        ratio_low=found.ratio_low,
        ratio_high=found.ratio_high,
        sd=found.launch_sd,
        excluded_slowdown=found.ratio_high - 1,
    )
