"""Starting a worker process and listening to it: the parent sleeps on a pipe until there is something to do."""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from benchrun.runner.messages import Assignment, encode_assignment

STARTUP_S = 120.0  # for the runner's own part, which --timeout does not count: interpreter, model, inputs, reference
EXIT_S = 20.0  # for a worker to end after its last word
LOG_TAIL = 4000  # characters of a worker's own output that an error message may quote from
CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")
# One thread-count variable per library that reads its own when it is loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerTimeout(Exception):
    """The worker said nothing within the time a point may take."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended: `0`, an exit status, or a signal's name.

    `oom_killed`: the kernel killed for lack of memory meanwhile.
    """

    text: str
    oom_killed: bool
    log: str


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Another Python to run workers with: its path (None: this one), what its environment differs in (None: not set),
    the cores that its processes are pinned to (none: not pinned), and the fields that its benchrun takes (empty: all).
    """

    python: str | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    takes: Mapping[str, Collection[str]] = field(default_factory=dict)


OWN = Interpreter()


class WorkerProcess:
    """A worker in a session of its own: Ctrl-C reaches the parent only, which then ends it."""

    def __init__(
        self,
        assignment: Assignment,
        threads: int,
        interpreter: Interpreter = OWN,
        module: str = "benchrun.runner.worker",
        arguments: Sequence[str] = (),
    ) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._oom_kills = oom_kills()
        read_fd, write_fd = os.pipe()
        try:
            with pinned(interpreter.cores):
                self._process = subprocess.Popen(
                    [interpreter.python or sys.executable, "-P", "-m", module, str(write_fd), *arguments],
                    stdin=subprocess.PIPE,
                    stdout=self._log,
                    stderr=self._log,
                    pass_fds=(write_fd,),
                    env=worker_environment(threads, interpreter.environment),
                    start_new_session=True,
                )
        finally:
            os.close(write_fd)
        self._events = os.fdopen(read_fd, "rb", buffering=0)
        self._buffer = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._events, selectors.EVENT_READ)
        self._end = os.pidfd_open(self._process.pid)  # readable when the process is over, whoever still holds its pipe
        self._selector.register(self._end, selectors.EVENT_READ)
        self._say(encode_assignment(assignment, interpreter.takes))

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether `wait` has seen the end of the process."""
        return self._process.returncode is not None

    def events(self, timeout_s: float) -> Iterator[Mapping[str, Any]]:
        """Events until the worker is done or ends.

        Raises WorkerTimeout when the engine takes longer than `timeout_s` seconds for a point, from the start of its
        build on.
        """
        deadline = time.monotonic() + STARTUP_S + timeout_s
        while True:
            line = self._read_line(deadline)
            if line is None:
                return
            try:
                event = json.loads(line)
            except ValueError:
                continue  # half a line of a process that died while it wrote
            if event["event"] == "done":
                return
            if event["event"] == "started":
                deadline = time.monotonic() + STARTUP_S + timeout_s
            elif event["event"] == "progress" and event["phase"] == "build":
                deadline = time.monotonic() + timeout_s
            yield event

    def answer(self) -> None:
        """Tell the worker to go on."""
        self._say("")

    def kill(self) -> None:
        """End the worker and everything it started. Until `wait` has reaped it, nobody else can have its process id."""
        if not self.ended:
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self) -> Exit:
        """Wait for the end (killing a worker that does not end in EXIT_S), end what it left running, say how it was."""
        if not self.ended:
            select.select([self._end], [], [], EXIT_S)
            self.kill()
        code = self._process.wait()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 4 * LOG_TAIL))  # a character takes up to 4 bytes
        log = self._log.read().decode(errors="replace")[-LOG_TAIL:]
        return Exit(exit_text(code), code == -signal.SIGKILL and oom_kills() > self._oom_kills, log)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._process.wait()
        self._selector.close()
        self._events.close()
        os.close(self._end)
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._log.close()

    def _say(self, line: str) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the worker has no standard input")
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died: reading its events ends, and its exit says how

    def _read_line(self, deadline: float) -> bytes | None:
        searched = 0  # a line may hold a log of many MiB
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            left = deadline - time.monotonic()
            ready = self._selector.select(left) if left > 0 else []
            if not ready:
                raise WorkerTimeout
            if all(key.fileobj is not self._events for key, _ in ready):
                return None
            chunk = self._events.read(1 << 16)
            if not chunk:
                return None
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


@contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """This thread, and what it starts meanwhile, on these cores only; no cores: as it is."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def worker_environment(threads: int, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """The parent's environment with `changes` (None takes a variable out), with the thread count set before any engine
    loads, and nothing that asks a network.
    """
    changes = changes or {}
    kept = {name: value for name, value in os.environ.items() if name not in changes}
    return {
        **kept,
        **{name: value for name, value in changes.items() if value is not None},
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",  # models were found when the sweep was planned
        "PYTHONUNBUFFERED": "1",
    }


def exit_text(code: int) -> str:
    """`0`, an exit status, or the name of the signal that ended it."""
    if code >= 0:
        return str(code)
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def oom_kills(events: Path = CGROUP_EVENTS) -> int:
    """How often the kernel killed in this cgroup for lack of memory; 0 where that cannot be read."""
    try:
        for line in events.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
