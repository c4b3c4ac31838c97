"""Gate runs as the dashboard shows them: the latest ones, what is still open, and where a series was judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, select

from benchrun.results.schema import Environment, Gate, GatePoint, GateSide, GateVerdict, Run
from benchrun.results.views.frames import to_frame

if TYPE_CHECKING:
    import pandas as pd

SETTLED = ("PASS", "NEW")  # verdicts that ask nobody to do anything
RECENT_GATES = 50  # gates among which an open verdict is looked for
_FIGURES = ("metric", "ratio", "ratio_low", "ratio_high")
_GATE = ("gate_id", "gate_label", "gate_started", "gate_kind")
OPEN_COLUMNS = (*_GATE, "key", "label", "verdict", "reason", *_FIGURES, "run_id_base", "run_id_new")
MARK_COLUMNS = ("run_id", "point_key", *_GATE, "verdict", "reason", "accepted", *_FIGURES)


@dataclass(frozen=True, slots=True)
class GateSideEntry:
    """One side of a gate. `run_id` is None once its run was removed."""

    label: str
    commit: str | None
    run_id: str | None


@dataclass(frozen=True, slots=True)
class GateEntry:
    """A gate run to list. `points`: verdict → how many points have it (None: not decided); `accepted`: FAILs that do not count.

    `kind` `baseline` was measured against a stored run, across sessions: weaker than a `session`.
    """

    id: str
    label: str
    started: datetime
    finished: datetime | None
    state: str
    kind: str
    verdict: str | None
    stopped: str
    sides: Mapping[str, GateSideEntry]
    points: Mapping[str | None, int]
    accepted: int


def latest_gates(connection: Connection, limit: int = 12) -> list[GateEntry]:
    """The latest gate runs, latest first."""
    columns = (Gate.id, Gate.label, Gate.started, Gate.finished, Gate.state, Gate.kind, Gate.verdict, Gate.stopped)
    rows = connection.execute(select(*columns).order_by(Gate.started.desc(), Gate.id.desc()).limit(limit)).all()
    sides: dict[str, dict[str, GateSideEntry]] = {row[0]: {} for row in rows}
    points: dict[str, Counter[str | None]] = {row[0]: Counter() for row in rows}
    accepted: Counter[str] = Counter()
    ids = list(sides)
    wanted = select(GateSide.gate_id, GateSide.side, GateSide.label, GateSide.git_commit, GateSide.run_id)
    for gate_id, side, label, commit, run_id in connection.execute(wanted.where(GateSide.gate_id.in_(ids))):
        sides[gate_id][side] = GateSideEntry(label, commit, run_id)
    judged = select(GatePoint.gate_id, GatePoint.verdict, GatePoint.accepted).where(GatePoint.gate_id.in_(ids))
    for gate_id, verdict, reason in connection.execute(judged):
        points[gate_id][verdict] += 1
        accepted[gate_id] += bool(reason)
    return [
        GateEntry(**row._asdict(), sides=sides[row.id], points=dict(points[row.id]), accepted=accepted[row.id])
        for row in rows
    ]


def open_verdicts(connection: Connection, limit: int = 60) -> pd.DataFrame:
    """Points whose last finished gate of the same label on the same machine left something to do, the latest gate first.

    Open is any verdict but PASS and NEW, unless it was accepted. A later gate of that label that decides the point there closes it
    (the machine is that of its runs, unknown once both were removed). The `RECENT_GATES` latest gates are looked at. The figures are
    of the metric that decided (see `gate_marks`).
    """
    recent = (
        select(Gate.id, Gate.label, Gate.started, Gate.kind)
        .where(Gate.state == "finished")
        .order_by(Gate.started.desc(), Gate.id.desc())
        .limit(RECENT_GATES)
    )
    gates = {row.id: row for row in connection.execute(recent)}
    query = select(GatePoint.gate_id, GatePoint.key, GatePoint.label, GatePoint.verdict, GatePoint.reason)
    query = query.add_columns(GatePoint.accepted).where(GatePoint.gate_id.in_(list(gates)))
    by_gate: dict[str, list[Any]] = {gate_id: [] for gate_id in gates}
    for row in connection.execute(query.order_by(GatePoint.gate_id, GatePoint.ordinal)):
        by_gate[row.gate_id].append(row)
    machines = _machines(connection, list(gates))
    seen: set[tuple[str, str, str | None]] = set()
    found: list[dict[str, object]] = []
    for gate_id, gate in gates.items():
        for row in by_gate[gate_id]:
            identity = (gate.label, row.key, machines.get(gate_id))
            if row.verdict is None or identity in seen:
                continue
            seen.add(identity)
            if row.verdict not in SETTLED and not row.accepted:
                about = {"key": row.key, "label": row.label, "verdict": row.verdict, "reason": row.reason}
                found.append({**dict(zip(_GATE, gate, strict=True)), **about})
    found = found[:limit]
    _add_figures(connection, found)
    runs = _runs(connection, [str(each["gate_id"]) for each in found])
    for each in found:
        each.update({f"run_id_{side}": runs.get((str(each["gate_id"]), side)) for side in ("base", "new")})
    return to_frame(found, OPEN_COLUMNS)


def gate_marks(connection: Connection, fingerprint: str, keys: Sequence[str]) -> pd.DataFrame:
    """Where finished gates judged these points on a machine, oldest first: one row a gate and point.

    `run_id` is the run of the gate's new side. The figures are those of the metric that decided: of the metrics with the
    point's own verdict the one with the largest ratio (times new ÷ base). A gate whose run was removed has no place to be shown at.
    """
    query = (
        select(
            *(GateSide.run_id, GatePoint.new_key.label("point_key"), Gate.id.label("gate_id")),
            *(Gate.label.label("gate_label"), Gate.started.label("gate_started"), Gate.kind.label("gate_kind")),
            *(GatePoint.key, GatePoint.verdict, GatePoint.reason, GatePoint.accepted),
        )
        .join(Gate, Gate.id == GatePoint.gate_id)
        .join(GateSide, and_(GateSide.gate_id == Gate.id, GateSide.side == "new"))
        .join(Run, Run.id == GateSide.run_id)
        .join(Environment, Environment.id == Run.environment_id)
        .where(GatePoint.new_key.in_(keys), GatePoint.verdict.is_not(None), Gate.state == "finished")
        .where(Environment.fingerprint == fingerprint)
        .order_by(Gate.started, Gate.id, GatePoint.ordinal)
    )
    found: list[dict[str, object]] = [dict(row) for row in connection.execute(query).mappings()]
    _add_figures(connection, found)
    return to_frame(found, MARK_COLUMNS)


def _add_figures(connection: Connection, rows: Sequence[dict[str, object]]) -> None:
    """To each row (a point of a gate) the figures of the metric with its verdict that has the largest ratio."""
    gate_ids = list(dict.fromkeys(str(row["gate_id"]) for row in rows))
    found: dict[tuple[str, str, str], dict[str, object]] = {}
    for start in range(0, len(gate_ids), 400):
        query = (
            select(GateVerdict.gate_id, GateVerdict.point, GateVerdict.verdict)
            .add_columns(*(getattr(GateVerdict, name) for name in _FIGURES))
            .where(GateVerdict.gate_id.in_(gate_ids[start : start + 400]))
            .order_by(GateVerdict.metric)
        )
        for gate_id, point, verdict, *figures in connection.execute(query):
            given = {str(name): value for name, value in zip(_FIGURES, figures, strict=True)}
            known = found.get((gate_id, point, verdict))
            if known is None or _ratio(given) > _ratio(known):
                found[gate_id, point, verdict] = given
    for row in rows:
        row.update(found.get((str(row["gate_id"]), str(row["key"]), str(row["verdict"])), {}))


def _ratio(figures: Mapping[str, Any]) -> float:
    ratio = figures["ratio"]
    return -1.0 if ratio is None else float(ratio)


def _runs(connection: Connection, gate_ids: list[str]) -> dict[tuple[str, str], str | None]:
    query = select(GateSide.gate_id, GateSide.side, GateSide.run_id).where(GateSide.gate_id.in_(gate_ids))
    return {(gate_id, side): run_id for gate_id, side, run_id in connection.execute(query)}


def _machines(connection: Connection, gate_ids: list[str]) -> dict[str, str]:
    """Gate → hardware fingerprint of its new side's run, or of its base's where that one was removed."""
    query = (
        select(GateSide.gate_id, Environment.fingerprint)
        .join(Run, Run.id == GateSide.run_id)
        .join(Environment, Environment.id == Run.environment_id)
        .where(GateSide.gate_id.in_(gate_ids))
        .order_by(GateSide.side)
    )
    return {row.gate_id: row.fingerprint for row in connection.execute(query)}
