"""The database that a merge reads: as it is, or, where its schema is older, a migrated copy. It is never written to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchrun.results.engine import _revision
from benchrun.results.errors import NoDatabase, StoreError
from benchrun.results.migrations import HEAD
from benchrun.results.reasons import explaining
from benchrun.results.sqlite_file import copy_database, readable, refuse_odd_files
from benchrun.results.store import Store, open_store
from benchrun.results.target import Target, locate


@contextmanager
def open_source(given: str | Path) -> Iterator[Store]:
    """Another database for reading. Raises `StoreError` where there is none, where it is newer than this benchrun or not
    benchrun's; an older PostgreSQL database is refused too, since it cannot be copied.
    """
    target = locate(given)
    if target.path is None or _revision_of(target, target.path) == HEAD:
        with open_store(given, read_only=True) as store:
            yield store
        return
    with tempfile.TemporaryDirectory(prefix="benchrun-merge-") as folder:
        copy = Path(folder) / target.path.name
        with explaining(target):
            copy_database(target.path, copy)
        with open_store(copy) as store:
            yield store


def refuse_itself(store: Store, given: str | Path) -> None:
    """Refuse to merge a database into itself."""
    theirs, ours = locate(given), store._target  # noqa: SLF001 - which database it is, not what is shown of it
    same = theirs.url is not None and theirs.url == ours.url
    if theirs.path is not None and ours.path is not None and theirs.path.exists() and ours.path.exists():
        same = theirs.path.samefile(ours.path)
    if same:
        raise StoreError(f"{ours.shown} cannot be merged into itself; name another database")


def _revision_of(target: Target, path: Path) -> str:
    refuse_odd_files(path)
    if not path.exists():
        raise NoDatabase(f"there is no database at {path}")
    with explaining(target):
        engine = readable(path)
        try:
            with engine.connect() as connection:
                revision = _revision(connection, target)
        finally:
            engine.dispose()
    if revision is None:
        raise NoDatabase(f"{target.shown} holds no benchrun tables")
    return revision
