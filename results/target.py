"""Where a results database is: a SQLite file or a PostgreSQL server."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from benchrun.results.errors import StoreError

_ALLOWED = "give a file, sqlite:///FILE or postgresql://USER@HOST/NAME"


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
        raise StoreError(f"the database URL cannot be read; {_ALLOWED}") from None
    backend = url.get_backend_name()
    if backend == "sqlite":
        if url.query:
            raise StoreError("a SQLite URL takes no query; give sqlite:///FILE")
        return _file(url.database or "")
    if backend in ("postgresql", "postgres"):
        return Target(None, url.set(drivername="postgresql+psycopg"))
    raise StoreError(f"{backend} databases are not supported; {_ALLOWED}")


def _file(given: str | Path) -> Target:
    name = str(given)
    if name in ("", ":memory:"):
        raise StoreError(f"a database in memory would be lost at once; {_ALLOWED}")
    if "\0" in name:
        raise StoreError(f"a file name cannot hold a NUL character; {_ALLOWED}")
    try:
        return Target(Path(name).expanduser().absolute(), None)
    except RuntimeError:  # ~somebody who is not here
        raise StoreError(f"there is no home folder for {name.split('/')[0]}; {_ALLOWED}") from None
