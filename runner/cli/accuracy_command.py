"""`benchrun accuracy`: a task's score and the speed of the same session, judged against fp32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.backends.catalogue import find_source
from benchrun.runner.accuracy.naming import DEFAULTS, DIGITS, HEADS, AskedTask, check_setting
from benchrun.runner.errors import UsageError
from benchrun.runner.plan import Plan, make_plan
from benchrun.runner.presets import make_request, read_config

if TYPE_CHECKING:
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
    """The plan of a task. `own` are the workload's settings; `tokenizer` takes the place of every model's own.

    Raises UsageError or ModelError for what cannot be run.
    """
    ours = {"batch": BATCH, "seq": LENGTHS.get(asked.task, LENGTHS["squad"]), "timeout": TIMEOUT_S}
    lower = {name: value for name, value in defaults.items() if name not in ("db", "label", "head", "workload")}
    request = make_request(ours, lower, settings)
    if tokenizer is not None:
        folder = str(find_named(tokenizer))
        own = {**own, "tokenizers": {find_source(each).name: folder for each in request.models}}
    return make_plan(replace(request, heads=(HEADS[asked.task],), workloads=(asked.workload,), settings=own))


def workload_settings(options: AccuracyOptions) -> dict[str, Any]:
    """What the workers are told besides the workload: the file, and a reference that was given."""
    data = {} if options.data is None else {"data": str(options.data.expanduser().resolve())}
    return data | ({} if options.reference is None else {"reference": options.reference})


def all_pass(record: RunRecord, percent: float) -> bool:
    """Whether the score of every point reaches so much of its reference, in every launch; a random head never does."""
    from benchrun.runner.accuracy.gates import find_standing
    from benchrun.runner.workloads.accuracy import RANDOM_HEAD

    rows = [each.row for planned in record.points for each in record.by_point[planned.point.key] if each.row.scores]
    standings = [find_standing(row.scores) for row in rows]
    passed = [each is not None and each.passes(percent) for each in standings]
    return bool(rows) and all(passed) and not any(RANDOM_HEAD in row.flags for row in rows)


def find_named(tokenizer: Path) -> Path:
    """The folder that `--tokenizer` names. Raises UsageError where it has none."""
    from benchrun.backends.checkpoints import find_tokenizer

    folder = find_tokenizer([tokenizer.expanduser()])
    if folder is None:
        raise UsageError(f"--tokenizer {tokenizer}: no tokenizer.json or vocab.txt is there")
    return folder.resolve()


def _foreign_tokenizer(options: AccuracyOptions) -> str:
    """8 digits of a tokeniser that was named: with another one than the model's own it is another quantity."""
    from benchrun.backends.tokenisation import fingerprint

    return "" if options.tokenizer is None else fingerprint(find_named(options.tokenizer))[:DIGITS]
