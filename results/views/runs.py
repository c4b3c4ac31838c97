"""Runs as lists: the latest ones with what became of their points, and a short list to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from benchrun.results import queries
from benchrun.results.schema import Environment, Measurement, Point, Run, RunPoint


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run to choose."""

    id: str
    label: str
    started: datetime
    state: str
    origin: str
    commit: str | None
    fingerprint: str
    environment_id: int


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """A run with what became of its plan. `engines` and `models` are sorted."""

    entry: RunEntry
    finished: datetime | None
    points: int
    ok: int
    failed: int
    engines: tuple[tuple[str, str], ...]
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sizes of the database."""

    runs: int
    points: int
    measurements: int
    machines: int


def totals(connection: Connection) -> Totals:
    """How much there is."""
    return Totals(
        *(
            int(connection.execute(query).scalar_one())
            for query in (
                select(func.count()).select_from(Run),
                select(func.count()).select_from(Point),
                select(func.count()).select_from(Measurement),
                select(func.count(Environment.fingerprint.distinct())),
            )
        )
    )


def run_list(connection: Connection, search: str = "", limit: int = 200) -> list[RunEntry]:
    """The latest runs; with `search`, those whose id, label or commit contains it."""
    query = _entries().order_by(Run.started.desc(), Run.id.desc()).limit(limit)
    if search:
        wanted = [column.icontains(search, autoescape=True) for column in (Run.id, Run.label, Run.git_commit)]
        query = query.where(or_(*wanted))
    return [RunEntry(*row) for row in connection.execute(query)]


def run_entry(connection: Connection, run_id: str) -> RunEntry | None:
    """One run, or None."""
    row = connection.execute(_entries().where(Run.id == run_id)).first()
    return None if row is None else RunEntry(*row)


def latest_outcomes(connection: Connection, limit: int = 12) -> list[RunOutcome]:
    """The latest runs with what became of their points, latest first."""
    entries = run_list(connection, limit=limit)
    counts = {each.id: each for each in queries.overviews(connection, limit)}
    ids = [entry.id for entry in entries]
    finished = {row[0]: row[1] for row in connection.execute(select(Run.id, Run.finished).where(Run.id.in_(ids)))}
    engines: dict[str, set[tuple[str, str]]] = {run_id: set() for run_id in ids}
    models: dict[str, set[str]] = {run_id: set() for run_id in ids}
    query = (
        select(RunPoint.run_id, Point.backend, Point.variant, Point.model)
        .join(Point, Point.key == RunPoint.point_key)
        .where(RunPoint.run_id.in_(ids))
        .distinct()
    )
    for run_id, backend, variant, model in connection.execute(query):
        engines[run_id].add((backend, variant))
        models[run_id] |= {model} if model is not None else set()
    return [
        RunOutcome(
            entry,
            finished.get(entry.id),
            *(
                (counts[entry.id].points, counts[entry.id].ok, counts[entry.id].failed)
                if entry.id in counts
                else (0, 0, 0)
            ),
            engines=tuple(sorted(engines[entry.id])),
            models=tuple(sorted(models[entry.id])),
        )
        for entry in entries
    ]


def run_before(connection: Connection, run_id: str) -> str | None:
    """The id of the latest earlier run on the same machine that planned a point of this one."""
    machine = (
        select(Run.started, Environment.fingerprint)
        .join(Environment, Environment.id == Run.environment_id)
        .where(Run.id == run_id)
    )
    found = connection.execute(machine).first()
    if found is None:
        return None
    started, fingerprint = found
    earlier = (
        select(Run.id)
        .join(Environment, Environment.id == Run.environment_id)
        .where(Environment.fingerprint == fingerprint, Run.started < started)
        .order_by(Run.started.desc())
        .limit(50)
    )
    planned = select(RunPoint.point_key).where(RunPoint.run_id == run_id)
    for other in connection.execute(earlier).scalars():
        shared = select(RunPoint.point_key).where(RunPoint.run_id == other, RunPoint.point_key.in_(planned)).limit(1)
        if connection.execute(shared).first() is not None:
            return str(other)
    return None


def planned_count(connection: Connection, run_id: str) -> int:
    """How many points a run planned."""
    return int(connection.execute(select(func.count()).where(RunPoint.run_id == run_id)).scalar_one())


def _entries() -> Select[*tuple[Any, ...]]:
    return select(
        Run.id,
        Run.label,
        Run.started,
        Run.state,
        Run.origin,
        Run.git_commit,
        Environment.fingerprint,
        Run.environment_id,
    ).join(Environment, Environment.id == Run.environment_id)
