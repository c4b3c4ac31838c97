"""Accuracy tasks: real questions through the same session that is timed, so that the score stands beside the speed of one artefact.

See runner/accuracy/naming.py for how these workloads are written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benchrun.backends.contract import Unsupported
from benchrun.runner.accuracy.naming import HEADS, AskedTask, parse_workload
from benchrun.runner.accuracy.rows import make_set, split_rows
from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.backends.catalogue import ModelSpec
    from benchrun.backends.contract import FloatArray, Inputs, Point, Session
    from benchrun.runner.accuracy.tasks import Result, Task
    from benchrun.runner.bench import Bench
    from benchrun.runner.channel import Progress

RANDOM_HEAD = "random_head"
BELOW = "accuracy_below_99"


def canonical(text: str) -> str:
    """The one spelling of an accuracy workload."""
    return parse_workload(text).workload


def check_point(workload: str, spec: ModelSpec, head: str, seq: int, asked: Mapping[str, Any]) -> None:
    """Raises UsageError where the task needs another head, data that was not given or more room, ModelError where it has no tokeniser."""
    from benchrun.runner.accuracy.opening import check_room, open_tokenizer

    task = parse_workload(workload)
    if head != HEADS[task.task]:
        raise UsageError(f"{workload} needs head {HEADS[task.task]}, not {head}")
    wanted = {"squad": "data", "answer": "passage"}.get(task.task)
    if wanted is not None and wanted not in asked:
        command = "answer" if task.task == "answer" else f"accuracy --task {task.task} --data FILE"
        raise UsageError(f"{workload} does not say where its text is: use 'benchrun {command}'")
    check_room(task, open_tokenizer(task, spec), seq)


def measure(bench: Bench, point: Point, progress: Progress, found: dict[str, Any]) -> None:
    """Latency and throughput of calls with real windows, then the score of all of them by the same session."""
    from benchrun.runner.accuracy.opening import open_task, open_tokenizer
    from benchrun.runner.protocol import INPUT_SETS
    from benchrun.runner.workloads.timed import Trial, measure_trial

    asked = parse_workload(point.workload)
    settings = bench.assignment.settings
    try:
        tokenizer = open_tokenizer(asked, bench.model.spec)
        task = open_task(asked, settings, tokenizer, point.seq)
    except UsageError as error:  # in a worker it is the point that cannot be done
        raise Unsupported(str(error)) from error
    shape = bench.model.spec.shape
    kept = [rows for _, rows in zip(range(INPUT_SETS), split_rows(task.rows, point.batch), strict=False)]
    inputs = [make_set(rows, point.batch, point.seq, shape, index) for index, rows in enumerate(kept)]
    real = sum(sum(each.lengths) for each in inputs) / (len(inputs) * point.batch * point.seq)
    found["padding_fraction"] = 1.0 - real
    reference = Yardstick({}, "none: nothing to score")
    if asked.task != "answer":
        reference = find_yardstick(bench, point, task, tokenizer.fingerprint)
    facts = {"tokenizer": tokenizer.fingerprint, "reference": reference.source, **task.facts}
    trial = Trial(
        inputs=inputs,
        prepare=lambda build: bench.backend.prepare(bench.model, point, build),
        verify=make_verify(bench, point, inputs[0]),
        facts={"accuracy": facts},
        after=lambda session: score(
            bench, point, progress, found, Scoring(asked, task, reference, session, real, facts)
        ),
    )
    measure_trial(bench, point, progress, found, trial)


@dataclass(frozen=True, slots=True)
class Yardstick:
    """The reference score of each metric, and where it comes from."""

    metrics: Mapping[str, float]
    source: str


@dataclass(frozen=True, slots=True)
class Scoring:
    """What the pass over all rows needs; what is learnt goes to `facts`. `real`: the share of what was timed that is not padding."""

    asked: AskedTask
    task: Task
    reference: Yardstick
    session: Session
    real: float
    facts: dict[str, Any]


def find_yardstick(bench: Bench, point: Point, task: Task, tokenizer: str) -> Yardstick:
    """The score that `--reference` gave for the decisive metric, else that of PyTorch in fp32."""
    from benchrun.runner.accuracy.gates import DECISIVE
    from benchrun.runner.accuracy.reference import reference_result, torch_version

    asked = parse_workload(point.workload)
    given = bench.assignment.settings.get("reference")
    if given is not None:
        return Yardstick({DECISIVE[asked.task]: float(given)}, "given by --reference")
    data = {"workload": replace(asked, tokenizer="").workload}
    result, cached = reference_result(bench, point, task, tokenizer, data)
    return Yardstick(result.metrics, f"PyTorch {torch_version()} in fp32, {'cached' if cached else 'computed'}")


def score(bench: Bench, point: Point, progress: Progress, found: dict[str, Any], scoring: Scoring) -> None:
    """Run all rows through the session and add scores, predictions, flags and the effective rate to `found`."""
    from benchrun.results.rows import Score
    from benchrun.runner.accuracy.gates import PERCENTS, find_standing
    from benchrun.runner.accuracy.tasks import run_task

    calls = 0

    def call(inputs: Inputs) -> Mapping[str, FloatArray]:
        nonlocal calls
        calls += 1
        began = time.perf_counter_ns()
        outputs = run_once(scoring.session, inputs)
        progress.tick(calls, time.perf_counter_ns() - began)
        return outputs

    started = time.perf_counter()
    result = run_task(scoring.task, point.batch, point.seq, bench.model.spec.shape, call)
    scoring.facts["score_s"] = round(time.perf_counter() - started, 3)
    found["tokens_s"] = found["throughput_seq_s"] * point.seq * scoring.real  # padding is no work done
    scores = [
        Score(scoring.asked.task, metric, value, result.n, scoring.reference.metrics.get(metric))
        for metric, value in result.metrics.items()
    ]
    found["scores"] = [
        {"task": each.task, "metric": each.metric, "value": each.value, "n": each.n, "reference": each.reference}
        for each in scores
    ]
    found["attachments"] = [attachment(result)]
    if has_random_head(bench):
        found["flags"] += [RANDOM_HEAD]
    if (standing := find_standing(scores)) is not None:
        scoring.facts["of_reference_percent"] = standing.percent
        scoring.facts.update({f"passes_{percent:g}": standing.passes(percent) for percent in PERCENTS})
        if not standing.passes(PERCENTS[0]):
            found["flags"] += [BELOW]


def run_once(session: Session, inputs: Inputs) -> Mapping[str, FloatArray]:
    """One call into poisoned buffers, so that what is not written cannot pass for an answer."""
    session.bind(inputs)
    session.poison()
    session.enqueue()
    session.synchronize()
    return session.outputs()


def attachment(result: Result) -> dict[str, str]:
    """The predictions as a text file; for squad in the form that the official evaluation reads."""
    return {
        "name": "predictions.json",
        "text": json.dumps(result.predictions, ensure_ascii=False, indent=1, allow_nan=False),
    }


def has_random_head(bench: Bench) -> bool:
    """Whether the head, or all of the model, has random weights: then a score says nothing."""
    spec = bench.model.spec
    return spec.weights_path is None or bool(bench.model.facts.get("random_tensors"))


def make_verify(bench: Bench, point: Point, inputs: Inputs) -> Any:
    """The parity check on the first windows, padding left out."""
    from benchrun.runner.bench import VERIFIED_TOKENS, first_rows, verify

    probe = first_rows(inputs, VERIFIED_TOKENS)
    exact, rounded = bench.answers.expected(probe, point.dtype)
    return lambda session: verify(session, point, exact, rounded, len(probe.lengths), inputs.lengths)
