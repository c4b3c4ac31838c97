"""The loops that take samples: settling warm-up, isolated latency, back-to-back throughput. One protocol for every engine.

Nothing but the timed call happens between two readings of a clock; binding the next input set, bookkeeping and progress happen
between samples.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchrun.runner.clocks import now_ns
from benchrun.runner.protocol import (
    MIN_SAMPLES,
    SETTLED_SHARE,
    THROUGHPUT_BATCHES,
    THROUGHPUT_WINDOW_S,
    WARMUP_EXTRA_S,
    WARMUP_WINDOW,
    WARMUP_WINDOW_S,
    Protocol,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from benchrun.backends.contract import Inputs, Session
    from benchrun.runner.clocks import DeviceClock
    from benchrun.runner.telemetry.state import EnergyCount

    Samples = npt.NDArray[np.int64]

SPARE = 1.1  # of the calls that a throughput window is thought to need

# Called between samples with the number taken and the last one in nanoseconds; may wait for the parent to draw.
Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Warmup:
    """What the warm-up did. `settled`: two windows' medians agreed."""

    n: int
    seconds: float
    settled: bool


@dataclass(frozen=True, slots=True)
class Latency:
    """Samples in nanoseconds, in order; `device` is None where the device has no clock. `timed_out`: --max-time ended it."""

    host: Samples
    device: Samples | None
    timed_out: bool


@dataclass(frozen=True, slots=True)
class Throughput:
    """Batches finished in a window of seconds. `isolated`: the latency loop's own rate, for devices without asynchrony.

    `energy` holds the readings of the energy counter just before and just after the window.
    """

    batches: int
    seconds: float
    isolated: bool
    energy: tuple[EnergyCount | None, EnergyCount | None] = (None, None)

    def sequences_per_second(self, batch: int) -> float:
        """Sequences a second at `batch` sequences a call."""
        return self.batches * batch / self.seconds


class Timer:
    """Times one call of a session at a time, rotating its input sets."""

    def __init__(self, session: Session, inputs: Sequence[Inputs], clock: DeviceClock | None) -> None:
        self._session = session
        self._inputs = inputs
        self._clock = clock
        self._next = 0

    def sample(self) -> tuple[int, int | None]:
        """Host and device nanoseconds of one isolated call: synchronize, clock, event, enqueue, event, synchronize, clock."""
        session, clock = self._session, self._clock
        session.bind(self._inputs[self._next])
        self._next = (self._next + 1) % len(self._inputs)
        enqueue, synchronize = session.enqueue, session.synchronize
        if clock is None:
            synchronize()
            started = now_ns()
            enqueue()
            synchronize()
            return now_ns() - started, None
        stream = session.stream or 0
        synchronize()
        started = now_ns()
        clock.start(stream)
        enqueue()
        clock.stop(stream)
        synchronize()
        return now_ns() - started, clock.elapsed_ns()

    def back_to_back(self, batches: int) -> int:
        """Nanoseconds for `batches` calls enqueued without waiting, with one synchronize at the end. One input set."""
        enqueue, synchronize = self._session.enqueue, self._session.synchronize
        synchronize()
        started = now_ns()
        for _ in range(batches):
            enqueue()
        synchronize()
        return now_ns() - started


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection inside."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def warm_up(timer: Timer, protocol: Protocol, device_kind: str, tick: Tick) -> Warmup:
    """Call until two successive windows' medians agree within max(1 %, 2 standard errors), at least `protocol.warmup` times, and at
    most some seconds more than that (`WARMUP_EXTRA_S`). A window is 20 samples or 2 seconds, whichever comes first."""
    extra_ns = WARMUP_EXTRA_S["cpu" if device_kind == "cpu" else "gpu"] * 1e9
    started = now_ns()
    count, asked_done = 0, started
    previous: Samples | None = None
    window: list[int] = []
    window_started = started
    if protocol.warmup == 0:
        return Warmup(0, 0.0, False)
    with quiet():
        while True:
            taken, _ = timer.sample()
            count += 1
            window.append(taken)
            now = now_ns()
            if count <= protocol.warmup:
                asked_done = now
            tick(count, taken)
            if len(window) >= WARMUP_WINDOW or now - window_started >= WARMUP_WINDOW_S * 1e9:
                current = np.array(window, dtype=np.int64)
                agreed = previous is not None and agree(previous, current)
                previous, window, window_started = current, [], now
                if agreed and count >= protocol.warmup:
                    return Warmup(count, (now - started) / 1e9, True)
            if count >= protocol.warmup and now - asked_done >= extra_ns:
                return Warmup(count, (now - started) / 1e9, False)


def agree(first: Samples, second: Samples) -> bool:
    """Whether two windows' medians agree within max(1 %, 2 standard errors of their difference).

    A median's standard error is taken as 1.2533 · s / √n (normal theory), with s from the median absolute deviation.
    """
    medians = [float(np.median(window)) for window in (first, second)]
    errors = [
        1.2533 * 1.4826 * float(np.median(np.abs(window - median))) / float(np.sqrt(window.size))
        for window, median in zip((first, second), medians, strict=True)
    ]
    limit = max(SETTLED_SHARE * medians[0], 2 * float(np.hypot(errors[0], errors[1])))
    return abs(medians[1] - medians[0]) <= limit


def measure_latency(timer: Timer, protocol: Protocol, tick: Tick) -> Latency:
    """Isolated calls: `protocol.iterations` of them or `protocol.max_time_s`, whichever comes first, and at least 10 in any case
    (fewer only where fewer were asked for)."""
    host: list[int] = []
    device: list[int] = []
    least = min(MIN_SAMPLES, protocol.iterations)
    limit_ns = protocol.max_time_s * 1e9
    with quiet():
        started = now_ns()
        while len(host) < protocol.iterations:
            if len(host) >= least and now_ns() - started >= limit_ns:
                break
            taken, on_device = timer.sample()
            host.append(taken)
            if on_device is not None:
                device.append(on_device)
            tick(len(host), taken)
    samples = np.array(host, dtype=np.int64)
    return Latency(samples, np.array(device, dtype=np.int64) if device else None, len(host) < protocol.iterations)


def measure_throughput(
    timer: Timer,
    latency: Latency,
    asynchronous: bool,
    window_s: float = THROUGHPUT_WINDOW_S,
    meter: Callable[[], EnergyCount | None] = lambda: None,
) -> Throughput:
    """Back-to-back calls for at least `window_s` and 10 batches; on a device without asynchrony the isolated loop's own rate.

    `meter` is read before and after each window, never inside one.
    """
    if not asynchronous:
        return Throughput(int(latency.host.size), float(latency.host.sum()) / 1e9, True)
    each_ns = max(1.0, float(np.median(latency.device if latency.device is not None else latency.host)))
    # a tenth more than isolated calls would need, for queued ones overlap: a window that comes out short is taken again
    batches = max(THROUGHPUT_BATCHES, int(np.ceil(SPARE * window_s * 1e9 / each_ns)))
    with quiet():
        while True:
            before = meter()
            taken = timer.back_to_back(batches)
            if taken >= window_s * 1e9:
                return Throughput(batches, taken / 1e9, False, (before, meter()))
            batches = max(batches + 1, int(np.ceil(batches * SPARE * window_s * 1e9 / taken)))
