"""What changed: each series' latest run against the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import CTE, Connection, ScalarSelect, and_, func, select

from benchrun.results.queries import CURRENT
from benchrun.results.records import UNMEASURED
from benchrun.results.schema import Measurement, Point, Run, RunPoint
from benchrun.results.views.frames import POINT_COLUMNS, point_select, to_frame
from benchrun.results.views.ratios import add_ratios

if TYPE_CHECKING:
    import pandas as pd

MOST_SERIES = 4000
_SIDE = ("run_id", "status", "launches", "p50_ms", "log_p50_ms", "var_p50_ms")
COLUMNS = (
    *("point_key", "fingerprint", *POINT_COLUMNS),
    *(f"{name}_{side}" for side in ("new", "base") for name in _SIDE),
    *("run_label", "ratio", "ratio_low", "ratio_high", "word"),
)


def latest_changes(connection: Connection, runs: int = 12) -> pd.DataFrame:
    """One row for each series of the latest `runs` runs that an earlier run measured too: both sides, ratio and word.

    By host time. A side's status is its first failure, else `ok`. At most `MOST_SERIES` series: the latest runs' first.
    """
    recent = _recent_runs(connection, runs)
    if not recent:
        return to_frame([], COLUMNS)
    now = _latest(recent)
    before = _run_before(now)
    rows: list[dict[str, object]] = []
    sides = select(now, before.label("run_before")).limit(MOST_SERIES).cte("sides")
    for side, run in (("new", sides.c.run_id), ("base", sides.c.run_before)):
        query = (
            select(
                sides.c.point_key, sides.c.fingerprint, Measurement.run_id, Measurement.status, Measurement.host_p50_ms
            )
            .select_from(sides)
            .join(Measurement, and_(Measurement.run_id == run, Measurement.point_key == sides.c.point_key, CURRENT))
            .where(sides.c.run_before.is_not(None))
        )
        rows += [{**row, "side": side} for row in connection.execute(query).mappings()]
    return _pair(connection, rows)


def _recent_runs(connection: Connection, limit: int) -> list[str]:
    """The latest runs, fewer where they planned very many points."""
    latest = select(Run.id).order_by(Run.started.desc(), Run.id.desc()).limit(limit)
    found: list[str] = []
    planned = 0
    for run_id in connection.execute(latest).scalars().all():
        planned += int(connection.execute(select(func.count()).where(RunPoint.run_id == run_id)).scalar_one())
        if found and planned > MOST_SERIES:
            break
        found.append(run_id)
    return found


def _latest(recent: list[str]) -> CTE:
    """The last of the recent runs that has an outcome of each series, with the moment its first launch began."""
    started = func.min(Measurement.started).label("began")
    each = (
        select(Measurement.point_key, Measurement.fingerprint, Measurement.run_id, started)
        .where(Measurement.run_id.in_(recent), CURRENT, Measurement.status != UNMEASURED)
        .group_by(Measurement.run_id, Measurement.point_key, Measurement.fingerprint)
        .cte("each")
    )
    place = func.row_number().over(partition_by=(each.c.point_key, each.c.fingerprint), order_by=each.c.began.desc())
    ranked = select(each, place.label("place")).cte("ranked")
    names = ("point_key", "fingerprint", "run_id", "began")
    return select(*(ranked.c[name] for name in names)).where(ranked.c.place == 1).cte("latest")


def _run_before(now: CTE) -> ScalarSelect[str]:
    """The last earlier run with an `ok` launch of the series: one seek in ix_measurements_series."""
    earlier = Measurement.__table__.alias("earlier")
    return (
        select(earlier.c.run_id)
        .where(earlier.c.point_key == now.c.point_key, earlier.c.fingerprint == now.c.fingerprint)
        .where(earlier.c.started < now.c.began, earlier.c.run_id != now.c.run_id)
        .where(earlier.c.status == "ok", ~earlier.c.superseded)
        .order_by(earlier.c.started.desc())
        .limit(1)
        .correlate(now)
        .scalar_subquery()
    )


def _pair(connection: Connection, rows: list[dict[str, object]]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    if not rows:
        return to_frame([], COLUMNS)
    frame = pd.DataFrame(rows)
    frame["p50"] = pd.to_numeric(frame["host_p50_ms"], errors="coerce").where(lambda value: value > 0)
    frame["log"] = np.log(frame["p50"])
    frame["bad"] = frame["status"].where(~frame["status"].isin(["ok", UNMEASURED]))
    grouped = frame.groupby(["side", "point_key", "fingerprint"], sort=False)
    sides = grouped.agg(
        run_id=("run_id", "first"),
        status=("bad", "first"),
        launches=("p50", "count"),
        p50_ms=("p50", "mean"),
        log_p50_ms=("log", "mean"),
        var_p50_ms=("log", "var"),
    ).reset_index()
    sides["status"] = sides["status"].fillna("ok")
    sides.loc[sides["status"] != "ok", ["p50_ms", "log_p50_ms", "var_p50_ms"]] = np.nan
    new, base = (sides[sides["side"] == side].drop(columns="side") for side in ("new", "base"))
    pairs = new.merge(base, on=["point_key", "fingerprint"], suffixes=("_new", "_base"))
    pairs = pairs.merge(_points(connection, pairs["point_key"].unique().tolist()), on="point_key")
    chosen = select(Run.id, Run.label).where(Run.id.in_(pairs["run_id_new"].unique().tolist()))
    labels = {row.id: row.label for row in connection.execute(chosen)}
    pairs["run_label"] = pairs["run_id_new"].map(labels)
    return add_ratios(pairs)[list(COLUMNS)]


def _points(connection: Connection, keys: list[str]) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for start in range(0, len(keys), 500):
        query = select(Point.key.label("point_key"), *point_select()).where(Point.key.in_(keys[start : start + 500]))
        rows += [dict(row) for row in connection.execute(query).mappings()]
    return to_frame(rows, ("point_key", *POINT_COLUMNS))
