"""A rough estimate of how long a sweep takes, from FLOPs and a typical rate: for a plan on the screen, not for a decision."""

from __future__ import annotations

from benchrun.runner.flops import forward_flops
from benchrun.runner.loadgen.minima import guess_seconds
from benchrun.runner.plan import Plan, Planned
from benchrun.runner.protocol import MIN_SAMPLES, WARMUP_EXTRA_S, WARMUP_WINDOW
from benchrun.runner.workloads import trains
from benchrun.runner.workloads.train import parse

START_S = {"cpu": 6.0, "gpu": 15.0}  # a worker's start: interpreter, engine, model, reference
POINT_S = {"cpu": 1.0, "gpu": 2.0}  # building and verifying a point
CPU_FLOPS_PER_CORE = 4e10
GPU_FLOPS = 2e14
TRAINING_PASSES = 3  # a backward pass costs two forward ones
CALL_S = {"cpu": 5e-4, "gpu": 3e-3}  # launch overhead


def call_seconds(planned: Planned, threads: int) -> float:
    """Guessed seconds of one call."""
    point = planned.point
    kind = "cpu" if point.device_kind == "cpu" else "gpu"
    rate = CPU_FLOPS_PER_CORE * threads if kind == "cpu" else GPU_FLOPS
    passes = TRAINING_PASSES * parse(point.workload).accumulate if trains(point.workload) else 1
    return passes * (CALL_S[kind] + forward_flops(planned.spec.shape, point.batch, point.seq) / rate)


def point_seconds(planned: Planned, plan: Plan) -> float:
    """Guessed seconds of one point, warm-up included."""
    if planned.refusal:
        return 0.0
    if planned.point.workload.startswith("loadgen:"):
        call = call_seconds(planned, plan.request.threads or 1)
        return guess_seconds(planned.point.workload, plan.request.settings, call, planned.point.batch)
    protocol = plan.request.protocol
    kind = "cpu" if planned.point.device_kind == "cpu" else "gpu"
    call = call_seconds(planned, plan.request.threads or 1)
    timed = max(min(protocol.iterations * call, protocol.max_time_s), min(MIN_SAMPLES, protocol.iterations) * call)
    warm = protocol.warmup * call + min(2 * WARMUP_WINDOW * call, 4.0, WARMUP_EXTRA_S[kind])
    return POINT_S[kind] + warm + timed + 2 * call


def estimate_seconds(plan: Plan, keys: set[str] | None) -> float:
    """Guessed seconds of a plan (of the points in `keys` where given), all launches together."""
    total = 0.0
    for group in plan.groups(keys):
        kind = "cpu" if group[0].point.device_kind == "cpu" else "gpu"
        if not all(planned.refusal for planned in group):
            total += START_S[kind] + sum(point_seconds(planned, plan) for planned in group)
    return total * plan.request.launches
