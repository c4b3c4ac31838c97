"""What is run at a point besides the engine: fixed batches, real lengths, LoadGen's scenarios, accuracy tasks, training steps.

A workload is written as one string, which is part of the point: `padded`, `lengths:uniform:32-384:packed`, `loadgen:server:…`. The word
before the first colon is its kind. Each kind has a module here with

    canonical(text) -> str                        the one spelling of a workload of this kind; raises UsageError
    measure(bench, point, progress, found) -> None     measures one point inside a worker, filling `found`
                                                       (fields of `runner.sweep.make_row`), and ends with `progress.done(found)`
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.backends.contract import Point
    from benchrun.runner.bench import Bench
    from benchrun.runner.worker import Progress

    Measure = Callable[[Bench, Point, Progress, dict[str, Any]], None]

KINDS = ("padded", "accuracy")


def canonical(workload: str) -> str:
    """The one spelling of a workload. Raises UsageError for one that is none."""
    return str(_module(workload).canonical(workload))


def find_measure(workload: str) -> Measure:
    """What measures a point of this workload in a worker process."""
    measure: Measure = _module(workload).measure
    return measure


def _module(workload: str) -> Any:
    kind = workload.partition(":")[0]
    if kind not in KINDS:
        raise UsageError(f"unknown workload {workload!r}: choose from {', '.join(KINDS)}")
    return import_module(f"benchrun.runner.workloads.{kind}")
