"""Commands and their options. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from benchrun.runner.cli.sweep_options import with_sweep_options

HELP = """Compare transformer inference across engines and vendors: one clock, one protocol, the answer checked, every sample kept.

A sweep needs no command name: 'benchrun --backend torch --seq 128,384' is 'benchrun run --backend torch --seq 128,384'
('benchrun run --help' lists all sweep options).
"""
EXAMPLES = """[bold]Examples[/bold]

 benchrun --backend torch --seq 128,384         BERT-base in PyTorch, now

 benchrun --backend torch,ort --batch 1..32*2   two engines side by side

 benchrun --preset quick --dry-run              the plan and how long it takes

 benchrun show last                             the table of the latest run

 benchrun export last --format csv > run.csv    all columns of a run
"""
GATE_EXAMPLES = """[bold]Examples[/bold]

 benchrun gate --base-ref origin/main --backend torch --seq 128,384     this commit against main

 benchrun gate --base-python envs/old/bin/python --preset quick         another version of the libraries

 benchrun gate --base-ref origin/main --cmd "pytest bench --benchmark-json {out}"

 benchrun gate --aa --preset quick                                      does the gate keep still on this machine?
"""

# groups of commands in the help
MEASURE, JUDGE, LOOK, EXCHANGE, MACHINE = "Measure", "Judge", "Look", "Exchange", "This machine"

app = typer.Typer(
    name="benchrun",
    help=HELP,
    epilog=EXAMPLES,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        help="Database: a file or a SQLAlchemy URL. (default: $BENCHRUN_DB, else your user-data folder)",
        rich_help_panel="Where",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output and nothing else there.")]
RunId = Annotated[
    str, typer.Argument(help="A run's id, the start of it, its last part, or 'last'.", show_default=False)
]


def invoke(arguments: list[str]) -> int:
    """Run the app; returns the exit status. Raises UsageError for a command line that makes no sense."""
    command = typer.main.get_command(app)
    without_types(command)
    try:
        result = command.main(arguments or ["--help"], prog_name="benchrun", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        # click's exceptions, which newer Typers carry a copy of: told by what they can do, not by their class
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command has shown its help
            return 0
        from benchrun.runner.errors import UsageError

        asked = next((each for each in arguments[:1] if each in getattr(command, "commands", {})), "run")
        hint = "'benchrun run --help' lists the sweep options" if asked == "run" else f"see 'benchrun {asked} --help'"
        raise UsageError(f"{message().rstrip('.')} ({hint})") from error
    return result if isinstance(result, int) else 0


def without_types(command: Any) -> None:
    """Let the help of a flag name no type: `--json <bool>` reads as if it took a value. Subcommands included."""
    for param in command.params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    for each in getattr(command, "commands", {}).values():
        without_types(each)


def _print_version(asked: bool) -> None:
    if asked:
        from benchrun.runner.environment import benchrun_version

        typer.echo(f"benchrun {benchrun_version()}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; works with any command.")
    ] = False,
) -> None:
    pass


@app.command("run", epilog=EXAMPLES, rich_help_panel=MEASURE)
def run_sweep(
    backend: Annotated[
        str | None,
        typer.Option("--backend", "-b", help="Engines: torch, ort:cuda, torch:compile,…", rich_help_panel="What"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Models: a name, a folder, a config.json, a hub id.", rich_help_panel="What"
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option("--head", help="layers, encoder, pooler, qa or classification.", rich_help_panel="What"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="Safetensors: a folder, a file or a hub id.", rich_help_panel="What")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--override", help="Change the model: num_hidden_layers=6.", rich_help_panel="What"),
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", help="Sequences a call: 1,2,4 or 1..128*2.", rich_help_panel="What")
    ] = None,
    seq: Annotated[
        str | None, typer.Option("--seq", help="Tokens a sequence: 128,384.", rich_help_panel="What")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="fp32, tf32, fp16, bf16, int8, fp8.", rich_help_panel="What")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", help="cpu, cuda, cuda:1, rocm. (default: first GPU, else cpu)", rich_help_panel="What"
        ),
    ] = None,
    workload: Annotated[
        str | None, typer.Option("--workload", help="padded: every sequence at full length.", rich_help_panel="What")
    ] = None,
    opt: Annotated[
        list[str] | None, typer.Option("--opt", help="Engine option: torch.attention=eager.", rich_help_panel="What")
    ] = None,
    engine_per_point: Annotated[
        bool | None,
        typer.Option(
            "--engine-per-point", help="trt: an engine for each shape, not one for the sweep.", rich_help_panel="What"
        ),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Timed calls a point. (default: 200)", rich_help_panel="How")
    ] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Least calls before timing. (default: 10)", rich_help_panel="How")
    ] = None,
    max_time: Annotated[
        float | None,
        typer.Option(help="Seconds of timing a point, after 10 samples. (default: 20)", rich_help_panel="How"),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds after which a point is given up. (default: 300)", rich_help_panel="How"),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(help="Measure a point again if throttled, shared or noisy. (default: 2)", rich_help_panel="How"),
    ] = None,
    launches: Annotated[
        int | None, typer.Option(help="Repeat the sweep in fresh processes. (default: 1)", rich_help_panel="How")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of every engine. (default: usable cores)", rich_help_panel="How")
    ] = None,
    transfers: Annotated[str | None, typer.Option(help="exclude: copies are not timed.", rich_help_panel="How")] = None,
    try_all: Annotated[
        bool | None, typer.Option("--try-all", help="Go on to larger batches after an oom.", rich_help_panel="How")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Named settings, which other options overrule: quick, nvidia-trt-bert, aitemplate-bert, "
            "deeplearningexamples-bert, or one of your own from the TOML file.",
            rich_help_panel="Where",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file. (default: benchrun.toml or pyproject.toml here)", rich_help_panel="Where"),
    ] = None,
    label: Annotated[str | None, typer.Option(help="A name for the run.", rich_help_panel="Where")] = None,
    resume: Annotated[
        str | None, typer.Option(help="Measure what this run still lacks: an id or 'last'.", rich_help_panel="Where")
    ] = None,
    db: Db = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with an estimate and stop.", rich_help_panel="Where")
    ] = False,
    json: Json = False,
) -> int:
    """Measure a sweep: every combination of the given lists, one row each. Exit 0: all ok; 1: some failed; 2: usage; 130: interrupted."""
    from benchrun.runner.cli.sweep_command import SweepOptions, sweep

    settings = {
        "backend": backend, "model": model, "head": head, "weights": weights, "override": override or None, "batch": batch, "seq": seq,
        "dtype": dtype, "device": device, "workload": workload, "opt": opt or None, "iterations": iterations, "warmup": warmup,
        "max-time": max_time, "timeout": timeout, "launches": launches, "threads": threads, "transfers": transfers, "try-all": try_all,
        "repeats": repeats, "engine-per-point": engine_per_point,
    }  # fmt: skip
    return sweep(settings, SweepOptions(preset, config, label, resume, db, dry_run, json))


gate = typer.Typer(
    help="Is the new side slower than the base? Both are measured in turns, launch by launch; an alarm has to repeat.",
    invoke_without_command=True,
)
app.add_typer(gate, name="gate", rich_help_panel=JUDGE)


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
    """Is the new side slower than the base? Exit 0: pass; 1: fail; 2: usage; 3: missing or invalid; 4: inconclusive."""
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
    str, typer.Argument(help="A gate's id, the start of it, its last part, or 'last'.", show_default=False)
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


@app.command(rich_help_panel=JUDGE)
def compare(base: RunId, new: RunId, db: Db = None, json: Json = False) -> int:
    """Two stored runs side by side: ratios with their intervals. It judges nothing: sessions differ, see 'benchrun gate'."""
    from benchrun.runner.cli.compare_command import compare_runs

    return compare_runs(base, new, db, as_json=json)


@app.command(rich_help_panel=JUDGE)
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


@app.command(rich_help_panel=JUDGE)
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


@app.command(rich_help_panel=MEASURE)
@with_sweep_options(run_sweep)
def build(
    settings: dict[str, Any],
    target: Annotated[
        str,
        typer.Option(
            help="Compute capability to build for: SM86, SM120,… (default: this machine)", rich_help_panel="Where"
        ),
    ] = "",
    preset: Annotated[str | None, typer.Option(help="Named settings.", rich_help_panel="Where")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file.", rich_help_panel="Where")] = None,
    json: Json = False,
) -> int:
    """Export and compile what a sweep needs, without running it. Exit 0: all there; 1: some failed; 2: usage.

    TensorRT-RTX engines are built for any GPU here: 'benchrun build --backend trt:rtx --target SM86 --seq 128,384'.
    """
    from benchrun.runner.cli.build_command import build as build_sweep

    return build_sweep(settings, target, preset, config, as_json=json)


@app.command(rich_help_panel=MACHINE)
def backends(
    json: Json = False,
    check: Annotated[
        bool, typer.Option("--check", help="Load each engine in a process of its own (60 s limit) and ask it.")
    ] = False,
) -> int:
    """Engines: installed? which version, devices and dtypes? if not, why not and how to install."""
    from benchrun.runner.cli.backends_command import list_backends

    return list_backends(as_json=json, check=check)


@app.command(rich_help_panel=MACHINE)
def models(json: Json = False) -> int:
    """Models that have a name, with their shapes."""
    from benchrun.runner.cli.runs_command import list_models

    return list_models(as_json=json)


@app.command(rich_help_panel=MACHINE)
def doctor(
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, rocm. (default: first GPU, else cpu)")] = None,
    json: Json = False,
) -> int:
    """What will make this machine noisy, and how to mend it. Changes nothing. Exit 1: something will."""
    from benchrun.runner.cli.doctor_command import examine

    return examine(device, as_json=json)


@app.command(rich_help_panel=MACHINE)
def ceilings(
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, rocm. (default: first GPU, else cpu)")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. (default: usable cores)")] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure even if nothing has changed.")] = False,
    db: Db = None,
    json: Json = False,
) -> int:
    """What this machine can do at most: matrix products, copies, launches. Takes seconds, once for an environment."""
    from benchrun.runner.cli.ceilings_command import show_ceilings

    return show_ceilings(device, threads, db, again=again, as_json=json)


env = typer.Typer(help="What a run records of its machine; 'env diff A B' compares two.", invoke_without_command=True)
app.add_typer(env, name="env", rich_help_panel=MACHINE)
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, rocm. (default: first GPU, else cpu)")]


@env.callback()
def env_here(context: typer.Context, device: Device = None, json: Json = False) -> None:
    """What a run started now would record of this machine; 'env diff A B' compares two."""
    if context.invoked_subcommand is None:
        from benchrun.runner.cli.env_command import show_environment

        show_environment(device, as_json=json)


@env.command("diff")
def env_diff(
    first: Annotated[str, typer.Argument(help="A run, or 'here'.", show_default=False)],
    second: Annotated[str, typer.Argument(help="A run, or 'here'.", show_default=False)],
    device: Device = None,
    db: Db = None,
    json: Json = False,
) -> int:
    """What differs between the environments of two runs. Exit 1: something does."""
    from benchrun.runner.cli.env_command import compare_environments

    return compare_environments(first, second, device, db, as_json=json)


@app.command(rich_help_panel=LOOK)
def runs(
    db: Db = None, json: Json = False, limit: Annotated[int, typer.Option(min=1, help="Latest runs to list.")] = 20
) -> int:
    """Runs in the database, latest first."""
    from benchrun.runner.cli.runs_command import list_runs

    return list_runs(db, as_json=json, limit=limit)


@app.command(rich_help_panel=LOOK)
def show(run: RunId, db: Db = None, json: Json = False) -> int:
    """One run: what it measured and where, as a table."""
    from benchrun.runner.cli.runs_command import show_run

    return show_run(run, db, as_json=json)


@app.command(rich_help_panel=EXCHANGE)
def export(
    runs: Annotated[list[str], typer.Argument(help="Runs: ids, or 'last'.", metavar="RUN…", show_default=False)],
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


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
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


@app.command("import", rich_help_panel=EXCHANGE)
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


@app.command(rich_help_panel=EXCHANGE)
def merge(
    others: Annotated[list[str], typer.Argument(help="Databases to read: files or URLs.", metavar="OTHER…")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    db: Db = None,
    json: Json = False,
) -> int:
    """Bring the runs and gates of other databases into this one; again adds nothing. Exit 1: something conflicts or is unreadable."""
    from benchrun.runner.cli.merge_command import merge

    return merge(others, db, dry_run=dry_run, as_json=json)


@app.command(rich_help_panel=LOOK)
def rm(run: RunId, db: Db = None, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> int:
    """Remove a run and all its samples."""
    from benchrun.runner.cli.runs_command import remove_run

    return remove_run(run, db, sure=yes)


published = typer.Typer(help="Figures that vendors published, with their conditions.", no_args_is_help=True)
app.add_typer(published, name="published", rich_help_panel=LOOK)


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


cache = typer.Typer(help="Exported graphs, compiled engines and the like, kept between runs.", no_args_is_help=True)
app.add_typer(cache, name="cache", rich_help_panel=MACHINE)


@cache.command("ls")
def cache_ls(json: Json = False) -> int:
    """List entries, latest used last."""
    from benchrun.runner.cli.cache_command import list_entries

    return list_entries(as_json=json)


@cache.command("rm")
def cache_rm(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys as 'benchrun cache ls' shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all entries.")] = False,
) -> int:
    """Remove entries; they are made again when needed."""
    from benchrun.runner.cli.cache_command import remove_entries

    return remove_entries(keys or [], everything=everything)


@cache.command("verify")
def cache_verify() -> int:
    """Compare every file with its checksum and discard damaged entries. Exit 1 if there were any."""
    from benchrun.runner.cli.cache_command import verify_entries

    return verify_entries()
