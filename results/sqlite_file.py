"""A SQLite file: connecting to it, reading it where nothing may be written, and backing it up."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import Pool, QueuePool

from benchrun.results import reasons
from benchrun.results.errors import StoreError
from benchrun.results.reasons import sqlite_code

_WRITE = "benchrun_write"  # execution option: this engine's transactions take the write lock when they begin
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":")
)  # made once: it is called for each row
_MAGIC = b"SQLite format 3\0"


def writer(engine: Engine) -> Engine:
    """The same engine, whose transactions take SQLite's write lock when they begin."""
    return engine.execution_options(**{_WRITE: True})


@contextmanager
def dispose_on_error(engine: Engine) -> Iterator[Engine]:
    """Close an engine's connections where what is done with it fails."""
    try:
        yield engine
    except BaseException:
        engine.dispose()
        raise


def dump_json(value: Any) -> str:
    """JSON as the databases get it: compact, and without NaN."""
    return _ENCODER.encode(value)


def refuse_odd_files(path: Path) -> None:
    """Refuse what SQLite would misread: a folder, a device, a file that is no database."""
    if path.is_dir():
        raise StoreError(f"{path} is a folder; give a file in it, such as {path / 'benchrun.db'}")
    if not path.exists():
        return
    if not path.is_file():
        raise StoreError(f"{path} is not a regular file")
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if start not in (b"", _MAGIC):
        raise StoreError(f"{path} is not a SQLite database; give another file (it was left as it is)")


def probe_writing(engine: Engine) -> None:
    """Write a header field as it is and roll back: a read-only file would only show at the first real write."""
    with writer(engine).connect() as connection, connection.begin() as transaction:
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        connection.exec_driver_sql(f"PRAGMA user_version = {int(version)}")
        transaction.rollback()


def _connect(path: Path, mode: str, foreign_keys: bool, query_only: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}", uri=True, timeout=reasons.BUSY_S, isolation_level=None, check_same_thread=False
    )
    # FULL: a sample set is dear and a commit rare, so not even a power cut may take back a finished point.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute(f"PRAGMA foreign_keys={int(foreign_keys)}")
    connection.execute(f"PRAGMA query_only={int(query_only)}")
    return connection


def sqlite_engine(
    path: Path, mode: str, *, foreign_keys: bool = True, query_only: bool = False, pool: type[Pool] = QueuePool
) -> Engine:
    engine = create_engine(
        "sqlite+pysqlite://",
        creator=partial(_connect, path, mode, foreign_keys, query_only),
        poolclass=pool,
        json_serializer=dump_json,
        hide_parameters=True,
    )
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    """Begin by hand: the driver would not for DDL, and a reader that turns writer could not wait for another one."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN")


def use_wal(path: Path) -> None:
    """Switch to write-ahead logging, once in a file's life: readers and a writer do not wait for each other."""
    deadline = time.monotonic() + reasons.BUSY_S
    with closing(_connect(path, "rwc", True, False)) as connection:
        while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return  # or another mode, where the file system cannot do it: correct, only slower
            except sqlite3.OperationalError as error:  # where several switch at once, SQLite does not wait
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def readable(path: Path) -> Engine:
    """An engine that refuses to write; on a temporary copy where SQLite may not even put its lock files beside the file.

    Mode `ro` would leave those lock files behind, mode `rw` removes them when it closes; but `rw` would also merge the log
    that a killed writer left behind, so that where there is one, it is `ro`.
    """
    log = _beside(path, "-wal")
    mode = "ro" if log.exists() and log.stat().st_size > 0 else "rw"
    with dispose_on_error(sqlite_engine(path, mode, query_only=True)) as engine:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
            return engine
        except DBAPIError as error:
            if sqlite_code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or not os.access(
                path, os.R_OK
            ):
                raise
    engine.dispose()
    folder = Path(tempfile.mkdtemp(prefix="benchrun-"))
    copy = folder / path.name
    engine = sqlite_engine(copy, "rw", query_only=True)
    remove = weakref.finalize(engine, shutil.rmtree, folder, True)
    event.listen(engine, "engine_disposed", lambda _: remove())
    copy_database(path, copy)
    return engine


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def copy_database(path: Path, copy: Path, attempts: int = 5) -> None:
    """Copy a database with its logs; again where it changed meanwhile."""

    def state() -> list[tuple[str, int, int]]:
        found = [each for each in ("", "-wal", "-journal") if _beside(path, each).exists()]
        return [(each, (told := _beside(path, each).stat()).st_mtime_ns, told.st_size) for each in found]

    for _ in range(attempts):
        before = state()
        for suffix, _, _ in before:
            shutil.copyfile(_beside(path, suffix), _beside(copy, suffix))
        if state() == before:
            return
    raise StoreError(f"{path} lies in a read-only folder and changes too fast to be copied; try again later")


def backup(path: Path, revision: str) -> Path:
    """A complete copy beside the file, made by SQLite's own backup; nothing is left behind where it fails."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    copy_path = path.with_name(f"{path.name}.{revision}-{moment}.backup")
    part = copy_path.with_name(f"{copy_path.name}.part")
    try:
        with closing(_connect(path, "ro", True, True)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            if copy.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise StoreError(f"{path} is damaged, so it was not migrated and is left as it is")
        part.replace(copy_path)
    finally:
        part.unlink(missing_ok=True)
    return copy_path
