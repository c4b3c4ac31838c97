"""Absolute limits beside the relative gate: `p95_ms=10` (no more than), `throughput_seq_s=500` (no fewer than). New
side only.

A limit is judged like everything else here, by launches: one-sided t of the logarithms of the launches' figures
against the limit, with the larger of the point's own and the pooled standard deviation, Holm-adjusted over the
points. FAIL: over the limit beyond doubt. PASS: under it beyond doubt (upper end of the two-sided 95 % interval).
Between the two: INCONCLUSIVE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.launches import METRICS, Metric, Reading
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.welch import adjust_holm, t_quantile

LimitOutcome = Literal["FAIL", "MISSING", "INVALID", "INCONCLUSIVE", "PASS"]
Standing = tuple[LimitOutcome, str]  # a verdict that comes before any statistics, and why
LIMITED = {metric.column: metric for metric in METRICS.values()}


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on a figure of the new side, in the unit of its column."""

    column: str
    value: float

    @property
    def metric(self) -> Metric:
        """The metric that it bounds."""
        return LIMITED[self.column]

    @property
    def text(self) -> str:
        """As it is shown: `p95_ms <= 10`."""
        return f"{self.column} {'<=' if self.metric.sign > 0 else '>='} {self.value:.6g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitVerdict:
    """One limit at one point: the geometric mean over launches in its own unit, with the two-sided 95 % interval."""

    limit: str
    verdict: LimitOutcome
    reason: str = ""
    launches: int = 0
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Evidence:
    """The new side's launches of one point: their figures in the limit's unit, all samples together, and the class it
    pools with.
    """

    values: tuple[float, ...]
    samples: int
    device_class: str


def parse_limit(text: str) -> Limit:
    """`p95_ms=10` as a limit. Raises UsageError."""
    column, equals, number = (part.strip() for part in text.partition("="))
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not equals or column not in LIMITED or not 0 < value < math.inf:
        raise UsageError(
            f"{text!r} is no limit: write NAME=NUMBER with a positive number and one of {', '.join(LIMITED)}"
        )
    return Limit(column, value)


def judge_limits(
    limits: Sequence[Limit],
    standings: Sequence[Standing | None],
    readings: Sequence[Sequence[Reading]],
    device_classes: Sequence[str],
    settings: GateSettings,
) -> list[tuple[LimitVerdict, ...]]:
    """All limits at every point, in the order given: point by point what it stands at before any statistics (None: they
    decide), its readings on the new side, the class it pools with.
    """
    columns = []
    for limit in limits:
        evidence = [
            Evidence(
                tuple(float(getattr(each, limit.column) or "nan") for each in own), sum(each.n for each in own), kind
            )
            for own, standing, kind in zip(readings, standings, device_classes, strict=True)
            if standing is None
        ]
        judged = iter(judge_limit(limit, evidence, settings))
        columns.append(
            [
                next(judged) if each is None else LimitVerdict(limit=limit.text, verdict=each[0], reason=each[1])
                for each in standings
            ]
        )
    return [tuple(column[at] for column in columns) for at in range(len(standings))]


def judge_limit(limit: Limit, evidence: Sequence[Evidence], settings: GateSettings) -> list[LimitVerdict]:
    """Judge one limit at every point, in the order given."""
    from scipy.special import stdtr

    bound = limit.metric.sign * math.log(limit.value)
    lacks = [_find_lack(limit, each, settings) for each in evidence]
    sound = {i: _logs(limit.metric, each.values) for i, each in enumerate(evidence) if lacks[i] is None}
    estimates: dict[int, tuple[float, float, float]] = {}  # mean, half the interval's width, p
    for i, y in sound.items():
        peers = [z for other, z in sound.items() if evidence[other].device_class == evidence[i].device_class]
        pooled = math.fsum(map(_variance, peers)) / len(peers)
        sd = max(math.sqrt(max(_variance(y), pooled)), settings.sd_floor)
        df = sum(len(z) - 1 for z in peers)
        mean, error = math.fsum(y) / len(y), sd / math.sqrt(len(y))
        half = t_quantile(df, 0.5 + settings.confidence / 2) * error
        estimates[i] = mean, half, float(stdtr(df, -(mean - bound) / error))
    adjusted = adjust_holm([estimates[i][2] if i in estimates else 1.0 for i in range(len(evidence))])
    return [
        lack or _show(limit, len(evidence[i].values), *estimates[i][:2], failed=adjusted[i] <= settings.limit_alpha)
        for i, lack in enumerate(lacks)
    ]


def _find_lack(limit: Limit, evidence: Evidence, settings: GateSettings) -> LimitVerdict | None:
    """The verdict on evidence that cannot be judged; None where it can."""
    count, finite = len(evidence.values), len(_logs(limit.metric, evidence.values))
    if count < 2:
        reason = f"{count} launches on the new side, at least 2 are needed"
        return LimitVerdict(limit=limit.text, verdict="MISSING", reason=reason, launches=count)
    if finite < count:
        reason = f"no finite {limit.column} in {count - finite} of {count} launches"
        return LimitVerdict(limit=limit.text, verdict="MISSING", reason=reason, launches=count)
    needed = settings.pooled_samples(limit.metric.name)
    if evidence.samples < needed:
        reason = f"{limit.metric.name} needs {needed} samples over all launches, there are {evidence.samples}"
        return LimitVerdict(limit=limit.text, verdict="INCONCLUSIVE", reason=reason, launches=count)
    return None


def _show(limit: Limit, launches: int, mean: float, half: float, *, failed: bool) -> LimitVerdict:
    sign = limit.metric.sign
    low, high = sorted(math.exp(sign * end) for end in (mean - half, mean + half))
    value = math.exp(sign * mean)
    verdict: LimitOutcome = "INCONCLUSIVE"
    reason = f"{limit.column} is {value:.6g}, too near to the limit of {limit.value:.6g} to tell"
    if failed:
        verdict, reason = "FAIL", f"{limit.column} is {value:.6g}, the limit is {limit.value:.6g}"
    elif mean + half < sign * math.log(limit.value):
        verdict, reason = "PASS", ""
    return LimitVerdict(
        limit=limit.text, verdict=verdict, reason=reason, launches=launches, value=value, low=low, high=high
    )


def _logs(metric: Metric, values: Sequence[float]) -> list[float]:
    return [metric.sign * math.log(value) for value in values if 0 < value < math.inf]


def _variance(y: Sequence[float]) -> float:
    mean = math.fsum(y) / len(y)
    return math.fsum((each - mean) ** 2 for each in y) / (len(y) - 1)
