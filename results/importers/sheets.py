"""CSV files: rows with their line numbers and columns, within the limits, without anything a spreadsheet would run."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from benchrun.results.importers import values
from benchrun.results.importers.foreign import ImportFailed, Source
from benchrun.results.importers.limits import MAX_VALUES, decode_text

MAX_CELL = 10_000
MAX_COLUMNS = 500
_FORMULA = "=+-@\t\r"  # a spreadsheet runs a cell that starts like this


@dataclass(frozen=True, slots=True)
class Row:
    """One row of data under the header that precedes it."""

    source: Source
    line: int
    columns: tuple[str, ...]
    cells: tuple[str, ...]

    def failed(self, problem: str, column: str | None = None) -> ImportFailed:
        """The exception for a problem in this row."""
        return self.source.failed(problem, line=self.line, field=column)

    def failing(self, column: str) -> values.Fail:
        """`failed` for one column."""
        return self.source.failing(self.line, column)

    def text(self, column: str) -> str | None:
        """A cell's text; None where it is empty or there is no such column. A formula is refused."""
        if column not in self.columns:
            return None
        cell = self.cells[self.columns.index(column)].strip()
        if not cell:
            return None
        if cell[0] in _FORMULA:
            raise self.failed(f"{values.show(cell)} is a formula, not text", column)
        return values.to_name(cell, self.failing(column))

    def name(self, column: str) -> str:
        """A cell that must have text."""
        found = self.text(column)
        if found is None:
            raise self.failed("is empty" if column in self.columns else "is missing", column)
        return found

    def number(self, column: str) -> str | None:
        """A cell that should spell a number, not yet read; None where it is empty or there is no such column."""
        if column not in self.columns:
            return None
        return self.cells[self.columns.index(column)].strip() or None

    def ms(self, column: str, unit: str) -> float | None:
        """A time in milliseconds."""
        cell = self.number(column)
        return None if cell is None else values.to_ms(cell, unit, self.failing(column))

    def rate(self, column: str) -> float | None:
        """A rate, per second."""
        cell = self.number(column)
        return None if cell is None else values.to_rate(cell, self.failing(column))

    def count(self, column: str, *, least: int = 0) -> int | None:
        """A whole number."""
        cell = self.number(column)
        return None if cell is None else values.to_count(cell, self.failing(column), least=least)


def read_rows(source: Source, *, delimiter: str = ",") -> Iterator[Row]:
    """The rows of data. A row equal to the header, or naming most of its columns, is another header and takes over."""
    text = decode_text(source)
    if text.count(delimiter) + text.count("\n") > MAX_VALUES:
        raise source.failed(f"has over {MAX_VALUES:,} cells; split it")
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] = ()
    line = 1
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise source.failed(f"is not CSV: {error}", line=line) from None
        if not any(cell.strip() for cell in cells):
            continue
        names = tuple(cell.strip() for cell in cells)
        if not columns or len(set(columns) & set(names)) > len(columns) / 2:
            columns = _read_header(source, line, names)
            continue
        if len(cells) != len(columns):
            raise source.failed(f"has {len(cells)} cells under {len(columns)} columns", line=line)
        if max(map(len, cells)) > MAX_CELL:
            raise source.failed(f"has a cell of over {MAX_CELL:,} characters", line=line)
        yield Row(source, line, columns, tuple(cells))


def _read_header(source: Source, line: int, names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > MAX_COLUMNS:
        raise source.failed(f"has over {MAX_COLUMNS} columns", line=line)
    double = next((name for name in names if name and names.count(name) > 1), None)
    if double is not None:
        raise source.failed(f"names the column {values.show(double)} twice", line=line)
    return names
