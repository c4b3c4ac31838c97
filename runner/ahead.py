"""Building ahead of time: a worker process that fills the artefact cache for the points of a sweep and runs none of them.

Started by `runner.cli.build_command` as `python -m benchrun.runner.ahead FD TARGET ORDINALS`. The assignment names all points of
the worker, since an engine may be built for their whole range of shapes; ORDINALS, with commas, are those to build.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from benchrun.backends.contract import BackendError
from benchrun.backends.registry import load_backend
from benchrun.runner.bench import WorkerBuild
from benchrun.runner.channel import Channel
from benchrun.runner.messages import decode_assignment
from benchrun.runner.worker import classify, one_line

if TYPE_CHECKING:
    from benchrun.runner.messages import Assignment


def build_points(assignment: Assignment, target: str, ordinals: set[int], channel: Channel) -> None:
    """Build the named tasks one after the other and report each; return early after an error that was not foreseen."""
    from benchrun.backends.cache import default_cache
    from benchrun.backends.models import load_model

    points = assignment.sweep or tuple(task.point for task in assignment.tasks)
    backend = load_backend(points[0].backend)()
    cache, model = default_cache(), None
    for task in assignment.tasks:
        if task.ordinal not in ordinals:
            continue
        channel.ask("started", ordinal=task.ordinal)
        found: dict[str, Any] = {}
        try:
            model = model or load_model(assignment.spec, assignment.max_seq)
            channel.ask("progress", ordinal=task.ordinal, phase="build", n=0, last_ns=0)
            build = WorkerBuild(cache, points, assignment.settings)
            started = time.perf_counter()
            backend.build_ahead(model, (task.point,), target, build)
            found["seconds"] = time.perf_counter() - started
            found |= {f"{phase}_s": seconds for phase, seconds in build.seconds.items()}
            found |= {"artefact_bytes": build.artefact_bytes, "cache_hit": build.cache_hit}
            channel.ask("built", ordinal=task.ordinal, **found)
        except Exception as error:  # an engine may raise anything: that is a result
            status, text = classify(error, "build"), one_line(error)
            channel.ask("failed", ordinal=task.ordinal, status=status, error=text, trace=traceback.format_exc())
            if not isinstance(error, BackendError):
                return


def main() -> None:
    """Read the assignment, build, report."""
    events = os.fdopen(int(sys.argv[1]), "w")
    os.dup2(2, 1)  # what engines print belongs into the log, not on a command's standard output
    channel = Channel(events, sys.stdin)
    assignment = decode_assignment(sys.stdin.readline())
    build_points(assignment, sys.argv[2], {int(each) for each in sys.argv[3].split(",")}, channel)
    channel.send("done")


if __name__ == "__main__":
    main()
