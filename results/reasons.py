"""What a database or the file system raised, in one sentence for the user, without secrets."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError, StatementError

from benchrun.results.errors import StoreError
from benchrun.results.target import Target

BUSY_S = 30.0  # how long a writer waits for another one


@contextmanager
def explaining(target: Target) -> Iterator[None]:
    """Turn what the database or the file system raises into one clear `StoreError`."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise StoreError(explain(error, target)) from error
    except StatementError as error:  # a value that no column takes: a mistake of the caller, shown as it is
        raise error.orig if error.orig is not None else error from None
    except OSError as error:
        raise StoreError(f"{error.filename or target.shown}: {error.strerror or error}") from error


def explain(error: DBAPIError | sqlite3.Error, target: Target) -> str:
    """One sentence on a database error, without secrets."""
    shown = target.shown
    code = sqlite_code(error)
    if target.path is not None and code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return f"{shown} cannot be {_access(target.path)}"
    if code in _SQLITE_REASONS:
        return f"{shown} {_SQLITE_REASONS[code]}"
    cause = error.orig if isinstance(error, DBAPIError) else error
    line = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    if target.url is not None and target.url.password:
        line = line.replace(str(target.url.password), "***")
    return f"{shown}: {line}"


_SQLITE_REASONS = {
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; free some space, or give another database",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk failed or is full; free space, or give another database",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore a backup, or give another database (it was left as it is)",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database, or is damaged; give another file (it was left as it is)",
    sqlite3.SQLITE_BUSY: f"is locked by another program (waited {BUSY_S:.0f} s, nothing was written); try again later",
}


def _access(path: Path) -> str:
    """What is missing for a file that SQLite could not open or write, as the end of a sentence."""
    if path.exists() and not os.access(path, os.W_OK):
        return "written: the file is read-only; give another database"
    if not os.access(path.parent, os.W_OK):
        return f"written: the folder {path.parent} is read-only; give another database"
    return "opened or written; give another database"


def sqlite_code(error: DBAPIError | sqlite3.Error) -> int | None:
    """SQLite's primary result code, where the error has one."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
