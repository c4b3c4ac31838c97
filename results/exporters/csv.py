"""CSV: RFC 4180 with a header, one row per measurement, figures with all their digits; samples are left out.

None is an empty cell, truth is `true` or `false`, times are ISO 8601 in UTC, nested values JSON. A text cell that a spreadsheet would
run as a formula gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from benchrun.results.exporters.columns import COLUMNS, Kind, flat_rows
from benchrun.results.records import RunRecord

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def export_csv(records: Iterable[RunRecord]) -> str:
    """The flat table of runs, one after the other."""
    columns = [column for column in COLUMNS if column.kind != "samples"]
    text = _Lines()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([column.name for column in columns])
    for record in records:
        for row in flat_rows(record):
            writer.writerow([_cell(column.kind, row[column.name]) for column in columns])
    return text.getvalue()


class _Lines(io.StringIO):
    """Ends lines with a bare line feed. The writer is told otherwise, since it quotes a carriage return in a cell only then."""

    def write(self, line: str, /) -> int:
        return super().write(line.removesuffix("\r\n") + "\n")


def _cell(kind: Kind, value: Any) -> str:
    if value is None:
        return ""
    if kind == "json":
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    if kind == "truth":
        return "true" if value else "false"
    if kind == "time":
        return str(value.isoformat()).replace("+00:00", "Z")
    if kind == "text":
        return defuse(str(value))
    return repr(value)


def defuse(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
