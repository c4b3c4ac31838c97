"""Importers of other tools' results: a module for each format, with a pure `parse(source, sidecar) -> ForeignResult`.

    from benchrun.results.importers import import_files

    report = import_files(store, "trtexec", [Path("times.json")], sidecar=Path("times.toml"))

Nothing in a file is ever evaluated, and nothing is guessed: what a file cannot know is None (NULL in the store).
docs/importing.md has a table of what each format knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchrun.results.importers.detection import FORMATS, detect, find_format, parse
from benchrun.results.importers.foreign import (
    TRUST_LEVELS,
    ForeignMeasurement,
    ForeignPoint,
    ForeignResult,
    ImportFailed,
    Source,
)
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar, parse_sidecar, read_sidecar

if TYPE_CHECKING:
    from benchrun.results.importers.writing import ImportedFile, ImportReport, import_files

__all__ = [
    "FORMATS",
    "NO_SIDECAR",
    "TRUST_LEVELS",
    "ForeignMeasurement",
    "ForeignPoint",
    "ForeignResult",
    "ImportFailed",
    "ImportReport",
    "ImportedFile",
    "Sidecar",
    "Source",
    "detect",
    "find_format",
    "import_files",
    "parse",
    "parse_sidecar",
    "read_sidecar",
]


def __getattr__(name: str) -> Any:  # lazy: reading a file needs no database
    if name in ("ImportReport", "ImportedFile", "import_files"):
        from benchrun.results.importers import writing

        return getattr(writing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
