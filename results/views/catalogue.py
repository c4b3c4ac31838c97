"""What there is to look at: groups of points that may share an axis, and the machines they were measured on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, case, cast, exists, func, select

from benchrun.results.layouts import split_layout, with_layouts
from benchrun.results.schema import Environment, Measurement, Point, Run


@dataclass(frozen=True, slots=True)
class Group:
    """Points that differ in engine, dtype, layout, batch and sequence length only: their figures may stand on one axis.

    `workload` is without the layout, for padded, bucketed and packed points answer the same questions. `overrides` is the JSON
    text of the model's changed settings. None: not recorded (imported points).
    """

    fingerprint: str
    device: str | None
    model: str | None
    overrides: str
    head: str | None
    workload: str | None
    protocol: str

    def conditions(self) -> list[ColumnElement[bool]]:
        """The group as conditions on `Point`; the machine is not among them."""
        return [
            equals(Point.model, self.model),
            equals(Point.head, self.head),
            equals(Point.device, self.device),
            Point.workload.in_(with_layouts(self.workload)) if self.workload else equals(Point.workload, self.workload),
            Point.protocol == self.protocol,
            cast(Point.overrides, Text) == self.overrides,
        ]


@dataclass(frozen=True, slots=True)
class GroupEntry:
    """A group with how many points of it were measured, and when last; `good`: any of them ever with a right answer."""

    group: Group
    points: int
    last: datetime
    good: bool = True


@dataclass(frozen=True, slots=True)
class Machine:
    """A hardware fingerprint with the environments found on it. `details` are those of the newest one."""

    fingerprint: str
    details: Mapping[str, Any]
    environments: int
    runs: int
    last: datetime | None


def equals(column: Any, value: str | None) -> ColumnElement[bool]:
    """`column = value`, or `column IS NULL` for None."""
    found: ColumnElement[bool] = column.is_(None) if value is None else column == value
    return found


def groups(connection: Connection) -> list[GroupEntry]:
    """All groups with at least one measurement, the most recently measured first."""
    prints = select(Environment.fingerprint).distinct().subquery("prints")
    last = (
        select(func.max(Measurement.started))  # one seek in ix_measurements_series
        .where(Measurement.point_key == Point.key, Measurement.fingerprint == prints.c.fingerprint)
        .correlate(Point, prints)
        .scalar_subquery()
    )
    names = ("device", "model", "overrides", "head", "workload", "protocol")
    columns = [
        (cast(Point.overrides, Text) if name == "overrides" else getattr(Point, name)).label(name) for name in names
    ]
    good = exists(Measurement.id).where(
        Measurement.point_key == Point.key, Measurement.fingerprint == prints.c.fingerprint, Measurement.status == "ok"
    )
    good_one = case((good.correlate(Point, prints), 1), else_=0).label("good")
    each = select(prints.c.fingerprint, *columns, last.label("last"), good_one).select_from(
        prints.join(Point, Point.key != "")
    )
    inner = each.subquery("measured")
    query = (
        select(
            *(inner.c[name] for name in ("fingerprint", *names)),
            func.count(),
            func.max(inner.c.last).label("newest"),
            func.max(inner.c.good).label("good"),
        )
        .where(inner.c.last.is_not(None))
        .group_by(*(inner.c[name] for name in ("fingerprint", *names)))
    )
    found: dict[Group, GroupEntry] = {}
    for row in connection.execute(query):
        mix = split_layout(row.workload)
        group = Group(*row[:5], mix[0] if mix else row.workload, row.protocol)
        known = found.get(group)
        count, last_of = (known.points, known.last) if known else (0, row.newest)
        good_before = known is not None and known.good
        found[group] = GroupEntry(group, count + int(row[7]), max(last_of, row.newest), good_before or bool(row.good))
    return sorted(found.values(), key=lambda entry: entry.last, reverse=True)


def machines(connection: Connection) -> list[Machine]:
    """All hardware fingerprints, the most recently used first."""
    query = (
        select(
            Environment.id,
            Environment.fingerprint,
            Environment.details,
            select(func.count()).where(Run.environment_id == Environment.id).scalar_subquery().label("runs"),
            select(func.max(Run.started)).where(Run.environment_id == Environment.id).scalar_subquery().label("last"),
        )
    ).order_by(Environment.id)
    return _merge_machines(connection.execute(query).mappings())


def _merge_machines(rows: Iterable[Mapping[Any, Any]]) -> list[Machine]:
    found: dict[str, Machine] = {}
    for row in rows:
        known = found.get(row["fingerprint"])
        times = [time for time in (row["last"], known.last if known else None) if time is not None]
        newest = known is None or (row["last"] is not None and row["last"] == max(times))
        found[row["fingerprint"]] = Machine(
            fingerprint=row["fingerprint"],
            details=row["details"] if newest or known is None else known.details,
            environments=1 + (known.environments if known else 0),
            runs=int(row["runs"]) + (known.runs if known else 0),
            last=max(times, default=None),
        )
    return sorted(found.values(), key=lambda machine: (machine.last is not None, machine.last), reverse=True)
