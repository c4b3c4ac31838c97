"""`benchrun export`: points of one or more runs in the format of a reader."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchrun.runner.errors import UsageError
from benchrun.runner.lists import parse_names, parse_numbers

if TYPE_CHECKING:
    from benchrun.results.exporters.selection import Selection
    from benchrun.results.records import RunRecord

HTML = "html"  # written by the dashboard, so not one of results.exporters.FORMATS


def export_runs(
    runs: list[str], format: str, output: Path | None, db: str | None, wanted: dict[str, str | None]
) -> int:
    """`benchrun export`."""
    from benchrun.results import open_store
    from benchrun.results.errors import ExportError
    from benchrun.results.exporters import FORMATS, WITH_SAMPLES
    from benchrun.results.exporters.selection import select_points

    if format not in (*FORMATS, HTML):
        raise UsageError(f"unknown format {format!r}: choose from {', '.join((*FORMATS, HTML))}")
    if format == HTML and len(runs) > 1:
        raise UsageError("the HTML report is of one run: name one, or export another format")
    if format == "parquet" and output is None and sys.stdout.isatty():
        raise UsageError("parquet is binary: name a file with --output, or redirect standard output")
    selection = _selection(wanted)
    with open_store(db, read_only=True) as store:
        ids = dict.fromkeys(store.resolve_run(each) for each in runs)
        records = (select_points(store.run(each, samples=format in WITH_SAMPLES), selection) for each in ids)
        kept = _Counted(records) if format in ("csv", "parquet") else list(records)  # those two need one run at a time
        try:
            content = _render(kept, format, store.shown)
        except ExportError as error:
            raise UsageError(str(error)) from None
    if not (kept.points if isinstance(kept, _Counted) else sum(len(record.points) for record in kept)):
        raise UsageError(f"no point of {', '.join(ids)} fits what was asked for; 'benchrun show' lists what there is")
    _write(content.encode() if isinstance(content, str) else content, output)
    left_out = _left_out(kept, format) if isinstance(kept, list) else None
    if left_out:
        print(f"benchrun: note: {left_out}", file=sys.stderr)
    return 0


class _Counted:
    """Runs, taken one at a time, and how many points they had."""

    def __init__(self, records: Iterable[RunRecord]) -> None:
        self._records, self.points = records, 0

    def __iter__(self) -> Iterator[RunRecord]:
        for record in self._records:
            self.points += len(record.points)
            yield record


def _render(records: _Counted | list[RunRecord], format: str, db: str) -> str | bytes:
    if format == HTML and isinstance(records, list):
        from benchrun.dashboard.report import run_report

        return run_report(records[0], datetime.now(UTC))
    from benchrun.results.exporters import export_runs as export

    return export(records, format, db)


def _left_out(records: list[RunRecord], format: str) -> str | None:
    """What a format of another tool has no place for."""
    if format in ("markdown", "json", HTML):
        return None
    points = [(record, planned) for record in records for planned in record.points]
    failed = sum(record.status(planned) != "ok" for record, planned in points)
    unsampled = sum(
        record.status(planned) == "ok"
        and all(each.row.host_samples is None for each in record.by_point[planned.point.key])
        for record, planned in points
    )
    parts = [f"{failed} of {len(points)} points are not ok"] if failed else []
    if format == "pytest-benchmark" and unsampled:
        parts.append(f"{unsampled} have no samples of the host clock")
    return f"{' and '.join(parts)}, which this format has no place for: left out" if parts else None


def _selection(wanted: dict[str, str | None]) -> Selection:
    from benchrun.results.exporters.selection import Selection

    names = {name: parse_names(text) for name, text in wanted.items() if text and name not in ("batch", "seq")}
    numbers = {name: parse_numbers(text, name) for name, text in wanted.items() if text and name in ("batch", "seq")}
    try:
        return Selection(
            backends=names.get("backend", ()),
            models=names.get("model", ()),
            dtypes=names.get("dtype", ()),
            batches=numbers.get("batch", ()),
            seqs=numbers.get("seq", ()),
            statuses=names.get("status", ()),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _write(data: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from error
