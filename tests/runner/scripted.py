"""A session whose calls take the time they are told, and the clock that agrees: loops become deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.backends.contract import Inputs, Session

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray

MS = 1_000_000  # nanoseconds


class ScriptedTime:
    """Stands in for `now_ns`: time passes only when somebody says so."""

    def __init__(self) -> None:
        self.now = 10**15

    def __call__(self) -> int:
        return self.now

    def pass_by(self, ns: int) -> None:
        self.now += ns


class ScriptedSession(Session):
    """`durations_ns` of successive calls, the last one for ever. With `stream`, calls run when `synchronize` waits for them."""

    def __init__(self, time: ScriptedTime, durations_ns: Iterable[int], stream: int | None = None) -> None:
        self._time = time
        self._durations = iter(durations_ns)
        self._last = 0
        self._stream = stream
        self._queued = 0
        self.log: list[str] = []

    def bind(self, inputs: Inputs) -> None:
        self.log.append(f"bind {inputs.index}")

    def enqueue(self) -> None:
        self.log.append("enqueue")
        self._last = next(self._durations, self._last)
        if self._stream is None:
            self._time.pass_by(self._last)
        else:
            self._queued += self._last

    def synchronize(self) -> None:
        self.log.append("synchronize")
        self._time.pass_by(self._queued)
        self._queued = 0

    def outputs(self) -> Mapping[str, FloatArray]:
        return {"y": np.zeros((1, 1), np.float32)}

    def facts(self) -> Mapping[str, Any]:
        return {}

    @property
    def stream(self) -> int | None:
        return self._stream


class ScriptedClock:
    """Notes its calls in the session's log; every call takes `elapsed` nanoseconds on the device."""

    def __init__(self, session: ScriptedSession, elapsed: int = 7 * MS) -> None:
        self._session = session
        self._elapsed = elapsed

    def start(self, stream: int) -> None:
        self._session.log.append(f"start {stream}")

    def stop(self, stream: int) -> None:
        self._session.log.append(f"stop {stream}")

    def elapsed_ns(self) -> int:
        self._session.log.append("elapsed")
        return self._elapsed

    def memory(self) -> tuple[int, int]:
        return 3 << 30, 8 << 30


def input_sets(count: int = 4) -> list[Inputs]:
    return [Inputs(index, {"input_ids": np.ones((1, 8), np.int64)}, (8,)) for index in range(count)]


def growing(first_ns: int, factor: float) -> Iterator[int]:
    """Durations that never settle."""
    each = float(first_ns)
    while True:
        yield int(each)
        each *= factor
