"""From stored launches to what a machine's noise is made of, the slowdown that a gate finds there, and what it costs.

A *session* is one run. Its first launch is left out: it warms the machine up, as in a gate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.launches import GATED_BY_DEFAULT, METRICS, log_value
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.variance import (
    Components,
    SessionSeries,
    expect_launches,
    find_components,
    find_detectable,
    find_drifts,
    find_waves,
    size_fresh,
    size_single_stage,
)

if TYPE_CHECKING:
    from benchrun.results.series import SeriesLaunch

Z = 1.959964  # two-sided 95 % of a normal


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricNoise:
    """One metric of one point. `sd` is what a gate would reckon with: the larger of the point's own and the pooled one.

    `fresh` launches a side would confirm an alarm; `detectable` is the slowdown that they find in 95 of 100 gates.
    """

    metric: str
    components: Components
    sd: float
    fresh: int
    detectable: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PointNoise:
    """One point: `figures` are empty and `reason` says why where its launches tell nothing. `p50_ms` is the mean.
    `drifts`: p50 has a trend over the session, beyond chance among all the points of the report.
    """

    key: str
    label: str
    device_class: str
    launches: int
    p50_ms: float
    figures: tuple[MetricNoise, ...] = ()
    reason: str = ""
    drifts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseReport:
    """`pooled` maps (device class, metric) to the standard deviation between launches, pooled over the points.

    `gate_launches` a point, both sides, is what a gate on unchanged code costs on average; `gate_s` how long it takes,
    NaN where that is unknown. `settles`: a 5 % gate comes to a verdict here. `detectable` is the largest of the points'.
    """

    run_id: str
    fingerprint: str
    sessions: int
    points: tuple[PointNoise, ...]
    pooled: Mapping[tuple[str, str], float]
    launch_s: float
    gate_launches: float
    gate_s: float
    single_stage: int
    detectable: float
    settles: bool
    notes: tuple[str, ...]


def report_noise(
    run_id: str,
    names: Mapping[str, tuple[str, str]],
    launches: Sequence[SeriesLaunch],
    *,
    launch_s: float = math.nan,
    settings: GateSettings | None = None,
) -> NoiseReport:
    """Noise of the points in `names` (key → label and device class) from launches of the run and of earlier sessions.

    `launch_s` is what one launch takes for one point. Raises UsageError where no point has two launches of that run.
    """
    settings = settings or GateSettings()
    by_point = {key: [each for each in launches if each.point_key == key] for key in names}
    found = {
        key: {metric: _components(metric, rows, run_id) for metric in GATED_BY_DEFAULT if _told(metric, rows, run_id)}
        for key, rows in by_point.items()
        if _enough(rows, run_id)
    }
    if not found:
        raise UsageError(
            "no point has three ok launches, so there is nothing to tell its noise by: look at the run's failures with "
            f"'benchrun show {run_id}'"
        )
    pooled = _pool(found, names)
    points = _mark_drifts(
        [_point(key, *names[key], by_point[key], run_id, found.get(key, {}), pooled, settings) for key in names]
    )
    sds = {
        key: max(each.sd for each in point.figures) for key, point in zip(names, points, strict=True) if point.figures
    }
    cost = math.fsum(expect_launches(sd, len(sds), settings) for sd in sds.values()) / len(sds)
    detectable = max(each.detectable for point in points for each in point.figures)
    return NoiseReport(
        run_id=run_id,
        fingerprint=next((each.fingerprint for each in launches), ""),
        sessions=len({each.run_id for each in launches}),
        points=points,
        pooled=pooled,
        launch_s=launch_s,
        gate_launches=cost,
        gate_s=cost * len(sds) * launch_s,
        single_stage=size_single_stage(max(sds.values()), len(sds), settings.regression_ratio - 1),
        detectable=detectable,
        settles=detectable <= settings.regression_ratio - 1 + 1e-9,
        notes=_notes(points),
    )


def _enough(rows: Sequence[SeriesLaunch], run_id: str) -> bool:
    own = [each for each in rows if each.run_id == run_id]
    return bool(own) and all(each.status == "ok" for each in own) and len(own) >= 3


def _told(metric: str, rows: Sequence[SeriesLaunch], run_id: str) -> bool:
    return all(_value(metric, each) for each in rows if each.run_id == run_id)


def _components(metric: str, rows: Sequence[SeriesLaunch], run_id: str) -> Components:
    series = []
    for session, members in groupby(sorted(rows, key=lambda each: (each.run_id, each.replicate)), lambda x: x.run_id):
        kept = [each for each in members if each.status == "ok"][1:]  # the first warms up
        if session != run_id and (len(kept) < 2 or not all(_value(metric, each) for each in kept)):
            continue
        series.append(
            SessionSeries(
                session,
                tuple(log_value(METRICS[metric], _value(metric, each)) for each in kept),
                tuple(_within(each) for each in kept) if metric == "p50" else (),
                tuple(_median_error(each) for each in kept) if metric == "p50" else (),
            )
        )
    return find_components(series)


def _value(metric: str, launch: SeriesLaunch) -> float | None:
    return launch.p50_ms if metric == "p50" else launch.throughput_seq_s


def _within(launch: SeriesLaunch) -> float:
    return launch.std_ms / launch.mean_ms if launch.std_ms is not None and launch.mean_ms else 0.0


def _median_error(launch: SeriesLaunch) -> float:
    """Standard error of a launch's median, as a fraction: from its order-statistic interval, which takes iterations as
    independent, widened by sqrt((1 + rho) / (1 − rho)) for their lag-1 correlation.
    """
    if launch.p50_low_ms is None or launch.p50_high_ms is None or not launch.p50_ms:
        return 0.0
    rho = min(0.99, max(0.0, launch.autocorrelation or 0.0))
    return (launch.p50_high_ms - launch.p50_low_ms) / (2 * Z * launch.p50_ms) * math.sqrt((1 + rho) / (1 - rho))


def _pool(
    found: Mapping[str, Mapping[str, Components]], names: Mapping[str, tuple[str, str]]
) -> dict[tuple[str, str], float]:
    squares: dict[tuple[str, str], list[float]] = {}
    for key, metrics in found.items():
        for metric, components in metrics.items():
            squares.setdefault((names[key][1], metric), []).append(components.launch_sd**2)
    return {which: math.sqrt(math.fsum(each) / len(each)) for which, each in squares.items()}


def _point(
    key: str,
    label: str,
    device_class: str,
    rows: Sequence[SeriesLaunch],
    run_id: str,
    found: Mapping[str, Components],
    pooled: Mapping[tuple[str, str], float],
    settings: GateSettings,
) -> PointNoise:
    own = [each for each in rows if each.run_id == run_id]
    bad = [each for each in own if each.status != "ok"]
    medians = [each.p50_ms for each in own if each.p50_ms is not None]
    figures = []
    for metric, components in found.items():
        sd = max(components.launch_sd, pooled[device_class, metric], settings.sd_floor)
        fresh = size_fresh(sd, settings)
        figures.append(
            MetricNoise(
                metric=metric,
                components=components,
                sd=sd,
                fresh=fresh,
                detectable=max(find_detectable(sd, fresh, settings), settings.fail_ratio - 1),
            )
        )
    reason = ""
    if not figures:
        reason = f"{len(bad)} of {len(own)} launches are {bad[0].status}" if bad else f"only {len(own)} launches"
    return PointNoise(
        key=key,
        label=label,
        device_class=device_class,
        launches=len(own),
        p50_ms=math.fsum(medians) / len(medians) if medians else math.nan,
        figures=tuple(figures),
        reason=reason,
    )


def _notes(points: Sequence[PointNoise]) -> tuple[str, ...]:
    """What deserves attention before a gate is set up here."""
    notes = []
    figures = [each.components for point in points for each in point.figures if each.metric == "p50"]
    waves = sum(find_waves(figures))
    if waves:
        notes.append(
            f"neighbouring launches are alike at {waves} of {len(points)} points (correlation above 0.4): the machine "
            "has slow waves, which the order A B B A meets only in part"
        )
    drifts = sum(point.drifts for point in points)
    if drifts:
        notes.append(
            f"{drifts} of {len(points)} points drift over the session, beyond chance (99 %, the number of points reckoned with)"
        )
    return tuple(notes)


def _mark_drifts(points: Sequence[PointNoise]) -> tuple[PointNoise, ...]:
    told = {point.key: each.components for point in points for each in point.figures if each.metric == "p50"}
    drifting = dict(zip(told, find_drifts(list(told.values())), strict=True))
    return tuple(replace(point, drifts=drifting.get(point.key, False)) for point in points)
