"""The worker: a fresh process that measures the points of one assignment and reports each as it happens.

Started by `runner.launcher` as `python -m benchrun.runner.worker FD`: the assignment comes as the first line of
standard input, events go to the file descriptor FD. After each event that the parent has work with, the worker waits
for a line on standard input, so that the parent's work (a database row, a progress line) never runs beside a timed
call.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import traceback
from typing import Any

from benchrun.backends.contract import BackendError, BuildFailed, OutOfMemory, Unsupported, WrongVariant
from benchrun.runner import memory
from benchrun.runner.bench import Bench
from benchrun.runner.channel import Channel, Progress
from benchrun.runner.messages import Assignment, clean_line, decode_assignment
from benchrun.runner.workloads import find_measure

# how C++ libraries say it, PyTorch's CPU allocator and ONNX Runtime among them
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "failed to allocate")
LONGEST_MESSAGE = 500  # characters
PARENT_DIED = 1  # prctl's PR_SET_PDEATHSIG


class Worker:
    """Measures the tasks of one assignment, one after the other."""

    def __init__(self, assignment: Assignment, channel: Channel) -> None:
        self._bench = Bench(assignment)
        self._channel = channel

    def run(self) -> None:
        """Measure all; return early after a failure that may have left the engine in a bad state."""
        for task in self._bench.assignment.tasks:
            self._channel.ask("started", ordinal=task.ordinal)
            progress = Progress(self._channel, task.ordinal, self._bench.assignment.progress_s)
            measure = find_measure(task.point.workload)
            found: dict[str, Any] = {}
            try:
                measure(self._bench, task.point, progress, found)
            except Exception as error:  # an engine may raise anything: that is a result
                status = classify(error, progress.phase)
                self._channel.ask(
                    "failed",
                    ordinal=task.ordinal,
                    status=status,
                    phase=progress.phase,
                    error=one_line(error),
                    trace=traceback.format_exc(),
                    peak_host_bytes=memory.peak_bytes(),
                    peak_device_bytes=self._bench.device_peak(),
                    found=found,
                )
                if status not in ("unsupported", "invalid"):
                    return


def classify(error: BaseException, phase: str) -> str:
    """The status that an exception means."""
    statuses: tuple[tuple[type[BaseException], str], ...] = (
        (Unsupported, "unsupported"),
        (BuildFailed, "build_failed"),
        (OutOfMemory, "oom"),
        (MemoryError, "oom"),
        (WrongVariant, "invalid"),
    )
    for kind, status in statuses:
        if isinstance(error, kind):
            return status
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch
        return "oom"
    if any(words in str(error).lower() for words in OUT_OF_MEMORY):
        return "oom"
    return "build_failed" if phase == "build" else "error"


def one_line(error: BaseException) -> str:
    """The message of an exception in one line; with its type where it is not one of ours."""
    text = clean_line(str(error), LONGEST_MESSAGE)
    if isinstance(error, BackendError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def main() -> None:
    """Read the assignment, measure, report."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DIED, signal.SIGKILL)  # a parent killed by -9 must not leave a worker behind
    events = os.fdopen(int(sys.argv[1]), "w")
    os.dup2(2, 1)  # what engines print belongs into the log, not on a command's standard output
    channel = Channel(events, sys.stdin)
    gc.disable()  # until the first build begins: a quarter of the time that importing PyTorch takes went into looking for garbage
    assignment = decode_assignment(sys.stdin.readline())
    Worker(assignment, channel).run()
    channel.send("done")


if __name__ == "__main__":
    main()
