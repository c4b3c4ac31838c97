"""Two stored runs, point by point: the ratio of their launches' figures with its interval. No verdict: across sessions
an interval of launches says less than it seems to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchrun.results.statistics import mean_of_known
from benchrun.runner.gate.launches import GATED_BY_DEFAULT, METRICS, log_value
from benchrun.runner.gate.readings import to_reading

if TYPE_CHECKING:
    from benchrun.results.records import MeasurementRecord, PlannedPoint, RunRecord
    from benchrun.results.rows import PointRow

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMetric:
    """One metric: geometric means in its own unit, the ratio of times new ÷ base, and its Welch interval over launches;
    None where there is none (an interval takes two launches a side).
    """

    metric: str
    base: float | None
    new: float | None
    ratio: float | None
    low: float | None
    high: float | None
    launches_base: int
    launches_new: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SideState:
    """What is known of one side's figures beside them: the flags of its good launches, and means over these of the share of the ceiling and
    of the energy; None where not known.
    """

    flags: tuple[str, ...] = ()
    ceiling_share: float | None = None
    joules_per_seq: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPoint:
    """A point of both runs; without metrics where one has nothing to compare, as `remark` says."""

    key: str
    label: str
    metrics: tuple[ComparedMetric, ...]
    remark: str = ""
    base: SideState = SideState()
    new: SideState = SideState()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs side by side. `same_session`: both are sides of one gate run."""

    base: str
    new: str
    same_session: bool
    remarks: tuple[str, ...]
    points: tuple[ComparedPoint, ...]
    only_base: tuple[str, ...]
    only_new: tuple[str, ...]


def compare_records(base: RunRecord, new: RunRecord) -> Comparison:
    """Compare two runs by the keys of their points."""
    gate = base.run.request.get("gate") if base.run.origin == new.run.origin == "gate" else None
    same_session = gate is not None and gate == new.run.request.get("gate")
    theirs = {planned.point.key: planned for planned in new.points}
    ours = {planned.point.key: planned for planned in base.points}
    points = tuple(
        _compare_point(each.point, base.by_point[key], new.by_point[key], _state(base, each), _state(new, theirs[key]))
        for key, each in ours.items()
        if key in theirs
    )
    return Comparison(
        base=base.run.id,
        new=new.run.id,
        same_session=same_session,
        remarks=tuple(_remarks(base, new, same_session=same_session)),
        points=points,
        only_base=tuple(label_row(each.point) for key, each in ours.items() if key not in theirs),
        only_new=tuple(label_row(each.point) for key, each in theirs.items() if key not in ours),
    )


def label_row(point: PointRow) -> str:
    """`torch:eager bert-base encoder fp32 b1 s128 cpu`, or the name of a foreign benchmark."""
    if "benchmark" in point.options:
        return str(point.options["benchmark"])
    words = (point.model, point.head, point.dtype, point.batch and f"b{point.batch}", point.seq and f"s{point.seq}")
    return " ".join(str(word) for word in (f"{point.backend}:{point.variant}", *words, point.device) if word)


def _remarks(base: RunRecord, new: RunRecord, *, same_session: bool) -> list[str]:
    found = []
    if base.run.id == new.run.id:
        found.append("both are the same run: every ratio is 1, and says nothing")
    elif not same_session:
        found.append("cross-session: the runs were not measured in turns, and sessions differ; 'benchrun gate' decides")
    if base.run.environment.fingerprint != new.run.environment.fingerprint:
        found.append("the hardware differs: the ratios compare machines as much as anything else")
    ours, theirs = (each.run.environment.details.get("libraries", {}) for each in (base, new))
    differ = [
        f"{name} {ours.get(name, 'none')} > {theirs.get(name, 'none')}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    if differ:
        found.append(f"libraries differ: {', '.join(differ)}")
    return found


def _state(record: RunRecord, planned: PlannedPoint) -> SideState:
    good = [each.row for each in record.by_point[planned.point.key] if each.row.status == "ok"]
    return SideState(
        flags=tuple(sorted({flag for row in good for flag in row.flags})),
        ceiling_share=mean_of_known(record.position(planned, row).ceiling_share for row in good),
        joules_per_seq=mean_of_known(row.joules_per_seq for row in good),
    )


def _compare_point(
    point: PointRow,
    base: Sequence[MeasurementRecord],
    new: Sequence[MeasurementRecord],
    ours: SideState,
    theirs: SideState,
) -> ComparedPoint:
    label = label_row(point)
    good = [[each for each in side if each.row.status == "ok" and each.row.host] for side in (base, new)]
    for side, name in zip(good, ("base", "new"), strict=True):
        if not side:
            return ComparedPoint(key=point.key, label=label, metrics=(), remark=f"the {name} run has no good launch")
    clock = "device" if all(each.row.device is not None for side in good for each in side) else "host"
    metrics = []
    for name in GATED_BY_DEFAULT:
        metric = METRICS[name]
        logs = [
            [log_value(metric, getattr(to_reading(point.key, each.row, clock), metric.column)) for each in side]
            for side in good
        ]
        metrics.append(_compare_metric(name, *([y for y in side if math.isfinite(y)] for side in logs)))
    known = tuple(each for each in metrics if each.ratio is not None)
    return ComparedPoint(key=point.key, label=label, metrics=known, base=ours, new=theirs)


def _compare_metric(name: str, base: Sequence[float], new: Sequence[float]) -> ComparedMetric:
    import numpy as np

    from benchrun.runner.gate.welch import moments, welch

    sign = METRICS[name].sign
    ratio = low = high = None
    if base and new:
        y = np.array([*base, *new])[:, None]
        mask = np.array([True] * len(base) + [False] * len(new))[:, None]
        contrast = welch(moments(y, mask), moments(y, ~mask))
        difference = float(contrast.difference[0])
        margin = float(contrast.margin(CONFIDENCE)[0])
        ratio = math.exp(difference)
        if math.isfinite(margin):
            low, high = math.exp(difference - margin), math.exp(difference + margin)
    return ComparedMetric(
        metric=name,
        base=math.exp(sign * math.fsum(base) / len(base)) if base else None,
        new=math.exp(sign * math.fsum(new) / len(new)) if new else None,
        ratio=ratio,
        low=low,
        high=high,
        launches_base=len(base),
        launches_new=len(new),
    )
