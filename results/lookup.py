"""What a user types for a stored run or gate run: its id, a part of it, `last`, `last~1`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, or_, select, true

from benchrun.results.errors import StoreError
from benchrun.results.schema import Gate, Run

SHOWN = 5  # ids that a message lists


@dataclass(frozen=True, slots=True)
class Shelf:
    """A table whose rows have ids to be typed. `last` means the latest of those that `counts` lets through."""

    table: type[Run] | type[Gate]
    noun: str
    counts: ColumnElement[bool]
    counted: str
    listing: str


RUNS = Shelf(Run, "run", Run.origin == "benchrun", "runs of sweeps", "benchrun runs")
GATES = Shelf(Gate, "gate run", true(), "gate runs", "benchrun gate ls")


def resolve(connection: Connection, shelf: Shelf, given: str, shown: str) -> str:
    """The id that a user means: an id, the start of one or its last part if only one fits, `last`, or `last~1` for the one
    before that. `shown` names the database. Raises StoreError.
    """
    text = given.strip()
    found = _find(connection, shelf, text) or _find(connection, shelf, text.lower())
    if len(found) == 1:
        return found[0]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise StoreError(
            f"'{given}' fits {len(found)} {shelf.noun}s: {', '.join(found[:SHOWN])}{more}; type more of the one you mean"
        )
    latest = _latest(connection, shelf, true(), SHOWN)
    missing = f"there is no {shelf.noun} '{given}'"
    if not latest:
        raise StoreError(f"{missing}: {shown} holds no {shelf.noun}s yet")
    back = _steps_back(text.lower())
    if back:
        raise StoreError(f"{missing}: {shown} holds fewer {shelf.counted} than that; '{shelf.listing}' lists them")
    if back == 0:  # runs only: among gate runs, all count
        raise StoreError(
            f"no run of a sweep is stored in {shown}, and 'last' means one; the latest of gates and imports are "
            f"{', '.join(latest)}: give one of these ids"
        )
    raise StoreError(f"{missing} in {shown}; the latest are {', '.join(latest)}, or say last or last~1")


def _find(connection: Connection, shelf: Shelf, text: str) -> list[str]:
    """Ids that a text may mean."""
    if (back := _steps_back(text)) is not None:
        return _latest(connection, shelf, shelf.counts, 1, back)
    if not text:
        return []
    own = shelf.table.id
    found = _latest(
        connection, shelf, or_(own.startswith(text, autoescape=True), own.endswith(f"-{text}", autoescape=True))
    )
    return [text] if text in found else found


def _latest(
    connection: Connection, shelf: Shelf, which: ColumnElement[bool], count: int | None = None, skipped: int = 0
) -> list[str]:
    """Ids, latest first."""
    table = shelf.table
    query = select(table.id).where(which).order_by(table.started.desc(), table.id.desc()).limit(count).offset(skipped)
    return list(connection.execute(query).scalars())


def _steps_back(text: str) -> int | None:
    """0 for `last`, 1 for `last~1` as in git, …; None for anything else."""
    found = re.fullmatch(r"last(?:~(\d{1,9}))?", text)
    return int(found[1] or 0) if found else None
