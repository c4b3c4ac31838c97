"""Commands that measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from benchrun.runner.cli.panels.options import EXAMPLES, Db, Json
from benchrun.runner.cli.sweep_options import with_sweep_options

panel = typer.Typer()


@panel.command("run", epilog=EXAMPLES)
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
        str | None,
        typer.Option(
            "--workload", help="padded: full lengths; lengths:lognormal:177:32-384: real ones.", rich_help_panel="What"
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option("--layout", help="Of real lengths: padded,bucketed,packed.", rich_help_panel="What"),
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
    energy: Annotated[
        bool | None,
        typer.Option(
            "--energy/--no-energy",
            help="Joules a sequence: a GPU's throughput window is then 2 s, not 0.5. (default: on)",
            rich_help_panel="How",
        ),
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
        str | None,
        typer.Option(help="Measure what this run still lacks: an id, 'last', or 'last~1'.", rich_help_panel="Where"),
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
        "dtype": dtype, "device": device, "workload": workload, "layout": layout, "opt": opt or None, "iterations": iterations,
        "warmup": warmup, "max-time": max_time, "timeout": timeout, "launches": launches, "threads": threads, "transfers": transfers,
        "try-all": try_all, "repeats": repeats, "energy": energy, "engine-per-point": engine_per_point,
    }  # fmt: skip
    return sweep(settings, SweepOptions(preset, config, label, resume, db, dry_run, json))


@panel.command()
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


Tokenizer = Annotated[
    Path | None,
    typer.Option(
        help="Folder with a tokenizer. (default: the model's, else the weights' folder)", rich_help_panel="What"
    ),
]


@panel.command()
@with_sweep_options(run_sweep, without=("head", "workload", "layout", "timeout"))
def accuracy(
    settings: dict[str, Any],
    task: Annotated[str, typer.Option(help="squad or retrieval.", rich_help_panel="Task")] = "squad",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Questions as JSON. (squad: SQuAD v1.1; retrieval: own data by default)", rich_help_panel="Task"
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    gate: Annotated[
        float | None, typer.Option(help="Exit 1 below so many percent of fp32: 99, 99.9.", rich_help_panel="Task")
    ] = None,
    reference: Annotated[
        float | None,
        typer.Option(help="Score that counts as 100 %. (default: PyTorch in fp32)", rich_help_panel="Task"),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Tokens from window to window. (default: 128)", rich_help_panel="Task")
    ] = None,
    max_question: Annotated[
        int | None, typer.Option(help="Tokens a question is cut to. (default: 64)", rich_help_panel="Task")
    ] = None,
    max_answer: Annotated[
        int | None, typer.Option(help="Tokens of the longest answer. (default: 30)", rich_help_panel="Task")
    ] = None,
    first: Annotated[
        int | None, typer.Option(help="Only so many of the first questions.", rich_help_panel="Task")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds for a point, scoring included. (default: 7200)", rich_help_panel="How"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file.", rich_help_panel="Where")] = None,
    label: Annotated[str | None, typer.Option(help="A name for the run.", rich_help_panel="Where")] = None,
    db: Db = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with an estimate and stop.", rich_help_panel="Where")
    ] = False,
    json: Json = False,
) -> int:
    """A task's score beside the speed of the same engine, judged against fp32. Exit 0: fine; 1: failed or below --gate; 2: usage.

    Batch 8 and 384 tokens (retrieval: 128) unless told otherwise. 'benchrun accuracy --task retrieval' needs no download of data.
    """
    from benchrun.runner.cli.accuracy_command import AccuracyOptions, measure_accuracy

    own = {"stride": stride, "question": max_question, "answer": max_answer, "first": first}
    return measure_accuracy(
        settings | {"timeout": timeout},
        AccuracyOptions(task, data, tokenizer, own, reference, gate, config, label, db, dry_run, json),
    )


@panel.command()
@with_sweep_options(
    run_sweep,
    without=(
        "head",
        "workload",
        "layout",
        "batch",
        "iterations",
        "warmup",
        "max_time",
        "transfers",
        "try_all",
        "engine_per_point",
    ),
)
def answer(
    settings: dict[str, Any],
    passage: Annotated[str, typer.Option("--passage", "-p", help="Text that holds the answer.", show_default=False)],
    question: Annotated[str, typer.Option("--question", "-q", help="What is asked.", show_default=False)],
    tokenizer: Tokenizer = None,
    max_answer: Annotated[
        int | None, typer.Option(help="Tokens of the longest answer. (default: 30)", rich_help_panel="Task")
    ] = None,
    json: Json = False,
) -> int:
    """Ask a model one question about one passage; stores nothing. Exit 0: an answer; 1: none; 2: usage, or the engine failed."""
    from benchrun.runner.cli.answer_command import AnswerOptions, answer_question

    return answer_question(settings, AnswerOptions(passage, question, tokenizer, max_answer, json))


@panel.command()
@with_sweep_options(
    run_sweep,
    without=("workload", "batch", "iterations", "warmup", "max_time", "transfers"),
)
def loadgen(
    settings: dict[str, Any],
    scenario: Annotated[
        str | None,
        typer.Option(help="single-stream, multi-stream, server or offline.", rich_help_panel="Scenario"),
    ] = None,
    target_qps: Annotated[
        str | None,
        typer.Option(
            "--target-qps",
            help="Queries a second; auto: the most within the limit. (default: auto)",
            rich_help_panel="Scenario",
        ),
    ] = None,
    latency_limit: Annotated[
        float | None, typer.Option(help="ms that p99 may take in server. (default: 130)", rich_help_panel="Scenario")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="performance, or accuracy: every sample once.", rich_help_panel="Scenario")
    ] = None,
    samples_per_query: Annotated[
        int | None, typer.Option(help="Of multi-stream. (default: 8)", rich_help_panel="Scenario")
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="Mix: uniform:32-384, lognormal:177:32-384, text:FILE, squad:FILE.", rich_help_panel="Scenario"
        ),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Of real lengths: padded,bucketed,packed.", rich_help_panel="Scenario")
    ] = None,
    max_batch: Annotated[
        str | None, typer.Option(help="Samples a call: server, offline. (default: 32)", rich_help_panel="Scenario")
    ] = None,
    max_wait: Annotated[
        float | None,
        typer.Option(help="ms that a batch is held back for more. (default: 1)", rich_help_panel="Scenario"),
    ] = None,
    min_duration: Annotated[
        float | None, typer.Option(help="Seconds at least. (default: 10)", rich_help_panel="How long")
    ] = None,
    min_queries: Annotated[
        int | None,
        typer.Option(help="Queries at least; offline: samples. (default: docs/loadgen.md)", rich_help_panel="How long"),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Samples in the library. (default: 1024)", rich_help_panel="How long")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A second, few queries: for CI.", rich_help_panel="How long")
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Named settings: mlperf-bert-offline, mlperf-bert-server, mlperf-bert-singlestream, or one of your own.",
            rich_help_panel="Where",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file.", rich_help_panel="Where")] = None,
    label: Annotated[str | None, typer.Option(help="A name for the run.", rich_help_panel="Where")] = None,
    resume: Annotated[
        str | None,
        typer.Option(help="Measure what this run still lacks: an id, 'last', or 'last~1'.", rich_help_panel="Where"),
    ] = None,
    db: Db = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with an estimate and stop.", rich_help_panel="Where")
    ] = False,
    json: Json = False,
) -> int:
    """MLPerf's scenarios, asked by LoadGen. Exit 0: all VALID; 1: one INVALID or failed; 2: usage, or a demand that nothing can meet."""
    from benchrun.runner.cli.loadgen_command import LoadgenOptions, measure_loadgen

    own = {
        "scenario": scenario, "target-qps": target_qps, "latency-limit": latency_limit, "mode": mode, "lengths": lengths, "layout": layout,
        "samples-per-query": samples_per_query, "max-batch": max_batch, "max-wait": max_wait, "min-duration": min_duration,
        "min-queries": min_queries, "samples": samples, "quick": quick or None,
    }  # fmt: skip
    return measure_loadgen(settings, own, LoadgenOptions(preset, config, label, resume, db, dry_run, json))


@panel.command()
@with_sweep_options(
    run_sweep,
    without=("head", "batch", "dtype", "workload", "layout", "iterations", "transfers", "engine_per_point"),
)
def train(
    settings: dict[str, Any],
    head: Annotated[
        str | None, typer.Option(help="qa or classification. (default: qa)", rich_help_panel="What")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Sequences a forward pass: 8,16,32.", rich_help_panel="What")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="fp32, tf32, bf16, fp16-amp. (default: bf16; on a CPU fp32)", rich_help_panel="What"),
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw, lamb. (default: adamw)", rich_help_panel="Step")] = None,
    accumulate: Annotated[
        str | None, typer.Option(help="Batches whose gradients a step adds up: 1,2,4.", rich_help_panel="Step")
    ] = None,
    clip: Annotated[
        float | None, typer.Option(help="Largest gradient norm. (default: no clipping)", rich_help_panel="Step")
    ] = None,
    dropout: Annotated[
        str | None, typer.Option(help="on: as the model's configuration has it; off.", rich_help_panel="Step")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Timed steps a point. (default: 200)", rich_help_panel="How")
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(help="Measure a point again if throttled, shared or noisy. (default: 2)", rich_help_panel="How"),
    ] = None,
    launches: Annotated[
        int | None, typer.Option(help="Repeat the sweep in fresh processes. (default: 1)", rich_help_panel="How")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Named settings: deeplearningexamples-train, or your own from the TOML file.", rich_help_panel="Where"
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file.", rich_help_panel="Where")] = None,
    label: Annotated[str | None, typer.Option(help="A name for the run.", rich_help_panel="Where")] = None,
    db: Db = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with an estimate and stop.", rich_help_panel="Where")
    ] = False,
    json: Json = False,
) -> int:
    """Training steps: forward, backward and update timed as one call, with proof that they train. Exit status as of run.

    Weights are fp32; bf16 and fp16-amp run the passes under autocast, fp16-amp with a scaled loss. More in docs/training.md.
    """
    from benchrun.runner.cli.sweep_command import SweepOptions
    from benchrun.runner.cli.train_command import train as measure_training

    own = {"optimizer": optimizer, "accumulate": accumulate, "clip": clip, "dropout": dropout, "steps": steps}
    return measure_training(
        {**settings, "head": head, "batch": batch, "dtype": dtype, "repeats": repeats, "launches": launches},
        own,
        SweepOptions(preset, config, label, None, db, dry_run, json),
    )
