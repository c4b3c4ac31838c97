"""Commands that judge: is it slower, how noisy, since when?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from benchrun.runner.cli.panels.measure import run_sweep
from benchrun.runner.cli.panels.options import Db, Json, RunId
from benchrun.runner.cli.sweep_options import with_sweep_options

GATE_EXAMPLES = """[bold]Examples[/bold]

 benchrun gate --base-ref origin/main --backend torch --seq 128,384     this commit against main

 benchrun gate --base-python envs/old/bin/python --preset quick         another version of the libraries

 benchrun gate --base-ref origin/main --cmd "pytest bench --benchmark-json {out}"

 benchrun gate --aa --preset quick                                      does the gate keep still on this machine?
"""

# groups of commands in the help

panel = typer.Typer()


@panel.command()
def compare(base: RunId, new: RunId, db: Db = None, json: Json = False) -> int:
    """Two stored runs side by side: ratios with their intervals. It judges nothing: sessions differ, see 'benchrun gate'."""
    from benchrun.runner.cli.compare_command import compare_runs

    return compare_runs(base, new, db, as_json=json)


@panel.command()
@with_sweep_options(run_sweep)
def variance(
    settings: dict[str, Any],
    launches: Annotated[
        int, typer.Option(help="Fresh processes to measure the sweep in; one more warms up.", rich_help_panel="How")
    ] = 20,
    run: Annotated[
        str | None,
        typer.Option("--run", help="Tell of a stored run instead of measuring one.", rich_help_panel="Where"),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Named settings.", rich_help_panel="Where")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file.", rich_help_panel="Where")] = None,
    label: Annotated[str | None, typer.Option(help="A name for the run.", rich_help_panel="Where")] = None,
    db: Db = None,
    json: Json = False,
) -> int:
    """How noisy this machine is: the slowdown that a gate finds here, and what it costs. Exit 0: told; 1: some points failed."""
    from benchrun.runner.cli.variance_command import VarianceOptions, measure_variance

    return measure_variance(settings, VarianceOptions(launches, run, preset, config, label, db, json))


@panel.command()
def history(
    point: Annotated[
        list[str], typer.Argument(help="A point's key, or words of its name: torch:eager bert-base b1 s128.")
    ],
    metric: Annotated[str, typer.Option(help="p50 or throughput.")] = "p50",
    hardware: Annotated[
        str | None, typer.Option(help="Start of a hardware fingerprint. (default: where it was last measured)")
    ] = None,
    db: Db = None,
    json: Json = False,
) -> int:
    """A point over commits, and where its level changed. It informs: exit 0 whatever it finds."""
    from benchrun.runner.cli.history_command import show_history

    return show_history(point, metric, hardware, db, as_json=json)


gate = typer.Typer(
    help="Is the new side slower than the base? Both are measured in turns, launch by launch; an alarm has to repeat.\n\n"
    "Exit 0: pass; 1: fail; 2: usage or set-up; 3: missing or invalid; 4: inconclusive; 130: interrupted.",
    invoke_without_command=True,
)
panel.add_typer(gate, name="gate")


@gate.callback(epilog=GATE_EXAMPLES)
@with_sweep_options(run_sweep)
def gate_run(
    context: typer.Context,
    settings: Any,
    base_ref: Annotated[
        str | None,
        typer.Option(help="Base: a git ref, in a work tree and environment of its own.", rich_help_panel="Sides"),
    ] = None,
    new_ref: Annotated[
        str | None, typer.Option(help="New: a git ref. (default with --base-ref: HEAD)", rich_help_panel="Sides")
    ] = None,
    install: Annotated[
        str | None, typer.Option(help="Sets a ref's environment up. (default: pip install .)", rich_help_panel="Sides")
    ] = None,
    base_python: Annotated[
        str | None, typer.Option(help="Base: an interpreter that has benchrun.", rich_help_panel="Sides")
    ] = None,
    new_python: Annotated[
        str | None, typer.Option(help="New: an interpreter. (default: this one)", rich_help_panel="Sides")
    ] = None,
    base_opt: Annotated[
        list[str] | None, typer.Option(help="Base only: attention=eager, dtype=fp32,…", rich_help_panel="Sides")
    ] = None,
    new_opt: Annotated[list[str] | None, typer.Option(help="New only: likewise.", rich_help_panel="Sides")] = None,
    base_cmd: Annotated[
        str | None, typer.Option(help="Base: a command that writes its results to {out}.", rich_help_panel="Sides")
    ] = None,
    new_cmd: Annotated[str | None, typer.Option(help="New: likewise.", rich_help_panel="Sides")] = None,
    cmd: Annotated[str | None, typer.Option(help="One command for both sides.", rich_help_panel="Sides")] = None,
    cmd_format: Annotated[str, typer.Option(help="What commands write.", rich_help_panel="Sides")] = "pytest-benchmark",
    aa: Annotated[
        bool, typer.Option("--aa", help="The same on both sides, on purpose: tries the gate.", rich_help_panel="Sides")
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(help="Against a stored run: across sessions, advisory.", rich_help_panel="Sides")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Gate by these too: p90, p95, p99.", rich_help_panel="Rule")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="An absolute limit of the new side: p95_ms=10.", rich_help_panel="Rule")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="A point whose slowdown is intended.", rich_help_panel="Rule")
    ] = None,
    reason: Annotated[list[str] | None, typer.Option(help="Why, in a sentence.", rich_help_panel="Rule")] = None,
    until: Annotated[
        list[str] | None, typer.Option(help="It ends once the base contains this commit.", rich_help_panel="Rule")
    ] = None,
    constant: Annotated[
        list[str] | None, typer.Option("--set", help="A constant of the rule: fail_ratio=1.02.", rich_help_panel="Rule")
    ] = None,
    max_launches: Annotated[
        int | None, typer.Option(help="Most launches, both sides together.", rich_help_panel="Rule")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="No launch starts after this many minutes.", rich_help_panel="Rule")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of all random orders; stored.", rich_help_panel="Rule")] = None,
    preset: Annotated[str | None, typer.Option(help="Named sweep settings.", rich_help_panel="Where")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file; its table gate is read.", rich_help_panel="Where")
    ] = None,
    label: Annotated[str | None, typer.Option(help="A name for the gate run.", rich_help_panel="Where")] = None,
    db: Db = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML there.", rich_help_panel="Where")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write a Markdown summary there.", rich_help_panel="Where")
    ] = None,
    bencher: Annotated[
        Path | None, typer.Option(help="Write Bencher's metric format there.", rich_help_panel="Where")
    ] = None,
    json: Json = False,
) -> int:
    """A gate run, where no other command of `benchrun gate` is meant; returns the exit status."""
    if context.invoked_subcommand is not None:
        return 0
    from benchrun.runner.cli.gate_command import GateOptions
    from benchrun.runner.cli.gate_command import gate as run
    from benchrun.runner.cli.gate_reports import ReportFiles

    return run(
        settings,
        GateOptions(
            base_ref=base_ref, new_ref=new_ref, install=install, base_python=base_python, new_python=new_python,
            base_opt=base_opt or (), new_opt=new_opt or (), base_cmd=base_cmd, new_cmd=new_cmd, cmd=cmd, cmd_format=cmd_format,
            aa=aa, baseline=baseline, metric=metric, limit=limit or (), accept=accept or (), reason=reason or (),
            until=until or (), constants=constant or (), max_launches=max_launches, max_minutes=max_minutes, seed=seed,
            preset=preset, config=config, label=label, db=db,
            files=ReportFiles(junit=junit, markdown=markdown, bencher=bencher, as_json=json),
        ),
    )  # fmt: skip


GateId = Annotated[
    str, typer.Argument(help="A gate's id, the start of it, its last part, 'last', or 'last~1'.", show_default=False)
]


@gate.command("show")
def gate_show(
    id: GateId,
    db: Db = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML there.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown summary there.")] = None,
    bencher: Annotated[Path | None, typer.Option(help="Write Bencher's metric format there.")] = None,
    json: Json = False,
) -> int:
    """Decide a stored gate run again from its launches, and show it. Exit status as of the gate."""
    from benchrun.runner.cli.gate_command import show_gate
    from benchrun.runner.cli.gate_reports import ReportFiles

    return show_gate(id, db, ReportFiles(junit=junit, markdown=markdown, bencher=bencher, as_json=json))


@gate.command("ls")
def gate_ls(
    db: Db = None, json: Json = False, limit: Annotated[int, typer.Option(help="Latest ones to list.")] = 20
) -> int:
    """Gate runs in the database, latest first."""
    from benchrun.runner.cli.gate_command import list_gate_runs

    return list_gate_runs(db, limit=limit, as_json=json)
