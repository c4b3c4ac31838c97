"""Gate runs in the store: written as they go, read back whole.

    gate = load_gate(store, resolve_gate(store, "last"))

Each function is one transaction. Errors that a user can mend are `StoreError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, RowMapping, delete, insert, or_, select, update

from benchrun.results import queries
from benchrun.results.errors import StoreError
from benchrun.results.gate_rows import (
    GateLaunchRow,
    GatePointRow,
    GateRecord,
    GateRow,
    GateSideRow,
    GateVerdictRow,
)
from benchrun.results.lookup import GATES, resolve
from benchrun.results.schema import Base, Gate, GateLaunch, GatePoint, GateSide, GateVerdict, Measurement, Run

if TYPE_CHECKING:
    from benchrun.results.rows import MeasurementRow
    from benchrun.results.store import Store

Row = TypeVar("Row")

_LISTS = ("limits", "acceptances", "notes")


def add_gate(store: Store, gate: GateRow, sides: Sequence[GateSideRow], points: Sequence[GatePointRow]) -> None:
    """Store a gate run with its sides and points, before its first launch."""
    values = asdict(gate) | {name: list(getattr(gate, name)) for name in _LISTS}
    with store.writing() as connection:
        connection.execute(insert(Gate), values)
        connection.execute(insert(GateSide), [_renamed(asdict(each), gate.id) for each in sides])
        if points:
            connection.execute(insert(GatePoint), _numbered(points, gate.id))


def add_gate_launch(store: Store, gate_id: str, launch: GateLaunchRow) -> None:
    """Store a launch that has ended; its measurements are in the side's run already."""
    with store.writing() as connection:
        _need(connection, gate_id, store.shown)
        connection.execute(insert(GateLaunch), asdict(launch) | {"gate_id": gate_id, "points": list(launch.points)})


def finish_gate(
    store: Store,
    gate: GateRow,
    points: Sequence[GatePointRow],
    verdicts: Sequence[GateVerdictRow],
) -> None:
    """Store how a gate run ended: state, what stopped it, the notes, verdict, exit code, document, and those of its points."""
    with store.writing() as connection:
        _need(connection, gate.id, store.shown)
        names = ("state", "stopped", "verdict", "exit_code", "document")
        values = {name: getattr(gate, name) for name in names} | {"notes": list(gate.notes)}
        values["finished"] = gate.finished or datetime.now(UTC)
        connection.execute(update(Gate).where(Gate.id == gate.id).values(values))
        for point in points:
            same = (GatePoint.gate_id == gate.id, GatePoint.key == point.key)
            told = {"verdict": point.verdict, "reason": point.reason, "accepted": point.accepted}
            connection.execute(update(GatePoint).where(*same).values(told))
        connection.execute(delete(GateVerdict).where(GateVerdict.gate_id == gate.id))
        if verdicts:
            connection.execute(insert(GateVerdict), [asdict(each) | {"gate_id": gate.id} for each in verdicts])


def load_gate(store: Store, gate_id: str) -> GateRecord:
    """A gate run with everything that belongs to it."""
    with store.reading() as connection:
        row = connection.execute(select(Gate).where(Gate.id == gate_id)).mappings().first()
        if row is None:
            raise StoreError(f"there is no gate run {gate_id} in {store.shown}")
        sides = [_side(each) for each in _of(connection, GateSide, gate_id, GateSide.side)]
        points = [_plain(GatePointRow, each) for each in _of(connection, GatePoint, gate_id, GatePoint.ordinal)]
        launches = [
            _plain(GateLaunchRow, each, points=tuple(each["points"]))
            for each in _of(connection, GateLaunch, gate_id, GateLaunch.place)
        ]
        verdicts = [
            _plain(GateVerdictRow, each)
            for each in _of(connection, GateVerdict, gate_id, GateVerdict.point, GateVerdict.metric)
        ]
    return GateRecord(
        gate=_gate(row),
        sides={each.side: each for each in sides},
        points=tuple(points),
        launches=tuple(launches),
        verdicts=tuple(verdicts),
    )


def list_gates(store: Store, limit: int | None = None) -> list[GateRow]:
    """All gate runs, or the `limit` latest ones, latest first."""
    query = select(Gate).order_by(Gate.started.desc(), Gate.id.desc()).limit(limit)
    with store.reading() as connection:
        return [_gate(row) for row in connection.execute(query).mappings()]


def resolve_gate(store: Store, given: str) -> str:
    """The id of the gate run that a user means: its id, the start of it or its last part if only one fits, `last`, or `last~1` for the
    one before that.
    """
    with store.reading() as connection:
        return resolve(connection, GATES, given, store.shown)


def stored_sessions(store: Store, keys: Sequence[str], fingerprint: str) -> list[tuple[str, MeasurementRow]]:
    """All `ok` measurements of these points on that hardware: (session, row), oldest first, without samples.

    The session is the run, or the gate run whose base the run was. New sides of gates are left out: a slower candidate
    would pass for a difference between sessions.
    """
    query = (
        select(Measurement, Run.request["gate"].as_string().label("gate"), Run.origin)
        .join(Run, Run.id == Measurement.run_id)
        .where(
            Measurement.point_key.in_(keys),
            Measurement.fingerprint == fingerprint,
            Measurement.status == "ok",
            queries.CURRENT,
            or_(Run.origin != "gate", Run.request["side"].as_string() == "base"),
        )
        .order_by(Measurement.id)
    )
    with store.reading() as connection:
        return [
            (row["gate"] if row["origin"] == "gate" else row["run_id"], queries.measurement_row(row))
            for row in connection.execute(query).mappings()
        ]


def remove_gate(store: Store, gate_id: str) -> None:
    """Remove a gate run with its verdicts; the runs of its sides stay."""
    with store.writing() as connection:
        _need(connection, gate_id, store.shown)
        connection.execute(delete(Gate).where(Gate.id == gate_id))


def _need(connection: Connection, gate_id: str, shown: str) -> None:
    if connection.execute(select(Gate.id).where(Gate.id == gate_id)).first() is None:
        raise StoreError(f"there is no gate run {gate_id} in {shown}")


def _of(connection: Connection, table: type[Base], gate_id: str, *order: Any) -> Sequence[RowMapping]:
    return connection.execute(select(table).filter_by(gate_id=gate_id).order_by(*order)).mappings().all()


def _gate(row: RowMapping) -> GateRow:
    return _plain(GateRow, row, **{name: tuple(row[name]) for name in _LISTS})


def _side(row: RowMapping) -> GateSideRow:
    return _plain(GateSideRow, row, commit=row["git_commit"])


def _plain(kind: type[Row], row: Mapping[Any, Any], **given: Any) -> Row:
    names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: row[name] for name in names if name not in given}, **given)


def _renamed(values: dict[str, Any], gate_id: str) -> dict[str, Any]:
    return {"git_commit" if name == "commit" else name: value for name, value in values.items()} | {"gate_id": gate_id}


def _numbered(points: Sequence[GatePointRow], gate_id: str) -> list[dict[str, Any]]:
    return [asdict(each) | {"gate_id": gate_id, "ordinal": at} for at, each in enumerate(points)]
