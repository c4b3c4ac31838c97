"""The database of this server: opened once for reading, shared by all sessions; what was read is kept until it changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from benchrun.dashboard.launch import DATABASE
from benchrun.results.errors import NoDatabase, StoreError
from benchrun.results.store import Store, open_store
from benchrun.results.target import locate
from benchrun.results.views.freshness import Freshness, freshness

__all__ = ["Database", "NoDatabase", "StoreError", "database"]


T = TypeVar("T")


@dataclass(frozen=True)
class Database:
    """An open database at one moment."""

    store: Store
    token: Freshness
    name: str

    def read(self, question: Callable[..., T], *arguments: Any) -> T:
        """`question(connection, *arguments)`, remembered until the database changes. The answer is shared: never change it."""
        key = (question.__module__, question.__qualname__, self.store.shown, self.token)
        answer: T = _remembered(key, question, arguments, self.store)
        return answer

    def read_fresh(self, question: Callable[..., T], *arguments: Any) -> T:
        """The same, not remembered."""
        with self.store.reading() as connection:
            return question(connection, *arguments)


def database() -> Database:
    """The server's database now. Raises `StoreError`, or `NoDatabase` where there is none yet."""
    given = os.environ.get(DATABASE) or None
    target = locate(given)
    identity = _identity(target.path)
    store = _open(given, identity)
    with store.reading() as connection:
        token = freshness(connection)
    name = target.path.name if target.path is not None else "PostgreSQL"
    return Database(store, token, name)


def _identity(path: Path | None) -> tuple[int, ...]:
    """What changes when another file lies at the path; where SQLite reads a copy, also when the file changes."""
    if path is None or not path.exists():
        return ()
    found = path.stat()
    if os.access(path.parent, os.W_OK):
        return (found.st_dev, found.st_ino)
    log = path.with_name(f"{path.name}-wal")
    extra = (log.stat().st_mtime_ns, log.stat().st_size) if log.exists() else ()
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, *extra)


@st.cache_resource(show_spinner=False, max_entries=3, on_release=Store.close)
def _open(given: str | None, identity: tuple[int, ...]) -> Store:  # noqa: ARG001 - part of the cache key
    return open_store(given, read_only=True)


@st.cache_resource(show_spinner=False, max_entries=64)
def _remembered(key: tuple[Any, ...], _question: Callable[..., Any], arguments: tuple[Any, ...], _store: Store) -> Any:  # noqa: ARG001
    # `key` names question, database and moment: functions and stores cannot be hashed by value
    with _store.reading() as connection:
        return _question(connection, *arguments)
