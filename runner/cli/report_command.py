"""`benchrun report`: a run as one HTML file to send to somebody."""

from __future__ import annotations

import json
import sys
from pathlib import Path

SCHEMA = 1


def report_run(run: str, output: Path | None, db: str | None, *, as_json: bool) -> int:
    """Write the report and say where it is; exit 0. Raises `StoreError` and `ExportError`."""
    from benchrun.dashboard.report import write_report

    found = write_report(db, run, output)
    size = found.path.stat().st_size
    if as_json:
        print(json.dumps({"schema": SCHEMA, "run": found.run, "path": str(found.path), "bytes": size}))
    else:
        print(f"{found.path}: run {found.run}, {size / 1e6:.1f} MB", file=sys.stderr)
    return 0
