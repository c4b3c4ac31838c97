"""By hand, on an otherwise idle machine: is a disturbed CPU flagged, an idle one not, and what does telemetry cost?

    python tests/benchmarks/noisy_host.py flags --tries 40     # busy loop on the other core, or nothing, in random order
    python tests/benchmarks/noisy_host.py cost --pairs 10      # points of 5 s with and without telemetry, interleaved

Prints one JSON object. The figures in docs/machine-state.md were made with it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchrun.backends.cache import ArtefactCache
from benchrun.backends.catalogue import resolve_spec
from benchrun.backends.models import load_model
from benchrun.backends.registry import load_backend
from benchrun.runner import loops
from benchrun.runner.attempts import Attempt, measure_once
from benchrun.runner.bench import WorkerBuild
from benchrun.runner.inputs import make_inputs
from benchrun.runner.plan import SweepRequest, make_plan
from benchrun.runner.protocol import Protocol
from benchrun.runner.telemetry.interface import Telemetry, open_telemetry
from benchrun.runner.telemetry.state import EnergyCount, HostState, MachineState

LOOP = "import os\nos.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\nwhile True: pass"


class NoTelemetry:
    """Reads nothing."""

    def read(self) -> MachineState:
        return MachineState(HostState())

    def energy(self) -> EnergyCount | None:
        return None

    def energy_note(self) -> str:
        return ""


@contextmanager
def open_timer(threads: int, batch: int, seq: int) -> Iterator[loops.Timer]:
    """A real session of the tiny model, as a worker would have it."""
    plan = make_plan(SweepRequest(models=("tiny",), device="cpu", batches=(batch,), seqs=(seq,), threads=threads))
    point = plan.points[0].point
    spec = resolve_spec("tiny")
    with tempfile.TemporaryDirectory() as folder:
        build = WorkerBuild(ArtefactCache(Path(folder)), (point,))
        session = load_backend("torch")().prepare(load_model(spec, seq), point, build)
        inputs = make_inputs(spec.shape, point.head, batch, seq, 0)
        for each in inputs:
            session.bind(each)
        timer = loops.Timer(session, inputs, None)
        loops.warm_up(timer, Protocol(), "cpu", lambda n, ns: None)
        yield timer
        session.close()


def measure(timer: loops.Timer, seconds: float, telemetry: Telemetry | NoTelemetry) -> Attempt:
    """One attempt of that many seconds."""
    protocol = Protocol(iterations=10**9, max_time_s=seconds)
    return measure_once(timer, protocol, telemetry, lambda n, ns: None, asynchronous=False)  # type: ignore[arg-type]


def check_flags(tries: int, seconds: float, threads: int) -> dict[str, Any]:
    """How many of `tries` disturbed and as many quiet measurements are flagged."""
    order = [True] * tries + [False] * tries
    random.Random(0).shuffle(order)
    found: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    telemetry = open_telemetry("cpu")
    with open_timer(threads, 4, 64) as timer:
        for disturbed in order:
            loop = subprocess.Popen([sys.executable, "-c", LOOP]) if disturbed else None
            time.sleep(0.3)  # the interpreter starts, or the last one's end is over
            attempt = measure(timer, seconds, telemetry)
            if loop:
                loop.kill()
                loop.wait()
            before, after = attempt.before.host, attempt.after.host
            span = after.at_s - before.at_s
            busy, own = (after.busy_s or 0) - (before.busy_s or 0), (after.own_s or 0) - (before.own_s or 0)
            found[disturbed].append(
                {
                    "flagged": "noisy_host" in attempt.judgement.flags,
                    "others_cores": round((busy - own) / span, 3),
                    "p50_ms": float(np.median(attempt.latency.host)) / 1e6,
                }
            )
    return {
        "threads": threads,
        "seconds": seconds,
        **{
            name: {
                "flagged": sum(each["flagged"] for each in found[kind]),
                "of": tries,
                "others_cores_min_median_max": [
                    float(np.quantile([each["others_cores"] for each in found[kind]], q)) for q in (0, 0.5, 1)
                ],
                "p50_ms_median": float(np.median([each["p50_ms"] for each in found[kind]])),
            }
            for name, kind in (("disturbed", True), ("quiet", False))
        },
    }


def check_cost(pairs: int, seconds: float) -> dict[str, Any]:
    """Medians and whole times of points with and without telemetry, in alternating order."""
    ratios, extra, reading = [], [], []
    real, nothing = open_telemetry("cpu"), NoTelemetry()
    with open_timer(1, 4, 64) as timer:
        measure(timer, 1.0, real)
        for pair in range(pairs):
            p50: dict[str, float] = {}
            beside: dict[str, float] = {}
            for name, telemetry in (("with", real), ("without", nothing))[:: 1 if pair % 2 else -1]:
                started = time.perf_counter()
                attempt = measure(timer, seconds, telemetry)  # type: ignore[arg-type]
                beside[name] = time.perf_counter() - started - float(attempt.latency.host.sum()) / 1e9
                p50[name] = float(np.median(attempt.latency.host)) / 1e6
                if name == "with":
                    reading.append(attempt.telemetry_s * 1e3)
            ratios.append(p50["with"] / p50["without"] - 1)
            extra.append((beside["with"] - beside["without"]) * 1e3)
    half = 2.262 if pairs == 10 else 2.0  # Student's t for 9 degrees of freedom
    return {
        "pairs": pairs,
        "seconds": seconds,
        "telemetry_ms_median_max": [float(np.median(reading)), max(reading)],
        "share_of_point_max": max(reading) / 1e3 / seconds,
        "p50_shift_mean": float(np.mean(ratios)),
        "p50_shift_95": half * float(np.std(ratios, ddof=1)) / float(np.sqrt(pairs)),
        "time_outside_samples_ms_difference_median": float(np.median(extra)),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["flags", "cost"])
    parser.add_argument("--tries", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    if given.what == "flags":
        found = check_flags(given.tries, given.seconds or 0.6, given.threads)
    else:
        found = check_cost(given.pairs, given.seconds or 5.0)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
