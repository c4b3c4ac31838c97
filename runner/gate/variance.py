"""What a machine's noise is made of, the slowdown it can detect, and the launches that a 5 % gate costs on it.

Model: y = point + session + drift · place + launch + what is left of the iterations' noise in the launch's median.
Sources: one-way analysis of variance for the sessions; Kalibera & Jones, ISMM 2013, for repeating at the level that
varies; chi-square interval of a variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.screen import size_confirmation
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.welch import adjust_holm, detectable_log_ratio, t_quantile

CHANCE = 0.01  # that any point is told to drift where none does, and to have waves
ALIKE = 0.4  # correlation of neighbouring launches that is worth telling


@dataclass(frozen=True, slots=True)
class SessionSeries:
    """One point's launches in one session, in the order taken: y = ±ln(figure) of each launch, and of its iterations.

    `within_sd` is the standard deviation of each launch's iterations as a fraction of their mean, `within_error` the
    standard error of its median, as a fraction; both may be empty.
    """

    session: str
    y: tuple[float, ...]
    within_sd: tuple[float, ...] = ()
    within_error: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Variance components of one point, all as fractions; NaN where the data cannot tell.

    `launch_sd` is what the gate sees between launches of a session, with its two-sided 95 % interval; `within_share`
    the part of that variance which the iterations' noise explains; `drift` the trend per launch with its standard
    error; `session_sd` what sessions differ by beyond their launches; `neighbours` the correlation of neighbouring
    launches; `paired_sd` the standard deviation of neighbours' differences over sqrt(2): clearly below `launch_sd`
    where analysing pairs would beat the unpaired test.
    """

    launches: int
    sessions: int
    launch_sd: float
    launch_sd_low: float
    launch_sd_high: float
    within_sd: float
    within_share: float
    drift: float
    drift_error: float
    session_sd: float
    neighbours: float
    paired_sd: float


def find_components(series: Sequence[SessionSeries]) -> Components:
    """Variance components of one point from its sessions. Raises UsageError where no session has two launches or a
    value is not finite.
    """
    if not all(math.isfinite(value) for each in series for value in each.y):
        raise UsageError("a launch has no finite figure: repeat the variance run, or leave that point out")
    runs = [each.y for each in sorted(series, key=lambda each: each.session) if each.y]
    freedom = sum(len(y) - 1 for y in runs)
    if freedom < 1:
        raise UsageError("variance between launches needs at least 2 launches in a session: ask for more")
    centred = [_centre(y) for y in runs]
    variance = math.fsum(value**2 for y in centred for value in y) / freedom
    low, high = _interval(variance, freedom)
    drift, drift_error = _drift(centred)
    pairs = [(a, b) for y in centred for a, b in pairwise(y)]
    between = math.fsum((a - b) ** 2 for a, b in pairs) / (2 * len(pairs))
    squares = math.fsum(value**2 for y in centred for value in y)
    within = [value for each in series for value in each.within_sd]
    errors = [value for each in series for value in each.within_error]
    return Components(
        launches=sum(len(y) for y in runs),
        sessions=len(runs),
        launch_sd=math.sqrt(variance),
        launch_sd_low=low,
        launch_sd_high=high,
        within_sd=_root_mean_square(within),
        within_share=min(1.0, _root_mean_square(errors) ** 2 / variance) if errors and variance > 0 else math.nan,
        drift=drift,
        drift_error=drift_error,
        session_sd=_session_sd(runs, variance),
        neighbours=math.fsum(a * b for a, b in pairs) / squares if squares > 0 and freedom >= 4 else math.nan,
        paired_sd=math.sqrt(between),
    )


def find_drifts(points: Sequence[Components]) -> list[bool]:
    """Which points drift beyond chance: two-sided t tests with the launches that there are, Holm-adjusted, so that one
    machine in a hundred without any drift is told of one, however many points it has.
    """
    return [p <= CHANCE for p in adjust_holm([_drift_p(each) for each in points])]


def find_waves(points: Sequence[Components]) -> list[bool]:
    """At which points neighbouring launches are alike: a correlation above 0.4, and beyond chance as for drifts. Bartlett's
    standard error of a correlation, 1/√launches, about −sessions/launches, for the means are taken off.
    """
    from scipy.special import ndtr

    p_values = [
        float(ndtr(-(each.neighbours + each.sessions / each.launches) * math.sqrt(each.launches)))
        if each.launches >= 10 and math.isfinite(each.neighbours)
        else 1.0
        for each in points
    ]
    adjusted = adjust_holm(p_values)
    return [each.neighbours > ALIKE and p <= CHANCE for each, p in zip(points, adjusted, strict=True)]


def _drift_p(components: Components) -> float:
    from scipy.special import stdtr

    freedom, size = components.launches - components.sessions - 1, abs(components.drift)
    if freedom < 1 or size == 0:
        return 1.0
    return 2 * float(stdtr(freedom, -size / components.drift_error)) if components.drift_error > 0 else 0.0


def find_detectable(sd: float, launches: int, settings: GateSettings | None = None) -> float:
    """The slowdown, as a fraction, that a gate of that many launches a side finds in 95 of 100 runs: MDE = 5.07 · sd
    · sqrt(2 / launches).
    """
    return math.expm1(detectable_log_ratio(sd, launches, (settings or GateSettings()).detectable_factor))


def size_single_stage(
    sd: float, points: int, slowdown: float = 0.05, *, alpha: float = 0.01, power: float = 0.95
) -> int:
    """Launches a side of a gate in one stage: k ≥ 2 · ((z(1 − alpha / points) + z(power)) · sd / ln(1 + slowdown))²,
    at least 2.
    """
    from scipy.special import ndtri

    z = float(ndtri(1 - alpha / points) + ndtri(power))
    return max(2, math.ceil(2 * (z * sd / math.log1p(slowdown)) ** 2))


def expect_launches(sd: float, points: int, settings: GateSettings | None = None, *, metrics: int = 2) -> float:
    """Launches a point that a gate on unchanged code costs on average, both sides, where all points have that normal
    noise.

    The metrics count as independent, so this is rather too much than too little. Discarded launches are not in it.
    """
    from scipy.special import ndtr

    settings = settings or GateSettings()
    k1 = settings.screen_launches
    error = sd * math.sqrt(2 / k1)
    quantile = t_quantile(max(1, points * (k1 - 1)), 0.5 + settings.confidence / 2)
    limit = min(math.log(settings.screen_ratio), math.log(settings.regression_ratio) - quantile * error)
    escalates = 1 - float(ndtr(limit / error)) ** metrics if error > 0 else 0.0
    return 2 * (k1 + escalates * size_fresh(sd, settings))


def size_fresh(sd: float, settings: GateSettings | None = None) -> int:
    """Fresh launches a side (k2) that an escalated point gets at that standard deviation."""
    import numpy as np

    return int(size_confirmation(np.array(sd), settings or GateSettings()))


def _centre(y: Sequence[float]) -> list[float]:
    mean = math.fsum(y) / len(y)
    return [value - mean for value in y]


def _interval(variance: float, freedom: int) -> tuple[float, float]:
    from scipy.special import chdtri  # inverse of the upper tail

    return (
        math.sqrt(variance * freedom / float(chdtri(freedom, 0.025))),
        math.sqrt(variance * freedom / float(chdtri(freedom, 0.975))),
    )


def _drift(centred: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Common slope per launch over all sessions, and its standard error."""
    places = [_centre(range(len(y))) for y in centred]
    spread = math.fsum(x * x for each in places for x in each)
    slope = (
        math.fsum(x * v for each, y in zip(places, centred, strict=True) for x, v in zip(each, y, strict=True)) / spread
    )
    freedom = sum(len(y) - 1 for y in centred) - 1
    if freedom < 1:
        return slope, math.nan
    rest = math.fsum(
        (v - slope * x) ** 2 for each, y in zip(places, centred, strict=True) for x, v in zip(each, y, strict=True)
    )
    return slope, math.sqrt(rest / freedom / spread)


def _session_sd(runs: Sequence[Sequence[float]], variance: float) -> float:
    """From the mean squares between and within sessions, with the effective size of unequal ones; not below 0."""
    count, total = len(runs), sum(len(y) for y in runs)
    if count < 2:
        return math.nan
    grand = math.fsum(value for y in runs for value in y) / total
    between = math.fsum(len(y) * (math.fsum(y) / len(y) - grand) ** 2 for y in runs) / (count - 1)
    size = (total - math.fsum(len(y) ** 2 for y in runs) / total) / (count - 1)
    return math.sqrt(max(0.0, (between - variance) / size))


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(math.fsum(value**2 for value in values) / len(values)) if values else math.nan
