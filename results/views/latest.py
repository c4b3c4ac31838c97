"""The launches that stand for a point now: those of the last run that measured it on a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, and_, select

from benchrun.results.queries import CURRENT
from benchrun.results.records import UNMEASURED
from benchrun.results.schema import Environment, Measurement, Point, Run, RunPoint
from benchrun.results.views.catalogue import Group
from benchrun.results.views.frames import launches_frame, measurement_select, point_select, run_select

if TYPE_CHECKING:
    import pandas as pd

MOST_POINTS = 4000  # of one run that a view reads


def latest_results(connection: Connection, group: Group) -> pd.DataFrame:
    """Launches (see `frames.py`) of each point of a group in the last run that has an outcome of it on that machine.

    An `interrupted` launch is no outcome; any failure is one.
    """
    return latest_of(connection, group.fingerprint, *group.conditions())


def latest_of(connection: Connection, fingerprint: str, *conditions: ColumnElement[bool]) -> pd.DataFrame:
    """The same for the points that fit conditions on `Point`."""
    newest = Measurement.__table__.alias("newest")
    last_run = (
        select(newest.c.run_id)
        .where(newest.c.point_key == Point.key, newest.c.fingerprint == fingerprint)
        .where(newest.c.status != UNMEASURED, ~newest.c.superseded)
        .order_by(newest.c.started.desc())
        .limit(1)
        .correlate(Point)
        .scalar_subquery()
    )
    chosen = (
        select(Point.key.label("point_key"), *point_select(), last_run.label("last_run"))
        .where(*conditions)
        .cte("chosen")
    )
    query = (
        select(*chosen.c, *run_select(), *measurement_select())
        .select_from(chosen)
        .join(
            Measurement,
            and_(Measurement.run_id == chosen.c.last_run, Measurement.point_key == chosen.c.point_key, CURRENT),
        )
        .join(Run, Run.id == chosen.c.last_run)
        .join(Environment, Environment.id == Run.environment_id)
        .order_by(chosen.c.point_key, Measurement.replicate)
    )
    return launches_frame(connection.execute(query).mappings())


def run_results(connection: Connection, run_id: str) -> pd.DataFrame:
    """Launches of a run in the order of its plan; a planned point without any launch has one row with status None.

    A run of more than `MOST_POINTS` points is cut there.
    """
    query = (
        select(RunPoint.point_key, RunPoint.replicates, *point_select(), *run_select(), *measurement_select())
        .select_from(RunPoint)
        .join(Point, Point.key == RunPoint.point_key)
        .join(Run, Run.id == RunPoint.run_id)
        .join(Environment, Environment.id == Run.environment_id)
        .outerjoin(
            Measurement,
            and_(Measurement.run_id == RunPoint.run_id, Measurement.point_key == RunPoint.point_key, CURRENT),
        )
        .where(RunPoint.run_id == run_id, RunPoint.ordinal < MOST_POINTS)
        .order_by(RunPoint.ordinal, Measurement.replicate)
    )
    return launches_frame(connection.execute(query).mappings())
