"""What an importer hands over: frozen data without any database, and the one exception that it raises.

Times of samples are whole nanoseconds, summaries milliseconds, throughput sequences a second. None means that the
file cannot know; an importer never guesses.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from benchrun.results.statistics import ReportedSummary

# How much of a figure can be checked, best first: every time is in the file and the statistics are ours; the tool's own
# statistics by its own definition; no more than a mean or a rate; whatever a user's column mapping says it is.
TRUST_LEVELS = ("samples", "summary", "mean", "mapped")


class ImportFailed(Exception):
    """A file that cannot be imported, in one sentence that names the file, the line and the field."""

    def __init__(self, problem: str, *, file: str, line: int | None = None, field: str | None = None) -> None:
        self.problem, self.file, self.line, self.field = problem, file, line, field
        place = file
        if line is not None:
            place += f", line {line}"
        if field:
            place += f", {field}"
        # names come from the file: a message must stay one line that a terminal can show
        super().__init__("".join(sign if sign.isprintable() else "?" for sign in f"{place}: {problem}"))


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of a file, with a name for messages (no path). `sha256` is of the bytes as they are."""

    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    def failed(self, problem: str, *, line: int | None = None, field: str | None = None) -> ImportFailed:
        """The exception for a problem in this file."""
        return ImportFailed(problem, file=self.name, line=line, field=field)

    def failing(self, line: int | None, field: str | None) -> Callable[[str], ImportFailed]:
        """`failed` for one place in this file."""
        return lambda problem: self.failed(problem, line=line, field=field)


@dataclass(frozen=True, slots=True)
class ForeignPoint:
    """What was measured, in benchrun's words. `protocol` names the tool, its clock and its percentile definition."""

    backend: str
    variant: str
    protocol: str
    model: str | None = None
    weights: str | None = None
    head: str | None = None
    device: str | None = None
    dtype: str | None = None
    batch: int | None = None
    seq: int | None = None
    workload: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ForeignMeasurement:
    """One outcome. A clock has either samples or what the tool reported of them, or neither."""

    point: ForeignPoint
    trust: str
    place: str  # where in the file: `line 3`, `benchmarks[2]`
    status: str = "ok"
    error: str | None = None
    host_ns: tuple[int, ...] | None = None
    device_ns: tuple[int, ...] | None = None
    host: ReportedSummary | None = None
    device: ReportedSummary | None = None
    throughput_seq_s: float | None = None
    throughput_isolated: bool | None = None
    throughput_window_s: float | None = None
    load_s: float | None = None
    first_run_s: float | None = None
    warmup_n: int | None = None
    peak_device_bytes: int | None = None
    peak_allocator_bytes: int | None = None
    peak_host_bytes: int | None = None
    started: datetime | None = None
    flags: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ForeignResult:
    """What one file says.

    `trust` is the lowest level among its measurements; `started` None where the file has no time.
    """

    format: str
    tool: str
    tool_version: str | None
    sha256: str
    measurements: tuple[ForeignMeasurement, ...]
    started: datetime | None = None
    hardware: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def trust(self) -> str:
        """The lowest trust level among the measurements."""
        return max((each.trust for each in self.measurements), key=TRUST_LEVELS.index)


def protocol_id(tool: str, version: str | int | None = None, **conditions: str | int | bool | None) -> str:
    """A protocol id such as `trtexec-11:graph=on,xfer=off,pct=linear`: `?` where a condition is not known."""

    def word(value: str | int | bool | None) -> str:
        if value is None:
            return "?"
        if isinstance(value, bool):
            return "on" if value else "off"
        return str(value)

    name = f"{tool}-{version}" if version is not None else tool
    return f"{name}:{','.join(f'{key}={word(value)}' for key, value in conditions.items())}"


_ASCENDING = ("min_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms", "max_ms")


def reported(
    n: int | None, figures: Mapping[str, float | None], fail: Callable[[str], ImportFailed]
) -> ReportedSummary:
    """A summary of `n` samples from figures in milliseconds by their column (`mean_ms`, `p95_ms`).

    Refused: a higher quantile below a lower one, or a mean outside of minimum and maximum. No samples can give that.
    """
    present = {name: ms for name in _ASCENDING if (ms := figures.get(name)) is not None}
    for low, high in itertools.pairwise(present):
        if present[low] > present[high]:
            raise fail(f"{low} {present[low]} is above {high} {present[high]}")
    mean, least, most = figures.get("mean_ms"), present.get("min_ms", 0.0), present.get("max_ms", math.inf)
    # a sum of float32 may round past the ends where all samples are equal
    if mean is not None and not least * (1 - 1e-5) <= mean <= most * (1 + 1e-5):
        raise fail(f"the mean {mean} ms is not between minimum and maximum")
    return ReportedSummary(n=n, **figures)  # type: ignore[arg-type]  # the names are all of float columns
