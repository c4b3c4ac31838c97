"""Parquet: the flat table with typed columns, samples as lists of nanoseconds, nested values as JSON text."""

from __future__ import annotations

import gc
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchrun.results.errors import ExportError
from benchrun.results.exporters.columns import COLUMNS, Column, flat_rows
from benchrun.results.records import RunRecord

if TYPE_CHECKING:
    import pyarrow as pa


CHUNK = 10_000  # rows that are held as Python values at a time


def export_parquet(records: Iterable[RunRecord]) -> bytes:
    """The flat table of runs, one after the other. `ExportError` without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ExportError("Parquet needs pyarrow: pip install 'benchrun-inference[parquet]'") from None
    schema = pa.schema([(column.name, _type(pa, column)) for column in COLUMNS])
    written = io.BytesIO()
    rows = (row for record in records for row in flat_rows(record))
    with _uncollected(), pq.ParquetWriter(written, schema, compression="zstd") as writer:
        first = True
        while (chunk := list(itertools.islice(rows, CHUNK))) or first:
            first = False
            columns = [
                pa.array(_cells(column, chunk), type=field.type) for column, field in zip(COLUMNS, schema, strict=True)
            ]
            writer.write_table(pa.table(columns, schema=schema))
    return written.getvalue()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Garbage collection walks all fresh values again and again, a fifth of the time, and there is no cycle among them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _type(pa: Any, column: Column) -> pa.DataType:
    return {
        "text": pa.string(),
        "json": pa.string(),
        "integer": pa.int64(),
        "figure": pa.float64(),
        "truth": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "samples": pa.list_(pa.int64()),
    }[column.kind]


def _cells(column: Column, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    cells = [row[column.name] for row in rows]
    if column.kind != "json":
        return cells
    known: dict[int, str] = {}  # rows of a point share their mappings, which `rows` keeps alive
    return [
        None if cell is None else known.get(id(cell)) or known.setdefault(id(cell), _encode(cell)) for cell in cells
    ]


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False).encode
