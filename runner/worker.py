"""The worker: a fresh process that measures the points of one assignment and reports each as it happens.

Started by `runner.launcher` as `python -m benchrun.runner.worker FD`: the assignment comes as the first line of
standard input, events go to the file descriptor FD. After each event that the parent has work with, the worker waits
for a line on standard input, so that the parent's work (a database row, a progress line) never runs beside a timed
call.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from typing import Any, TextIO

from benchrun.backends.contract import BackendError, BuildFailed, OutOfMemory, Unsupported, WrongVariant
from benchrun.runner import memory
from benchrun.runner.bench import Bench
from benchrun.runner.messages import Assignment, clean_line, decode_assignment
from benchrun.runner.workloads import find_measure

# how C++ libraries say it, PyTorch's CPU allocator and ONNX Runtime among them
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "failed to allocate")
LONGEST_MESSAGE = 500  # characters
PARENT_DIED = 1  # prctl's PR_SET_PDEATHSIG
EXIT_ORPHANED = 3


class Channel:
    """Events to the parent, and its answers."""

    def __init__(self, events: TextIO, answers: TextIO) -> None:
        self._events = events
        self._answers = answers

    def send(self, event: str, **fields: Any) -> None:
        """Report and go on."""
        try:
            self._events.write(json.dumps({"event": event, **fields}) + "\n")
            self._events.flush()
        except BrokenPipeError:
            os._exit(EXIT_ORPHANED)

    def ask(self, event: str, **fields: Any) -> None:
        """Report and wait until the parent has dealt with it."""
        self.send(event, **fields)
        if not self._answers.readline():
            os._exit(EXIT_ORPHANED)


class Progress:
    """Tells the parent how far a point is, at most every `interval_s` seconds and only between samples."""

    def __init__(self, channel: Channel, ordinal: int, interval_s: float) -> None:
        self._channel = channel
        self._ordinal = ordinal
        self._interval_s = interval_s
        self._last = time.monotonic()
        self.phase = "build"

    def enter(self, phase: str) -> None:
        """A new phase begins."""
        self.phase = phase
        self._channel.ask("progress", ordinal=self._ordinal, phase=phase, n=0, last_ns=0)

    def tick(self, n: int, last_ns: int) -> None:
        """After each sample."""
        if self._interval_s and time.monotonic() - self._last >= self._interval_s:
            self._channel.ask("progress", ordinal=self._ordinal, phase=self.phase, n=n, last_ns=last_ns)
            self._last = time.monotonic()

    def done(self, found: dict[str, Any]) -> None:
        """The point is measured. Called before its session is closed: a crash in there is not the point's fault."""
        self._channel.ask("measured", ordinal=self._ordinal, found=found)


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
    assignment = decode_assignment(sys.stdin.readline())
    Worker(assignment, channel).run()
    channel.send("done")


if __name__ == "__main__":
    main()
