"""How good the answers were: one row for each score of each launch, beside what the same launch measured of its speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, select

from benchrun.results.queries import CURRENT
from benchrun.results.schema import Environment, Measurement, Point, Run, ScoreValue
from benchrun.results.views.frames import POINT_COLUMNS, RUN_COLUMNS, point_select, run_select, to_frame

if TYPE_CHECKING:
    import pandas as pd

SCORE_COLUMNS = ("task", "metric", "value", "n", "reference")
COLUMNS = (
    *("point_key", *POINT_COLUMNS, *RUN_COLUMNS, "measurement_id", "replicate", "status", *SCORE_COLUMNS),
    *("host_p50_ms", "device_p50_ms", "throughput_seq_s"),
)
_NUMBERS = ("batch", "seq", "value", "n", "reference", "host_p50_ms", "device_p50_ms", "throughput_seq_s")


def load_scores(connection: Connection, *conditions: ColumnElement[bool]) -> pd.DataFrame:
    """All scores that count, or those that fit, by run, launch, task and metric; columns: `COLUMNS`."""
    import pandas as pd

    query = (
        select(
            Point.key.label("point_key"),
            *point_select(),
            *run_select(),
            Measurement.id.label("measurement_id"),
            Measurement.replicate,
            Measurement.status,
            *(getattr(ScoreValue, name) for name in SCORE_COLUMNS),
            Measurement.host_p50_ms,
            Measurement.device_p50_ms,
            Measurement.throughput_seq_s,
        )
        .select_from(ScoreValue)
        .join(Measurement, Measurement.id == ScoreValue.measurement_id)
        .join(Point, Point.key == Measurement.point_key)
        .join(Run, Run.id == Measurement.run_id)
        .join(Environment, Environment.id == Run.environment_id)
        .where(CURRENT, *conditions)
        .order_by(Run.started, Measurement.id, ScoreValue.task, ScoreValue.metric)
    )
    frame = to_frame([dict(row) for row in connection.execute(query).mappings()], COLUMNS)
    for name in _NUMBERS:
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("float64")
    return frame
