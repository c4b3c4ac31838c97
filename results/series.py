"""Launches of a point over all runs, oldest first: what its history and its noise are read from. Without pandas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, exists, func, select

from benchrun.results.queries import CURRENT, point_row
from benchrun.results.records import UNMEASURED
from benchrun.results.rows import PointRow
from benchrun.results.schema import Environment, GateLaunch, GateSide, Measurement, Point, Run

_OWN = ("benchrun", "gate")  # origins of runs that benchrun measured itself
_CLOCK_FIELDS = ("n", "mean_ms", "std_ms", "p50_ms", "p50_low_ms", "p50_high_ms", "autocorrelation")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPoint:
    """A point that was measured on a machine, in how many launches, and when last."""

    point: PointRow
    fingerprint: str
    launches: int
    latest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesLaunch:
    """One launch of a point. The figures are of the device's clock where it has one, else of the host's; None where
    there are none.
    """

    point_key: str
    fingerprint: str
    run_id: str
    run_label: str
    run_started: datetime
    commit: str | None
    version: str
    environment_id: int
    replicate: int
    started: datetime
    status: str
    n: int | None
    mean_ms: float | None
    std_ms: float | None
    p50_ms: float | None
    p50_low_ms: float | None
    p50_high_ms: float | None
    autocorrelation: float | None
    throughput_seq_s: float | None


def measured_points(connection: Connection) -> list[SeriesPoint]:
    """Every point of our own runs that has an outcome, once a machine, the latest first."""
    latest = func.max(Measurement.started)
    query = (
        select(Measurement.point_key, Measurement.fingerprint, func.count().label("launches"), latest.label("latest"))
        .join(Run, Run.id == Measurement.run_id)
        .where(CURRENT, Measurement.status != UNMEASURED, Run.origin.in_(_OWN))
        .group_by(Measurement.point_key, Measurement.fingerprint)
        .order_by(latest.desc(), Measurement.point_key)
    )
    rows = connection.execute(query).all()
    points: dict[str, PointRow] = {}
    keys = sorted({row.point_key for row in rows})
    for start in range(0, len(keys), 500):
        chosen = select(Point).where(Point.key.in_(keys[start : start + 500]))
        points |= {row["key"]: point_row(row) for row in connection.execute(chosen).mappings()}
    return [
        SeriesPoint(point=points[row.point_key], fingerprint=row.fingerprint, launches=row.launches, latest=row.latest)
        for row in rows
    ]


def point_launches(connection: Connection, keys: Sequence[str], fingerprint: str) -> list[SeriesLaunch]:
    """All launches of points on one machine, in the order taken; without those that a gate took to warm up."""
    warmed_up = exists().where(
        and_(
            GateLaunch.gate_id == GateSide.gate_id,
            GateLaunch.side == GateSide.side,
            GateLaunch.stage == 0,
            GateSide.run_id == Measurement.run_id,
            GateLaunch.place == Measurement.replicate,
        )
    )
    columns: dict[str, Any] = {
        "point_key": Measurement.point_key,
        "fingerprint": Measurement.fingerprint,
        "run_id": Measurement.run_id,
        "run_label": Run.label,
        "run_started": Run.started,
        "commit": Run.git_commit,
        "version": Run.version,
        "environment_id": Run.environment_id,
        "replicate": Measurement.replicate,
        "started": Measurement.started,
        "status": Measurement.status,
        "throughput_seq_s": Measurement.throughput_seq_s,
    }
    columns |= {name: getattr(Measurement, f"host_{name}") for name in _CLOCK_FIELDS}
    columns |= {f"device_{name}": getattr(Measurement, f"device_{name}") for name in _CLOCK_FIELDS}
    found: list[SeriesLaunch] = []
    for start in range(0, len(keys), 500):
        query = (
            select(*(column.label(name) for name, column in columns.items()))
            .join(Run, Run.id == Measurement.run_id)
            .join(Environment, Environment.id == Run.environment_id)
            .where(Measurement.point_key.in_(keys[start : start + 500]), Measurement.fingerprint == fingerprint)
            .where(CURRENT, Measurement.status != UNMEASURED, Run.origin.in_(_OWN), ~warmed_up)
        )
        found += [_launch(dict(row)) for row in connection.execute(query).mappings()]
    return sorted(found, key=lambda each: (each.started, each.run_id, each.replicate))


def _launch(row: dict[str, Any]) -> SeriesLaunch:
    device = {name: row.pop(f"device_{name}") for name in _CLOCK_FIELDS}
    return SeriesLaunch(**(row | device if device["p50_ms"] is not None else row))
