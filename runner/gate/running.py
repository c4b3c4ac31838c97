"""A whole gate run: set up, measured, decided, stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.runner.environment import benchrun_version
from benchrun.runner.gate.acceptance import find_strangers
from benchrun.runner.gate.adoption import adopt, may_adopt, nothing_to_compare
from benchrun.runner.gate.command_side import CommandFailed, CommandSide, check_program
from benchrun.runner.gate.control import ControlWorkload
from benchrun.runner.gate.decision import decide
from benchrun.runner.gate.foresight import foresee_room
from benchrun.runner.gate.launches import SIDES, WARMUP, GatePlan, PlannedPoint, Side
from benchrun.runner.gate.outcome import GateOutcome, GateSide
from benchrun.runner.gate.preparation import (
    Place,
    Tell,
    check_sides,
    choose_cores,
    close_side_run,
    command_arguments,
    default_threads,
    describe_command_side,
    describe_sweep_side,
    explain_differences,
    explain_versions,
    find_places,
    new_seed,
    open_side_run,
    place_interpreter,
    plan_sweep,
    settle_acceptances,
)
from benchrun.runner.gate.request import SUITE_TIMEOUT_S, GateRequest, check_gate
from benchrun.runner.gate.schedule import LaunchOrder
from benchrun.runner.gate.session import Clock, GateSession, Listener, SideRunner
from benchrun.runner.gate.stored import GateDraft, begin, finish
from benchrun.runner.gate.sweep_side import SweepSide
from benchrun.runner.places import book_requests
from benchrun.runner.privacy import redact_values
from benchrun.runner.sweep import point_row

if TYPE_CHECKING:
    from benchrun.results import Store
    from benchrun.results.rows import PointRow
    from benchrun.runner.sweep import Update


SHOWN_POINTS = 10  # of the plan, where an acceptance names none of them


def _silent(_: object) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where a gate runs and who is told of it: repository, cache, remarks, warnings, launches, and points inside a launch;
    the clock that its time limit goes by.
    """

    folder: Path
    cache: Path
    tell: Tell = _silent
    warn: Tell = _silent
    listen: Listener = _silent
    listen_point: Callable[[Update], None] | None = None
    progress_s: float = 0.0
    clock: Clock = time.monotonic


def run_gate(request: GateRequest, store: Store, around: Surroundings) -> GateOutcome:
    """Run a gate to its end. Raises UsageError for what cannot be compared or set up.

    On Ctrl-C it is decided from what there is and ends as `interrupted`.
    """
    check_gate(request)
    if request.baseline is not None:
        from benchrun.runner.gate.baseline_session import run_baseline

        # pyright takes the installed class for another one than the checkout's
        return run_baseline(request, store, around)  # pyright: ignore[reportArgumentType]
    return _run_suites(request, store, around) if request.foreign else _run_sweeps(request, store, around)


def _run_sweeps(request: GateRequest, store: Store, around: Surroundings) -> GateOutcome:
    """Both sides measure points of a sweep."""
    places = find_places(request, around.folder, around.cache, around.tell)
    sides = plan_sweep(request, places, request.sweep)
    gate_id, started, ids = new_ids()
    described: dict[Side, GateSide] = {side: describe_sweep_side(side, sides, request, ids[side]) for side in SIDES}
    check_sides(described["base"], described["new"], aa=request.aa)
    plan = GatePlan(
        base=described["base"].subject,
        new=described["new"].subject,
        points=sides.paired.points,
        metrics=request.gated_metrics(),
        aa=request.aa,
    )
    draft = draft_gate(
        request,
        around,
        gate_id,
        started,
        plan,
        described,
        sides.paired.keys,
        (
            *_place_notes(places),
            *sides.paired.notes,
            *explain_differences(described["base"], described["new"]),
            *explain_versions(sides),
        ),
    )
    mine = {"base": sides.paired.base, "new": sides.paired.new}
    for side in SIDES:
        rows = [point_row(each.point) for each in mine[side].values()]
        asked = book_requests([sides.plans[side].request])
        open_side_run(store, gate_id, described[side], asked, sides.plans[side].request.device or "cpu", rows)
    begin(store, draft)
    threads = {side: sides.plans[side].request.threads or 1 for side in SIDES}
    runners: dict[Side, SideRunner] = {
        side: SweepSide(
            store,
            ids[side],
            sides.plans[side],
            mine[side],
            place_interpreter(places[side], threads[side], sides.introductions[side]),
            around.listen_point,
            around.progress_s,
        )
        for side in SIDES
    }
    control = ControlWorkload(choose_cores(threads["base"])) if request.settings.control else None
    session = GateSession(store, gate_id, request.settings, draft.seed, runners, control, around.listen, around.clock)
    return conduct(store, draft, session)


def _run_suites(request: GateRequest, store: Store, around: Surroundings) -> GateOutcome:
    """Both sides are commands that write pytest-benchmark's JSON."""
    arguments = command_arguments(request)
    places = find_places(request, around.folder, around.cache, around.tell)
    gate_id, started, ids = new_ids()
    commands: dict[Side, str] = {"base": request.base.command or "", "new": request.new.command or ""}
    described: dict[Side, GateSide] = {
        side: describe_command_side(side, places[side], commands, ids[side]) for side in SIDES
    }
    check_sides(described["base"], described["new"], aa=request.aa)
    threads = default_threads(request.sweep.get("threads"))
    for side in SIDES:
        check_program(arguments[side], place_interpreter(places[side], threads), side)
    runners: dict[Side, CommandSide] = {
        side: CommandSide(
            store,
            ids[side],
            arguments[side],
            places[side].folder,
            place_interpreter(places[side], threads),
            threads=threads,
            timeout_s=float(request.sweep.get("timeout") or SUITE_TIMEOUT_S),
        )
        for side in SIDES
    }
    around.tell("running both commands once, to see what they measure (not counted)")
    known, failure = _discover(runners, both=may_adopt(request))
    notes = _place_notes(places)
    if failure is not None:
        told = adopt(around.folder, places["base"], places["new"], arguments["base"], failure, known["new"])
        around.warn(told)
        notes = (told, *notes)
        # there is one side only: the control could not tell one from the other
        request = replace(request, settings=replace(request.settings, control=False))
        described["base"] = replace(described["base"], run_id=None)
    points, keys = _pair_suites(known)
    plan = GatePlan(
        base=described["base"].subject,
        new=described["new"].subject,
        points=points,
        metrics=request.gated_metrics(),
        aa=request.aa,
        foreign=True,
    )
    draft = draft_gate(request, around, gate_id, started, plan, described, keys, notes)
    measuring: list[Side] = [side for side in SIDES if known[side]]
    for side in measuring:
        runners[side].open(known[side])
        rows = list({row.key: row for row in known[side].values()}.values())
        open_side_run(store, gate_id, described[side], {"command": commands[side]}, "cpu", rows)
    begin(store, draft)
    control = ControlWorkload(choose_cores(threads)) if request.settings.control else None
    takers: dict[Side, SideRunner] = {side: runners[side] for side in SIDES}
    session = GateSession(store, gate_id, request.settings, draft.seed, takers, control, around.listen, around.clock)
    for side in measuring:
        mine = tuple(each.key for each in points if each.on(side))
        session.book_discarded(LaunchOrder(SIDES.index(side), side, WARMUP, 0, mine))
    return conduct(store, draft, session)


def _discover(
    runners: Mapping[Side, CommandSide], *, both: bool
) -> tuple[dict[Side, Mapping[str, PointRow]], CommandFailed | None]:
    """What each command measures, and why the base measures nothing. A new side that fails is expected to have what the base
    has, so that it is MISSING. Raises UsageError where the base fails, and the new side too or it is not asked (`both`): there
    is nothing to judge against.
    """
    base, failure = runners["base"].discover()
    if failure is not None and not both:
        raise nothing_to_compare(failure)
    new, other = runners["new"].discover()
    if failure is not None and other is not None:
        raise nothing_to_compare(failure, other)
    return {"base": base, "new": new if other is None else base}, failure


def _pair_suites(
    known: Mapping[Side, Mapping[str, PointRow]],
) -> tuple[tuple[PlannedPoint, ...], dict[str, tuple[str | None, str | None]]]:
    """The points of both commands, paired by name."""
    every = {name: row for side in reversed(SIDES) for name, row in known[side].items()}
    points = tuple(
        PlannedPoint(
            key=name,
            label=name,
            device_class="suite",
            in_base=name in known["base"],
            in_new=name in known["new"],
        )
        for name in every
    )
    keys = {name: tuple(known[side][name].key if name in known[side] else None for side in SIDES) for name in every}
    return points, keys  # type: ignore[return-value]


def new_ids() -> tuple[str, datetime, dict[Side, str]]:
    """The id of a gate that starts now, and of the runs of its sides."""
    from benchrun.results.store import new_run_id

    started = datetime.now(UTC)
    gate_id = new_run_id(started)
    return gate_id, started, {side: f"{gate_id}-{side}" for side in SIDES}


def draft_gate(
    request: GateRequest,
    around: Surroundings,
    gate_id: str,
    started: datetime,
    plan: GatePlan,
    sides: Mapping[Side, GateSide],
    keys: Mapping[str, tuple[str | None, str | None]],
    notes: tuple[str, ...],
    *,
    more: Mapping[str, Any] | None = None,
) -> GateDraft:
    """All that is known before the first launch; what cannot come out well is told at once."""
    room = foresee_room(request.settings) if request.baseline is None else ""
    acceptances = settle_acceptances(request, around.folder, sides["base"].commit)
    strangers = find_strangers([(each.key, each.label) for each in plan.points], acceptances)
    for each in (*([room] if room else []), *strangers):
        around.warn(each)
    if strangers:
        around.warn(f"the points are: {'; '.join(each.label or each.key for each in plan.points[:SHOWN_POINTS])}")
    return GateDraft(
        id=gate_id,
        started=started,
        kind="session" if request.baseline is None else "baseline",
        seed=new_seed() if request.seed is None else request.seed,
        plan=plan,
        settings=request.settings,
        base=sides["base"],
        new=sides["new"],
        keys=keys,
        limits=request.limits,
        acceptances=acceptances,
        notes=(*notes, *([room] if room else [])),
        request={**redact_values(request.to_json()), **(more or {})},
        label=request.label,
        version=benchrun_version(),
    )


def conduct(store: Store, draft: GateDraft, session: GateSession) -> GateOutcome:
    """Run a session to its end, decide, and store how it ended, whatever happens."""
    state = "interrupted"
    try:
        stopped = session.run(draft.plan)
        verdict = decide(
            draft.plan,
            session.launches(draft.plan),
            draft.settings,
            stopped=stopped,
            limits=draft.limits,
            acceptances=draft.acceptances,
        )
        state = "interrupted" if stopped == "interrupted" else "finished"
    finally:
        for side in (draft.base, draft.new):
            if side.run_id is not None:
                close_side_run(store, side, state)
    return finish(store, draft, verdict, "interrupted" if stopped == "interrupted" else "finished")


def _place_notes(places: Mapping[Side, Place]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for place in places.values() for note in place.notes))
