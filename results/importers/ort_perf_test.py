"""onnxruntime_perf_test: what it prints (from 1.11 on), and its result file with a line for each run.

Host clock, seconds; the average is in milliseconds. Neither names shape, precision or device. A run is a whole batch,
so inferences per second are multiplied by the batch, where the sidecar tells it.
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
from benchrun.results.importers.limits import split_lines
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar

FORMAT = "onnxruntime-perf-test"
_LINE = re.compile(r"([A-Z][A-Za-z0-9 ]{2,60}?): ?(\S+) ?(\S*)$", re.ASCII)
_RUN = re.compile(r"([^,\n]{0,300}),([^,\n]{1,40}),(\d{1,18}),(-?\d{1,6}),(\d{1,9})$", re.ASCII)
_TIMES = {
    "Min Latency": "min_ms",
    "Max Latency": "max_ms",
    "P50 Latency": "p50_ms",
    "P90 Latency": "p90_ms",
    "P95 Latency": "p95_ms",
    "P99 Latency": "p99_ms",
    "P999 Latency": "p99_9_ms",
}
_DURATIONS = (
    "Average inference time cost",
    "First inference time cost",
    "Session creation time cost",
    "Total inference time cost",
    "Total inference run time",
)
_PRINTED = b"Average inference time cost:"
_WITH_BATCH = "no throughput: inferences per second count runs of a whole batch; give the batch in the sidecar"


def recognise(source: Source) -> bool:
    """Is this output, or a result file, of onnxruntime_perf_test's?"""
    if _PRINTED in source.data:
        return True
    first = source.data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1000].partition(b"\n")[0].decode("utf-8", "replace")
    return _RUN.match(first.strip()) is not None


def parse(source: Source, sidecar: Sidecar = NO_SIDECAR) -> ForeignResult:
    """Read printed output or a result file."""
    lines = split_lines(source)
    read = _from_output if _PRINTED in source.data else _from_runs
    measurement = read(source, lines, sidecar)
    return ForeignResult(
        format=FORMAT,
        tool="onnxruntime_perf_test",
        tool_version=None,
        sha256=source.sha256,
        measurements=(measurement,),
        warnings=(_WITH_BATCH,) if measurement.throughput_seq_s is None else (),
    )


def _point(source: Source, sidecar: Sidecar, percentile: str) -> ForeignPoint:
    protocol = protocol_id("ort-perf-test", clock="host", xfer=None, pct=percentile)
    return sidecar.complete(ForeignPoint(backend="ort", variant="unknown", protocol=protocol), source)


def _from_output(source: Source, lines: list[str], sidecar: Sidecar) -> ForeignMeasurement:
    figures: dict[str, float] = {}
    found: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.match(line.strip())
        if match is None:
            continue
        name, value, unit = match.groups()
        fail = source.failing(number, name)
        if name in _TIMES:
            figures[_TIMES[name]] = values.to_ms(value, values.to_unit(unit, fail), fail)
        elif name in _DURATIONS:
            found[name] = values.to_ms(value, values.to_unit(unit, fail), fail)
        elif name == "Total inference requests":
            found[name] = values.to_count(value, fail, least=1)
        elif name == "Number of inferences per second":
            found[name] = values.to_rate(value, fail)
        elif name == "Peak working set size":
            found[name] = values.to_count(value, fail, most=2**60)
    if "Average inference time cost" not in found:
        raise source.failed("has no average: the line 'Average inference time cost' is cut off")
    busy, window = found.get("Total inference time cost"), found.get("Total inference run time")
    concurrent = busy is not None and window is not None and busy > 1.1 * window
    point = _point(source, sidecar, "floor")
    rate = found.get("Number of inferences per second")
    throughput = rate * point.batch if rate is not None and point.batch is not None else None
    return ForeignMeasurement(
        point=point,
        trust="summary" if "p95_ms" in figures else "mean",
        place="printed summary",
        host=reported(
            found.get("Total inference requests"),
            {"mean_ms": found["Average inference time cost"], **figures},
            source.failed,
        ),
        throughput_seq_s=throughput,
        throughput_isolated=None if throughput is None else True,
        throughput_window_s=window / 1e3 if window is not None else None,
        load_s=found["Session creation time cost"] / 1e3 if "Session creation time cost" in found else None,
        first_run_s=found["First inference time cost"] / 1e3 if "First inference time cost" in found else None,
        peak_host_bytes=found.get("Peak working set size"),
        flags=("concurrent-requests",) if concurrent else (),
        facts={"inferences_s": rate} if rate is not None else {},
    )


def _from_runs(source: Source, lines: list[str], sidecar: Sidecar) -> ForeignMeasurement:
    samples: list[int] = []
    model = peak = None
    for number, line in enumerate(lines, 1):
        match = _RUN.match(line.strip())
        if match is None:
            if not line.strip() or _LINE.match(line.strip()):  # statistics may follow (-s): ours are from the times
                continue
            raise source.failed("is not a line of a result file: model,seconds,bytes,cpu,run", line=number)
        fail = source.failing(number, "seconds")
        if int(match[5]) != len(samples):
            problem = f"is run {match[5]}, but {len(samples)} was expected: several runs in one file are not told apart"
            raise source.failed(problem, line=number)
        if match[2].isdigit() and int(match[2]) >= 1000:
            raise fail(f"{match[2]} is not a time in seconds: versions before 1.0 wrote nanoseconds")
        samples.append(values.to_ns(match[2], "s", fail))
        model, peak = match[1].strip() or None, int(match[3])
    if not samples:
        raise source.failed("has no runs")
    return ForeignMeasurement(
        point=_point(source, sidecar, "linear"),
        trust="samples",
        place="all lines",
        host_ns=tuple(samples),
        peak_host_bytes=peak if peak is not None and peak < 2**60 else None,
        facts={"model_folder": values.to_name(model, source.failing(1, "model"))} if model else {},
    )
