"""Series over time: all runs that measured a point on one machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from benchrun.results.records import UNMEASURED
from benchrun.results.schema import Environment, Measurement, Point, Run
from benchrun.results.views.frames import launches_frame, measurement_select, point_select, run_select

if TYPE_CHECKING:
    import pandas as pd

MOST_LAUNCHES = 3000


def series_results(connection: Connection, fingerprint: str, keys: Sequence[str]) -> pd.DataFrame:
    """Launches (see `frames.py`) of points on a machine, oldest first; the latest `MOST_LAUNCHES` of them."""
    query = (
        select(Measurement.point_key, *point_select(), *run_select(), *measurement_select())
        .join(Point, Point.key == Measurement.point_key)
        .join(Run, Run.id == Measurement.run_id)
        .join(Environment, Environment.id == Run.environment_id)
        .where(Measurement.point_key.in_(keys), Measurement.fingerprint == fingerprint)
        .where(~Measurement.superseded, Measurement.status != UNMEASURED)
        .order_by(Measurement.started.desc())
        .limit(MOST_LAUNCHES)
    )
    return launches_frame(connection.execute(query).mappings().all()[::-1])


def environment_details(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Details of environments by id."""
    query = select(Environment.id, Environment.details).where(Environment.id.in_(ids))
    return {int(row[0]): row[1] for row in connection.execute(query)}
