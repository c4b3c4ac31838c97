"""What a sweep says: plan and progress on stderr, tables on stdout; with `--json` a document there, and the tables on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchrun.results.document import VERSION
from benchrun.results.plain import plain_json
from benchrun.runner.cli.layout_table import layout_tables
from benchrun.runner.cli.tables import plan_lines, run_header, run_tables

if TYPE_CHECKING:
    from benchrun.results.records import RunRecord
    from benchrun.runner.cli.sweep_progress import Progress
    from benchrun.runner.plan import Plan


def open_output(as_json: bool) -> Output:
    """Tables on stdout, or with `--json` a document there and the tables on stderr."""
    return Output(as_json, Console(stderr=True), Console(stderr=as_json))


@dataclass(frozen=True, slots=True)
class Output:
    """`log` shows plan and progress (stderr), `tables` the result."""

    as_json: bool
    log: Console
    tables: Console

    def plan(self, plan: Plan, seconds: float, db_shown: str | None, keys: set[str] | None = None) -> None:
        """What is about to be measured, with every default filled in."""
        for line in plan_lines(plan, seconds, db_shown, keys):
            self.log.print(line, highlight=False)

    def dry_run(self, plan: Plan, seconds: float, db_shown: str | None = None, keys: set[str] | None = None) -> None:
        """The plan alone: in words, and with `--json` as a document."""
        self.plan(plan, seconds, db_shown, keys)
        if self.as_json:
            json.dump(plan_document(plan, seconds, keys), sys.stdout, indent=1, allow_nan=False)
            sys.stdout.write("\n")

    def note(self, text: str) -> None:
        """A remark for the person at the terminal."""
        self.log.print(text, highlight=False, markup=False)

    @contextmanager
    def progress(self, plan: Plan, missing: list[tuple[str, int]]) -> Iterator[Progress]:
        """A live line on a terminal, one plain line a point elsewhere."""
        from benchrun.runner.cli.sweep_progress import Progress

        progress = Progress(self.log, plan, missing)
        with progress.shown():
            yield progress

    def result(self, record: RunRecord, db: str) -> None:
        """The table, and with `--json` the document."""
        if self.as_json:
            from benchrun.results.document import run_document

            json.dump(run_document(record, db), sys.stdout, indent=1, allow_nan=False)
            sys.stdout.write("\n")
            sys.stdout.flush()
            return
        print_run(self.tables, record, db)


def plan_document(plan: Plan, seconds: float, keys: set[str] | None) -> dict[str, Any]:
    """What a sweep would measure (only `keys` where given): `plan_document` of results/document.schema.json."""
    names = (
        "key",
        "backend",
        "variant",
        "model",
        "weights",
        "head",
        "device",
        "dtype",
        "batch",
        "seq",
        "workload",
        "protocol",
    )
    points = [each for each in plan.points if keys is None or each.point.key in keys]
    return {
        "schema": VERSION,
        "plan": {
            "seconds": round(seconds, 1),
            "launches": plan.request.launches,
            "request": plain_json(plan.request.to_json()),
            "points": [
                {name: getattr(each.point, name) for name in names}
                | {"options": dict(each.point.options), "refusal": each.refusal}
                for each in points
            ],
        },
    }


def print_run(console: Console, record: RunRecord, db: str) -> None:
    """Header and tables of a run."""
    for each in (*run_header(record, db), *run_tables(record, console.width), *layout_tables(record)):
        console.print(each, highlight=False)


def write_lines(lines: Iterable[str]) -> None:
    """Plain text on standard output."""
    for line in lines:
        sys.stdout.write(line + "\n")
