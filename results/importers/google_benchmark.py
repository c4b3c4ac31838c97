"""Google Benchmark (1.5 to 1.9): the JSON of `--benchmark_format=json` or `--benchmark_out`.

A row is the mean real time of its iterations on the host clock, in its own `time_unit`. Repetitions are rows of their
own; what is kept is their mean over all iterations, and the repetitions as facts: means have no percentile of single
iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchrun.results.importers.documents import Node, parse_json
from benchrun.results.importers.foreign import (
    ForeignMeasurement,
    ForeignPoint,
    ForeignResult,
    Source,
    protocol_id,
)
from benchrun.results.importers.limits import collect
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar
from benchrun.results.importers.values import to_moment, to_unit
from benchrun.results.statistics import ReportedSummary

FORMAT = "google-benchmark"


def recognise(source: Source) -> bool:
    """Is this a file of Google Benchmark's?"""
    return (
        source.data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
        and b'"benchmarks"' in source.data
        and b'"context"' in source.data
        and (b'"real_time"' in source.data or b'"num_cpus"' in source.data)
    )


def parse(source: Source, sidecar: Sidecar = NO_SIDECAR) -> ForeignResult:
    """Read all benchmarks, a measurement for each `run_name`."""
    document = parse_json(source)
    groups: dict[str, list[Node]] = {}
    for row in document.need("benchmarks").items():
        name = row.need("run_name" if row.get("run_name") is not None else "name").name()
        groups.setdefault(name, []).append(row)
    if not groups:
        raise document.need("benchmarks").failed("is empty: no benchmark ran")
    context = document.get("context")
    warnings = ["times are means over a row's iterations: no percentiles"]
    started = None
    if context is not None and (date := context.get("date")) is not None:
        started, zoned = to_moment(date.value, date.failed)
        if not zoned:
            warnings.append("the file's time of day names no timezone and was read as UTC")
    build = context.get("library_build_type") if context is not None else None
    if build is not None and build.value == "debug":
        warnings.append("the benchmark library itself is a debug build")
    return ForeignResult(
        format=FORMAT,
        tool="Google Benchmark",
        tool_version=each.name() if context is not None and (each := context.get("library_version")) else None,
        sha256=source.sha256,
        measurements=collect(source, (_measurement(source, name, rows, sidecar) for name, rows in groups.items())),
        started=started,
        hardware=_hardware(context) if context is not None else {},
        facts={"context": context.kept()} if context is not None else {},
        warnings=tuple(warnings),
    )


def _measurement(source: Source, name: str, rows: Sequence[Node], sidecar: Sidecar) -> ForeignMeasurement:
    point = sidecar.complete(
        ForeignPoint(
            backend="google-benchmark",
            variant="unknown",
            protocol=protocol_id("google-benchmark", clock="host", window="iterations", pct="none"),
            options={"benchmark": name},
        ),
        source,
    )
    place = f"benchmarks[{rows[0].path[-1]}]"
    failed = next((row for row in rows if _is_true(row, "error_occurred") or row.get("skipped") is not None), None)
    if failed is not None:
        message = next((each.name() for key in ("error_message", "skip_message") if (each := failed.get(key))), None)
        skipped = not _is_true(failed, "error_occurred") and failed.get("error_message") is None
        return ForeignMeasurement(
            point=point,
            trust="mean",
            place=place,
            status="skipped" if skipped else "error",
            error=message or "the benchmark says no more",
        )
    repetitions = [row for row in rows if (kind := row.get("run_type")) is None or kind.value == "iteration"]
    if not repetitions:
        host = _from_aggregates(rows)
        facts: dict[str, Any] = {}
    else:
        times = [_real_time(row) for row in repetitions]
        counts = [row.need("iterations").count(least=1) for row in repetitions]
        total = sum(counts)
        mean = sum(time * count for time, count in zip(times, counts, strict=True)) / total
        host = ReportedSummary(n=total if total < 2**31 else None, mean_ms=mean)
        facts = {"repetitions_ms": times[:1000], "iterations": counts[:1000]}
    if (items := rows[0].get("items_per_second")) is not None:
        facts["items_s"] = items.rate()  # what an item is, the file does not say
    batch = point.batch
    rate = batch * 1e3 / host.mean_ms if batch is not None and host.mean_ms else None
    return ForeignMeasurement(
        point=point,
        trust="mean",
        place=place,
        host=host,
        throughput_seq_s=rate,
        throughput_isolated=None if rate is None else True,
        facts=facts,
    )


def _from_aggregates(rows: Sequence[Node]) -> ReportedSummary:
    """`--benchmark_report_aggregates_only`:

    the mean of the repetitions; their median and deviation are not those of iterations.
    """
    for row in rows:
        if (kind := row.get("aggregate_name")) is not None and kind.value == "mean":
            return ReportedSummary(mean_ms=_real_time(row))
    raise rows[0].failed("has neither a repetition nor a mean of them")


def _real_time(row: Node) -> float:
    unit = row.get("time_unit")
    return row.need("real_time").ms(to_unit(unit.value, unit.failed) if unit is not None else "ns")


def _is_true(row: Node, name: str) -> bool:
    each = row.get(name)
    return each is not None and each.value is True


def _hardware(context: Node) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (cpus := context.get("num_cpus")) is not None:
        found["cores"] = cpus.count()
    if (host := context.get("host_name")) is not None:
        found["node"] = host.name()
    return found
