"""A run as a flat table: one row per measurement, the same columns for CSV, Parquet and data frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

from benchrun.results.plain import plain_json
from benchrun.results.records import RunRecord
from benchrun.results.rows import MeasurementRow, Parity, PointRow
from benchrun.results.statistics import Summary

Kind = Literal["text", "integer", "figure", "truth", "time", "json", "samples"]

_KINDS: dict[str, Kind] = {
    "str": "text",
    "int": "integer",
    "float": "figure",
    "bool": "truth",
    "datetime": "time",
    "Mapping[str, Any]": "json",
    "tuple[str, ...]": "json",
}
_RUN: dict[str, Kind] = {
    "run_id": "text",
    "label": "text",
    "run_started": "time",
    "origin": "text",
    "version": "text",
    "git_commit": "text",
    "fingerprint": "text",
    "measurement_id": "integer",
    "launch_id": "integer",
}
_PLACE: dict[str, Kind] = {
    "tflop_s": "figure",
    "gbyte_s": "figure",
    "flops_per_byte": "figure",
    "ceiling_share": "figure",
    "ceiling": "text",
    "seq_per_joule": "figure",
}
_NESTED = ("point_key", "host", "device", "parity", "host_samples", "device_samples")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the flat table. `json` cells are mappings or lists, `samples` cells arrays of nanoseconds, any cell may be None."""

    name: str
    kind: Kind


def _kind(annotation: Any) -> Kind:
    return _KINDS[str(annotation).removesuffix(" | None")]


COLUMNS: tuple[Column, ...] = (
    *(Column(name, kind) for name, kind in _RUN.items()),
    *(Column(f.name, _kind(f.type)) for f in fields(PointRow)),
    *(Column(f.name, _kind(f.type)) for f in fields(MeasurementRow) if f.name not in _NESTED),
    *(Column(name, kind) for name, kind in _PLACE.items()),
    *(Column(f"{clock}_{f.name}", _kind(f.type)) for clock in ("host", "device") for f in fields(Summary)),
    *(Column(f"parity_{f.name}", _kind(f.type)) for f in fields(Parity)),
    *(Column(f"{clock}_samples_ns", "samples") for clock in ("host", "device")),
)


def flat_rows(record: RunRecord) -> Iterator[dict[str, Any]]:
    """The measurements of a run in the order of its plan, each with all of `COLUMNS`."""
    run = record.run
    of_run = {
        "run_id": run.id,
        "label": run.label,
        "run_started": run.started,
        "origin": run.origin,
        "version": run.version,
        "git_commit": run.commit,
        "fingerprint": run.environment.fingerprint,
    }
    for planned in record.points:
        of_point = {f.name: _plain(getattr(planned.point, f.name)) for f in fields(PointRow)}
        for measurement in record.by_point[planned.point.key]:
            ids = {"measurement_id": measurement.id, "launch_id": measurement.launch_id}
            position = record.position(planned, measurement.row)
            place = {name: getattr(position, name) for name in _PLACE if name != "seq_per_joule"}
            joules = measurement.row.joules_per_seq
            place["seq_per_joule"] = 1 / joules if joules else None
            yield of_run | ids | of_point | place | _measurement(measurement.row)


def _measurement(row: MeasurementRow) -> dict[str, Any]:
    cells = {f.name: _plain(getattr(row, f.name)) for f in fields(MeasurementRow) if f.name not in _NESTED}
    for clock, summary in (("host", row.host), ("device", row.device)):
        cells |= {f"{clock}_{f.name}": getattr(summary, f.name, None) for f in fields(Summary)}
    cells |= {f"parity_{f.name}": getattr(row.parity, f.name, None) for f in fields(Parity)}
    return cells | {"host_samples_ns": row.host_samples, "device_samples_ns": row.device_samples}


def _plain(value: Any) -> Any:
    return plain_json(value) if isinstance(value, dict | tuple) else value
