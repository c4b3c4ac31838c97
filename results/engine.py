"""Opening a results database: checked, created or migrated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, column, create_engine, inspect, select, table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from benchrun.results.errors import NoDatabase, StoreError
from benchrun.results.migrations import HEAD, REVISIONS, VERSION_TABLE, upgrade
from benchrun.results.reasons import explain, explaining
from benchrun.results.sqlite_file import (
    backup,
    dispose_on_error,
    dump_json,
    probe_writing,
    readable,
    refuse_odd_files,
    sqlite_engine,
    use_wal,
    writer,
)
from benchrun.results.target import Target, default_path

CATALOG_LOCK = 0x62656E6368  # PostgreSQL advisory lock ("bench") of migrations and of what adds or removes points


def open_engine(target: Target, *, read_only: bool) -> Engine:
    """An engine on an up-to-date database: created, or migrated after a backup, unless `read_only`. Raises `StoreError`."""
    with explaining(target):
        if target.path is not None:
            return _open_file(target, target.path, read_only=read_only)
        return _open_server(target, read_only=read_only)


# --- SQLite ---------------------------------------------------------------------------------------------------------


def _open_file(target: Target, path: Path, *, read_only: bool) -> Engine:
    refuse_odd_files(path)
    if read_only:
        if not path.exists():
            raise NoDatabase(f"there is no database at {path} yet")
        return _checked(readable(path), target, read_only=True)
    if path == default_path():
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.parent.is_dir():
        raise StoreError(f"{path} cannot be created: there is no folder {path.parent}")
    with dispose_on_error(sqlite_engine(path, "rwc")) as engine:
        with engine.connect() as connection:
            _revision(connection, target)  # before anything is changed: is it ours at all?
        use_wal(path)
        probe_writing(engine)
        return _checked(engine, target, read_only=False)


def _migrate_file(path: Path, target: Target) -> None:
    # A migration that rebuilds a table drops the old one: with foreign keys on, that would delete what refers to it.
    engine = writer(sqlite_engine(path, "rwc", foreign_keys=False, pool=NullPool))
    with engine.begin() as connection:
        revision = _revision(connection, target)
        if revision == HEAD:  # another process was faster
            return
        copy = backup(path, revision) if revision is not None else None
        try:
            upgrade(connection)
            if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise StoreError(
                    f"{path} refers to rows that do not exist, so it was not migrated and is left as it is"
                )
        except DBAPIError as error:
            if copy is None:
                raise
            raise StoreError(f"{explain(error, target)}; it was not migrated, and {copy} is a copy of it") from error


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def _open_server(target: Target, *, read_only: bool) -> Engine:
    assert target.url is not None
    arguments: dict[str, Any] = {} if "connect_timeout" in target.url.query else {"connect_timeout": 10}
    try:
        engine = create_engine(
            target.url,
            connect_args=arguments,
            execution_options={"postgresql_readonly": True} if read_only else {},
            json_serializer=dump_json,
            hide_parameters=True,
            pool_pre_ping=True,
        )
    except ImportError:
        raise StoreError("PostgreSQL needs psycopg: pip install 'benchrun-inference[postgres]'") from None
    with dispose_on_error(engine):
        return _checked(engine, target, read_only=read_only)


def _migrate_server(engine: Engine, target: Target) -> None:
    with engine.begin() as connection:
        lock_catalog(connection)
        if _revision(connection, target) != HEAD:
            upgrade(connection)


# --- both -----------------------------------------------------------------------------------------------------------


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
            f"{target.shown} has schema {revision}, this benchrun reads {HEAD}: write to it once "
            f"(a sweep, or benchrun merge, with --db …) and it is migrated after a backup"
        )
    if target.path is not None:
        _migrate_file(target.path, target)
    else:
        _migrate_server(engine, target)
    return engine


def _revision(connection: Connection, target: Target) -> str | None:
    """The schema revision of a database; None where it is empty. `StoreError` where it is newer, or not ours."""
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
    revision = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    if revision not in REVISIONS:
        raise StoreError(
            f"{target.shown} was written by a newer benchrun (schema {revision}, this one knows up to {HEAD}): "
            f"upgrade benchrun, or give another database"
        )
    return str(revision)
