"""`benchrun merge`: the runs and gates of other machines into this database."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from benchrun.results.errors import StoreError

if TYPE_CHECKING:
    from benchrun.results.merge import Merged, MergeReport

CONFLICTS = 1


def merge(others: list[str], db: str | None, *, dry_run: bool, as_json: bool) -> int:
    """`benchrun merge`: 0 where everything is in the database now, 1 where something conflicts or another database cannot be read."""
    from benchrun.results import open_store
    from benchrun.results.merge import merge_database

    reports: list[MergeReport] = []
    failures: list[dict[str, str]] = []
    with open_store(db) as store:
        for other in others:
            try:
                report = merge_database(store, other, dry_run=dry_run, told=None if as_json else _tell)
            except StoreError as error:
                failures.append({"other": other, "error": str(error)})
                print(f"benchrun: {error}", file=sys.stderr)
                continue
            reports.append(report)
            if not as_json:
                print(_summary(report, dry_run))
        shown = store.shown
    if as_json:
        print(json.dumps(merge_document(reports, failures, shown, dry_run), indent=1))
    return CONFLICTS if failures or any(each.conflicts for each in reports) else 0


def merge_document(
    reports: list[MergeReport], failures: list[dict[str, str]], db: str, dry_run: bool
) -> dict[str, Any]:
    """The `--json` document of a merge, version 1 (docs/merging.md)."""
    return {
        "schema": 1,
        "db": db,
        "dry_run": dry_run,
        "merged": [
            {
                "other": report.other,
                "measurements": report.measurements,
                "items": [
                    {
                        "kind": each.kind,
                        "id": each.id,
                        "outcome": each.outcome,
                        "measurements": each.measurements,
                        "problem": each.problem,
                    }
                    for each in report.merged
                ],
            }
            for report in reports
        ],
        "failed": failures,
    }


def _tell(merged: Merged) -> None:
    if merged.outcome == "conflict":
        print(f"benchrun: {merged.kind} {merged.id} was left as it is: {merged.problem}", file=sys.stderr)
    elif merged.outcome != "known":
        count = "1 measurement" if merged.measurements == 1 else f"{merged.measurements} measurements"
        print(f"{merged.kind} {merged.id}: {merged.outcome}{f', {count}' if merged.kind == 'run' else ''}", flush=True)


def _summary(report: MergeReport, dry_run: bool) -> str:
    words = (("added", "added"), ("extended", "extended"), ("known", "there already"), ("conflict", "in conflict"))
    counts = ", ".join(f"{report.count(outcome)} {word}" for outcome, word in words)  # type: ignore[arg-type]
    return f"{report.other}: {counts}; {report.measurements} measurements {'to write' if dry_run else 'written'}"
