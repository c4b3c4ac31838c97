"""onnxruntime's transformers `benchmark.py`: the CSV of details (`-d`), and the CSV of results (`-r`, averages only).

Milliseconds on the host clock, printed with two decimals. The file is appended to, so header rows stand between data
rows. `latency_variance` is a variance of seconds times 1000 and is ignored. PyTorch on a GPU is timed without a
synchronise: that is launch time, and such a row is `invalid`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from benchrun.results.importers import values
from benchrun.results.importers.foreign import (
    ForeignMeasurement,
    ForeignPoint,
    ForeignResult,
    Source,
    protocol_id,
    reported,
)
from benchrun.results.importers.limits import collect
from benchrun.results.importers.sheets import Row, read_rows
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar
from benchrun.results.statistics import ReportedSummary

FORMAT = "onnxruntime-benchmark"
_DETAIL = ("engine", "model_name", "batch_size", "sequence_length", "average_latency_ms")
_RESULTS = ("model_name", "engine", "providers", "precision")
_CELL = re.compile(r"b(\d{1,9})(?:_s(\d{1,9}))?", re.ASCII)
_ENGINES = {"onnxruntime": ("ort", None), "torch": ("torch", "eager"), "torch2": ("torch", "compile"),
            "torchscript": ("torch", "torchscript"), "tensorflow": ("tensorflow", "unknown")}  # fmt: skip
_DTYPES = {"fp32": "fp32", "fp16": "fp16", "int8": "int8", "float32": "fp32", "float16": "fp16"}
_NO_SYNC = "benchmark.py times PyTorch on a GPU without a synchronise: this is launch time, not latency"


def recognise(source: Source) -> bool:
    """Is this a CSV of benchmark.py's?"""
    first = source.data.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0].decode("ascii", "replace")
    columns = first.strip().split(",")
    return all(name in columns for name in _DETAIL) or (
        all(name in columns for name in _RESULTS) and any(_CELL.fullmatch(name) for name in columns)
    )


def parse(source: Source, sidecar: Sidecar = NO_SIDECAR) -> ForeignResult:
    """Read either CSV: a measurement for each row of details, or for each filled cell of the results."""
    versions: set[str] = set()
    measurements = collect(source, _measurements(source, sidecar, versions))
    if not measurements:
        raise source.failed("has no rows of data")
    moments = [each.started for each in measurements if each.started is not None]
    warnings = ["times are printed with two decimals: figures below 0.5 ms are known to no better than 1 %"]
    if moments:
        warnings.append("the rows' times of day name no timezone and were read as UTC")
    if any(each.status == "invalid" for each in measurements):
        warnings.append(_NO_SYNC)
    if len(versions) > 1:
        warnings.append(f"rows of several versions of onnxruntime: {', '.join(sorted(versions))}")
    return ForeignResult(
        format=FORMAT,
        tool="onnxruntime benchmark.py",
        tool_version=min(versions) if len(versions) == 1 else None,
        sha256=source.sha256,
        measurements=measurements,
        started=min(moments, default=None),
        software={"onnxruntime": min(versions)} if len(versions) == 1 else {},
        warnings=tuple(warnings),
    )


def _measurements(source: Source, sidecar: Sidecar, versions: set[str]) -> Iterator[ForeignMeasurement]:
    """A measurement for each row or cell; notes the versions of onnxruntime met on the way."""
    for row in read_rows(source):
        detail = "average_latency_ms" in row.columns
        if not detail and not any(_CELL.fullmatch(name) for name in row.columns):
            if "model_filename" in row.columns:
                raise source.failed("is the CSV of fusion counts, which has no times")
            raise row.failed("is not a row of benchmark.py: there is no column 'average_latency_ms'")
        engine = row.name("engine")
        if engine == "onnxruntime" and (version := row.text("version")):
            versions.add(version)
        if detail:
            yield _from_detail(row, sidecar, source)
        else:
            yield from _from_results(row, sidecar, source)


def _from_detail(row: Row, sidecar: Sidecar, source: Source) -> ForeignMeasurement:
    batch = row.count("batch_size", least=1)
    mean = row.ms("average_latency_ms", "ms")
    if mean is None:
        raise row.failed("is empty", "average_latency_ms")
    figures = {f"p{q}_ms": row.ms(f"latency_{q}_percentile", "ms") for q in (90, 95, 99)}
    host = reported(row.count("test_times", least=1), {"mean_ms": mean, **figures}, row.failed)
    moment = row.text("datetime")
    started = values.to_moment(moment, row.failing("datetime"))[0] if moment else None
    seq = row.count("sequence_length", least=1)
    return _measurement(row, batch, seq, host, row.rate("QPS"), "summary", started, sidecar, source)


def _from_results(row: Row, sidecar: Sidecar, source: Source) -> list[ForeignMeasurement]:
    found = []
    for column in row.columns:
        shape = _CELL.fullmatch(column)
        if shape is None or (mean := row.ms(column, "ms")) is None:
            continue
        batch = values.to_count(shape[1], row.failing(column), least=1)
        seq = values.to_count(shape[2], row.failing(column), least=1) if shape[2] else None
        host = ReportedSummary(mean_ms=mean)
        found.append(_measurement(row, batch, seq, host, None, "mean", None, sidecar, source))
    return found


def _measurement(
    row: Row,
    batch: int | None,
    seq: int | None,
    host: ReportedSummary,
    rate: float | None,
    trust: str,
    started: datetime | None,
    sidecar: Sidecar,
    source: Source,
) -> ForeignMeasurement:
    engine, device = row.name("engine"), row.text("device")
    backend, variant = _ENGINES.get(engine, (engine, "unknown"))
    precision = row.text("precision")
    no_sync = backend == "torch" and device is not None and device.startswith("cuda")
    point = ForeignPoint(
        backend=backend,
        variant=variant or _provider(row.text("providers")),
        protocol=protocol_id(
            "ort-benchmark",
            clock="host",
            sync="none" if no_sync else "call",
            binding={"True": "on", "False": "off"}.get(row.text("io_binding") or ""),
            pct="linear" if trust == "summary" else "none",
        ),
        model=row.name("model_name"),
        device=device,
        dtype=_DTYPES.get(precision) if precision else None,
        batch=batch,
        seq=seq,
        workload="padded",  # random ids of full length
        options=_options(row),
    )
    return ForeignMeasurement(
        point=sidecar.complete(point, source),
        trust=trust,
        place=f"line {row.line}",
        status="invalid" if no_sync else "ok",
        error=_NO_SYNC if no_sync else None,
        host=host,
        throughput_seq_s=rate,
        throughput_isolated=None if rate is None else True,
        started=started,
        facts={name: text for name in ("version", "providers", "precision") if (text := row.text(name))},
    )


def _provider(providers: str | None) -> str:
    if not providers:
        return "unknown"
    return providers.removesuffix("ExecutionProvider").lower()


def _options(row: Row) -> Mapping[str, Any]:
    """What tells rows of one model and shape apart."""
    return {
        name: text
        for name in ("optimizer", "inputs", "threads", "custom_layer_num", "io_binding")
        if (text := row.text(name)) is not None
    }
