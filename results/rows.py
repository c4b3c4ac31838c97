"""The rows of the store as plain frozen data, independent of the database layer.

Units are in the names: `_ms` milliseconds, `_s` seconds, `_bytes` bytes, `_ns` nanoseconds, `_seq_s` sequences a second.
Times of day are timezone-aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from benchrun.results.statistics import ReportedSummary, Summary

    Samples = npt.NDArray[np.int64]  # nanoseconds, in the order they were taken

STATUSES = (
    "ok",
    "oom",
    "timeout",
    "crashed",
    "build_failed",
    "error",
    "unsupported",
    "invalid",
    "interrupted",
    "skipped",
)
RUN_STATES = ("running", "finished", "interrupted")
PHASES = ("plan", "build", "verify", "warmup", "measure")


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """Hardware, driver, libraries and clocks. `fingerprint` hashes the hardware core only (16 hex digits)."""

    fingerprint: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One invocation of benchrun, or one imported file (`origin` `import:trtexec`)."""

    id: str
    label: str
    started: datetime
    state: str
    environment: EnvironmentRow
    request: Mapping[str, Any] = field(default_factory=dict)  # what was asked for, enough to plan it again
    origin: str = "benchrun"
    version: str = ""  # of benchrun
    commit: str | None = None  # of the repository it was started in
    finished: datetime | None = None


@dataclass(frozen=True, slots=True)
class PointRow:
    """One thing that can be measured: the columns of a point, with its key.

    None (NULL in the store) is for imported points only: the foreign file could not know it. A point of our own has them all.
    """

    key: str
    model: str | None
    weights: str | None
    head: str | None
    backend: str
    variant: str
    device: str | None
    dtype: str | None
    batch: int | None
    seq: int | None
    workload: str | None
    protocol: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LaunchRow:
    """One worker process. `replicate` counts repetitions of the sweep from 0; `exit` is its exit status or signal name."""

    replicate: int
    pid: int
    started: datetime
    finished: datetime | None = None
    exit: str | None = None


@dataclass(frozen=True, slots=True)
class Parity:
    """The answer compared with the fp32 reference: relative L2 error, largest absolute error, cosine, gain, share of NaN."""

    rel_l2: float | None
    max_abs: float | None
    cosine: float | None
    gain: float | None
    nan_share: float
    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """How good the answers of a point are on a task (`squad`, `f1`, 90.8 over `n` questions); `reference` is the fp32 score."""

    task: str
    metric: str
    value: float
    n: int
    reference: float | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text file that belongs to a measurement: a log that LoadGen wrote, the predictions of an accuracy task."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class MeasurementRow:
    """The outcome of one point in one launch. A `ReportedSummary` is what a foreign tool printed without keeping samples."""

    point_key: str
    replicate: int
    ordinal: int  # order in which the launch took it up, from 0
    status: str
    started: datetime
    phase: str | None = None  # where it failed
    error: str | None = None  # one sentence
    host: Summary | ReportedSummary | None = None
    device: Summary | ReportedSummary | None = None
    throughput_seq_s: float | None = None
    throughput_batches: int | None = None
    throughput_window_s: float | None = None
    throughput_isolated: bool | None = None  # True: the isolated loop's own rate, not back to back
    tokens_s: float | None = None
    padding_fraction: float | None = None
    parity: Parity | None = None
    settled: bool | None = None
    timed_out: bool | None = None  # --max-time ended the loop before --iterations
    warmup_n: int | None = None
    warmup_s: float | None = None
    export_s: float | None = None
    compile_s: float | None = None
    load_s: float | None = None
    build_s: float | None = None  # all of prepare
    first_run_s: float | None = None
    artefact_bytes: int | None = None
    cache_hit: bool | None = None
    peak_device_bytes: int | None = None
    peak_allocator_bytes: int | None = None
    peak_host_bytes: int | None = None
    flops: float | None = None  # floating-point operations of one call
    least_bytes: int | None = None  # bytes that one call moves at least
    least_launches: int | None = None  # kernels that one call launches at least
    energy_joules: float | None = None  # of the throughput window; None where the counter is too coarse for it
    joules_per_seq: float | None = None
    telemetry: Mapping[str, Any] | None = (
        None  # readings before and after, the flags' reasons, attempts that do not count
    )
    flags: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the protocol: iterations, warm-up, max-time, threads
    scores: tuple[Score, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    host_samples: Samples | None = None
    device_samples: Samples | None = None


CEILING_QUANTITIES = ("matmul", "copy", "launch")


@dataclass(frozen=True, slots=True)
class CeilingRow:
    """What a machine was measured to be able to do at most.

    `value` is in FLOP/s for `matmul` (with its dtype), bytes/s for `copy` (read and written together), seconds for `launch`. `threads` is
    for CPUs. `spread` is the samples' median absolute deviation over their median. `conditions`: sizes, libraries, clocks.
    """

    fingerprint: str
    device: str
    quantity: str
    dtype: str | None
    threads: int | None
    value: float
    n: int
    measured: datetime
    spread: float | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
