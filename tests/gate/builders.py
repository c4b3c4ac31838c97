"""Gate runs with noise that is settled by launch and point, for tests that then change one thing."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchrun.runner.gate.decision import decide
from benchrun.runner.gate.launches import GatePlan, Launch, PlannedPoint, Reading
from benchrun.runner.gate.schedule import LaunchOrder, next_batch
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.verdict import GateVerdict, MetricVerdict, PointVerdict

Measure = Callable[[LaunchOrder, str], Reading]


def make_plan(count: int = 4, **changes: object) -> GatePlan:
    points = tuple(PlannedPoint(key=f"p{j}", label=f"point {j}") for j in range(count))
    return replace(GatePlan(base="commit-a", new="commit-b", points=points), **changes)  # type: ignore[arg-type]


def noisy(sd: float = 0.005, slower: dict[str, float] | None = None, seed: int = 0, **fields: object) -> Measure:
    """A measuring function: points of 10 ms with that noise between launches, some slower on the new side."""

    def measure(order: LaunchOrder, key: str) -> Reading:
        rng = np.random.default_rng([seed, order.order, zlib.crc32(key.encode())])
        latency, rate = np.exp(rng.normal(0, sd, 2))
        ratio = (slower or {}).get(key, 1.0) if order.side == "new" else 1.0
        reading = Reading(
            point=key,
            n=200,
            p50_ms=float(10 * latency * ratio),
            throughput_seq_s=float(100 / (rate * ratio)),
            p90_ms=float(11 * latency * ratio),
            p95_ms=float(12 * latency * ratio),
            p99_ms=float(14 * latency * ratio),
            steady=True,
            clock_mhz=1500.0 + float(rng.normal()),
            digest=f"{order.order}-{key}",
        )
        return replace(reading, **fields)  # type: ignore[arg-type]

    return measure


def book(order: LaunchOrder, plan: GatePlan, measure: Measure) -> Launch:
    """The launch that an order led to."""
    rng = np.random.default_rng([99, order.order])
    return Launch(
        session="s1",
        order=order.order,
        side=order.side,
        stage=order.stage,
        pair=order.pair,
        subject=plan.subject(order.side),
        fingerprint="feedc0de",
        points=order.points,
        readings=tuple(measure(order, key) for key in order.points),
        control_ms=float(5 * np.exp(rng.normal(0, 0.003))),
    )


def run_gate(
    plan: GatePlan, measure: Measure, settings: GateSettings | None = None, *, seed: int = 1, chunk: int | None = None
) -> tuple[list[Launch], str]:
    """All launches of a gate run, and what stopped it; `chunk` asks the scheduler again after that many launches."""
    launches: list[Launch] = []
    while True:
        batch = next_batch(plan, launches, settings or GateSettings(), seed=seed)
        if not batch.launches:
            return launches, batch.stopped
        launches += [book(order, plan, measure) for order in batch.launches[:chunk]]


def judge(plan: GatePlan, measure: Measure, settings: GateSettings | None = None, **options: object) -> GateVerdict:
    """The verdict of a whole run."""
    launches, stopped = run_gate(plan, measure, settings)
    return decide(plan, launches, settings, stopped=stopped, **options)  # type: ignore[arg-type]


def point_of(verdict: GateVerdict, key: str) -> PointVerdict:
    return next(each for each in verdict.points if each.point == key)


def metric_of(verdict: GateVerdict, key: str, metric: str = "p50") -> MetricVerdict:
    return next(each for each in point_of(verdict, key).metrics if each.metric == metric)


def edit(launches: list[Launch], change: Callable[[Launch, Reading], Reading | None]) -> list[Launch]:
    """Launches with each reading of stages 1 and 2 changed, or left out where `change` gives None."""
    edited = []
    for launch in launches:
        if launch.stage == 0:
            edited.append(launch)
            continue
        readings = (change(launch, reading) for reading in launch.readings)
        edited.append(replace(launch, readings=tuple(each for each in readings if each is not None)))
    return edited
