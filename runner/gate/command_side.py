"""A side that is a command which writes pytest-benchmark's JSON to `{out}`: each launch is one run of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchrun.runner.environment import read_fingerprint
from benchrun.runner.errors import UsageError
from benchrun.runner.gate.launches import WARMUP
from benchrun.runner.gate.schedule import LaunchOrder
from benchrun.runner.last_words import LONGEST, quote_last_words
from benchrun.runner.launcher import Interpreter, exit_text, pinned, worker_environment
from benchrun.runner.messages import clean_line

if TYPE_CHECKING:
    from benchrun.results import Store
    from benchrun.results.importers.foreign import ForeignMeasurement
    from benchrun.results.rows import MeasurementRow, PointRow

OUT = "{out}"
FORMATS = ("pytest-benchmark",)
LARGEST_BYTES = 1 << 30
_PYTHONS = re.compile(r"python[0-9.]*|py\.test|pytest")


class CommandFailed(Exception):
    """A run of the command that gave nothing to judge: `status` of the store, and why in one sentence. `left` is what it left
    behind: a `failure` (its exit status, or it did not start), `nothing` where it ended well without a benchmark, else empty.
    """

    def __init__(self, status: str, reason: str, left: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.left = left


@dataclass(frozen=True, slots=True)
class Suite:
    """What one run of the command measured: benchmark's name → its point and its row (of replicate 0)."""

    points: Mapping[str, PointRow]
    rows: Mapping[str, MeasurementRow]
    fingerprint: str
    exit: str
    pid: int
    started: datetime


class CommandSide:
    """Takes launches of a command. The gate's point keys are the benchmarks' names.

    `arguments` hold `{out}`; the command starts in `folder`, on the interpreter's cores and with its variables.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        arguments: tuple[str, ...],
        folder: Path,
        interpreter: Interpreter,
        *,
        threads: int,
        timeout_s: float,
    ) -> None:
        self._store = store
        self._run = run_id
        self._arguments = arguments
        self._folder = folder
        self._interpreter = interpreter
        self._threads = threads
        self._timeout_s = timeout_s
        self._fingerprint = ""
        self._known: dict[str, PointRow] = {}

    def discover(self) -> tuple[dict[str, PointRow], CommandFailed | None]:
        """Run the command once to see what it measures; nothing of it is kept. Points by name, and why there are none."""
        try:
            suite = self._measure()
        except CommandFailed as failure:
            return {}, failure
        return dict(suite.points), None

    def open(self, points: Mapping[str, PointRow]) -> None:
        """The points that the gate expects, as they are in the run of this side."""
        self._known = dict(points)

    def take(self, order: LaunchOrder) -> tuple[tuple[str, MeasurementRow], ...]:
        """One run of the command; a benchmark that was asked for and did not come gets a row that says so."""
        from benchrun.results.rows import LaunchRow

        started = datetime.now(UTC)
        try:
            suite = self._measure()
        except CommandFailed as failure:
            rows = {name: _lost(self._known[name], failure.status, str(failure), started) for name in order.points}
            launch = LaunchRow(order.order, 0, started, datetime.now(UTC), clean_line(str(failure), LONGEST))
        else:
            rows = {}
            for name in order.points:
                found = suite.rows.get(name)
                if found is None or suite.points[name].key != self._known[name].key:
                    found = _lost(self._known[name], "error", "the command's file has no such benchmark", started)
                rows[name] = found
            launch = LaunchRow(order.order, suite.pid, suite.started, datetime.now(UTC), suite.exit)
        kept = [replace(rows[name], replicate=order.order, ordinal=at) for at, name in enumerate(order.points)]
        if order.stage != WARMUP:
            launch_id = self._store.add_launch(self._run, launch)
            self._store.add_measurements(self._run, [(launch_id, row) for row in kept])
        return tuple(zip(order.points, kept, strict=True))

    def fingerprint(self) -> str:
        """This machine, and the one that the command's file tells of; of the last run."""
        return self._fingerprint

    def _measure(self) -> Suite:
        """Run the command and read its file. Raises CommandFailed."""
        here = read_fingerprint("cpu")
        self._fingerprint = here
        started = datetime.now(UTC)
        with tempfile.TemporaryDirectory(prefix="benchrun-gate-") as folder:
            out = Path(folder) / "benchmark.json"
            pid, code, said = self._start([each.replace(OUT, str(out)) for each in self._arguments])
            words = quote_last_words(said)
            if code is None:
                raise CommandFailed("timeout", f"the command took longer than --timeout {self._timeout_s:g} s")
            if code < 0:
                raise CommandFailed("crashed", f"the command was ended by {exit_text(code)}{words}")
            if code > 0:
                raise CommandFailed("error", f"the command exited with status {code}{words}", "failure")
            if not out.is_file() or not 0 < out.stat().st_size <= LARGEST_BYTES:
                raise CommandFailed("error", f"the command wrote no file to {OUT}{words}", "nothing")
            suite = read_suite(out.read_bytes(), here)
        self._fingerprint = suite.fingerprint
        return replace(suite, exit=exit_text(code), pid=pid, started=started)

    def _start(self, arguments: list[str]) -> tuple[int, int | None, str]:
        """Process id, exit status (None: it ran into the time limit) and what it said."""
        with tempfile.TemporaryFile() as log:
            try:
                with pinned(self._interpreter.cores):
                    process = subprocess.Popen(
                        arguments,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        cwd=self._folder,
                        env=worker_environment(self._threads, self._interpreter.environment),
                        start_new_session=True,
                    )
            except OSError as error:
                reason = f"the command {arguments[0]} does not start: {error.strerror}"
                raise CommandFailed("error", reason, "failure") from None
            try:
                code = _wait(process, self._timeout_s)
            finally:
                _end(process)
            return process.pid, code, _tail(log)


def split_command(text: str, name: str) -> tuple[str, ...]:
    """A command line as arguments. Raises UsageError."""
    try:
        arguments = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{name} is no command line: {error}") from error
    if not any(OUT in each for each in arguments):
        raise UsageError(
            f"{name} has no {OUT}: put it where the command takes the file for its results, "
            f"such as pytest bench --benchmark-json {OUT}"
        )
    return arguments


def check_program(arguments: tuple[str, ...], interpreter: Interpreter, side: str) -> None:
    """Refuse a bare `pytest` or `python3.x` that a side with an interpreter of its own lacks and PATH has elsewhere: both
    sides would measure what is installed there. Raises UsageError.
    """
    program = arguments[0]
    if interpreter.python is None or os.sep in program or not _PYTHONS.fullmatch(program):
        return
    own = Path(interpreter.python).parent
    found = shutil.which(program, path=interpreter.environment.get("PATH") or os.defpath)
    if found is not None and Path(found).parent != own:
        raise UsageError(
            f"the {side} side's environment has no {program}: {found} of another environment would run, and measure what "
            f"is installed there. Add it to that environment (for git refs: --install 'pip install . {program}'), or say "
            "python -m pytest"
        )


def read_suite(data: bytes, here: str) -> Suite:
    """The file of one run. `here` is the fingerprint of this machine. Raises CommandFailed."""
    from benchrun.results.importers.foreign import ImportFailed, Source
    from benchrun.results.importers.mapping import to_rows
    from benchrun.results.importers.pytest_benchmark import parse

    started = datetime.now(UTC)
    try:
        result = parse(Source("the command's file", data))
        own = to_rows(result, "", started)
    except ImportFailed as failure:
        raise CommandFailed("error", str(failure), "nothing" if _is_empty(data) else "") from None
    raw = json.loads(data)["benchmarks"]
    points = {point.key: point for point in own.points}
    found: dict[str, tuple[PointRow, MeasurementRow]] = {}
    for row, measurement, each in zip(own.measurements, result.measurements, raw, strict=True):
        name = str(measurement.facts["benchmark"])
        if name in found:
            raise CommandFailed("error", f"the command's file has {clean_line(name, 100)} more than once")
        found[name] = points[row.point_key], _with_rounds(row, measurement, each["stats"])
    hardware = json.dumps([here, own.run.environment.details.get("hardware", {})], sort_keys=True, default=str)
    return Suite(
        points={name: point for name, (point, _) in found.items()},
        rows={name: row for name, (_, row) in found.items()},
        fingerprint=hashlib.sha256(hardware.encode()).hexdigest()[:16],
        exit="",
        pid=0,
        started=started,
    )


def _is_empty(data: bytes) -> bool:
    """Whether a file that cannot be taken has a list of benchmarks, and none in it."""
    with suppress(ValueError, RecursionError):
        document = json.loads(data)
        return isinstance(document, dict) and document.get("benchmarks") == []
    return False


def _with_rounds(row: MeasurementRow, measurement: ForeignMeasurement, stats: Mapping[str, Any]) -> MeasurementRow:
    """A row whose rounds are means of several calls, with the rounds' own median: they are what the launch is judged by.

    Percentiles beyond the median stay unknown, for a mean has no tail.
    """
    from benchrun.results.statistics import ReportedSummary

    if measurement.trust != "mean":
        return row
    data = stats.get("data")
    if isinstance(data, list) and data:
        median, n = statistics.median(data), len(data)
    else:
        median, n = stats.get("median"), stats.get("rounds") or 0
    if not isinstance(median, int | float):
        return row
    mean = row.host.mean_ms if row.host is not None else None
    return replace(row, host=ReportedSummary(n=int(n), mean_ms=mean, p50_ms=float(median) * 1e3))


def _lost(point: PointRow, status: str, reason: str, started: datetime) -> MeasurementRow:
    from benchrun.results.rows import MeasurementRow

    return MeasurementRow(
        point_key=point.key, replicate=0, ordinal=0, status=status, started=started, phase="measure", error=reason
    )


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    """The exit status, None after the time limit. It sleeps until then: `Popen.wait` wakes up every 50 ms, beside what is
    being measured.
    """
    end = os.pidfd_open(process.pid)  # readable when the process is over
    try:
        over, _, _ = select.select([end], [], [], timeout_s)
    finally:
        os.close(end)
    return process.wait() if over else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what a command left running, itself included."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        process.wait()


def _tail(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - 8000))
    return log.read().decode(errors="replace")
