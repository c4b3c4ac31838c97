"""Looking at what was measured: `runs`, `show`, `export`, `rm`, `models`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchrun.runner.cli.tables import WIDE
from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from benchrun.results import Store


def open_readable(db: str | None) -> Store | None:
    """The database for reading; None where there is none yet."""
    from benchrun.results import open_store
    from benchrun.results.errors import NoDatabase

    try:
        return open_store(db, read_only=True)
    except NoDatabase:
        if db is not None:
            raise
        return None


def list_runs(db: str | None, *, as_json: bool, limit: int) -> int:
    """`benchrun runs`."""
    from benchrun.results.document import runs_document

    store = open_readable(db)
    if store is None:
        if as_json:
            print(json.dumps(runs_document([])))
        else:
            print("no runs yet: measure one with 'benchrun --backend torch'")
        return 0
    with store:
        found = store.runs(limit)
        shown = store.shown
    if as_json:
        print(json.dumps(runs_document(found), indent=1))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold", caption=f"database {shown}", caption_justify="left")
    console = Console()
    wide = console.width >= WIDE  # an id begins with its time, so that a narrow table leaves the column to the labels
    for name in ("run", *(("started (UTC)",) if wide else ()), "state", "points ok", "label"):
        table.add_column(name, no_wrap=name != "label")
    for run in found:
        points = Text(f"{run.ok} of {run.points}")
        if run.failed > run.unsupported:
            points.append(f", {run.failed - run.unsupported} failed", style="red")
        if run.unsupported:
            points.append(f", {run.unsupported} unsupported")
        started = (f"{run.started:%Y-%m-%d %H:%M}",) if wide else ()
        table.add_row(run.id, *started, run.state, points, Text(run.label))
    console.print(table if found else "no runs yet: measure one with 'benchrun --backend torch'", highlight=False)
    return 0


def show_run(given: str, db: str | None, attachments: Path | None = None, *, as_json: bool) -> int:
    """`benchrun show`."""
    from benchrun.results import open_store

    with open_store(db, read_only=True) as store:
        record = store.run(store.resolve_run(given))
        if as_json:
            from benchrun.results.document import run_document

            print(json.dumps(run_document(record, store.shown), indent=1, allow_nan=False))
        else:
            from benchrun.runner.cli.output import print_run

            print_run(Console(), record, store.shown)
        if attachments is not None:
            from benchrun.runner.cli.attachments import write_attachments

            written = write_attachments(store, record, attachments)
            print(f"{written} files written to {attachments}" if written else "the run has no files", file=sys.stderr)
    return 0


def remove_run(given: str, db: str | None, *, sure: bool) -> int:
    """`benchrun rm`."""
    from benchrun.results import open_store

    with open_store(db) as store:
        run_id = store.resolve_run(given)
        if not sure:
            if not sys.stdin.isatty():
                raise UsageError(f"this would remove run {run_id} with all its samples: pass --yes if you are sure")
            import typer

            typer.confirm(f"Remove run {run_id} with all its samples?", abort=True, err=True)
        store.remove_run(run_id)
    print(f"removed {run_id}", file=sys.stderr)
    return 0


def list_models(*, as_json: bool) -> int:
    """`benchrun models`."""
    from dataclasses import asdict

    from benchrun.backends.catalogue import NAMED, named_spec

    shapes = {name: named_spec(name).shape for name in NAMED}
    if as_json:
        print(
            json.dumps(
                {"schema": 1, "models": [{"name": name, **asdict(shape)} for name, shape in shapes.items()]}, indent=1
            )
        )
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "layers", "hidden", "heads", "feed-forward", "vocabulary", "tokens"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    for name, shape in shapes.items():
        sizes = (
            shape.layers,
            shape.hidden_size,
            shape.heads,
            shape.intermediate_size,
            shape.vocab_size,
            shape.positions,
        )
        table.add_row(name, *map(str, sizes))
    console = Console()
    console.print(table, highlight=False)
    console.print(
        "Or a folder with a config.json (weights from its safetensors), a config.json, or a hub id.", highlight=False
    )
    return 0
