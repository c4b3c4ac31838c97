"""Machines in depth: their environments, and what each engine was seen to do there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, case, func, select

from benchrun.results.queries import CURRENT
from benchrun.results.records import UNMEASURED
from benchrun.results.schema import Environment, Measurement, Point, Run
from benchrun.results.views.frames import to_frame

if TYPE_CHECKING:
    import pandas as pd

EVIDENCE_COLUMNS = (
    "backend",
    "variant",
    "device",
    "dtype",
    "launches",
    "ok",
    "right",
    "unchecked",
    "invalid",
    "other",
    "worst",
)


@dataclass(frozen=True, slots=True)
class EnvironmentUse:
    """An environment with the runs that found it."""

    id: int
    fingerprint: str
    details: Mapping[str, Any]
    runs: int
    first: datetime | None
    last: datetime | None


def environment_uses(connection: Connection, fingerprint: str | None = None) -> list[EnvironmentUse]:
    """Environments, of one machine where given, the most recently used first."""
    query = (
        select(Environment.id, func.count(Run.id), func.min(Run.started), func.max(Run.started))
        .outerjoin(Run, Run.environment_id == Environment.id)
        .group_by(Environment.id)
    )
    if fingerprint is not None:
        query = query.where(Environment.fingerprint == fingerprint)
    uses = {int(row[0]): row[1:] for row in connection.execute(query)}
    rows = connection.execute(
        select(Environment.id, Environment.fingerprint, Environment.details).where(Environment.id.in_(list(uses)))
    )
    found = [EnvironmentUse(int(row[0]), row[1], row[2], *uses[int(row[0])]) for row in rows]
    return sorted(found, key=lambda use: (use.last is not None, use.last, use.id), reverse=True)


def engine_evidence(connection: Connection, fingerprint: str, runs: int = 20) -> pd.DataFrame:
    """What each engine and dtype did in the latest runs on a machine: launches that ended `ok`, answers that were right.

    `worst` is the largest relative L2 error of a right answer.
    """
    recent = (
        select(Run.id)
        .join(Environment, Environment.id == Run.environment_id)
        .where(Environment.fingerprint == fingerprint)
        .order_by(Run.started.desc())
        .limit(runs)
    )
    chosen = connection.execute(recent).scalars().all()

    def total(condition: Any) -> Any:
        return func.sum(case((condition, 1), else_=0))

    ok = Measurement.status == "ok"
    names = (Point.backend, Point.variant, Point.device, Point.dtype)
    query = (
        select(
            *names,
            func.count().label("launches"),
            total(ok).label("ok"),
            total(ok & Measurement.parity_ok.is_(True)).label("right"),
            total(ok & Measurement.parity_ok.is_(None)).label("unchecked"),
            total(Measurement.status == "invalid").label("invalid"),
            total(Measurement.status.not_in(("ok", "invalid"))).label("other"),
            func.max(case((ok & Measurement.parity_ok.is_(True), Measurement.parity_rel_l2))).label("worst"),
        )
        .join(Point, Point.key == Measurement.point_key)
        .where(Measurement.run_id.in_(chosen), CURRENT, Measurement.status != UNMEASURED)
        .group_by(*names)
        .order_by(*names)
    )
    return to_frame([dict(row) for row in connection.execute(query).mappings()], EVIDENCE_COLUMNS)


def flatten(details: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested details as `hardware.gpu.name` → text, in order."""
    found: dict[str, str] = {}
    for name, value in details.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= flatten(value, f"{path}.")
        elif isinstance(value, list | tuple):
            found[path] = ", ".join(str(each) for each in value)
        elif value is not None:
            found[path] = str(value)
    return found


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, str | None, str | None]]:
    """(path, first's, second's) of all details in which two environments differ; None where one lacks it."""
    one, two = flatten(first), flatten(second)
    return [
        (path, one.get(path), two.get(path)) for path in dict.fromkeys([*one, *two]) if one.get(path) != two.get(path)
    ]
