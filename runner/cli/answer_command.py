"""`benchrun answer`: one passage, one question, an engine's answer and how long it took. Nothing is stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchrun.results.document import VERSION
from benchrun.runner.accuracy.naming import AskedTask, check_setting
from benchrun.runner.errors import UsageError

ITERATIONS, MAX_TIME_S = 20, 2.0  # a glance at the latency, not a measurement to keep


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """The command's own options."""

    passage: str
    question: str
    tokenizer: Path | None = None
    max_answer: int | None = None
    as_json: bool = False


def answer_question(settings: Mapping[str, Any], options: AnswerOptions) -> int:
    """Ask; returns the exit status: 0 an answer, 1 none. An engine that fails is a UsageError."""
    found = ask_worker(settings, options)
    said = json.loads(found["attachments"][0]["text"])["answer"]
    calls = sorted(found["host_ns"])
    document: dict[str, Any] = {
        "schema": VERSION,
        "answer": {
            **said,
            "engine": found["engine"],
            "dtype": found["dtype"],
            "seq": found["seq"],
            "windows": found["facts"]["accuracy"]["windows"],
            "p50_ms": calls[len(calls) // 2] / 1e6,
            "n": len(calls),
            "random_head": "random_head" in found["flags"],
        },
    }
    if options.as_json:
        json.dump(document, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
        sys.stdout.write("\n")
    else:
        for line in describe(document["answer"]):
            sys.stdout.write(line + "\n")
    if "random_head" in found["flags"]:
        print("benchrun: the model's question answering head is random: the answer means nothing", file=sys.stderr)
    return 0 if said["text"] else 1


def describe(answer: Mapping[str, Any]) -> list[str]:
    """The answer in a few lines."""
    text = answer["text"] or "(none: no part of the passage qualifies)"
    lines = [f"answer       {text}"]
    if answer["score"] is not None:
        lines.append(f"score        {answer['score']:.3f}, probability {answer['probability']:.3f}")
    windows = f"{answer['windows']} window{'s' if answer['windows'] > 1 else ''}"
    lines.append(
        f"latency      {answer['p50_ms']:.3f} ms a window (p50 of {answer['n']}), {windows} of {answer['seq']} tokens, "
        f"{answer['engine']} {answer['dtype']}"
    )
    return lines


def ask_worker(settings: Mapping[str, Any], options: AnswerOptions) -> dict[str, Any]:
    """What a worker process found at the one point. Raises UsageError where there is more than one, or the engine failed."""
    from benchrun.runner.cli.accuracy_command import plan_accuracy
    from benchrun.runner.launcher import WorkerProcess, WorkerTimeout
    from benchrun.runner.messages import Assignment, Task
    from benchrun.runner.sweep import died

    for name, text in (("passage", options.passage), ("question", options.question)):
        if not text.strip():
            raise UsageError(f"--{name} is empty: give some text")
    own = {} if options.max_answer is None else {"answer": check_setting("answer", options.max_answer)}
    asked = AskedTask("answer", settings=own)
    quick = {"batch": 1, "iterations": ITERATIONS, "max-time": MAX_TIME_S, "warmup": 3, "repeats": 0}
    words = {"passage": options.passage, "question": options.question}
    plan = plan_accuracy(asked, {**settings, **quick}, words, options.tokenizer, {})
    if len(plan.points) != 1:
        raise UsageError(
            f"one question goes to one engine, and these are {len(plan.points)}: name one --backend and one --dtype"
        )
    planned = plan.points[0]
    if planned.refusal:
        raise UsageError(planned.refusal)
    point = planned.point
    assignment = Assignment(
        planned.spec, point.seq, (Task(point, 0),), plan.request.protocol, settings=plan.request.settings
    )
    with WorkerProcess(assignment, plan.request.threads or 1) as worker:
        try:
            for event in worker.events(plan.request.timeout_s):
                if event["event"] == "measured":
                    return {**event["found"], "engine": point.engine, "dtype": point.dtype, "seq": point.seq}
                if event["event"] == "failed":
                    raise UsageError(f"{point.engine} {point.dtype}: {event['error']}")
                worker.answer()
        except WorkerTimeout:
            raise UsageError(f"{point.engine} took longer than --timeout {plan.request.timeout_s:g} s") from None
        raise UsageError(f"{point.engine}: {died(worker.wait())['error']}")
