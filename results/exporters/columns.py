"""A run as a flat table: one row per measurement, the same columns for CSV, Parquet and data frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
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
    "tuple[Score, ...]": "json",
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
_NESTED = ("point_key", "host", "device", "parity", "host_samples", "device_samples", "attachments")


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


# Rows by the hundred thousand: names are looked up once, values fetched together.
_POINT_FIELDS = tuple(f.name for f in fields(PointRow))
_JSON_FIELDS = tuple(
    f.name for f in fields(MeasurementRow) if f.name not in (*_NESTED, "scores") and _kind(f.type) == "json"
)
_CELL_FIELDS = tuple(f.name for f in fields(MeasurementRow) if f.name not in (*_NESTED, *_JSON_FIELDS, "scores"))
_SUMMARY_FIELDS = tuple(f.name for f in fields(Summary))
_PARITY_FIELDS = tuple(f.name for f in fields(Parity))
_PLACE_FIELDS = tuple(name for name in _PLACE if name != "seq_per_joule")
_POINT_JSON = tuple(f.name for f in fields(PointRow) if _kind(f.type) == "json")
_get_point = attrgetter(*_POINT_FIELDS)
_get_cells, _get_place = attrgetter(*_CELL_FIELDS), attrgetter(*_PLACE_FIELDS)
_get_parts = {
    "parity": attrgetter(*_PARITY_FIELDS),
    "host": attrgetter(*_SUMMARY_FIELDS),
    "device": attrgetter(*_SUMMARY_FIELDS),
}
_PART_NAMES = {
    part: tuple(f"{part}_{name}" for name in (_PARITY_FIELDS if part == "parity" else _SUMMARY_FIELDS))
    for part in _get_parts
}
_NOTHING = {part: dict.fromkeys(names) for part, names in _PART_NAMES.items()}


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
        shared = of_run | dict(zip(_POINT_FIELDS, _get_point(planned.point), strict=True))
        for name in _POINT_JSON:
            shared[name] = plain_json(shared[name])
        for measurement in record.by_point[planned.point.key]:
            row = measurement.row
            place = dict(zip(_PLACE_FIELDS, _get_place(record.position(planned, row)), strict=True))
            place["seq_per_joule"] = 1 / row.joules_per_seq if row.joules_per_seq else None
            ids = {"measurement_id": measurement.id, "launch_id": measurement.launch_id}
            yield shared | ids | place | _measurement(row)


def _measurement(row: MeasurementRow) -> dict[str, Any]:
    cells = dict(zip(_CELL_FIELDS, _get_cells(row), strict=True))
    for name in _JSON_FIELDS:
        value = getattr(row, name)
        cells[name] = None if value is None else plain_json(value)
    cells["scores"] = [plain_json(asdict(each)) for each in row.scores]
    for part, value in (("host", row.host), ("device", row.device), ("parity", row.parity)):
        cells |= _NOTHING[part] if value is None else zip(_PART_NAMES[part], _get_parts[part](value), strict=True)
    cells["host_samples_ns"], cells["device_samples_ns"] = row.host_samples, row.device_samples
    return cells
