"""Rows into an open transaction, written alike by the store, by imports and by merges."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from benchrun.results.plain import plain_json
from benchrun.results.rows import EnvironmentRow, PointRow, RunRow
from benchrun.results.schema import Base, Environment, Point, Run

_POINT_COLUMNS = tuple(field.name for field in fields(PointRow))
_RUN_COLUMNS = ("id", "label", "started", "finished", "state", "request", "origin", "version")


def insert_new(connection: Connection, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows whose key is not there yet."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def insert_run(connection: Connection, run: RunRow) -> None:
    """Insert a run, and its environment where that is not there yet."""
    values = {name: getattr(run, name) for name in _RUN_COLUMNS}
    values |= {"git_commit": run.commit, "environment_id": _environment_id(connection, run.environment)}
    connection.execute(insert(Run), values)


def insert_points(connection: Connection, points: Sequence[PointRow]) -> None:
    """Insert points that are not there yet."""
    insert_new(connection, Point, [{name: getattr(point, name) for name in _POINT_COLUMNS} for point in points])


def _environment_id(connection: Connection, environment: EnvironmentRow) -> int:
    details = plain_json(environment.details)
    canonical = json.dumps([environment.fingerprint, details], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    insert_new(
        connection, Environment, [{"digest": digest, "fingerprint": environment.fingerprint, "details": details}]
    )
    return connection.execute(select(Environment.id).where(Environment.digest == digest)).scalar_one()
