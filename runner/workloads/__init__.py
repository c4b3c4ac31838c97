"""What is run at a point besides the engine: fixed batches, real lengths, LoadGen's scenarios, accuracy tasks, training steps.

A workload is written as one string, which is part of the point: `padded`, `lengths:uniform:32-384:packed`, `loadgen:server:…`. The word
before the first colon is its kind. Each kind has a module here with

    canonical(text) -> str                        the one spelling of a workload of this kind; raises UsageError
    measure(bench, point, progress, found) -> None     measures one point inside a worker, filling `found`
                                                       (fields of `runner.sweep.make_row`), and ends with `progress.done(found)`

and, where the percentiles are another tool's, their definition as `PERCENTILES`. A kind may have besides

    with_layout(text, layout) -> str              the workload in a layout of `--layout`; raises UsageError
    settings(text) -> Mapping                     what the request's settings must know of it, e.g. where its files lie
    check_point(workload, spec, head, seq, settings) -> None      raises UsageError or ModelError where no engine could measure it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.backends.catalogue import ModelSpec
    from benchrun.backends.contract import Point
    from benchrun.runner.bench import Bench
    from benchrun.runner.channel import Progress

    Measure = Callable[[Bench, Point, Progress, dict[str, Any]], None]

KINDS = ("padded", "lengths", "accuracy", "loadgen", "train")


def canonical(workload: str) -> str:
    """The one spelling of a workload. Raises UsageError for one that is none."""
    return str(_module(workload).canonical(workload))


def with_layout(workload: str, layout: str) -> str:
    """The workload with its sequences in that layout. Raises UsageError where there is nothing to lay out."""
    change = getattr(_module(workload), "with_layout", None)
    if change is None:
        raise UsageError(
            f"--layout is for sequences of different lengths, and {workload} has none: use --workload lengths:…"
        )
    return str(change(workload, layout))


def workload_settings(workload: str) -> Mapping[str, Any]:
    """What a request's settings must know of a workload, as the command line spells it."""
    found: Mapping[str, Any] = getattr(_module(workload), "settings", lambda _: {})(workload)
    return found


def check_point(workload: str, spec: ModelSpec, head: str, seq: int, settings: Mapping[str, Any]) -> None:
    """Raises UsageError or ModelError where no engine could measure a workload with this model, head and length."""
    check = getattr(_module(workload), "check_point", None)
    if check is not None:
        check(workload, spec, head, seq, settings)


def find_measure(workload: str) -> Measure:
    """What measures a point of this workload in a worker process."""
    measure: Measure = _module(workload).measure
    return measure


def percentiles(workload: str) -> str:
    """The definition of percentiles in measurements of this workload, part of their protocol."""
    return str(getattr(_module(workload), "PERCENTILES", "linear"))


def trains(workload: str) -> bool:
    """Whether a workload makes training steps, which engines offer in dtypes of their own."""
    return workload.partition(":")[0] == "train"


def _module(workload: str) -> Any:
    kind = workload.partition(":")[0]
    if kind not in KINDS:
        raise UsageError(f"unknown workload {workload!r}: choose from {', '.join(KINDS)}")
    return import_module(f"benchrun.runner.workloads.{kind}")
