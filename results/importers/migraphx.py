"""MIGraphX `migraphx-driver perf`: the report at the end of its output, one or several in a file.

Host time of one evaluation and its finish, milliseconds. "Rate" and "Total time" are of the middle half of the runs
only, so neither is a mean or a throughput; Mean, Median, Min, Max and the percentiles (floor index) are of all runs.
"""

from __future__ import annotations

import re
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
from benchrun.results.importers.limits import collect, split_lines
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar

FORMAT = "migraphx"
_BATCH = re.compile(r"Batch size: (\S+)$")
_RATE = re.compile(r"Rate: (\S+?) ?(inferences/sec|/sec)$")
_TOTAL = re.compile(r"Total time: (\S+?)([a-z]+) ?(?:\((.*)\))?$")
_FIGURE = re.compile(r"(Min|Max|Mean|Median): (\S+?)([a-z]+)$")
_PERCENTILES = re.compile(r"Percentiles \(90%, 95%, 99%\): \((\S+?)([a-z]+), (\S+?)([a-z]+), (\S+?)([a-z]+)\)$")
_COMPLETE = re.compile(r"\[ MIGraphX Version: ([^\]]{1,100}) \] Complete(?:\([^)]{0,40}\))?: (.*)$")
_START = b"Total instructions time: "
_DTYPES = {"--fp16": "fp16", "--bf16": "bf16", "--int8": "int8", "--fp8": "fp8"}
_NAMES = {"Min": "min_ms", "Max": "max_ms", "Mean": "mean_ms", "Median": "p50_ms"}


def recognise(source: Source) -> bool:
    """Is this output of `migraphx-driver perf`?"""
    return _START in source.data and b"Rate: " in source.data


def parse(source: Source, sidecar: Sidecar = NO_SIDECAR) -> ForeignResult:
    """Read all reports of the file."""
    reports: list[dict[str, Any]] = []
    current: dict[str, Any] = {}
    version = None
    for number, raw in enumerate(split_lines(source), 1):
        line = raw.strip()
        if (done := _COMPLETE.match(line)) is not None:
            version = version or done[1].strip()
            if reports:
                reports[-1].setdefault("command", done[2][:20_000])
        else:
            _read_line(source, number, line, current)
            if line.startswith(_START.decode()):
                reports.append(current | {"line": number})
                current = {}
    if not reports:
        raise source.failed("has no complete report: 'Total instructions time' is missing")
    measurements = collect(source, (_measurement(source, each, sidecar) for each in reports))
    return ForeignResult(
        format=FORMAT,
        tool="migraphx-driver",
        tool_version=version,
        sha256=source.sha256,
        measurements=measurements,
        software={"migraphx": version} if version else {},
        warnings=("the printed rate is of the middle half of the runs; the throughput is batch / mean instead",),
    )


def _read_line(source: Source, number: int, line: str, found: dict[str, Any]) -> None:
    fail = source.failing(number, line.partition(":")[0][:40])
    if (batch := _BATCH.match(line)) is not None:
        found["batch"] = values.to_count(batch[1], fail, least=1)
    elif (rate := _RATE.match(line)) is not None:
        found["rate"] = values.to_rate(rate[1], fail)
    elif line.startswith("Total time: "):
        total = _TOTAL.match(line)
        if total is None:
            raise fail("is cut off or damaged")
        found["total_ms"] = _ms(total[1], total[2], fail)
        for part in (total[3] or "").split(", ") if total[3] else ():
            figure = _FIGURE.match(part)
            if figure is None:
                raise fail(f"{values.show(part)} is not a figure")
            found[_NAMES[figure[1]]] = _ms(figure[2], figure[3], fail)
    elif line.startswith("Percentiles "):
        quantiles = _PERCENTILES.match(line)
        if quantiles is None:
            raise fail("is cut off or damaged")
        for index, name in enumerate(("p90_ms", "p95_ms", "p99_ms")):
            found[name] = _ms(quantiles[2 * index + 1], quantiles[2 * index + 2], fail)


def _ms(number: str, unit: str, fail: values.Fail) -> float:
    return values.to_ms(number, values.to_unit(unit, fail), fail)


def _measurement(source: Source, report: dict[str, Any], sidecar: Sidecar) -> ForeignMeasurement:
    line = report["line"]
    figures = {name: value for name, value in report.items() if name.endswith("_ms") and name != "total_ms"}
    if "mean_ms" not in figures:
        problem = "has only 'Total time', the mean of the middle half of the runs; use a newer MIGraphX"
        raise source.failed(problem, line=line)
    command = report.get("command", "")
    words = command.split()
    dtype = next((_DTYPES[word] for word in words if word in _DTYPES), None)
    point = sidecar.complete(
        ForeignPoint(
            backend="migraphx",
            variant="driver",
            protocol=protocol_id(
                "migraphx-perf", clock="host", xfer=None if not words else "--enable-offload-copy" in words, pct="floor"
            ),
            device="rocm",
            dtype=dtype,
            batch=report.get("batch"),
        ),
        source,
    )
    mean = figures["mean_ms"]
    throughput = point.batch * 1e3 / mean if point.batch is not None and mean > 0 else None
    return ForeignMeasurement(
        point=point,
        trust="summary",
        place=f"report ending on line {line}",
        host=reported(_iterations(words, source.failing(line, "command")), figures, source.failing(line, "Total time")),
        throughput_seq_s=throughput,
        throughput_isolated=None if throughput is None else True,
        facts={
            name: value
            for name, value in (
                ("command", command or None),
                ("trimmed_mean_ms", report.get("total_ms")),
                ("trimmed_rate_s", report.get("rate")),
            )
            if value is not None
        },
    )


def _iterations(words: list[str], fail: values.Fail) -> int | None:
    """The number of runs, where the command line says it."""
    for index, word in enumerate(words[:-1]):
        if word in ("-n", "--iterations"):
            return values.to_count(words[index + 1], fail, least=1)
    return None
