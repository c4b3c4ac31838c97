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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from benchrun.backends.contract import (
    Backend,
    BackendError,
    BuildFailed,
    BuildPhase,
    Inputs,
    OutOfMemory,
    Point,
    Session,
    Unsupported,
    WrongVariant,
)
from benchrun.backends.registry import load_backend
from benchrun.runner import memory
from benchrun.runner.clocks import DeviceClock, open_device_clock
from benchrun.runner.messages import Assignment, Task, clean_line, decode_assignment
from benchrun.runner.telemetry.interface import open_telemetry

if TYPE_CHECKING:
    from benchrun.backends.cache import ArtefactCache
    from benchrun.backends.contract import FloatArray
    from benchrun.backends.models import Model
    from benchrun.backends.reference import Reference
    from benchrun.results.rows import Parity

VERIFIED_TOKENS = (
    65_536  # the answer is compared for as many whole sequences as fit: a reference for more would take minutes
)
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


class WorkerBuild:
    """The runner's stopwatch for the phases of a build, and the artefact cache."""

    def __init__(self, cache: ArtefactCache, points: Sequence[Point]) -> None:
        self._cache = cache
        self._points = tuple(points)
        self.seconds: dict[str, float] = {}
        self.artefact_bytes: int | None = None
        self.cache_hit: bool | None = None

    @property
    def cache(self) -> ArtefactCache:
        return self._cache

    @contextmanager
    def phase(self, name: BuildPhase) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def artefact(self, n_bytes: int, *, hit: bool) -> None:
        self.artefact_bytes = (self.artefact_bytes or 0) + n_bytes
        self.cache_hit = hit and self.cache_hit is not False

    def sweep(self) -> Sequence[Point]:
        return self._points


class Answers:
    """Reference answers, computed once per (batch, seq) of this worker."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._kept: tuple[object, Mapping[str, FloatArray], Mapping[str, FloatArray] | None] | None = None

    def expected(self, inputs: Inputs, dtype: str) -> tuple[Mapping[str, FloatArray], Mapping[str, FloatArray] | None]:
        """fp32 outputs for `inputs`, and those on weights rounded to `dtype` where that tells precisions apart."""
        from benchrun.runner.parity import LOW_PRECISION

        key = (next(iter(inputs.arrays.values())).shape, inputs.index, dtype)
        if self._kept is None or self._kept[0] != key:
            exact = self._reference.exact(inputs)
            rounded = self._reference.rounded(inputs, dtype) if dtype in LOW_PRECISION else None
            self._reference.release()
            self._kept = (key, exact, rounded)
        return self._kept[1], self._kept[2]


class Worker:
    """Measures the tasks of one assignment, one after the other."""

    def __init__(self, assignment: Assignment, channel: Channel) -> None:
        from benchrun.backends.cache import default_cache

        self._assignment = assignment
        self._channel = channel
        self._points = tuple(task.point for task in assignment.tasks)
        first = self._points[0]
        self._backend: Backend = load_backend(first.backend)()
        self._cache = default_cache()
        self._clock: DeviceClock | None = None
        self._telemetry = open_telemetry(first.device)
        self._most_device_bytes: int | None = None
        self._model: Model | None = None
        self._answers: Answers | None = None

    def run(self) -> None:
        """Measure all; return early after a failure that may have left the engine in a bad state."""
        for task in self._assignment.tasks:
            self._channel.ask("started", ordinal=task.ordinal)
            progress = Progress(self._channel, task.ordinal, self._assignment.progress_s)
            found: dict[str, Any] = {}
            try:
                self._measure(task, progress, found)
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
                    peak_device_bytes=self._device_peak(),
                    found=found,
                )
                if status not in ("unsupported", "invalid"):
                    return

    def _measure(self, task: Task, progress: Progress, found: dict[str, Any]) -> None:
        """Fill `found` with what is learnt on the way, so that a late failure keeps it, and report it."""
        from benchrun.results.plain import plain_json
        from benchrun.runner import loops
        from benchrun.runner.attempts import measure_attempts, split
        from benchrun.runner.inputs import make_inputs

        point, protocol = task.point, self._assignment.protocol
        memory.reset_peak()
        self._most_device_bytes = None
        model, answers = self._load()
        inputs = make_inputs(model.spec.shape, point.head, point.batch, point.seq, protocol.input_seed)
        probe = first_rows(inputs[0], VERIFIED_TOKENS)
        exact, rounded = answers.expected(probe, point.dtype)
        progress.enter("build")  # --timeout counts from here: what came before was not the engine's work
        self._backend.reset_peak()
        build = WorkerBuild(self._cache, self._points)
        session: Session | None = None
        try:
            started = time.perf_counter()
            session = self._backend.prepare(model, point, build)
            found["build_s"] = time.perf_counter() - started
            found |= {f"{phase}_s": seconds for phase, seconds in build.seconds.items()}
            found |= {"artefact_bytes": build.artefact_bytes, "cache_hit": build.cache_hit}
            if self._clock is None:
                self._clock = open_device_clock(point.device)
            free_before = self._clock.memory()[0] if self._clock else None
            self._device_peak()

            progress.enter("verify")
            for each in reversed(inputs):  # set 0 last: it is the one that is verified
                session.bind(each)
            started = time.perf_counter()
            session.enqueue()
            session.synchronize()
            found["first_run_s"] = time.perf_counter() - started
            parity, distance = self._verify(session, point, exact, rounded, len(probe.lengths))
            found["parity"] = parity
            self._device_peak()

            timer = loops.Timer(session, inputs, self._clock)
            progress.enter("warmup")
            warmup = loops.warm_up(timer, protocol, point.device_kind, progress.tick)
            found |= {"warmup_n": warmup.n, "warmup_s": warmup.seconds, "settled": warmup.settled}

            progress.enter("measure")
            resident = memory.resident_bytes()
            asynchronous = session.stream is not None
            attempts = measure_attempts(timer, protocol, self._telemetry, progress.tick, asynchronous=asynchronous)
            calls = sum(int(each.latency.host.size) for each in attempts)
            leaking = memory.leaks(resident, memory.resident_bytes(), calls)
            kept, spoilt = split(attempts)
            if self._clock and free_before is not None:
                found["device_growth_bytes"] = free_before - self._clock.memory()[0]
            found |= kept.fields(point.batch)
            found["spoilt"] = [each.fields(point.batch) for each in spoilt]
            found["flags"] += ["leaks_memory"] if leaking else []
            found |= {
                "peak_host_bytes": memory.peak_bytes(),
                "peak_device_bytes": self._device_peak(),
                "peak_allocator_bytes": self._backend.peak_device_bytes(),
            }
            progress.phase = "verify"
            session.bind(inputs[0])  # once more: an answer may also go wrong while it is timed
            again, _ = self._verify(session, point, exact, rounded, len(probe.lengths))
            if not again["ok"]:
                found["parity"] = parity = again
            facts = plain_json(session.facts()) | {f"model_{name}": value for name, value in model.facts.items()}
            facts["parity_sequences"] = len(probe.lengths)
            found["facts"] = facts
            self._judge(point, parity, distance, facts)
            self._channel.ask("measured", ordinal=task.ordinal, found=found)
        finally:
            if session is not None:
                session.close()

    def _load(self) -> tuple[Model, Answers]:
        """The model and its reference: loaded once, shared by all points of this worker."""
        from benchrun.backends.models import load_model
        from benchrun.backends.reference import Reference, reference_device

        if self._model is None or self._answers is None:
            self._model = load_model(self._assignment.spec, self._assignment.max_seq)
            self._answers = Answers(Reference(self._model, reference_device(self._points[0])))
        return self._model, self._answers

    def _verify(
        self,
        session: Session,
        point: Point,
        exact: Mapping[str, FloatArray],
        rounded: Mapping[str, FloatArray] | None,
        rows: int,
    ) -> tuple[dict[str, Any], float | None]:
        """One inference into poisoned buffers, compared with the reference.

        Parity as a dict, and for low precisions the distance to fp32 arithmetic on the original or the rounded weights,
        whichever is nearer.
        """
        from dataclasses import asdict, replace

        from benchrun.runner.parity import compare, relative_distance, remainder_problem

        session.poison()
        session.enqueue()
        session.synchronize()
        whole = session.outputs()
        answer = {name: array[:rows] for name, array in whole.items()}
        parity: Parity = compare(answer, exact, point.dtype)
        if parity.ok and (problem := remainder_problem(whole, point.batch, rows)):
            parity = replace(parity, ok=False, reason=problem)
        distance = None
        if rounded is not None and parity.ok:
            distance = min(relative_distance(answer, each) for each in (rounded, exact))
        return asdict(parity), distance

    def _judge(self, point: Point, parity: Mapping[str, Any], distance: float | None, facts: Mapping[str, Any]) -> None:
        """Raises WrongVariant where the answer or the precision is not what was asked for."""
        from benchrun.runner.parity import precision_problem

        if not parity["ok"]:
            raise WrongVariant(f"wrong answer: {parity['reason']}")
        if problem := precision_problem(point.dtype, distance, facts):
            raise WrongVariant(problem)

    def _device_peak(self) -> int | None:
        """Most bytes of the device in use, all processes together, at any time this was asked for this point; None on a CPU.

        Asked after the build, after the first answers and after the last sample: what an engine takes and gives back in between
        shows in its allocator's own peak only.
        """
        if self._clock is None:
            return None
        try:
            free, total = self._clock.memory()
        except RuntimeError:  # after a device fault the driver answers nothing any more
            return self._most_device_bytes
        self._most_device_bytes = max(total - free, self._most_device_bytes or 0)
        return self._most_device_bytes


def first_rows(inputs: Inputs, tokens: int) -> Inputs:
    """The first sequences of a set, as many as hold at most `tokens` tokens, at least one."""
    seq = next(iter(inputs.arrays.values())).shape[1]
    rows = max(1, tokens // seq)
    return Inputs(inputs.index, {name: array[:rows] for name, array in inputs.arrays.items()}, inputs.lengths[:rows])


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
