"""The roofline of one machine: its measured ceilings, and every point measured there with what it achieved."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from benchrun.results.ceilings import load_ceilings
from benchrun.results.queries import CURRENT, measurement_row, point_row
from benchrun.results.roofline import Position, best_ceilings, pick_roof, place, threads_of
from benchrun.results.schema import Measurement, Point, Run

if TYPE_CHECKING:
    import pandas as pd

ROOF_COLUMNS = ("device", "dtype", "threads", "flops_s", "bytes_s", "launch_s", "ridge_flops_per_byte", "measured")
PLACE_COLUMNS = (
    *(
        "run_id",
        "point_key",
        "model",
        "head",
        "backend",
        "variant",
        "device",
        "dtype",
        "batch",
        "seq",
        "status",
        "flags",
    ),
    *("threads", "p50_ms", "flops", "least_bytes", "joules_per_seq"),
    *(f.name for f in fields(Position)),
)


def roofs(connection: Connection, fingerprint: str) -> pd.DataFrame:
    """One row for each dtype (and thread count, on CPUs) of a machine: the flat part of its roof in FLOP/s, the slope in bytes/s, and the
    intensity at which they meet (FLOP a byte). Unspoilt ceilings before spoilt ones, then the latest. Empty before `benchrun ceilings`."""
    ceilings = best_ceilings(load_ceilings(connection, fingerprint))
    copies = {each.threads: each.value for each in ceilings if each.quantity == "copy"}
    launches = {each.threads: each.value for each in ceilings if each.quantity == "launch"}
    rows = [
        {
            "device": each.device,
            "dtype": each.dtype,
            "threads": each.threads,
            "flops_s": each.value,
            "bytes_s": (copy := copies.get(each.threads)),
            "launch_s": launches.get(each.threads),
            "ridge_flops_per_byte": each.value / copy if copy else None,
            "measured": each.measured,
        }
        for each in ceilings
        if each.quantity == "matmul"
    ]
    return _frame(rows, ROOF_COLUMNS)


def placed_points(connection: Connection, fingerprint: str, run_id: str | None = None) -> pd.DataFrame:
    """Every measured point of a machine (of one run where given) under its roof: `flops_per_byte` is its place on the axis,
    `tflop_s` what it achieved, `ceiling` what binds it."""
    ceilings = load_ceilings(connection, fingerprint)
    query = (
        select(Measurement, Point)
        .join(Point, Point.key == Measurement.point_key)
        .join(Run, Run.id == Measurement.run_id)
        .where(Measurement.fingerprint == fingerprint, CURRENT, Measurement.status.in_(("ok", "invalid")))
        .order_by(Run.started, Measurement.id)
    )
    if run_id is not None:
        query = query.where(Measurement.run_id == run_id)
    rows = []
    for found in connection.execute(query).mappings():
        row, point = measurement_row(found), point_row(found)
        summary = row.device or row.host
        rows.append(
            {name: getattr(point, name, None) for name in PLACE_COLUMNS}
            | {name: getattr(row, name) for name in ("status", "flags", "flops", "least_bytes", "joules_per_seq")}
            | {"run_id": found["run_id"], "point_key": point.key, "p50_ms": summary.p50_ms if summary else None}
            | {"threads": threads_of(point)}
            | asdict(place(row, pick_roof(ceilings, point, row.started)))
        )
    return _frame(rows, PLACE_COLUMNS)


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))
