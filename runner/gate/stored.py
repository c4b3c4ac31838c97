"""Gate runs between the store and the rule: what is written when one begins and ends, and deciding one again from its
stored launches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, cast

from benchrun.runner.gate.acceptance import Acceptance
from benchrun.runner.gate.decision import decide
from benchrun.runner.gate.launches import SIDES, WARMUP, GatePlan, Launch, PlannedPoint
from benchrun.runner.gate.limits import Limit
from benchrun.runner.gate.outcome import GateOutcome, GateSide, Kind, State
from benchrun.runner.gate.readings import Taken, to_launches
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.verdict import GateVerdict, verdict_json

if TYPE_CHECKING:
    from benchrun.results import Store
    from benchrun.results.gate_rows import GatePointRow, GateRecord, GateRow, GateSideRow, GateVerdictRow
    from benchrun.results.rows import MeasurementRow


WORDS = ("reason", "notes", "warnings")  # of a verdict's document: sentences


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDraft:
    """All of a gate run but its launches and its verdict. `keys`: gate's point key → the point's key on either side."""

    id: str
    started: datetime
    kind: Kind
    seed: int
    plan: GatePlan
    settings: GateSettings
    base: GateSide
    new: GateSide
    keys: Mapping[str, tuple[str | None, str | None]]
    limits: tuple[Limit, ...] = ()
    acceptances: tuple[Acceptance, ...] = ()
    notes: tuple[str, ...] = ()
    request: Mapping[str, Any] | None = None
    label: str = ""
    version: str = ""


def gate_row(draft: GateDraft) -> GateRow:
    """The row of a gate run that begins."""
    from benchrun.results.gate_rows import GateRow

    return GateRow(
        id=draft.id,
        label=draft.label,
        started=draft.started,
        state="running",
        kind=draft.kind,
        seed=draft.seed,
        settings=asdict(draft.settings),
        plan={"metrics": list(draft.plan.metrics), "aa": draft.plan.aa, "foreign": draft.plan.foreign},
        request=draft.request or {},
        limits=tuple(asdict(each) for each in draft.limits),
        acceptances=tuple(asdict(each) for each in draft.acceptances),
        notes=draft.notes,
        version=draft.version,
    )


def side_row(side: GateSide) -> GateSideRow:
    """The row of one side."""
    from benchrun.results.gate_rows import GateSideRow

    return GateSideRow(
        side=side.side,
        subject=side.subject,
        label=side.label,
        run_id=side.run_id,
        commit=side.commit,
        details=side.details,
    )


def point_rows(draft: GateDraft, verdict: GateVerdict | None = None) -> list[GatePointRow]:
    """The rows of a gate's points, with their verdicts where there are any."""
    from benchrun.results.gate_rows import GatePointRow

    judged = {each.point: each for each in verdict.points} if verdict is not None else {}
    rows = []
    for point in draft.plan.points:
        found = judged.get(point.key)
        rows.append(
            GatePointRow(
                key=point.key,
                label=point.label,
                device_class=point.device_class,
                worker=point.group,
                in_base=point.in_base,
                in_new=point.in_new,
                base_key=draft.keys[point.key][0],
                new_key=draft.keys[point.key][1],
                verdict=found.verdict if found else None,
                reason=found.reason if found else "",
                accepted=found.accepted if found else "",
            )
        )
    return rows


def verdict_rows(verdict: GateVerdict) -> list[GateVerdictRow]:
    """The rows of all metrics of all points."""
    from benchrun.results.gate_rows import GateVerdictRow

    return [GateVerdictRow(point=point.point, **asdict(metric)) for point in verdict.points for metric in point.metrics]


def begin(store: Store, draft: GateDraft) -> None:
    """Store a gate run before its first launch."""
    from benchrun.results.gates import add_gate

    add_gate(store, gate_row(draft), [side_row(draft.base), side_row(draft.new)], point_rows(draft))


def finish(store: Store, draft: GateDraft, verdict: GateVerdict, state: State) -> GateOutcome:
    """Store how a gate run ended; returns it whole."""
    from benchrun.results.gates import finish_gate

    finished = datetime.now(UTC)
    row = replace(
        gate_row(draft),
        state=state,
        finished=finished,
        stopped=verdict.stopped,
        verdict=verdict.verdict,
        exit_code=verdict.exit_code,
        document=verdict_json(verdict),
    )
    finish_gate(store, row, point_rows(draft, verdict), verdict_rows(verdict))
    return make_outcome(draft, verdict, state, finished, store.shown)


def make_outcome(
    draft: GateDraft, verdict: GateVerdict, state: State, finished: datetime | None, db: str
) -> GateOutcome:
    """A draft with its verdict."""
    same = ("id", "started", "kind", "seed", "plan", "settings", "base", "new", "limits", "acceptances", "notes")
    return GateOutcome(
        **{name: getattr(draft, name) for name in same},
        label=draft.label,
        version=draft.version,
        finished=finished,
        state=state,
        verdict=verdict,
        db=db,
    )


def read_draft(record: GateRecord) -> GateDraft:
    """The inverse of `begin`. Settings that this version does not know are left out."""
    gate = record.gate
    known = {each.name for each in fields(GateSettings)}
    base, new = (_read_side(record, side) for side in SIDES)
    plan = GatePlan(
        base=base.subject,
        new=new.subject,
        points=tuple(
            PlannedPoint(
                key=each.key,
                label=each.label,
                device_class=each.device_class,
                group=each.worker,
                in_base=each.in_base,
                in_new=each.in_new,
            )
            for each in record.points
        ),
        metrics=tuple(gate.plan["metrics"]),
        aa=bool(gate.plan["aa"]),
        foreign=bool(gate.plan["foreign"]),
    )
    return GateDraft(
        id=gate.id,
        started=gate.started,
        kind=cast("Kind", gate.kind),
        seed=gate.seed,
        plan=plan,
        settings=GateSettings(**{name: value for name, value in gate.settings.items() if name in known}),
        base=base,
        new=new,
        keys={each.key: (each.base_key, each.new_key) for each in record.points},
        limits=tuple(Limit(**each) for each in gate.limits),
        acceptances=tuple(Acceptance(**each) for each in gate.acceptances),
        notes=gate.notes,
        request=gate.request,
        label=gate.label,
        version=gate.version,
    )


def read_launches(store: Store, record: GateRecord, plan: GatePlan) -> tuple[Launch, ...]:
    """The launches of a stored gate run, from the runs of its sides."""
    rows: dict[tuple[str, int], list[tuple[str, MeasurementRow]]] = {}
    for side in SIDES:
        run_id = record.sides[side].run_id
        if run_id is None:
            continue  # the run was removed: its launches have no rows any more
        of_run = {(each.base_key if side == "base" else each.new_key): each.key for each in record.points}
        for each in store.run(run_id, samples=True).measurements:
            key = of_run.get(each.row.point_key)
            if key is not None:
                rows.setdefault((side, each.row.replicate), []).append((key, each.row))
    return to_launches(
        plan,
        record.gate.id,
        [
            Taken(each, tuple(rows.get((each.side, each.place), ())) if each.stage != WARMUP else ())
            for each in record.launches
        ],
    )


def redecide(store: Store, record: GateRecord) -> GateOutcome:
    """Decide a stored gate run again, from its stored launches. One that still runs is decided as if it were stopped."""
    from benchrun.runner.gate.baseline_session import redecide_baseline

    draft = read_draft(record)
    stopped = record.gate.stopped if record.gate.state != "running" else "interrupted"
    if draft.kind == "baseline":
        # pyright takes the installed class for another one than the checkout's
        verdict = redecide_baseline(store, record, draft, stopped)  # pyright: ignore[reportArgumentType]
    else:
        verdict = decide(
            draft.plan,
            read_launches(store, record, draft.plan),
            draft.settings,
            stopped=stopped,
            limits=draft.limits,
            acceptances=draft.acceptances,
        )
    return make_outcome(draft, verdict, cast("State", record.gate.state), record.gate.finished, store.shown)


def find_difference(record: GateRecord, verdict: GateVerdict) -> str:
    """Why a stored document and a verdict decided again do not say the same; empty where they do. Sentences do not count: a
    later version may word them otherwise.
    """
    if record.gate.document is None or _without_words(record.gate.document) == _without_words(verdict_json(verdict)):
        return ""
    gone = [side for side in SIDES if record.sides[side].run_id is None]
    if gone:
        return f"the run of the {' and the '.join(gone)} side was removed: the verdict stored then was {record.gate.verdict}"
    return (
        f"decided again this run is {verdict.verdict}; stored is {record.gate.verdict}, decided by benchrun "
        f"{record.gate.version or 'of unknown version'}: the rule or the stored launches changed since"
    )


def _without_words(document: str) -> Any:
    return json.loads(
        document, object_hook=lambda each: {name: value for name, value in each.items() if name not in WORDS}
    )


def _read_side(record: GateRecord, side: Literal["base", "new"]) -> GateSide:
    row = record.sides[side]
    return GateSide(
        side=side, label=row.label, subject=row.subject, commit=row.commit, run_id=row.run_id, details=row.details
    )
