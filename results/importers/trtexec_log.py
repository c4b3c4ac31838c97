"""The log of trtexec (TensorRT 8 to 11): shape, settings, device, and the performance summary.

Source of the words: TensorRT's samples/common/sampleOptions.cpp, sampleReporting.cpp, sampleDevice.cpp. TensorRT 11
changed three defaults: CUDA graph on, data transfers off, spin-wait on; the log of every version states what was
really set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchrun.results.importers import values
from benchrun.results.importers.foreign import Source, reported
from benchrun.results.importers.limits import split_lines
from benchrun.results.statistics import ReportedSummary

_PREFIX = re.compile(r"\s*(?:\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] )?\[[VIWEF]\] ?(.*)", re.ASCII)
_RUNNING = re.compile(
    r"&&&& (RUNNING|PASSED|FAILED) TensorRT\.trtexec \[TensorRT v(\d{4,6})\](?: \[b\d+\])? ?(?:# (.*))?", re.ASCII
)
_SHAPE = re.compile(r"Input inference shape ?: *([^=]*)=(\d[\dx]*)$", re.ASCII)
_METRIC = re.compile(r"(Latency|Enqueue Time|H2D Latency|GPU Compute Time|D2H Latency): (min = .*)")
_FIGURE = re.compile(r"(min|max|mean|median|percentile\(([\d.]+)%\)) = (\S+) (\S+)$", re.ASCII)
_TRACE = re.compile(r"Timing trace has (\d{1,15}) queries over (\S+) s$", re.ASCII)
_THROUGHPUT = re.compile(r"Throughput: (\S+) (\S+)$")
_VERSION = re.compile(r"TensorRT version: (\d{1,3}(?:\.\d{1,4}){0,3})$", re.ASCII)
_SWITCHES = {"Data transfers": "transfers", "Spin-wait": "spin", "CUDA Graph": "graph", "ExposeDMA": "expose_dma"}
_PERCENTILES = {50.0: "p50_ms", 90.0: "p90_ms", 95.0: "p95_ms", 99.0: "p99_ms", 99.9: "p99_9_ms"}


@dataclass(frozen=True, slots=True)
class TrtexecLog:
    """What a log says; None where it does not. `queries` are after the warm-up, `qps` queries a second as printed."""

    version: str | None = None
    command: str | None = None
    device: str | None = None
    precision: str | None = None
    graph: bool | None = None
    transfers: bool | None = None
    spin: bool | None = None
    expose_dma: bool | None = None
    streams: int | None = None
    implicit_batch: int | None = None  # --batch=N: the printed throughput counts it already
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    queries: int | None = None
    window_s: float | None = None
    qps: float | None = None
    metrics: Mapping[str, ReportedSummary] = field(default_factory=dict)
    passed: bool | None = None
    unstable: bool = False

    @property
    def major(self) -> int | None:
        """The major version of TensorRT."""
        return int(self.version.partition(".")[0]) if self.version else None


def read_version(digits: str) -> str:
    """`8401` is 8.4.1, `100300` is 10.3.0: from TensorRT 10 on there are two digits for each part."""
    number = int(digits)
    if number >= 10_000:
        return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
    return f"{number // 1000}.{number // 100 % 10}.{number % 100}"


def parse_log(source: Source) -> TrtexecLog:
    """Read a log. Lines that are not known are skipped; known ones must be well formed."""
    found: dict[str, Any] = {"shapes": {}, "metrics": {}}
    for number, raw in enumerate(split_lines(source), 1):
        if (running := _RUNNING.match(raw.strip())) is not None:
            found["version"] = found.get("version") or read_version(running[2])
            if running[3]:
                found["command"] = running[3][:20_000]
            if running[1] != "RUNNING":
                found["passed"] = running[1] == "PASSED"
            continue
        prefixed = _PREFIX.fullmatch(raw)
        if prefixed is not None:
            _read_line(source, number, prefixed[1].strip(), found)
    return TrtexecLog(**found)


def _read_line(source: Source, number: int, line: str, found: dict[str, Any]) -> None:
    name, _, value = (part.strip() for part in line.partition(":"))
    fail = source.failing(number, name[:40])
    if (version := _VERSION.match(line)) is not None:
        found["version"] = version[1]
    elif name in _SWITCHES and value in ("Enabled", "Disabled"):
        found[_SWITCHES[name]] = value == "Enabled"
    elif name in ("Inference Streams", "Streams"):
        found["streams"] = values.to_count(value, fail, least=1)
    elif name == "Selected Device" and value:
        found["device"] = values.to_name(value, fail)
    elif name == "Precision" and value:
        found["precision"] = values.to_name(value, fail)
    elif name == "Batch" and value != "Explicit":
        batch = values.to_count(value, fail)
        found["implicit_batch"] = batch or None
    elif (shape := _SHAPE.match(line)) is not None:
        sizes = tuple(values.to_count(part, fail) for part in shape[2].split("x") if part)
        found["shapes"][shape[1].strip()[:100]] = sizes
    elif (trace := _TRACE.match(line)) is not None:
        found["queries"] = int(trace[1])
        found["window_s"] = values.to_ms(trace[2], "s", fail) / 1e3
    elif (rate := _THROUGHPUT.match(line)) is not None:
        if rate[2] != "qps":
            raise fail(f"the unit is {values.show(rate[2])}, not qps")
        found["qps"] = values.to_rate(rate[1], fail)
    elif (metric := _METRIC.match(line)) is not None:
        found["metrics"][metric[1]] = _read_metric(metric[2], fail)
    elif name == "Host Latency" or line.startswith("throughput: "):  # TensorRT 7 printed one figure a line
        raise fail("this is TensorRT 7's summary, which is not read; import the file of --exportTimes")
    elif line.startswith("* GPU compute time is unstable"):
        found["unstable"] = True


def _read_metric(text: str, fail: values.Fail) -> ReportedSummary:
    """`min = … ms, max = … ms, mean = … ms, median = … ms, percentile(99%) = … ms`."""
    figures: dict[str, float] = {}
    for part in text.split(", "):
        found = _FIGURE.match(part.strip())
        if found is None:
            raise fail(f"{values.show(part)} is not a figure of trtexec's summary")
        if found[4] != "ms":
            raise fail(f"the unit is {values.show(found[4])}, not ms")
        if found[2] is not None:
            field_name = _PERCENTILES.get(values.to_number(found[2], fail))
        else:
            field_name = {"min": "min_ms", "max": "max_ms", "mean": "mean_ms", "median": "p50_ms"}[found[1]]
        ms = values.to_ms(found[3], "ms", fail)
        if field_name is not None:
            figures[field_name] = ms
    return reported(None, figures, fail)
