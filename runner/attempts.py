"""One measurement with the machine's state around it; repeated, within a bound, while something else spoils it.

Readings are taken before the first and after the last timed call. Which attempt counts is decided by its flags alone, never by its
times; the others' medians and flags are kept beside it.
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

    def outcome(self) -> dict[str, Any]:
        """One line about an attempt, whether it counts or not."""
        import numpy as np

        return {
            "flags": list(self.judgement.flags),
            "host_p50_ms": float(np.median(self.latency.host)) / 1e6,
            "n": int(self.latency.host.size),
        }


def measure_attempts(
    timer: Timer,
    protocol: Protocol,
    telemetry: Telemetry,
    tick: Tick,
    *,
    asynchronous: bool,
    pause: Callable[[float], None] = time.sleep,
) -> list[Attempt]:
    """Measure once, and again up to `protocol.repeats` times while the attempt is spoilt; all attempts in order, at least one."""
    attempts = [measure_once(timer, protocol, telemetry, tick, asynchronous=asynchronous)]
    while attempts[-1].judgement.spoilt and len(attempts) <= protocol.repeats:
        pause(PAUSE_S)
        attempts.append(measure_once(timer, protocol, telemetry, tick, asynchronous=asynchronous))
    return attempts


def choose(flags: Sequence[Sequence[str]]) -> int:
    """The attempt that counts, by the flags of each: the first with the fewest spoiling ones."""
    spoilt = [sum(flag in SPOILING for flag in each) for each in flags]
    return spoilt.index(min(spoilt))


def measure_once(timer: Timer, protocol: Protocol, telemetry: Telemetry, tick: Tick, *, asynchronous: bool) -> Attempt:
    """One attempt."""
    started = time.perf_counter()
    count = telemetry.energy()
    before = telemetry.read()
    reading_s = time.perf_counter() - started
    window_s = THROUGHPUT_WINDOW_S if count is None else max(THROUGHPUT_WINDOW_S, least_window_s(count.resolution_s))
    if asynchronous:
        latency = measure_latency(timer, protocol, tick)
        throughput = measure_throughput(timer, latency, asynchronous, window_s, telemetry.energy)
        energy = window_energy(*throughput.energy, throughput.seconds)
    else:  # the latency loop is the window
        first, began = telemetry.energy(), time.perf_counter()
        latency = measure_latency(timer, protocol, tick)
        energy = window_energy(first, telemetry.energy(), time.perf_counter() - began)
        throughput = measure_throughput(timer, latency, asynchronous)
    started = time.perf_counter()
    after = telemetry.read()
    reading_s += time.perf_counter() - started
    return Attempt(latency, throughput, energy, before, after, judge(before, after, LIMITS), reading_s)


def describe_attempts(attempts: Sequence[Attempt], batch: int) -> dict[str, Any]:
    """The fields of a worker's report that come from telemetry: flags, energy, and `telemetry` as plain JSON."""
    kept = attempts[choose([each.judgement.flags for each in attempts])]
    joules = kept.energy.joules
    return {
        "flags": list(kept.judgement.flags),
        "energy_joules": joules,
        "joules_per_seq": kept.energy.per_sequence(kept.throughput.batches * batch),
        "telemetry": {
            "before": kept.before.to_json(),
            "after": kept.after.to_json(),
            "reasons": dict(kept.judgement.reasons),
            "seconds": round(kept.telemetry_s, 6),
            **({"energy": kept.energy.reason} if kept.energy.reason else {}),
            **({"attempts": [each.outcome() for each in attempts]} if len(attempts) > 1 else {}),
        },
    }
