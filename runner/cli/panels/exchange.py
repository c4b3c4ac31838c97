"""Commands that take results in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchrun.runner.cli.panels.options import Db, Json

panel = typer.Typer()


@panel.command()
def export(
    runs: Annotated[
        list[str],
        typer.Argument(help="Runs: ids, 'last', or 'last~1' (the one before).", metavar="RUN…", show_default=False),
    ],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="markdown, csv, json, parquet, html, bencher, github-action-benchmark, "
            "github-action-benchmark-throughput or pytest-benchmark.",
        ),
    ] = "markdown",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File. (default: standard output)")] = None,
    backend: Annotated[str | None, typer.Option("--backend", "-b", help="Only these: torch,ort:cpu.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only these models.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="Only these: fp16,bf16.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", help="Only these: 1,2,4 or 1..128*2.")] = None,
    seq: Annotated[str | None, typer.Option("--seq", help="Only these: 128,384.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="Only points that ended so: ok,oom.")] = None,
    db: Db = None,
) -> int:
    """Write runs, or some of their points, for people, spreadsheets, notebooks and other benchmark tools."""
    from benchrun.runner.cli.export_command import export_runs

    wanted = {"backend": backend, "model": model, "dtype": dtype, "batch": batch, "seq": seq, "status": status}
    return export_runs(runs, format, output, db, wanted)


@panel.command("import")
def import_results(
    format: Annotated[str, typer.Argument(help="A format ('benchrun import --list' names them), or auto.")] = "",
    files: Annotated[list[Path] | None, typer.Argument(help="Files that another tool wrote.")] = None,
    sidecar: Annotated[
        list[Path] | None,
        typer.Option("--sidecar", help="TOML or JSON with what the file cannot know; one for all, or one a file."),
    ] = None,
    formats: Annotated[bool, typer.Option("--list", help="List the formats and stop.")] = False,
    db: Db = None,
    json: Json = False,
) -> int:
    """Store what another tool measured, beside our own runs. Exit 0: all there; 1: a file could not be read; 2: usage."""
    from benchrun.runner.cli.import_command import import_results, list_formats

    if formats:
        return list_formats(as_json=json)
    return import_results(format, files or [], sidecar or [], db, as_json=json)


@panel.command()
def merge(
    others: Annotated[list[str], typer.Argument(help="Databases to read: files or URLs.", metavar="OTHER…")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    db: Db = None,
    json: Json = False,
) -> int:
    """Bring the runs and gates of other databases into this one; again adds nothing. Exit 1: something conflicts or is unreadable."""
    from benchrun.runner.cli.merge_command import merge

    return merge(others, db, dry_run=dry_run, as_json=json)
