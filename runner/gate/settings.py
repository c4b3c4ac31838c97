"""Every constant of the gate's rule, with its name, its default and what it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from benchrun.runner.errors import UsageError

RULE = "benchrun.gate.rule/1"  # from the first release on, changes whenever equal launches could get another verdict


_BOUNDS: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (
        ("screen_launches", "confirm_launches_min"),
        lambda value: value >= 2,
        "at least 2, for a variance needs two launches a side",
    ),
    (
        ("alpha", "confidence", "control_confidence", "baseline_confidence", "limit_alpha", "clock_share"),
        lambda value: 0 < value < 1,
        "between 0 and 1",
    ),
    (("invalid_share",), lambda value: 0 <= value < 1, "at least 0 and below 1"),
    (("invalid_launches",), lambda value: value >= 0, "0 or more"),
    (
        ("regression_ratio", "screen_ratio", "fail_ratio", "control_ratio", "implausible_ratio"),
        lambda value: 1 < value < math.inf,
        "above 1, for it marks a slowdown",
    ),
    (("improved_ratio", "suspicious_ratio"), lambda value: 0 < value < 1, "between 0 and 1, for it marks a speed-up"),
    (
        ("sizing_factor", "sizing_z_alpha", "sizing_z_power", "sd_floor", "detectable_factor"),
        lambda value: 0 < value < math.inf,
        "a positive number",
    ),
    (("min_samples", "min_rounds", "max_samples", "baseline_sessions"), lambda value: value >= 2, "at least 2"),
    (("max_launches", "max_minutes"), lambda value: value > 0, "a positive number, or left out for no limit"),
)


def _constant(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """The constants of the rule. Ratios are time ratios new ÷ base, so that 1.05 is 5 % slower.

    Raises UsageError where a value makes no sense.
    """

    screen_launches: int = _constant(3, "launches a side that every point gets in stage 1 (k1)")
    confirm_launches_min: int = _constant(8, "fewest fresh launches a side for an escalated point (k2)")
    confirm_launches_max: int = _constant(32, "most fresh launches a side for an escalated point (k2)")
    sizing_factor: float = _constant(5.0, "multiplier of the squared term that sizes stage 2")
    sizing_z_alpha: float = _constant(2.326, "normal quantile of the error rate in the sizing of stage 2")
    sizing_z_power: float = _constant(1.645, "normal quantile of the power in the sizing of stage 2")
    regression_ratio: float = _constant(1.05, "the slowdown that the gate is built to find, and that PASS excludes")
    screen_ratio: float = _constant(1.02, "stage 1 passes a point only if its measured ratio is below this")
    fail_ratio: float = _constant(1.03, "FAIL needs a fresh ratio of at least this: the smallest slowdown that matters")
    alpha: float = _constant(0.01, "chance of any FAIL in a run without a slowdown (Holm-adjusted)")
    confidence: float = _constant(0.95, "of the two-sided intervals whose upper end PASS is decided by")
    sd_floor: float = _constant(
        1e-4, "smallest launch-to-launch standard deviation that stage 1 believes, as a fraction"
    )
    improved_ratio: float = _constant(0.97, "a PASS whose interval lies below this is labelled IMPROVED")
    suspicious_ratio: float = _constant(0.80, "an IMPROVED below this asks to check that the work was done")
    implausible_ratio: float = _constant(
        100.0, "a metric that differs by more than this factor, either way, is INVALID: wrong units or no work done"
    )
    control_ratio: float = _constant(
        1.01, "the run is INVALID if the control's interval lies wholly beyond this, either way"
    )
    control_confidence: float = _constant(0.999, "of the control's two-sided interval")
    clock_share: float = _constant(
        0.95, "a launch with a clock under this share of its point's session median is invalid"
    )
    invalid_share: float = _constant(1 / 3, "largest share of a point's launches that may be replaced; more is INVALID")
    invalid_launches: int = _constant(2, "launches a side that may be replaced even where that share is fewer")
    min_samples: int = _constant(30, "fewest timed iterations in a launch")
    min_rounds: int = _constant(5, "fewest rounds in a launch of a foreign pytest-benchmark suite")
    max_samples: int = _constant(200, "timed iterations in a launch, where --max-time allows as many")
    p90_pooled_samples: int = _constant(64, "samples a side, over all launches, that a p90 gate needs")
    p95_pooled_samples: int = _constant(130, "samples a side, over all launches, that a p95 gate needs")
    p99_pooled_samples: int = _constant(662, "samples a side, over all launches, that a p99 gate needs")
    detectable_factor: float = _constant(5.07, "detectable log ratio = this · sd · sqrt(2 / launches a side)")
    baseline_sessions: int = _constant(3, "fewest stored sessions that a stored baseline may decide with")
    baseline_confidence: float = _constant(0.99, "one-sided confidence of a FAIL against a stored baseline")
    limit_alpha: float = _constant(0.01, "chance of a FAIL for any point at its absolute limit (Holm-adjusted)")
    warmup: bool = _constant(True, "start with one discarded launch on each side, of one point of each group")
    control: bool = _constant(True, "measure the control workload beside every launch, and judge the run by it")
    max_launches: int | None = _constant(
        None, "most launches of a gate run, both sides together; no limit where absent"
    )
    max_minutes: float | None = _constant(None, "no launch is started after this many minutes; no limit where absent")

    def __post_init__(self) -> None:
        for names, holds, wanted in _BOUNDS:
            for name in names:
                value = getattr(self, name)
                if value is not None and not holds(value):
                    raise UsageError(f"the gate's setting {name} is {value}: it must be {wanted}")
        if self.confirm_launches_max < self.confirm_launches_min:
            raise UsageError(
                f"the gate's setting confirm_launches_max is {self.confirm_launches_max}: "
                f"it must be at least confirm_launches_min ({self.confirm_launches_min})"
            )

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> GateSettings:
        """Settings from a config table; what it leaves out keeps its default. Raises UsageError."""
        known = {each.name: each for each in fields(cls)}
        read: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise UsageError(f"the gate has no setting {name!r}; it has {', '.join(known)}")
            kind, _, optional = str(known[name].type).partition(" | ")
            fits = type(value).__name__ == kind or (kind == "float" and type(value) is int)
            if not (fits or (optional and value is None)):
                raise UsageError(f"the gate's setting {name} takes {kind}, not {value!r}")
            read[name] = float(value) if kind == "float" and value is not None else value
        return cls(**read)

    def replaceable(self, launches: int) -> int:
        """How many of that many launches a side may be replaced."""
        return max(self.invalid_launches, math.floor(self.invalid_share * launches + 1e-9))

    def pooled_samples(self, metric: str) -> int:
        """Samples a side that a gate on that metric needs over all launches; 0 for metrics without such a need."""
        return {"p90": self.p90_pooled_samples, "p95": self.p95_pooled_samples, "p99": self.p99_pooled_samples}.get(
            metric, 0
        )


def describe_settings() -> dict[str, str]:
    """Name → what it does, of every constant."""
    return {each.name: str(each.metadata["doc"]) for each in fields(GateSettings)}
