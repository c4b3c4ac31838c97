"""Opening a results database: where it is, in which state it is, and what to say where it cannot be used."""

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
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.pool import NullPool, Pool, QueuePool

from benchrun.results.errors import NoDatabase, StoreError
from benchrun.results.migrations import HEAD, REVISIONS, VERSION_TABLE, upgrade

BUSY_S = 30.0  # how long a writer waits for another one
WRITE = "benchrun_write"  # execution option: this engine's transactions take the write lock when they begin
CATALOG_LOCK = 0x62656E6368  # PostgreSQL advisory lock ("bench") of migrations and of what adds or removes points
_MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a database is: a SQLite file or a PostgreSQL URL, exactly one of them."""

    path: Path | None
    url: URL | None

    @property
    def shown(self) -> str:
        """The location as it may be printed and stored: without password and query."""
        if self.path is not None:
            return str(self.path)
        assert self.url is not None
        return self.url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)


def default_path() -> Path:
    """The database in the platform's folder for user data."""
    from platformdirs import user_data_path

    return user_data_path("benchrun", appauthor=False) / "benchrun.db"


def locate(url_or_path: str | Path | None = None) -> Target:
    """Read a path or a URL; None is $BENCHRUN_DB, else `default_path()`. Touches nothing on the disk."""
    given = url_or_path or os.environ.get("BENCHRUN_DB") or default_path()
    if isinstance(given, Path) or "://" not in given:
        return _file(given)
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):  # their messages repeat the URL, password included
        raise StoreError(
            "the database URL cannot be read; give a file, sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from None
    backend = url.get_backend_name()
    if backend == "sqlite":
        if url.query:
            raise StoreError("a SQLite URL takes no query; give sqlite:///FILE")
        return _file(url.database or "")
    if backend in ("postgresql", "postgres"):
        return Target(None, url.set(drivername="postgresql+psycopg"))
    raise StoreError(
        f"{backend} databases are not supported; give a file, sqlite:///FILE or postgresql://USER@HOST/NAME"
    )


def _file(given: str | Path) -> Target:
    if str(given) in ("", ":memory:"):
        raise StoreError(
            "a database in memory would be lost at once; give a file, sqlite:///FILE or postgresql://USER@HOST/NAME"
        )
    return Target(Path(os.path.abspath(Path(given).expanduser())), None)


def open_engine(target: Target, *, read_only: bool) -> Engine:
    """An engine on an up-to-date database: created, or migrated after a backup, unless `read_only`. `StoreError` otherwise."""
    with explaining(target):
        if target.path is not None:
            return _open_file(target, target.path, read_only=read_only)
        return _open_server(target, read_only=read_only)


# --- SQLite ---------------------------------------------------------------------------------------------------------


def _open_file(target: Target, path: Path, *, read_only: bool) -> Engine:
    _refuse_odd_files(path)
    if read_only:
        if not path.exists():
            raise NoDatabase(f"there is no database at {path} yet")
        return _checked(_readable(path), target, read_only=True)
    if path == default_path():
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.parent.is_dir():
        raise StoreError(f"{path} cannot be created: there is no folder {path.parent}")
    with _dispose_on_error(_sqlite_engine(path, "rwc")) as engine:
        with engine.connect() as connection:
            _revision(connection, target)  # before anything is changed: is it ours at all?
        _use_wal(path)
        _probe_writing(engine)
        return _checked(engine, target, read_only=False)


def _refuse_odd_files(path: Path) -> None:
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


def _probe_writing(engine: Engine) -> None:
    """Write a header field as it is and roll back: on a read-only file SQLite would only complain at the first real write."""
    with writer(engine).connect() as connection, connection.begin() as transaction:
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        connection.exec_driver_sql(f"PRAGMA user_version = {int(version)}")
        transaction.rollback()


def _connect(path: Path, mode: str, foreign_keys: bool, query_only: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}", uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    # FULL: a sample set is dear and a commit rare, so not even a power cut may take back a finished point.
    pragmas = {"synchronous": "FULL", "trusted_schema": "OFF", "foreign_keys": int(foreign_keys), "query_only": int(query_only)}
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name}={value}")
    return connection


def _sqlite_engine(
    path: Path, mode: str, *, foreign_keys: bool = True, query_only: bool = False, pool: type[Pool] = QueuePool
) -> Engine:
    engine = create_engine(
        "sqlite+pysqlite://",
        creator=partial(_connect, path, mode, foreign_keys, query_only),
        poolclass=pool,
        json_serializer=_dump_json,
        hide_parameters=True,
    )
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    """Begin by hand: the driver would not for DDL, and a reader that turns writer could not wait for another one."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITE) else "BEGIN")


def _use_wal(path: Path) -> None:
    """Switch to write-ahead logging, once in a file's life: readers and a writer do not wait for each other."""
    deadline = time.monotonic() + BUSY_S
    with closing(_connect(path, "rwc", True, False)) as connection:
        while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return  # or another mode, where the file system cannot do it: correct, only slower
            except sqlite3.OperationalError as error:  # SQLite does not wait here by itself
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def _readable(path: Path) -> Engine:
    """An engine that refuses to write. In a folder where SQLite may not even put its lock files: on a copy in the temporary folder.

    Mode `ro` would leave those lock files behind, mode `rw` removes them when it closes; but `rw` would also merge the log that a
    killed writer left behind, so that where there is one, it is `ro`.
    """
    log = _beside(path, "-wal")
    mode = "ro" if log.exists() and log.stat().st_size > 0 else "rw"
    with _dispose_on_error(_sqlite_engine(path, mode, query_only=True)) as engine:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
            return engine
        except DBAPIError as error:
            if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or not os.access(path, os.R_OK):
                raise
    engine.dispose()
    folder = Path(tempfile.mkdtemp(prefix="benchrun-"))
    copy = folder / path.name
    engine = _sqlite_engine(copy, "rw", query_only=True)
    remove = weakref.finalize(engine, shutil.rmtree, folder, True)
    event.listen(engine, "engine_disposed", lambda _: remove())
    _copy_database(path, copy)
    return engine


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _copy_database(path: Path, copy: Path, attempts: int = 5) -> None:
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
    raise StoreError(f"{path} lies in a folder that cannot be written, and changes too fast to be copied; try again later")


def _backup(path: Path, revision: str) -> Path:
    """A complete copy beside the file, made by SQLite's own backup; nothing is left behind where it fails."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    backup = path.with_name(f"{path.name}.{revision}-{moment}.backup")
    partial_copy = backup.with_name(f"{backup.name}.part")
    try:
        with closing(_connect(path, "ro", True, True)) as source, closing(sqlite3.connect(partial_copy)) as copy:
            source.backup(copy)
            if copy.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise StoreError(f"{path} is damaged, so it was not migrated and is left as it is")
        os.replace(partial_copy, backup)
    finally:
        partial_copy.unlink(missing_ok=True)
    return backup


def _migrate_file(path: Path, target: Target) -> None:
    # A migration that rebuilds a table drops the old one: with foreign keys on, that would delete what refers to it.
    engine = writer(_sqlite_engine(path, "rwc", foreign_keys=False, pool=NullPool))
    with engine.begin() as connection:
        revision = _revision(connection, target)
        if revision == HEAD:  # another process was faster
            return
        backup = _backup(path, revision) if revision is not None else None
        try:
            upgrade(connection)
            if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise StoreError(
                    f"{path} refers to rows that do not exist, so it was not migrated and is left as it is"
                )
        except DBAPIError as error:
            if backup is None:
                raise
            raise StoreError(f"{explain(error, target)}; it was not migrated, and {backup} is a copy of it") from error


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def _open_server(target: Target, *, read_only: bool) -> Engine:
    assert target.url is not None
    arguments: dict[str, Any] = {} if "connect_timeout" in target.url.query else {"connect_timeout": 10}
    try:
        engine = create_engine(
            target.url,
            connect_args=arguments,
            execution_options={"postgresql_readonly": True} if read_only else {},
            json_serializer=_dump_json,
            hide_parameters=True,
            pool_pre_ping=True,
        )
    except ImportError:
        raise StoreError("PostgreSQL needs psycopg: pip install 'benchrun-inference[postgres]'") from None
    with _dispose_on_error(engine):
        return _checked(engine, target, read_only=read_only)


def _migrate_server(engine: Engine, target: Target) -> None:
    with engine.begin() as connection:
        lock_catalog(connection)
        if _revision(connection, target) != HEAD:
            upgrade(connection)


# --- both -----------------------------------------------------------------------------------------------------------


def writer(engine: Engine) -> Engine:
    """The same engine, whose transactions take SQLite's write lock when they begin."""
    return engine.execution_options(**{WRITE: True})


def lock_catalog(connection: Connection) -> None:
    """Let one transaction at a time add or remove points; on SQLite the write lock does that already."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CATALOG_LOCK})


def _checked(engine: Engine, target: Target, *, read_only: bool) -> Engine:
    """The engine, once its database has our newest schema."""
    with engine.connect() as connection:
        revision = _revision(connection, target)
    if revision == HEAD:
        return engine
    if read_only and revision is None:
        raise NoDatabase(f"{target.shown} holds no benchrun tables yet")
    if read_only:
        raise StoreError(
            f"{target.shown} has schema {revision}, this benchrun reads {HEAD}: open it for writing once "
            f"(benchrun runs --db …) and it is migrated after a backup"
        )
    if target.path is not None:
        _migrate_file(target.path, target)
    else:
        _migrate_server(engine, target)
    return engine


def _revision(connection: Connection, target: Target) -> str | None:
    """The schema revision of a database; None where it is empty. `StoreError` where it is newer than this code, or not ours."""
    if connection.dialect.name == "sqlite":
        tables = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
        foreign = bool(tables)
    else:
        tables = set(inspect(connection).get_table_names())
        foreign = "measurements" in tables or "runs" in tables
    if VERSION_TABLE not in tables:
        if foreign:
            raise StoreError(
                f"{target.shown} belongs to another program (it has tables, but none of benchrun's); give another one"
            )
        return None
    revision = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()
    if revision not in REVISIONS:
        raise StoreError(
            f"{target.shown} was written by a newer benchrun (schema {revision}, this one knows up to {HEAD}): "
            f"upgrade benchrun, or give another database"
        )
    return str(revision)


@contextmanager
def _dispose_on_error(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    except BaseException:
        engine.dispose()
        raise


def _dump_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


# --- errors ---------------------------------------------------------------------------------------------------------


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
    code = _code(error)
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
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk failed or is full; free some space, or give another database",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore a backup, or give another database (it was left as it is)",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database, or is damaged; give another file (it was left as it is)",
    sqlite3.SQLITE_BUSY: f"is locked by another program: nothing was written after waiting {BUSY_S:.0f} s; try again later",
}


def _access(path: Path) -> str:
    """What is missing for a file that SQLite could not open or write, as the end of a sentence."""
    if path.exists() and not os.access(path, os.R_OK):
        return "read: the file's permissions forbid it"
    if path.exists() and not os.access(path, os.W_OK):
        return "written: the file is read-only; give another database"
    if not os.access(path.parent, os.W_OK):
        return f"written: the folder {path.parent} is read-only; give another database"
    return "opened or written; give another database"


def _code(error: DBAPIError | sqlite3.Error) -> int | None:
    """SQLite's primary result code, where the error has one."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
