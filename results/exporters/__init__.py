"""Writing a run for people and other tools: Markdown tables, CSV, the JSON document, Parquet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchrun.results.errors import ExportError

if TYPE_CHECKING:
    from benchrun.results.records import RunRecord

FORMATS = ("markdown", "csv", "json", "parquet")


def export_run(record: RunRecord, format: str, db: str = "") -> str | bytes:
    """A run in one of `FORMATS`: text, or bytes for Parquet. `db` is what the JSON document says of its database.

    Parquet and CSV have one row per measurement; read the run with `samples=True` to have its samples in the Parquet file.
    Raises `ExportError`.
    """
    if format == "markdown":
        from benchrun.results.exporters.markdown import export_markdown

        return export_markdown(record)
    if format == "csv":
        from benchrun.results.exporters.csv import export_csv

        return export_csv(record)
    if format == "json":
        from benchrun.results.document import run_document

        return json.dumps(run_document(record, db), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if format == "parquet":
        from benchrun.results.exporters.parquet import export_parquet

        return export_parquet(record)
    raise ExportError(f"there is no export format '{format}'; choose one of {', '.join(FORMATS)}")
