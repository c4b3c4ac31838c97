"""Commands that show what was measured or published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchrun.runner.cli.panels.options import Db, Json, RunId

panel = typer.Typer()


@panel.command()
def runs(
    db: Db = None, json: Json = False, limit: Annotated[int, typer.Option(min=1, help="Latest runs to list.")] = 20
) -> int:
    """Runs in the database, latest first."""
    from benchrun.runner.cli.runs_command import list_runs

    return list_runs(db, as_json=json, limit=limit)


@panel.command()
def show(
    run: RunId,
    attachments: Annotated[
        Path | None,
        typer.Option(help="Write the points' files (logs, predictions) into this folder.", metavar="DIR"),
    ] = None,
    db: Db = None,
    json: Json = False,
) -> int:
    """One run: what it measured and where, as a table."""
    from benchrun.runner.cli.runs_command import show_run

    return show_run(run, db, attachments, as_json=json)


@panel.command()
def report(
    run: RunId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File. (default: benchrun-RUN.html in this folder)")
    ] = None,
    db: Db = None,
    json: Json = False,
) -> int:
    """Write a run as one HTML file to share: tables, charts, the data; no script, nothing fetched, under 5 MB."""
    from benchrun.runner.cli.report_command import report_run

    return report_run(run, output, db, as_json=json)


@panel.command()
def dashboard(
    db: Db = None,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8501,
    host: Annotated[
        str, typer.Option(help="Address to listen on; another one lets others read the results.")
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> int:
    """Charts of all results in a browser, until Ctrl-C: compare engines, runs, machines, published tables."""
    from benchrun.runner.cli.dashboard_command import open_dashboard

    return open_dashboard(db, port, host, browser=not no_browser)


@panel.command()
def rm(run: RunId, db: Db = None, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> int:
    """Remove a run and all its samples."""
    from benchrun.runner.cli.runs_command import remove_run

    return remove_run(run, db, sure=yes)


published = typer.Typer(help="Figures that vendors published, with their conditions.", no_args_is_help=True)
panel.add_typer(published, name="published")


@published.command("ls")
def published_ls(json: Json = False) -> int:
    """List the tables."""
    from benchrun.runner.cli.published_command import list_tables

    return list_tables(as_json=json)


@published.command("show")
def published_show(
    name: Annotated[str, typer.Argument(help="A table as 'benchrun published ls' names it.", show_default=False)],
    json: Json = False,
) -> int:
    """One table as it was printed, its conditions, and what looks odd in it."""
    from benchrun.runner.cli.published_command import show_table

    return show_table(name, as_json=json)


@published.command("compare")
def published_compare(
    run: RunId,
    table: Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated.")] = None,
    db: Db = None,
    json: Json = False,
) -> int:
    """Lay a run beside published rows of the same model, dtype and shape; what differs is spelled out. Exit 1: no row fits."""
    from benchrun.runner.cli.published_command import compare_run

    return compare_run(run, db, table or [], as_json=json)
