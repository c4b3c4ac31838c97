"""Any CSV with a header, through a column mapping in the sidecar.

    [columns]
    batch = "Batch"
    mean_ms = {column = "latency", unit = "us"}           # or unit_column = "unit"
    sample_ms = {column = "time", unit = "s"}             # a row for each sample, instead of summaries
    [protocol]
    name = "my-harness"                                    # becomes the protocol id, with clock and pct
    clock = "host"                                         # or device
    delimiter = ";"

What a column means is the user's word: trust level `mapped`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchrun.results.importers import values
from benchrun.results.importers.foreign import (
    ForeignMeasurement,
    ForeignPoint,
    ForeignResult,
    ImportFailed,
    Source,
    protocol_id,
    reported,
)
from benchrun.results.importers.limits import collect
from benchrun.results.importers.sheets import Row, read_rows
from benchrun.results.importers.sidecar import DTYPES, Sidecar
from benchrun.results.rows import STATUSES

FORMAT = "csv"
NAMES = ("model", "weights", "head", "backend", "variant", "device", "dtype", "workload")
COUNTS = ("batch", "seq")
TIMES = ("mean_ms", "std_ms", "min_ms", "max_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms")
SAMPLE = "sample_ms"
OTHERS = ("n", "throughput_seq_s", "status", "error", "started")
KNOWN = (*NAMES, *COUNTS, *TIMES, SAMPLE, *OTHERS)
MAX_SAMPLES = 1_000_000
_PROTOCOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", re.ASCII)
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class Column:
    """A mapped column: its name in the file, and its unit of time or the column that holds it."""

    name: str
    unit: str = "ms"
    unit_column: str | None = None


def recognise(_source: Source) -> bool:
    """Never: without a mapping a CSV says nothing."""
    return False


def parse(source: Source, sidecar: Sidecar) -> ForeignResult:
    """Read the rows as the sidecar maps them: a measurement for each row, or for each point where rows are samples."""
    mapping = read_mapping(sidecar)
    clock = _word(sidecar, "clock", ("host", "device"), "host")
    delimiter = _word(sidecar, "delimiter", _DELIMITERS, ",")
    protocol = _protocol(sidecar, clock, SAMPLE in mapping)
    rows = _rows(source, sidecar, mapping, delimiter)
    if SAMPLE in mapping:
        found: Iterable[ForeignMeasurement] = _from_samples(rows, source, sidecar, mapping, clock, protocol)
    else:
        found = (_from_row(row, source, sidecar, mapping, clock, protocol) for row in rows)
    measurements = collect(source, found)
    if not measurements:
        raise source.failed("has no rows of data")
    started = [each.started for each in measurements if each.started is not None]
    return ForeignResult(
        format=FORMAT,
        tool=str(sidecar.protocol.get("name", "unknown")),
        tool_version=None,
        sha256=source.sha256,
        measurements=measurements,
        started=min(started, default=None),
    )


def read_mapping(sidecar: Sidecar) -> dict[str, Column]:
    """The table `columns` of a sidecar; `ImportFailed` where it is missing or says something unknown."""
    if not sidecar.columns:
        raise sidecar.failed('a CSV needs a column mapping: a table [columns] in a sidecar: mean_ms = "latency"')
    found: dict[str, Column] = {}
    for name, given in sidecar.columns.items():
        place = f"columns.{values.show(name)}"
        if name not in KNOWN:
            raise sidecar.failed(f"is not known; a column may be {', '.join(KNOWN)}", field=place)
        entry: Mapping[str, Any] = {"column": given} if isinstance(given, str) else given
        timed = name in TIMES or name == SAMPLE
        allowed = ("column", "unit", "unit_column") if timed else ("column",)
        if not isinstance(entry, dict) or not all(key in allowed and isinstance(entry[key], str) for key in entry):
            raise sidecar.failed(f"is neither a column's name nor a table of {', '.join(allowed)}", field=place)
        if not entry.get("column"):
            raise sidecar.failed("names no column", field=place)

        def fail(problem: str, field: str = place) -> ImportFailed:
            return sidecar.failed(problem, field=field)

        found[name] = Column(entry["column"], values.to_unit(entry.get("unit", "ms"), fail), entry.get("unit_column"))
    if SAMPLE in found and any(name in found for name in (*TIMES, "n")):
        raise sidecar.failed(f"has {SAMPLE} and summaries: rows are either samples or summaries", field="columns")
    if not any(name in found for name in (*TIMES, SAMPLE, "throughput_seq_s")):
        figures = ", ".join((*TIMES, SAMPLE, "throughput_seq_s"))
        raise sidecar.failed(f"maps no figure; map one of {figures}", field="columns")
    return found


def _rows(source: Source, sidecar: Sidecar, mapping: Mapping[str, Column], delimiter: str) -> Iterator[Row]:
    """The rows of data, under headers that have every mapped column."""
    checked: tuple[str, ...] | None = None
    for row in read_rows(source, delimiter=delimiter):
        if row.columns is not checked:
            checked = row.columns
            for name, column in mapping.items():
                for wanted in (column.name, column.unit_column):
                    if wanted is not None and wanted not in checked:
                        shown = ", ".join(map(values.show, checked[:20]))
                        problem = f"{source.name} has no column {values.show(wanted)}; it has {shown}"
                        raise sidecar.failed(problem, field=f"columns.{name}")
        yield row


def _protocol(sidecar: Sidecar, clock: str, samples: bool) -> str:
    name = sidecar.protocol.get("name", "unnamed")
    if not isinstance(name, str) or not _PROTOCOL_NAME.fullmatch(name):
        raise sidecar.failed(f"{values.show(name)} is not a short name", field="protocol.name")
    conditions: dict[str, str | int | bool | None] = {"clock": clock}
    for key, value in sorted(sidecar.protocol.items()):
        if key in ("name", "clock", "delimiter"):
            continue
        if not isinstance(value, str | int | bool) or not _PROTOCOL_NAME.fullmatch(key):
            problem = "is neither text, a whole number nor true or false"
            raise sidecar.failed(problem, field=f"protocol.{values.show(key)}")
        if isinstance(value, str) and not _PROTOCOL_NAME.fullmatch(value):
            raise sidecar.failed(f"{values.show(value)} is not a short word", field=f"protocol.{key}")
        conditions[key] = value
    conditions["pct"] = "linear" if samples else conditions.get("pct")
    return protocol_id(f"csv-{name}", **conditions)


def _word(sidecar: Sidecar, key: str, allowed: tuple[str, ...], default: str) -> str:
    value = sidecar.protocol.get(key, default)
    if value not in allowed:
        problem = f"{values.show(value)} is not one of {', '.join(map(repr, allowed))}"
        raise sidecar.failed(problem, field=f"protocol.{key}")
    return str(value)


def _point(row: Row, source: Source, sidecar: Sidecar, mapping: Mapping[str, Column], protocol: str) -> ForeignPoint:
    told: dict[str, Any] = {}
    for name in NAMES:
        if (column := mapping.get(name)) is not None and (text := row.text(column.name)) is not None:
            told[name] = text
    for name in COUNTS:
        if (column := mapping.get(name)) is not None:
            told[name] = row.count(column.name, least=1)
    if told.get("dtype") not in (None, *DTYPES):
        raise row.failed(f"{values.show(told['dtype'])} is not one of {', '.join(DTYPES)}", mapping["dtype"].name)
    told.setdefault("backend", "unknown")
    told.setdefault("variant", "unknown")
    return sidecar.complete(ForeignPoint(protocol=protocol, **told), source)


def _ms(row: Row, column: Column) -> float | None:
    unit = column.unit
    if column.unit_column is not None:
        unit = values.to_unit(row.text(column.unit_column), row.failing(column.unit_column))
    return row.ms(column.name, unit)


def _from_row(
    row: Row, source: Source, sidecar: Sidecar, mapping: Mapping[str, Column], clock: str, protocol: str
) -> ForeignMeasurement:
    figures = {name: _ms(row, mapping[name]) for name in TIMES if name in mapping}
    n = row.count(mapping["n"].name, least=1) if "n" in mapping else None
    summary = reported(n, figures, row.failed) if any(ms is not None for ms in figures.values()) else None
    rate = row.rate(mapping["throughput_seq_s"].name) if "throughput_seq_s" in mapping else None
    status = (row.text(mapping["status"].name) or "ok") if "status" in mapping else "ok"
    if status.lower() not in STATUSES:
        raise row.failed(f"{values.show(status)} is not one of {', '.join(STATUSES)}", mapping["status"].name)
    if status.lower() == "ok" and summary is None and rate is None:
        raise row.failed("has no figure, though its status is ok")
    moment = row.text(mapping["started"].name) if "started" in mapping else None
    return ForeignMeasurement(
        point=_point(row, source, sidecar, mapping, protocol),
        trust="mapped",
        place=f"line {row.line}",
        status=status.lower(),
        error=row.text(mapping["error"].name) if "error" in mapping and status.lower() != "ok" else None,
        throughput_seq_s=rate,
        started=values.to_moment(moment, row.failing(mapping["started"].name))[0] if moment else None,
        host=summary if clock == "host" else None,
        device=summary if clock == "device" else None,
    )


def _from_samples(
    rows: Iterator[Row],
    source: Source,
    sidecar: Sidecar,
    mapping: Mapping[str, Column],
    clock: str,
    protocol: str,
) -> list[ForeignMeasurement]:
    samples: dict[tuple[str, ...], list[int]] = {}
    points: dict[tuple[str, ...], tuple[ForeignPoint, int]] = {}
    identity = [mapping[name].name for name in (*NAMES, *COUNTS) if name in mapping]
    for total, row in enumerate(rows, 1):
        if total > MAX_SAMPLES:
            raise source.failed(f"has over {MAX_SAMPLES:,} samples; split it", line=row.line)
        cells = tuple(row.cells[row.columns.index(name)].strip() for name in identity)
        if cells not in points:
            points[cells] = _point(row, source, sidecar, mapping, protocol), row.line
        ms = _ms(row, mapping[SAMPLE])
        if ms is None:
            raise row.failed("is empty", mapping[SAMPLE].name)
        samples.setdefault(cells, []).append(round(ms * 1e6))
    return [
        ForeignMeasurement(
            point=points[cells][0],
            trust="mapped",
            place=f"rows from line {points[cells][1]}",
            host_ns=tuple(taken) if clock == "host" else None,
            device_ns=tuple(taken) if clock == "device" else None,
        )
        for cells, taken in samples.items()
    ]
