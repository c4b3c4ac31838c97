"""Where the files of a stored request lie on this machine.

A request that is stored names an absolute path outside the home folder by a mark, `place:<digits>/<last part>`. The path itself is
kept in the user's own cache folder, in a file that no database, export or merge carries; there `--resume` finds it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchrun.runner.errors import UsageError
from benchrun.runner.plan import SweepRequest
from benchrun.runner.privacy import map_texts

MARK = "place:"
FOLDER = "places"


def book_requests(requests: Iterable[SweepRequest]) -> dict[str, Any]:
    """What a run stores of its sweeps, plain JSON values without the path of any file; remembers those paths here."""

    def hide(text: str) -> str:
        if not Path(text).is_absolute():
            return text
        mark = _digits(text)
        with contextlib.suppress(OSError):  # then `--resume` says that the place is not known
            _write(_folder() / mark, text)
        return f"{MARK}{mark}/{Path(text).name}"

    return {"sweeps": [map_texts(each.to_json(), hide) for each in requests]}


def read_requests(stored: Mapping[str, Any]) -> list[SweepRequest]:
    """The inverse of `book_requests`. Raises UsageError where a path was never known on this machine or is forgotten."""

    def find(text: str) -> str:
        if not text.startswith(MARK):
            return text
        mark, _, name = text.removeprefix(MARK).partition("/")
        try:
            found = os.fsdecode((_folder() / Path(mark).name).read_bytes())
        except OSError:
            found = ""
        if _digits(found) != mark:
            raise UsageError(
                f"this run was measured with {name!r}, and where that lay is not known on this machine (paths are kept in the cache "
                "folder, in no database): name it in a new run"
            )
        return found

    return [SweepRequest.from_json(map_texts(each, find)) for each in stored["sweeps"]]


def _folder() -> Path:
    from benchrun.backends.cache import default_cache

    return default_cache().root / FOLDER


def _digits(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _write(path: Path, text: str) -> None:
    """At once or not at all, for the owner's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(os.fsencode(text))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
