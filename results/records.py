"""What the store gives back: runs as they were planned, and what became of each point. Plain frozen data, no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from benchrun.results.roofline import Position, pick_roof, place
from benchrun.results.rows import CeilingRow, LaunchRow, MeasurementRow, PointRow, RunRow

UNMEASURED = "interrupted"  # the status of a planned point that has no row


@dataclass(frozen=True, slots=True)
class RunOverview:
    """One line of `benchrun runs`. `points` counts planned points; those neither `ok` nor `failed` were not measured (yet).
    `unsupported` are those of the `failed` that their engine cannot do at all.
    """

    id: str
    label: str
    started: datetime
    state: str
    points: int
    ok: int
    failed: int
    unsupported: int = 0


@dataclass(frozen=True, slots=True)
class EnvironmentRecord:
    """A stored environment and the runs made in it."""

    id: int
    fingerprint: str
    details: Mapping[str, Any]
    runs: int


@dataclass(frozen=True, slots=True)
class PlannedPoint:
    """A point of a run's plan: its place in the plan, and how many launches shall measure it."""

    ordinal: int
    replicates: int
    point: PointRow


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """A stored launch."""

    id: int
    row: LaunchRow


@dataclass(frozen=True, slots=True)
class StoredAttachment:
    """A text file of a measurement: `Store.attachment` reads it. The size is that of its UTF-8."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MeasurementRecord:
    """A stored measurement. `row` carries its scores by task and metric, its samples only where the run was read with
    `samples=True`, and never its attachments: those are listed here.
    """

    id: int
    launch_id: int | None
    row: MeasurementRow
    attachments: tuple[StoredAttachment, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """A run with its plan in order, its launches, and the latest measurement of each (point, replicate)."""

    run: RunRow
    points: tuple[PlannedPoint, ...]
    launches: tuple[LaunchRecord, ...]
    measurements: tuple[MeasurementRecord, ...]
    ceilings: tuple[CeilingRow, ...] = ()  # of the run's hardware, whenever they were measured

    def position(self, planned: PlannedPoint, row: MeasurementRow) -> Position:
        """Where a measurement of a point is under the ceilings of the run's hardware."""
        return place(row, pick_roof(self.ceilings, planned.point, row.started))

    @cached_property
    def by_point(self) -> Mapping[str, tuple[MeasurementRecord, ...]]:
        """Measurements of each planned point, by replicate; an empty tuple where there is none."""
        found: dict[str, list[MeasurementRecord]] = {planned.point.key: [] for planned in self.points}
        for measurement in self.measurements:
            found[measurement.row.point_key].append(measurement)
        return {key: tuple(sorted(rows, key=lambda each: each.row.replicate)) for key, rows in found.items()}

    def status(self, planned: PlannedPoint) -> str:
        """What became of a point over all its launches: see `point_status`."""
        return point_status([each.row.status for each in self.by_point[planned.point.key]], planned.replicates)


def point_status(statuses: list[str], replicates: int) -> str:
    """One status for a point from those of its launches, in order.

    The first real failure counts; otherwise `interrupted` where a launch is missing or was interrupted; otherwise `ok`.
    """
    failed = [status for status in statuses if status not in ("ok", UNMEASURED)]
    if failed:
        return failed[0]
    return "ok" if statuses.count("ok") >= replicates else UNMEASURED
