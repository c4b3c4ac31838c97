"""What failed lately."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from benchrun.results.queries import CURRENT
from benchrun.results.records import UNMEASURED
from benchrun.results.rows import STATUSES
from benchrun.results.schema import Measurement, Point, Run
from benchrun.results.views.frames import POINT_COLUMNS, point_select, to_frame

if TYPE_CHECKING:
    import pandas as pd

FAILURES = tuple(status for status in STATUSES if status not in ("ok", UNMEASURED))
COLUMNS = (
    *("run_id", "run_label", "run_started", "point_key", *POINT_COLUMNS),
    *("replicate", "status", "phase", "error", "parity_reason", "peak_device_bytes", "peak_host_bytes"),
)


def latest_failures(connection: Connection, runs: int = 12, limit: int = 60) -> pd.DataFrame:
    """Failed launches of the latest runs, the latest run first, in the order of measuring; `limit` at most."""
    recent = select(Run.id).order_by(Run.started.desc(), Run.id.desc()).limit(runs)
    chosen = connection.execute(recent).scalars().all()
    query = (
        select(
            *(Measurement.run_id, Run.label.label("run_label"), Run.started.label("run_started")),
            *(Measurement.point_key, *point_select(), Measurement.replicate, Measurement.status, Measurement.phase),
            *(Measurement.error, Measurement.parity_reason, Measurement.peak_device_bytes, Measurement.peak_host_bytes),
        )
        .join(Run, Run.id == Measurement.run_id)
        .join(Point, Point.key == Measurement.point_key)
        .where(Measurement.run_id.in_(chosen), CURRENT, Measurement.status.in_(FAILURES))
        .order_by(Run.started.desc(), Measurement.run_id, Measurement.ordinal)
        .limit(limit)
    )
    return to_frame([dict(row) for row in connection.execute(query).mappings()], COLUMNS)
