"""One measurement with the machine's state around it; repeated, within a bound, while something else spoils it.

Readings are taken before the first and after the last timed call. Which attempt counts is decided by its flags alone, never by its
times; the others are stored as superseded rows, with all their samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchrun.runner.loops import Latency, Throughput, measure_latency, measure_throughput
from benchrun.runner.protocol import THROUGHPUT_WINDOW_S
from benchrun.runner.telemetry.energy import Energy, least_window_s, window_energy
from benchrun.runner.telemetry.judgement import LIMITS, SPOILING, Judgement, judge

if TYPE_CHECKING:
    from benchrun.runner.loops import Tick, Timer
    from benchrun.runner.protocol import Protocol
    from benchrun.runner.telemetry.interface import Telemetry
    from benchrun.runner.telemetry.state import MachineState

PAUSE_S = 0.5  # before a repetition: most disturbances are over soon


@dataclass(frozen=True, slots=True)
class Attempt:
    """Latency and throughput, the readings around them, and what they mean. `energy` is that of the throughput window."""

    latency: Latency
    throughput: Throughput
    energy: Energy
    before: MachineState
    after: MachineState
    judgement: Judgement
    telemetry_s: float  # what the two readings took

    def fields(self, batch: int) -> dict[str, Any]:
        """The fields of a worker's report that one attempt fills, at `batch` sequences a call; telemetry as plain JSON."""
        latency, throughput = self.latency, self.throughput
        return {
            "host_ns": latency.host.tolist(),
            "device_ns": latency.device.tolist() if latency.device is not None else None,
            "timed_out": latency.timed_out,
            "throughput_seq_s": throughput.sequences_per_second(batch),
            "throughput_batches": throughput.batches,
            "throughput_window_s": throughput.seconds,
            "throughput_isolated": throughput.isolated,
            "flags": list(self.judgement.flags),
            "energy_joules": self.energy.joules,
            "joules_per_seq": self.energy.per_sequence(throughput.batches * batch),
            "telemetry": {
                "before": self.before.to_json(),
                "after": self.after.to_json(),
                "reasons": dict(self.judgement.reasons),
                "seconds": round(self.telemetry_s, 6),
                **({"energy": self.energy.reason} if self.energy.reason else {}),
            },
        }


def measure_attempts(
    timer: Timer,
    protocol: Protocol,
    telemetry: Telemetry,
    tick: Tick,
    *,
    asynchronous: bool,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[Attempt]:
    """Measure once, and again up to `protocol.repeats` times while the attempt is spoilt; all attempts in order, at least one.

    All attempts together take no longer than `--max-time`: one that may not fit any more is not begun.
    """
    began = clock()
    attempts = [measure_once(timer, protocol, telemetry, tick, asynchronous=asynchronous)]
    longest = clock() - began
    while attempts[-1].judgement.spoilt and len(attempts) <= protocol.repeats:
        started = clock()
        if started - began + PAUSE_S + longest > protocol.max_time_s:
            break
        pause(PAUSE_S)
        attempts.append(measure_once(timer, protocol, telemetry, tick, asynchronous=asynchronous))
        longest = max(longest, clock() - started - PAUSE_S)
    return attempts


def choose(flags: Sequence[Sequence[str]]) -> int:
    """The attempt that counts, by the flags of each: the first with the fewest spoiling ones."""
    spoilt = [sum(flag in SPOILING for flag in each) for each in flags]
    return spoilt.index(min(spoilt))


def measure_once(timer: Timer, protocol: Protocol, telemetry: Telemetry, tick: Tick, *, asynchronous: bool) -> Attempt:
    """One attempt."""
    started = time.perf_counter()
    read_energy = telemetry.energy if protocol.energy else _no_count
    count = read_energy()
    missing = "" if count is not None else telemetry.energy_note() if protocol.energy else "not asked for"
    before = telemetry.read()
    reading_s = time.perf_counter() - started
    window_s = THROUGHPUT_WINDOW_S if count is None else max(THROUGHPUT_WINDOW_S, least_window_s(count.resolution_s))
    if asynchronous:
        latency = measure_latency(timer, protocol, tick)
        throughput = measure_throughput(timer, latency, asynchronous, window_s, read_energy)
        energy = window_energy(*throughput.energy, throughput.seconds, missing)
    else:  # the latency loop is the window
        first, began = read_energy(), time.perf_counter()
        latency = measure_latency(timer, protocol, tick)
        energy = window_energy(first, read_energy(), time.perf_counter() - began, missing)
        throughput = measure_throughput(timer, latency, asynchronous)
    started = time.perf_counter()
    after = telemetry.read()
    reading_s += time.perf_counter() - started
    return Attempt(latency, throughput, energy, before, after, judge(before, after, LIMITS), reading_s)


def _no_count() -> None:
    """In place of an energy counter, where nobody asks for joules."""


def split(attempts: Sequence[Attempt]) -> tuple[Attempt, list[Attempt]]:
    """The attempt that counts, and the others in order."""
    chosen = choose([each.judgement.flags for each in attempts])
    return attempts[chosen], [each for place, each in enumerate(attempts) if place != chosen]
