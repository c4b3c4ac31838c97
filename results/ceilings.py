"""Measured ceilings of machines: writing and reading them, on an open connection. Which of several counts: `results.roofline`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields

from sqlalchemy import Connection, insert, select

from benchrun.results.rows import CeilingRow
from benchrun.results.schema import Ceiling

_FIELDS = tuple(f.name for f in fields(CeilingRow))


def add_ceilings(connection: Connection, rows: Sequence[CeilingRow]) -> None:
    """Store ceilings; earlier ones stay as history."""
    connection.execute(insert(Ceiling), [asdict(row) for row in rows])


def load_ceilings(connection: Connection, fingerprint: str | None = None) -> list[CeilingRow]:
    """All ceilings in the order they were measured, of one hardware where given."""
    query = select(*(getattr(Ceiling, name) for name in _FIELDS)).order_by(Ceiling.measured, Ceiling.id)
    if fingerprint is not None:
        query = query.where(Ceiling.fingerprint == fingerprint)
    return [CeilingRow(**row) for row in connection.execute(query).mappings()]
