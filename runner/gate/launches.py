"""What goes into a gate: the plan, and the launches that were taken, as plain frozen data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from benchrun.runner.errors import UsageError

Side = Literal["base", "new"]
SIDES: tuple[Side, Side] = ("base", "new")
WARMUP, SCREEN, CONFIRM = 0, 1, 2  # stages; launches of stage 0 are discarded
GATED_BY_DEFAULT = ("p50", "throughput")


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of one launch. `column` is where a `Reading` holds it; `sign` makes y = sign · ln(value) grow as it
    gets slower.
    """

    name: str
    column: str
    sign: int


METRICS = {
    each.name: each
    for each in (
        Metric("p50", "p50_ms", 1),
        Metric("throughput", "throughput_seq_s", -1),
        Metric("p90", "p90_ms", 1),
        Metric("p95", "p95_ms", 1),
        Metric("p99", "p99_ms", 1),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One point in one launch: the summary of its samples, and what its validity depends on.

    `status` is a status of the store (`ok`, `crashed`, …) and `error` its reason. `throttled` and `foreign` (another
    process on the device) are flags of the run of this point, `noisy` (other work on the host) is one that is told and
    excludes nothing; `clock_mhz` is its mean clock where the device tells.
    `digest` hashes the raw samples, so that a copied row is seen; `resolution_ns` is the clock's step.
    """

    point: str
    status: str = "ok"
    error: str = ""
    n: int = 0
    p50_ms: float | None = None
    throughput_seq_s: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    throttled: bool = False
    foreign: bool = False
    noisy: bool = False
    parity_ok: bool = True
    steady: bool | None = None
    clock_mhz: float | None = None
    resolution_ns: float = 1.0
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One fresh process on one side, at place `order` (from 0) of its session.

    `pair` and `stage` are those of the `LaunchOrder` that asked for it, `points` what it was asked to measure,
    `readings` what came back. `subject` names what was run (commit, interpreter, options), as the plan spells it;
    `fingerprint` is that of the hardware; `control_ms` the median of the control workload that the gate's own
    interpreter ran beside it.
    """

    session: str
    order: int
    side: Side
    stage: int
    pair: int
    subject: str
    fingerprint: str
    points: tuple[str, ...]
    readings: tuple[Reading, ...]
    control_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPoint:
    """A point that the gate expects. Points of one `device_class` pool their variance; those of one `group` share
    weights and worker.

    A point that only `in_new` has is NEW; one that only `in_base` has is MISSING.
    """

    key: str
    label: str = ""
    device_class: str = "cpu"
    group: str = ""
    in_base: bool = True
    in_new: bool = True

    def on(self, side: Side) -> bool:
        """Whether that side measures it."""
        return self.in_base if side == "base" else self.in_new


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlan:
    """What a gate run compares. `base` and `new` name the subjects; `aa` says that they are the same on purpose.

    `metrics` gate, in that order; `foreign` marks suites that benchrun did not time itself (pytest-benchmark files).
    Raises UsageError.
    """

    base: str
    new: str
    points: tuple[PlannedPoint, ...]
    metrics: tuple[str, ...] = GATED_BY_DEFAULT
    aa: bool = False
    foreign: bool = False

    def __post_init__(self) -> None:
        if self.base == self.new and not self.aa:
            raise UsageError(
                f"both sides are {self.base!r}: there is nothing to compare. "
                "To try the gate on equal sides, ask for an A/A run (--aa)"
            )
        if not self.points:
            raise UsageError("the gate has no points: widen the sweep until at least one is left")
        keys = [each.key for each in self.points]
        twice = sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
        if twice:
            raise UsageError(f"the plan names {', '.join(twice)} more than once: every point may be there once")
        nowhere = [each.key for each in self.points if not (each.in_base or each.in_new)]
        if nowhere:
            raise UsageError(f"no side measures {', '.join(nowhere)}: take it out of the plan")
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics or len(set(self.metrics)) < len(self.metrics):
            names = ", ".join(self.metrics) or "no metric"
            raise UsageError(f"the gate cannot go by {names}: choose from {', '.join(METRICS)}, each once")

    def subject(self, side: Side) -> str:
        """What that side runs."""
        return self.base if side == "base" else self.new


def first_side(pair: int) -> Side:
    """The side that a pair begins with: even pairs are A B, odd ones B A, so that two make the block A B B A."""
    return "base" if pair % 2 == 0 else "new"


def log_value(metric: Metric, value: float | None) -> float:
    """y = ±ln(value), larger is slower; NaN where there is no positive finite value."""
    if value is None or not (0 < value < math.inf):
        return math.nan
    return metric.sign * math.log(value)
