"""Writing runs for people and other tools: any points of any runs, in one of `FORMATS`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from benchrun.results.errors import ExportError

if TYPE_CHECKING:
    from benchrun.results.records import RunRecord

FORMATS: Mapping[str, str] = {
    "markdown": "tables in the shape of the published ones",
    "csv": "one row a measurement, all columns but the samples",
    "json": "the document of --json",
    "parquet": "one row a measurement, all columns, samples too",
    "bencher": "Bencher Metric Format",
    "github-action-benchmark": "its customSmallerIsBetter: latencies",
    "github-action-benchmark-throughput": "its customBiggerIsBetter: sequences/s",
    "pytest-benchmark": "its JSON, with the samples",
}
WITH_SAMPLES = ("parquet", "pytest-benchmark")  # read the runs with `samples=True` for these


def export_run(record: RunRecord, format: str, db: str = "") -> str | bytes:
    """One run, see `export_runs`."""
    return export_runs([record], format, db)


def export_runs(records: Iterable[RunRecord], format: str, db: str = "") -> str | bytes:
    """Runs, at least one, in one of `FORMATS`: text, or bytes for Parquet. `db` is what the JSON document says of its database.

    `selection.select_points` picks points of a run first. CSV and Parquet take one run at a time from `records`, the others all at
    once. Raises `ExportError`.
    """
    if format == "csv":
        from benchrun.results.exporters.csv import export_csv

        return export_csv(records)
    if format == "parquet":
        from benchrun.results.exporters.parquet import export_parquet

        return export_parquet(records)
    records = list(records)
    if not records:
        raise ExportError("there is no run to export")
    if format == "markdown":
        from benchrun.results.exporters.markdown import export_markdown

        return "\n".join(export_markdown(record) for record in records)
    if format == "json":
        from benchrun.results.document import run_document

        documents = [run_document(record, db) for record in records]
        document = documents[0] if len(documents) == 1 else {"schema": documents[0]["schema"], "documents": documents}
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if format == "bencher":
        from benchrun.results.exporters.bencher import export_bencher

        return export_bencher(records)
    if format == "pytest-benchmark":
        from benchrun.results.exporters.pytest_benchmark import export_pytest_benchmark

        return export_pytest_benchmark(records)
    if format.startswith("github-action-benchmark") and format in FORMATS:
        from benchrun.results.exporters import github_action

        throughput = format.endswith("throughput")
        return github_action.export_throughput(records) if throughput else github_action.export_latencies(records)
    raise ExportError(f"there is no export format '{format}'; choose one of {', '.join(FORMATS)}")
