"""CSV: RFC 4180 with a header, one row per measurement, figures with all their digits; samples are left out.

None is an empty cell, truth is `true` or `false`, times are ISO 8601 in UTC, nested values JSON. A text cell that a spreadsheet would
run as a formula gets an apostrophe in front. After the flat table come the scores that there are, a column for each task and metric
(`score_squad_f1`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from typing import Any

from benchrun.results.exporters.columns import COLUMNS, Kind, flat_rows
from benchrun.results.records import RunRecord

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def export_csv(records: Iterable[RunRecord]) -> str:
    """The flat table of runs, one after the other."""
    columns = [column for column in COLUMNS if column.kind != "samples"]
    scored: dict[str, int] = {}  # which columns of scores there are is known only at the end: runs come one at a time
    body = _Lines()
    writer = csv.writer(body, lineterminator="\r\n")
    for record in records:
        for row in flat_rows(record):
            scores = {score_column(each): each["value"] for each in row["scores"]}
            for name in scores:
                scored.setdefault(name, len(scored))
            cells = [_cell(column.kind, row[column.name]) for column in columns]
            writer.writerow([*cells, *(_cell("figure", scores.get(name)) for name in scored)])
            body.filled.append(len(scored))
    head = _Lines()
    csv.writer(head, lineterminator="\r\n").writerow([*(column.name for column in columns), *scored])
    return "".join(
        f"{line}{',' * (len(scored) - filled)}\n"
        for line, filled in zip((*head.lines, *body.lines), (len(scored), *body.filled), strict=True)
    )


def score_column(score: Mapping[str, Any]) -> str:
    """The column of a task's metric: `score_squad_f1`."""
    return f"score_{score['task']}_{score['metric']}"


class _Lines:
    """Lines without their end, which becomes a bare line feed. The writer is told otherwise, since it quotes a carriage return in a
    cell only then. `filled`: how many columns of scores a line has.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.filled: list[int] = []

    def write(self, line: str, /) -> int:
        self.lines.append(line.removesuffix("\r\n"))
        return len(line)


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
