"""One accuracy point measured in this process, by the code that a worker runs."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchrun.backends.contract import WrongVariant
from benchrun.runner.accuracy.naming import AskedTask
from benchrun.runner.bench import Bench
from benchrun.runner.channel import Channel, Progress
from benchrun.runner.cli.accuracy_command import plan_accuracy
from benchrun.runner.messages import Assignment, Task
from benchrun.runner.workloads.accuracy import measure

# one thread: where others compute too, the threads of a team mostly wait for each other
QUICK = {"device": "cpu", "batch": 16, "iterations": 2, "warmup": 0, "max-time": 0.1, "repeats": 0, "threads": 1}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a worker would report, and why the point would be invalid."""

    found: Mapping[str, Any]
    invalid: str = ""

    def score(self, metric: str) -> float:
        return next(float(each["value"]) for each in self.found["scores"] if each["metric"] == metric)

    @property
    def facts(self) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = self.found["facts"]["accuracy"]
        return facts

    @property
    def predictions(self) -> dict[str, Any]:
        (attachment,) = self.found["attachments"]
        assert attachment["name"] == "predictions.json"
        return dict(json.loads(attachment["text"]))


def measure_point(asked: AskedTask, settings: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> Measured:
    """Measure the only point of these settings. The artefact cache is that of $BENCHRUN_CACHE."""
    plan = plan_accuracy(asked, {**QUICK, **settings}, own or {}, None, {})
    (planned,) = plan.points
    assignment = Assignment(
        planned.spec,
        planned.point.seq,
        (Task(planned.point, 0),),
        plan.request.protocol,
        settings=plan.request.settings,
    )
    channel = Channel(io.StringIO(), io.StringIO("\n" * 1000))
    found: dict[str, Any] = {}
    try:
        measure(Bench(assignment), planned.point, Progress(channel, 0, 0.0), found)
    except WrongVariant as error:
        return Measured(found, str(error))
    return Measured(found)


def copy_folder(source: Path, target: Path) -> Path:
    """The files of a checkpoint folder, linked where they are not meant to be changed."""
    target.mkdir()
    for each in source.iterdir():
        (target / each.name).symlink_to(each)
    return target
