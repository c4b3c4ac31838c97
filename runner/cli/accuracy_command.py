"""`benchrun accuracy`: a task's score and the speed of the same session, judged against fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.runner.accuracy.naming import DEFAULTS, DIGITS, HEADS, AskedTask, check_setting
from benchrun.runner.errors import UsageError
from benchrun.runner.plan import Plan, SweepRequest, make_plan
from benchrun.runner.presets import make_request, read_config

if TYPE_CHECKING:
    from benchrun.backends.catalogue import ModelSpec
    from benchrun.results.records import RunRecord

SCORED = ("squad", "retrieval")
# what a task is run with unless told otherwise: the shape of MLPerf's BERT, and texts as short as sentences are
LENGTHS = {"squad": 384, "retrieval": 128}
BATCH = 8
TIMEOUT_S = 7200.0  # all windows of a point, after its timing: 10,833 of them in SQuAD's dev set


@dataclass(frozen=True, slots=True)
class AccuracyOptions:
    """The command's own options; None where they were not given."""

    task: str = "squad"
    data: Path | None = None
    tokenizer: Path | None = None
    settings: Mapping[str, int | None] = field(default_factory=dict)  # as AskedTask names them
    reference: float | None = None
    gate: float | None = None
    config: Path | None = None
    label: str | None = None
    db: str | None = None
    dry_run: bool = False
    as_json: bool = False


def measure_accuracy(settings: Mapping[str, Any], options: AccuracyOptions) -> int:
    """Measure; returns the exit status: 0 fine, 1 a point failed or missed the gate that was asked for, 130 interrupted."""
    from benchrun.results import open_store
    from benchrun.runner.cli.accuracy_tables import open_accuracy_output
    from benchrun.runner.cli.sweep_command import start_run, text_of
    from benchrun.runner.estimate import estimate_seconds

    check_options(options)
    asked = ask(options)
    config = read_config(options.config, Path.cwd())
    plan = plan_accuracy(asked, settings, workload_settings(options), options.tokenizer, config.defaults)
    output = open_accuracy_output(options.as_json, options.gate)
    if options.dry_run:
        output.dry_run(plan, estimate_seconds(plan, None))
        return 0
    db = options.db or text_of(config.defaults.get("db"))
    label = options.label or text_of(config.defaults.get("label")) or ""
    with open_store(db) as store:
        run_id, status = start_run(plan, store, label, output)
        if status or options.gate is None:
            return status
        return 0 if all_pass(store.run(run_id), options.gate) else 1


def check_options(options: AccuracyOptions) -> None:
    """Raises UsageError for values that are out of range."""
    if options.task not in SCORED:
        raise UsageError(f"unknown task {options.task!r}: choose from {', '.join(SCORED)}")
    if options.gate is not None and not 0 < options.gate <= 100:
        raise UsageError(
            f"--gate {options.gate:g} is no percentage of the fp32 score: give 99, 99.9 or another above 0"
        )
    if options.reference is not None and not 0 < options.reference <= 100:
        raise UsageError(f"--reference {options.reference:g} is no score: it is in percent, such as 90.874")


def ask(options: AccuracyOptions) -> AskedTask:
    """The task on its data, which is read and checked here, before anything is stored. Raises UsageError."""
    from benchrun.runner.accuracy.retrieval import read_retrieval
    from benchrun.runner.accuracy.squad_data import read_squad

    given = {name: check_setting(name, value) for name, value in options.settings.items() if value is not None}
    if options.task == "retrieval":
        if own := [name for name, value in given.items() if value != DEFAULTS[name]]:
            raise UsageError(f"--task retrieval has no windows, so it takes no setting {own[0]!r}")
        digest = read_retrieval(options.data).digest
        return AskedTask("retrieval", digest[:DIGITS], {}, _foreign_tokenizer(options))
    if options.data is None:
        raise UsageError("--task squad needs its data: --data dev-v1.1.json, or a file of your own in that form")
    digest = read_squad(options.data).digest
    return AskedTask("squad", digest[:DIGITS], given, _foreign_tokenizer(options))


def plan_accuracy(
    asked: AskedTask,
    settings: Mapping[str, Any],
    own: Mapping[str, Any],
    tokenizer: Path | None,
    defaults: Mapping[str, Any],
) -> Plan:
    """The plan of a task. `own` are the workload's settings but for the tokenisers, which are found here.

    Raises UsageError or ModelError for what cannot be run.
    """
    ours = {"batch": BATCH, "seq": LENGTHS.get(asked.task, LENGTHS["squad"]), "timeout": TIMEOUT_S}
    lower = {name: value for name, value in defaults.items() if name not in ("db", "label", "head", "workload")}
    request = make_request(ours, lower, settings)
    plan = make_plan(replace(request, heads=(HEADS[asked.task],), workloads=(asked.workload,), settings=own))
    specs = [each.spec for each in plan.points]
    tokenizers = find_tokenizers(plan.request, specs, tokenizer)
    for seq in plan.request.seqs:
        check_length(asked, seq, tokenizers, specs)
    known = {**plan.request.settings, "tokenizers": {name: str(folder) for name, folder in tokenizers.items()}}
    return replace(plan, request=replace(plan.request, settings=known))


def workload_settings(options: AccuracyOptions) -> dict[str, Any]:
    """What the workers are told besides the workload: the file, and a reference that was given."""
    data = {} if options.data is None else {"data": str(options.data.expanduser().resolve())}
    return data | ({} if options.reference is None else {"reference": options.reference})


def find_tokenizers(request: SweepRequest, specs: Sequence[ModelSpec], given: Path | None) -> dict[str, Path]:
    """The folder of each model's tokeniser: the one given, else beside its config, else beside its weights. Raises ModelError."""
    from benchrun.backends.catalogue import ModelError, find_source
    from benchrun.backends.tokenisation import find_tokenizer

    folders = {
        find_source(model).name: Path(model).expanduser()
        for model in request.models
        if Path(model).expanduser().exists()
    }
    found: dict[str, Path] = {}
    for spec in specs:
        places = (
            [folders[spec.name]] if spec.name in folders else []
        )  # a built-in name is no folder, and has none beside it
        places += [Path(spec.weights_path)] if spec.weights_path else []
        if given is not None:
            places = [given.expanduser()]
        folder = find_tokenizer(places)
        if folder is None:
            where = f"--tokenizer {given}" if given is not None else spec.name
            raise ModelError(
                f"{where} has no tokenizer: copy tokenizer.json or vocab.txt of the checkpoint into its folder, or name a folder that has "
                "them with --tokenizer"
            )
        found[spec.name] = folder.resolve()
    return found


def check_length(asked: AskedTask, seq: int, tokenizers: Mapping[str, Path], specs: Sequence[ModelSpec]) -> None:
    """Raises UsageError or ModelError where a tokeniser does not fit its model or a length leaves no room."""
    from benchrun.runner.accuracy.opening import open_tokenizer
    from benchrun.runner.accuracy.windows import check_room

    for spec in {each.name: each for each in specs}.values():
        tokenizer = open_tokenizer({"tokenizers": {spec.name: str(tokenizers[spec.name])}}, spec)
        pair = asked.task != "retrieval"
        special = tokenizer.frame(pair=pair).size
        if pair:
            check_room(asked.rules(seq), special)
        elif seq <= special:
            raise UsageError(f"--seq {seq} leaves no room for a text beside {special} special tokens")


def all_pass(record: RunRecord, percent: float) -> bool:
    """Whether the score of every point reaches so much of its reference, in every launch; a random head never does."""
    from benchrun.runner.accuracy.gates import find_standing
    from benchrun.runner.workloads.accuracy import RANDOM_HEAD

    rows = [each.row for planned in record.points for each in record.by_point[planned.point.key] if each.row.scores]
    standings = [find_standing(row.scores) for row in rows]
    passed = [each is not None and each.passes(percent) for each in standings]
    return bool(rows) and all(passed) and not any(RANDOM_HEAD in row.flags for row in rows)


def _foreign_tokenizer(options: AccuracyOptions) -> str:
    """8 digits of a tokeniser that was named: with another one than the model's own it is another quantity."""
    from benchrun.backends.tokenisation import find_tokenizer, fingerprint

    if options.tokenizer is None:
        return ""
    folder = find_tokenizer([options.tokenizer.expanduser()])
    if folder is None:
        raise UsageError(f"--tokenizer {options.tokenizer}: no tokenizer.json or vocab.txt is there")
    return fingerprint(folder)[:DIGITS]
