"""The system under test: takes LoadGen's queries, gives them to an executor, tells LoadGen when they are done.

LoadGen calls from its own threads through pybind11; an exception there would end the process. So the first one is kept, everything
else is answered at once without being run, and `failure` is raised after the test.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.runner.loadgen.library import pick_answer

if TYPE_CHECKING:
    import numpy.typing as npt

    from benchrun.runner.loadgen.executors import Answers, Call, Executor, Places
    from benchrun.runner.loadgen.library import Library

SWITCH_S = 2e-4  # how long a Python thread may keep the others waiting: LoadGen's thread has to issue on time


class Reply:
    """Tells LoadGen that samples are done: with their answers in accuracy mode, else without."""

    def __init__(self, loadgen: Any, library: Library, *, log_answers: bool) -> None:
        self._response = loadgen.QuerySampleResponse
        self._complete = loadgen.QuerySamplesComplete
        self._library = library
        self._log_answers = log_answers

    def __call__(self, ids: Sequence[int], places: Sequence[int] | Places, answers: Answers | None) -> None:
        if self._log_answers and answers is not None:
            lengths = self._library.lengths
            rows = [pick_answer(answers, row, int(lengths[place])) for row, place in enumerate(places)]
            self._complete(
                [self._response(id_, row.ctypes.data, row.nbytes) for id_, row in zip(ids, rows, strict=True)]
            )
            return
        self._complete(list(map(self._response, ids, repeat(0), repeat(0))))


class Direct:
    """SingleStream and MultiStream: a query is answered in the very call that issues it."""

    def __init__(self, executor: Executor, reply: Reply) -> None:
        self._executor = executor
        self._reply = reply
        self.failure: BaseException | None = None

    def issue(self, ids: list[int], places: list[int]) -> None:
        """One query."""
        answers = None
        if self.failure is None:
            executor = self._executor
            try:
                call = executor.stage(places)  # type: ignore[arg-type]  # both executors take a list as well
                executor.start(call)
                answers = executor.finish(call)
            except BaseException as error:  # raised again after the test
                self.failure = error
        self._reply(ids, places, answers)

    def flush(self) -> None:
        """All queries are out."""

    def run(self, start: Callable[[], None]) -> None:
        """Run a test: `start` returns when it is over."""
        start()


class Batching:
    """Server and Offline: LoadGen runs in a thread of its own, and this one takes what has come, up to what fits into a call.

    It is the thread in which the sessions were prepared: engines keep a current device and stream for each thread.

    In Server a batch is held back up to `wait_s` for more while nothing runs. With `ahead` (Offline) everything comes in one query: it is
    ordered first, and each call's inputs are made while the one before runs.
    """

    def __init__(self, executor: Executor, reply: Reply, *, wait_s: float = 0.0, ahead: bool = False) -> None:
        self._executor = executor
        self._reply = reply
        self._wait_s = wait_s
        self._queue: SimpleQueue[tuple[float, list[int], list[int]] | None] = SimpleQueue()
        self._ids: list[int] = []  # waiting, the oldest first
        self._places: list[int] = []
        self._since = 0.0  # when the oldest of them came
        self._stopping = False
        self._serve = self._all_at_once if ahead else self._as_they_come
        self.failure: BaseException | None = None

    def issue(self, ids: list[int], places: list[int]) -> None:
        """One query: it is only taken down here."""
        self._queue.put((time.perf_counter(), ids, places))

    def flush(self) -> None:
        """All queries are out."""

    def run(self, start: Callable[[], None]) -> None:
        """Run a test: `start` returns when it is over and everything that was issued has been answered."""
        starting = threading.Thread(target=self._start, args=(start,), name="loadgen", daemon=True)
        starting.start()
        try:
            self._serve()
        except BaseException as error:  # raised again after the test
            self.failure = self.failure or error
            while not self._stopping and (query := self._queue.get()) is not None:
                self._reply(query[1], (), None)
        starting.join()

    def _start(self, start: Callable[[], None]) -> None:
        try:
            start()
        except BaseException as error:  # raised again by the thread that waits for this one
            self.failure = error
        finally:
            self._queue.put(None)

    def _all_at_once(self) -> None:
        while (query := self._queue.get()) is not None:  # one; in accuracy mode there may be another for the rest
            self._run(np.array(query[1], dtype=np.uint64), np.array(query[2], dtype=np.int64))
        self._stopping = True

    def _run(self, ids: npt.NDArray[np.uint64], places: Places) -> None:
        """Samples that are all there."""
        executor = self._executor
        running: Call | None = None
        taken = answered = 0
        try:
            order = executor.order(places)
            ids, places = ids[order], places[order]
            while taken < places.size or running is not None:
                following: Call | None = None
                if taken < places.size:
                    count = executor.fit(places[taken : taken + executor.most])
                    following = executor.stage(places[taken : taken + count])
                    taken += count
                answers = executor.finish(running) if running is not None else None
                if following is not None:
                    executor.start(following)
                if running is not None:
                    done = slice(answered, answered + running.count)
                    self._reply(ids[done].tolist(), places[done], answers)
                    answered = done.stop
                running = following
        except BaseException:
            self._reply(ids[answered:].tolist(), (), None)
            raise

    def _as_they_come(self) -> None:
        executor = self._executor
        running: tuple[Call, list[int], list[int]] | None = None
        batch: tuple[list[int], list[int]] | None = None
        try:
            while True:
                answers = executor.finish(running[0]) if running is not None else None
                batch = self._collect(wait=running is None)
                following = None
                if batch is not None:
                    following = (executor.stage(np.array(batch[1], dtype=np.int64)), *batch)
                    executor.start(following[0])
                if running is not None:
                    self._reply(running[1], running[2], answers)
                running, batch = following, None
                if running is None and self._stopping and not self._ids:
                    return
        except BaseException:
            unanswered = [*(running[1] if running else ()), *(batch[0] if batch else ()), *self._ids]
            self._reply(unanswered, (), None)
            raise

    def _collect(self, *, wait: bool) -> tuple[list[int], list[int]] | None:
        """The next batch once there is a full one or the oldest has waited long enough; without `wait` only if that is so now."""
        most = self._executor.most
        if wait and not self._ids and not self._stopping:
            self._take(None)
        while not self._stopping:
            left = 0.0
            if self._queue.empty():  # a query that is there is taken in any case
                short = wait and 0 < len(self._ids) < most
                left = self._since + self._wait_s - time.perf_counter() if short else 0.0
                if left <= 0:
                    break
            self._take(left)
        full = len(self._ids) >= most or self._stopping
        if not self._ids or not (full or time.perf_counter() >= self._since + self._wait_s):
            return None
        chosen = self._executor.choose(np.array(self._places, dtype=np.int64)).tolist()
        batch = [self._ids[each] for each in chosen], [self._places[each] for each in chosen]
        for each in reversed(chosen):
            del self._ids[each], self._places[each]
        return batch

    def _take(self, timeout: float | None) -> None:
        """One query from the queue, waiting up to `timeout` seconds for it (None: for ever)."""
        try:
            query = self._queue.get(timeout=timeout) if timeout != 0 else self._queue.get_nowait()
        except Empty:
            return
        if query is None:
            self._stopping = True
            return
        if not self._ids:
            self._since = query[0]
        self._ids += query[1]
        self._places += query[2]


@contextmanager
def quick_switches() -> Iterator[None]:
    """Python's threads take turns at shorter intervals inside."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
