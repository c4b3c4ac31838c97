"""Rows from one database into another: a run or a gate with all that belongs to it, inside the caller's transaction.

Tables whose keys are names (points, plans, everything of a gate) are copied as they are; launches and measurements are
numbered anew. A column, or a table of a gate or of a measurement, that a later schema adds is copied without a change here.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Select, Table, func, insert, select, update

from benchrun.results.errors import StoreError
from benchrun.results.inserts import insert_new
from benchrun.results.reasons import explaining
from benchrun.results.schema import (
    Base,
    Ceiling,
    Environment,
    Gate,
    Launch,
    Measurement,
    Point,
    Run,
    RunPoint,
)
from benchrun.results.target import Target

CHUNK = 1000  # rows read and written at a time
_LAUNCH_IDENTITY = ("replicate", "pid", "started")
_OWN_COLUMNS = ("id", "launch_id", "superseded")  # of a measurement: not part of what was measured
Row = Mapping[str, Any]


class Conflict(Exception):
    """Both databases hold something under one name that is not the same: one sentence."""


class Reader:
    """The other database, inside one read transaction; what goes wrong in it is told with its name."""

    def __init__(self, connection: Connection, target: Target) -> None:
        self._connection, self._target = connection, target

    def rows(self, query: Select[Any]) -> list[Row]:
        """All rows of a query."""
        with self._explaining():
            return [dict(row) for row in self._connection.execute(query).mappings()]

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            with explaining(self._target):
                yield
        except (ValueError, TypeError, LookupError) as error:  # SQLite stores any value in any column
            raise StoreError(f"{self._target.shown} holds a value that benchrun cannot have written: {error}") from None

    def chunks(self, table: type[Base], owner: Any, run_id: str) -> Iterator[list[Row]]:
        """The rows of a numbered table that belong to a run, by number, `CHUNK` at a time."""
        last = -1
        columns = table.__table__.c
        while True:
            query = select(table).where(owner == run_id, columns.id > last).order_by(columns.id).limit(CHUNK)
            found = self.rows(query)
            if not found:
                return
            yield found
            last = found[-1]["id"]


# --- what a run holds, for comparing ----------------------------------------------------------------------------------


def measured(rows: Callable[[Select[Any]], list[Row]], run_id: str) -> dict[bytes, list[int]]:
    """Every measurement of a run as a digest of all that was measured, samples, scores and attachments included → the ids that
    have it.
    """
    launches = {
        each["id"]: tuple(each[name] for name in _LAUNCH_IDENTITY)
        for each in rows(select(Launch).where(Launch.run_id == run_id))
    }
    names = [column.name for column in Measurement.__table__.c if column.name not in _OWN_COLUMNS]
    found: dict[bytes, list[int]] = defaultdict(list)
    last = -1
    while True:
        query = select(Measurement).where(Measurement.run_id == run_id, Measurement.id > last)
        chunk = rows(query.order_by(Measurement.id).limit(CHUNK))
        if not chunk:
            return found
        parts = _part_digests(rows, [each["id"] for each in chunk])
        for each in chunk:
            content = (launches.get(each["launch_id"]), [each[name] for name in names], parts.get(each["id"]))
            found[hashlib.sha256(repr(content).encode("utf-8", "backslashreplace")).digest()].append(each["id"])
        last = chunk[-1]["id"]


def count_measurements(read: Reader, run_id: str) -> int:
    """How many measurements a run of the other database has."""
    (found,) = read.rows(select(func.count().label("n")).select_from(Measurement).where(Measurement.run_id == run_id))
    return int(found["n"])


def part_tables() -> list[Table]:
    """The tables that belong to a measurement: all whose `measurement_id` leads there."""
    target = Measurement.__table__.c.id
    return [table for table in Base.metadata.sorted_tables if any(key.column is target for key in table.foreign_keys)]


def _part_digests(rows: Callable[[Select[Any]], list[Row]], ids: Sequence[int]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for table in part_tables():
        query = select(table).where(table.c.measurement_id.in_(ids)).order_by(*table.primary_key.columns)
        for each in rows(query):
            cells = [
                hashlib.sha256(value).digest() if isinstance(value, bytes) else value
                for name, value in each.items()
                if name != "measurement_id"
            ]
            found[each["measurement_id"]].append((table.name, cells))
    return found


# --- writing ----------------------------------------------------------------------------------------------------------


def add_run(write: Connection, read: Reader, run_id: str) -> int:
    """Copy a run that is not there yet; how many measurements it has."""
    (run,) = read.rows(select(Run).where(Run.id == run_id))
    (environment,) = read.rows(select(Environment).where(Environment.id == run["environment_id"]))
    insert_new(write, Environment, [{name: each for name, each in environment.items() if name != "id"}])
    known = write.execute(select(Environment).where(Environment.digest == environment["digest"])).mappings().one()
    if (known["fingerprint"], known["details"]) != (environment["fingerprint"], environment["details"]):
        raise Conflict("its environment has the digest of another one here")
    write.execute(insert(Run), dict(run) | {"environment_id": known["id"]})
    _write_plan(write, read, run_id, frozenset())
    launches = _write_launches(write, read, run_id, {})
    return _write_measurements(write, read, run_id, launches, None)


def extend_run(
    write: Connection, read: Reader, run_id: str, ours: Mapping[bytes, list[int]], theirs: Mapping[bytes, list[int]]
) -> int:
    """Bring a run up to what the other database, which has all of it and more, holds; how many measurements are new."""
    plan = {row.point_key: row.ordinal for row in write.execute(select(RunPoint).where(RunPoint.run_id == run_id))}
    their_plan = {each["point_key"]: each for each in read.rows(select(RunPoint).where(RunPoint.run_id == run_id))}
    if any(key not in their_plan or their_plan[key]["ordinal"] != ordinal for key, ordinal in plan.items()):
        raise Conflict("its plan here is not the beginning of its plan there")
    _write_plan(write, read, run_id, frozenset(plan))
    for key in plan:
        same = (RunPoint.run_id == run_id, RunPoint.point_key == key)
        write.execute(update(RunPoint).where(*same).values(replicates=their_plan[key]["replicates"]))
    pairs = {
        theirs_id: ours_id
        for digest, ids in ours.items()
        for theirs_id, ours_id in zip(theirs[digest], ids, strict=False)
    }
    # What the other database no longer counts, before what replaces it comes in: only one row may count.
    retired = read.rows(select(Measurement.id).where(Measurement.run_id == run_id, Measurement.superseded))
    for each in retired:
        if each["id"] in pairs:
            write.execute(update(Measurement).where(Measurement.id == pairs[each["id"]]).values(superseded=True))
    known = {_identity(row): row.id for row in write.execute(select(Launch).where(Launch.run_id == run_id))}
    launches = _write_launches(write, read, run_id, known)
    added = _write_measurements(write, read, run_id, launches, frozenset(pairs))
    (run,) = read.rows(select(Run).where(Run.id == run_id))
    told = {name: run[name] for name in ("state", "finished", "request")}
    write.execute(update(Run).where(Run.id == run_id).values(told))
    return added


def _write_plan(write: Connection, read: Reader, run_id: str, known: frozenset[str]) -> None:
    plan = [
        each for each in read.rows(select(RunPoint).where(RunPoint.run_id == run_id)) if each["point_key"] not in known
    ]
    for start in range(0, len(plan), CHUNK):
        chunk = plan[start : start + CHUNK]
        keys = [each["point_key"] for each in chunk]
        points = read.rows(select(Point).where(Point.key.in_(keys)))
        insert_new(write, Point, [dict(each) for each in points])
        here = {row["key"]: dict(row) for row in write.execute(select(Point).where(Point.key.in_(keys))).mappings()}
        for point in points:
            if here[point["key"]] != point:
                raise Conflict(f"point {point['key']} means something else here")
        write.execute(insert(RunPoint), [dict(each) for each in chunk])


def _identity(row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in _LAUNCH_IDENTITY)


def _write_launches(
    write: Connection, read: Reader, run_id: str, known: Mapping[tuple[Any, ...], int]
) -> dict[int, int]:
    """Number in the other database → number here; launches that are here already get their end where it was missing."""
    numbers: dict[int, int] = {}
    for each in read.rows(select(Launch).where(Launch.run_id == run_id).order_by(Launch.id)):
        there = tuple(each[name] for name in _LAUNCH_IDENTITY)
        if there in known:
            numbers[each["id"]] = known[there]
            ending = {"finished": each["finished"], "exit": each["exit"]}
            write.execute(update(Launch).where(Launch.id == known[there]).values(ending))
            continue
        values = {name: value for name, value in each.items() if name != "id"}
        key = write.execute(insert(Launch), values).inserted_primary_key
        assert key is not None
        numbers[each["id"]] = int(key[0])
    return numbers


def _write_measurements(
    write: Connection, read: Reader, run_id: str, launches: Mapping[int, int], known: frozenset[int] | None
) -> int:
    written = 0
    returning = insert(Measurement).returning(Measurement.id, sort_by_parameter_order=True)
    for rows in read.chunks(Measurement, Measurement.run_id, run_id):
        chunk = rows if known is None else [each for each in rows if each["id"] not in known]
        if not chunk:
            continue
        filled = [name for name in chunk[0] if name != "id" and any(each[name] is not None for each in chunk)]
        values = [{name: each[name] for name in filled} for each in chunk]
        for each in values:
            if each.get("launch_id") is not None:
                each["launch_id"] = launches[each["launch_id"]]
        ids = write.execute(returning, values).scalars().all()
        numbers = {each["id"]: id_ for each, id_ in zip(chunk, ids, strict=True)}
        for table in part_tables():
            parts = read.rows(select(table).where(table.c.measurement_id.in_(list(numbers))))
            if parts:
                renumbered = [dict(each) | {"measurement_id": numbers[each["measurement_id"]]} for each in parts]
                write.execute(insert(table), renumbered)
        written += len(chunk)
    return written


# --- gates ------------------------------------------------------------------------------------------------------------


def gate_tables() -> list[Table]:
    """The tables that belong to a gate, parents first: all that lead to `gates` by their foreign keys."""
    owned = {Gate.__tablename__}
    found = []
    for table in Base.metadata.sorted_tables:
        parents = {key.column.table.name for key in table.foreign_keys}
        if table.name not in owned and parents & owned:
            owned.add(table.name)
            found.append(table)
    return found


def gate_content(rows: Callable[[Select[Any]], list[Row]], gate_id: str) -> dict[str, list[Row]]:
    """A gate and all that belongs to it, by table; without the runs of its sides, which may have been removed here or there."""
    content = {Gate.__tablename__: rows(select(Gate).where(Gate.id == gate_id))}
    for table in gate_tables():
        found = rows(select(table).where(table.c.gate_id == gate_id).order_by(*table.primary_key.columns))
        content[table.name] = [{name: value for name, value in each.items() if name != "run_id"} for each in found]
    return content


def write_gate(write: Connection, read: Reader, gate_id: str) -> None:
    """Copy a gate that is not there; a side whose run is not here has none."""
    write.execute(insert(Gate), [dict(each) for each in read.rows(select(Gate).where(Gate.id == gate_id))])
    for table in gate_tables():
        found = [dict(each) for each in read.rows(select(table).where(table.c.gate_id == gate_id))]
        for each in found:
            run_id = each.get("run_id")
            if run_id is not None and write.execute(select(Run.id).where(Run.id == run_id)).first() is None:
                each["run_id"] = None
        if found:
            write.execute(insert(table), found)


# --- ceilings ---------------------------------------------------------------------------------------------------------


def new_ceilings(rows: Callable[[Select[Any]], list[Row]], read: Reader, fingerprint: str) -> list[Row]:
    """What the other database measured of a machine's ceilings and this one does not have, without its numbers."""
    query = select(Ceiling).where(Ceiling.fingerprint == fingerprint).order_by(Ceiling.id)
    here, there = (
        [{name: each[name] for name in each if name != "id"} for each in ask(query)] for ask in (rows, read.rows)
    )
    return [each for each in there if each not in here]


def write_ceilings(write: Connection, read: Reader, fingerprint: str) -> int:
    """Write the ceilings of a machine that are new here; how many those are."""
    found = new_ceilings(lambda query: [dict(row) for row in write.execute(query).mappings()], read, fingerprint)
    if found:
        write.execute(insert(Ceiling), [dict(each) for each in found])
    return len(found)
