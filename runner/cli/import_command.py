"""`benchrun import`: files of other tools into the database, one line a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.results.importers import ImportedFile, ImportReport

FAILED = 1


def list_formats(*, as_json: bool) -> int:
    """`benchrun import --list`."""
    from benchrun.results.importers import FORMATS

    if as_json:
        found = [{"name": each.name, "reads": each.summary} for each in FORMATS.values()]
        print(json.dumps({"schema": 1, "formats": found}, indent=1))
        return 0
    for each in FORMATS.values():
        print(f"{each.name:<22} {each.summary}")
    print(f"{'auto':<22} whichever of these a file looks like (never csv)")
    return 0


def import_results(format: str, files: list[Path], sidecars: list[Path], db: str | None, *, as_json: bool) -> int:
    """`benchrun import`: 0 where every file is in the database now, 1 where one could not be read, 2 for wrong usage."""
    from benchrun.results import open_store
    from benchrun.results.importers import ImportFailed, ImportReport, find_format, import_files, read_sidecar

    if not files:
        raise UsageError(
            "name a format and at least one file: benchrun import trtexec times.json (--list names the formats)"
        )
    if len(sidecars) > 1 and len(sidecars) != len(files):
        raise UsageError(
            f"{len(files)} files, but {len(sidecars)} sidecars: give one --sidecar for all files, or one for each in their order"
        )
    try:
        if format != "auto":
            find_format(format)
        known = [read_sidecar(each) for each in sidecars]  # all of them before anything is written
    except ImportFailed as failure:
        raise UsageError(str(failure)) from None
    each_side = known if len(known) > 1 else [known[0] if known else None] * len(files)
    done: list[ImportedFile] = []
    with open_store(db) as store:
        for path, side in zip(files, each_side, strict=True):
            done += import_files(store, format, [path], side).files
            if not as_json:
                _tell(done[-1])
        shown = store.shown
    report = ImportReport(tuple(done))
    if as_json:
        print(json.dumps(import_document(report, shown), indent=1))
    elif len(done) > 1:
        print(f"{report.added} added, {report.known} already there, {report.failed} failed; database {shown}")
    return FAILED if report.failed else 0


def import_document(report: ImportReport, db: str) -> dict[str, Any]:
    """The `--json` document of an import, version 1 (docs/importing.md)."""
    return {
        "schema": 1,
        "db": db,
        "added": report.added,
        "known": report.known,
        "failed": report.failed,
        "files": [
            {
                "path": str(each.path),
                "format": each.format,
                "run": each.run_id,
                "added": each.added,
                "measurements": each.measurements,
                "warnings": list(each.warnings),
                "error": each.error,
            }
            for each in report.files
        ],
    }


def _tell(file: ImportedFile) -> None:
    if file.error is not None:
        print(f"benchrun: {file.error}", file=sys.stderr)
        return
    if file.added:
        count = "1 measurement" if file.measurements == 1 else f"{file.measurements} measurements"
        print(f"{file.path.name}: {file.format}, {count}, run {file.run_id}")
    else:
        print(f"{file.path.name}: already there as run {file.run_id}, nothing added")
    for warning in file.warnings:
        print(f"benchrun: note: {file.path.name}: {warning}", file=sys.stderr)
