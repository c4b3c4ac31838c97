"""The results database: what was planned, what became of it, and every sample.

    with open_store() as store:
        for run in store.runs():
            print(run.id, run.label, run.ok, run.failed)

Each method is one transaction. Errors a user can mend are `StoreError`, one sentence each.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Connection, Engine, delete, exists, insert, select, update

from benchrun.results import queries
from benchrun.results.attached import has_parts, insert_parts
from benchrun.results.ceilings import add_ceilings, load_ceilings
from benchrun.results.engine import lock_catalog, open_engine
from benchrun.results.errors import NoDatabase, StoreError
from benchrun.results.inserts import insert_points, insert_run
from benchrun.results.layouts import USES, engine_use
from benchrun.results.lookup import RUNS, resolve
from benchrun.results.reasons import explaining
from benchrun.results.records import EnvironmentRecord, RunOverview, RunRecord, StoredAttachment
from benchrun.results.roofline import best_ceilings
from benchrun.results.rows import RUN_STATES, CeilingRow, LaunchRow, MeasurementRow, PointRow, RunRow
from benchrun.results.samples import DamagedData
from benchrun.results.schema import Environment, Launch, Measurement, Point, Run, RunPoint
from benchrun.results.sqlite_file import writer
from benchrun.results.target import Target, default_path, locate

if TYPE_CHECKING:
    from benchrun.results.notebook import Frames
    from benchrun.results.rows import Samples

__all__ = ["NoDatabase", "Store", "StoreError", "default_path", "new_run_id", "open_store"]

_TAIL_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that look alike


def open_store(url_or_path: str | Path | None = None, *, read_only: bool = False) -> Store:
    """Open a results database: a SQLite file or a PostgreSQL URL; None is $BENCHRUN_DB, else the folder for user data.

    Creates what does not exist yet and migrates what is older, after a backup beside the file; with `read_only` it does
    neither and nothing is written. Raises `StoreError`, or `NoDatabase` where `read_only` finds nothing.
    """
    target = locate(url_or_path)
    return Store(open_engine(target, read_only=read_only), target)


def new_run_id(started: datetime) -> str:
    """A run id that sorts by time and is pleasant to type: `20261122-153012-x7kq`; its last part alone finds it again."""
    tail = "".join(secrets.choice(_TAIL_LETTERS) for _ in range(4))
    return f"{started.astimezone(UTC):%Y%m%d-%H%M%S}-{tail}"


class Store:
    """An open results database. Threads may share it; processes each open it for themselves."""

    def __init__(self, engine: Engine, target: Target) -> None:
        self._engine = engine
        self._writer = writer(engine)
        self._target = target

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @property
    def shown(self) -> str:
        """Where the database is, without a password."""
        return self._target.shown

    @property
    def frames(self) -> Frames:
        """Queries that return pandas frames, for notebooks: docs/python-api.md. Needs pandas."""
        from benchrun.results.notebook import Frames

        return Frames(self)  # pyright: ignore[reportArgumentType] - takes the installed class for another one

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a read transaction: all that is read through it is of one moment."""
        with explaining(self._target), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, points: bool = False) -> Iterator[Connection]:
        """A connection in a write transaction, for what this room writes in bulk; with `points` it may add and remove points."""
        with explaining(self._target), self._writer.begin() as connection:
            if points:
                lock_catalog(connection)
            yield connection

    # --- runs ---

    def add_run(self, run: RunRow, points: Sequence[PointRow], replicates: int) -> None:
        """Store a run with its plan: each point in `replicates` launches."""
        with self.writing(points=True) as connection:
            insert_run(connection, run)
            _plan(connection, run.id, points, replicates, {})

    def extend_run(
        self, run_id: str, points: Sequence[PointRow], replicates: int, request: Mapping[str, Any] | None = None
    ) -> None:
        """Open a run again: it is `running`, new points join its plan, known ones need at least `replicates` launches.

        `request`, where given, replaces what the run was asked for.
        """
        with self.writing(points=True) as connection:
            self._set_state(connection, run_id, "running")
            if request is not None:
                connection.execute(update(Run).where(Run.id == run_id).values(request=dict(request)))
            query = select(RunPoint.point_key, RunPoint.ordinal, RunPoint.replicates).where(RunPoint.run_id == run_id)
            known = {row.point_key: (row.ordinal, row.replicates) for row in connection.execute(query)}
            _plan(connection, run_id, points, replicates, known)

    def finish_run(self, run_id: str, state: str) -> None:
        """Set the state of a run: `finished` or `interrupted` with the time of day, `running` without."""
        with self.writing() as connection:
            self._set_state(connection, run_id, state)

    def remove_run(self, run_id: str) -> None:
        """Remove a run with all its measurements, and the points and the environment that no other run uses."""
        with self.writing(points=True) as connection:
            environment_id = self._one(connection, run_id, Run.environment_id)
            keys = connection.execute(select(RunPoint.point_key).where(RunPoint.run_id == run_id)).scalars().all()
            connection.execute(delete(Run).where(Run.id == run_id))
            unused = ~exists().where(RunPoint.point_key == Point.key)
            for start in range(0, len(keys), 500):
                connection.execute(delete(Point).where(Point.key.in_(keys[start : start + 500]), unused))
            connection.execute(
                delete(Environment).where(
                    Environment.id == environment_id, ~exists().where(Run.environment_id == Environment.id)
                )
            )

    def resolve_run(self, given: str) -> str:
        """The id of the run that a user means: its id, the start of it or its last part if only one fits, `last`, or `last~1` for the run
        of a sweep before that one."""
        with self.reading() as connection:
            return resolve(connection, RUNS, given, self.shown)

    def runs(self, limit: int | None = None) -> list[RunOverview]:
        """All runs, or the `limit` latest ones, latest first."""
        with self.reading() as connection:
            return queries.overviews(connection, limit)

    def run(self, run_id: str, *, samples: bool = False) -> RunRecord:
        """A run with its plan, launches and latest measurements; with `samples`, their samples too."""
        with self.reading() as connection, _telling_damage(self.shown):
            record = queries.load_run(connection, run_id, samples=samples)
        if record is None:
            raise StoreError(f"there is no run {run_id} in {self.shown}")
        return record

    def missing(self, run_id: str) -> list[tuple[str, int]]:
        """(point key, replicate) pairs still to measure: without a row, or with an `interrupted` one."""
        with self.reading() as connection:
            self._one(connection, run_id, Run.id)
            return queries.missing(connection, run_id)

    # --- launches and measurements ---

    def add_launch(self, run_id: str, launch: LaunchRow) -> int:
        """Store a launch; its id."""
        with self.writing() as connection:
            self._one(connection, run_id, Run.id)
            key = connection.execute(insert(Launch).values(run_id=run_id, **asdict(launch))).inserted_primary_key
        assert key is not None
        return int(key[0])

    def finish_launch(self, launch_id: int, exit: str) -> None:
        """Store how a launch ended: its exit status or the name of the signal."""
        with self.writing() as connection:
            values = {"exit": exit, "finished": datetime.now(UTC)}
            if connection.execute(update(Launch).where(Launch.id == launch_id).values(values)).rowcount != 1:
                raise StoreError(f"there is no launch {launch_id} in {self.shown}")

    def add_measurement(self, run_id: str, launch_id: int | None, row: MeasurementRow) -> int:
        """Store a measurement with all that hangs on it; its id. Earlier rows of the same point and replicate no longer count."""
        return self.add_measurements(run_id, [(launch_id, row)])[0]

    def add_measurements(self, run_id: str, rows: Sequence[tuple[int | None, MeasurementRow]]) -> list[int]:
        """Store many measurements, in order, in one transaction; their ids."""
        with self.writing() as connection:
            query = select(Environment.fingerprint).join(Run).where(Run.id == run_id)
            fingerprint = connection.execute(query).scalar()
            if fingerprint is None:
                raise StoreError(f"there is no run {run_id} in {self.shown}")
            ids = []
            for launch_id, row in rows:
                same = (Measurement.run_id == run_id, Measurement.point_key == row.point_key)
                current = (Measurement.replicate == row.replicate, queries.CURRENT)
                connection.execute(update(Measurement).where(*same, *current).values(superseded=True))
                ids.append(_insert_measurement(connection, run_id, launch_id, fingerprint, row))
            return ids

    def samples(self, measurement_id: int, clock: str = "host") -> Samples | None:
        """All samples [n] of one clock (`host`, `device`) in nanoseconds, in order; None where it took none."""
        with self.reading() as connection, _telling_damage(self.shown):
            return queries.load_samples(connection, measurement_id, clock)

    def attachments(self, measurement_id: int) -> tuple[StoredAttachment, ...]:
        """The text files of a measurement by name and size, without their texts."""
        with self.reading() as connection:
            return queries.list_attachments(connection, [measurement_id])[measurement_id]

    def attachment(self, measurement_id: int, name: str) -> str:
        """The text of one file of a measurement. `StoreError` where it has none of that name."""
        with self.reading() as connection, _telling_damage(self.shown):
            found = queries.load_attachment(connection, measurement_id, name)
        if found is None:
            raise StoreError(f"measurement {measurement_id} in {self.shown} has no attachment '{name}'")
        return found

    def add_ceilings(self, rows: Sequence[CeilingRow]) -> None:
        """Store what a machine was measured to be able to do at most; earlier figures stay as history."""
        with self.writing() as connection:
            add_ceilings(connection, rows)

    def ceilings(self, fingerprint: str | None = None, device: str | None = None) -> list[CeilingRow]:
        """The ceilings that count (see `roofline.best_ceilings`), of one hardware and one device where given."""
        with self.reading() as connection:
            rows = load_ceilings(connection, fingerprint)
        return best_ceilings(row for row in rows if device in (None, row.device))

    def environments(self) -> list[EnvironmentRecord]:
        """All environments, oldest first."""
        with self.reading() as connection:
            return queries.environments(connection)

    def executed(self, fingerprints: Sequence[str]) -> dict[tuple[str, str, str], tuple[str, ...]]:
        """(backend, variant, device kind) that gave a right answer on hardware with one of these fingerprints → in which uses.

        Those are what engines have code of their own for: `padded` calls, `packed` ones, steps of `training`.
        """
        right = exists().where(
            Measurement.point_key == Point.key, Measurement.fingerprint.in_(fingerprints), Measurement.status == "ok"
        )
        query = select(Point.backend, Point.variant, Point.device, Point.workload).where(right).distinct()
        found: dict[tuple[str, str, str], set[str]] = {}
        with self.reading() as connection:
            for row in connection.execute(query):
                engine = row.backend, row.variant, (row.device or "").partition(":")[0]
                found.setdefault(engine, set()).add(engine_use(row.workload))
        return {engine: tuple(sorted(uses, key=USES.index)) for engine, uses in found.items()}

    # --- shared ---

    def _one(self, connection: Connection, run_id: str, column: Any) -> Any:
        value = connection.execute(select(column).where(Run.id == run_id)).scalar()
        if value is None:
            raise StoreError(f"there is no run {run_id} in {self.shown}")
        return value

    def _set_state(self, connection: Connection, run_id: str, state: str) -> None:
        if state not in RUN_STATES:
            raise ValueError(f"a run's state is one of {', '.join(RUN_STATES)}, not {state!r}")
        finished = None if state == "running" else datetime.now(UTC)
        self._one(connection, run_id, Run.id)
        connection.execute(update(Run).where(Run.id == run_id).values(state=state, finished=finished))


@contextmanager
def _telling_damage(shown: str) -> Iterator[None]:
    try:
        yield
    except DamagedData as error:
        raise StoreError(f"{shown}: {error}") from None


def _plan(
    connection: Connection, run_id: str, points: Sequence[PointRow], replicates: int, known: dict[str, tuple[int, int]]
) -> None:
    """Add points to a run's plan; `known` maps the keys that are in it to (ordinal, replicates)."""
    fresh = {point.key: point for point in points if point.key not in known}
    if fresh:
        insert_points(connection, list(fresh.values()))
        start = 1 + max((ordinal for ordinal, _ in known.values()), default=-1)
        plan = [
            {"run_id": run_id, "point_key": key, "ordinal": ordinal, "replicates": replicates}
            for ordinal, key in enumerate(fresh, start)
        ]
        connection.execute(insert(RunPoint), plan)
    more = [point.key for point in points if point.key in known and known[point.key][1] < replicates]
    for key in more:
        same = (RunPoint.run_id == run_id, RunPoint.point_key == key)
        connection.execute(update(RunPoint).where(*same).values(replicates=replicates))


def _insert_measurement(
    connection: Connection, run_id: str, launch_id: int | None, fingerprint: str, row: MeasurementRow
) -> int:
    own = {"run_id": run_id, "launch_id": launch_id, "fingerprint": fingerprint, "superseded": False}
    key = connection.execute(insert(Measurement), own | queries.measurement_columns(row)).inserted_primary_key
    assert key is not None
    if has_parts(row):
        insert_parts(connection, [(int(key[0]), row)])
    return int(key[0])
