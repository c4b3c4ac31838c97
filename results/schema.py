# ruff: noqa: ARG002 - SQLAlchemy hands every conversion its dialect
"""The tables, for SQLite and PostgreSQL. docs/schema.md describes them; migrations/ builds them.

Units are in the column names. Times of day are UTC. Figures that are not finite are stored as NULL, because SQLite has no NaN
and JSON has neither.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from benchrun.results.gate_rows import GATE_KINDS, GATE_SIDES, GATE_STATES
from benchrun.results.plain import plain_json, plain_text
from benchrun.results.rows import CEILING_QUANTITIES, RUN_STATES, STATUSES

CLOCKS = ("host", "device")


class UtcTime(TypeDecorator[datetime]):
    """A timezone-aware moment, stored as UTC (`timestamptz` on PostgreSQL, sortable text on SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time of day needs its timezone: {value.isoformat()}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class PlainText(TypeDecorator[str]):
    """Text that both databases can hold: NUL and lone surrogates (a worker's raw output may have them) become U+FFFD or an escape."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else plain_text(value)


class Figure(TypeDecorator[float]):
    """A float64; NaN and infinities are NULL."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        return float(value) if value is not None and math.isfinite(value) else None


class Document(TypeDecorator[dict[str, Any]]):
    """A JSON object (or array) of plain values, see `plain_json`."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return plain_json(value)


Id = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows by itself only in INTEGER columns


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration
        str: PlainText(),
        float: Figure(),
        datetime: UtcTime(),
        dict[str, Any]: Document(),
    }


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Environment(Base):
    """Hardware, driver, libraries, clocks: one row for all runs that found exactly the same."""

    __tablename__ = "environments"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)  # SHA-256 of fingerprint and details
    fingerprint: Mapped[str] = mapped_column(index=True)
    details: Mapped[dict[str, Any]]


class Run(Base):
    """One invocation of benchrun, or one imported file."""

    __tablename__ = "runs"
    __table_args__ = (CheckConstraint(_one_of("state", RUN_STATES), name="state"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str]
    started: Mapped[datetime] = mapped_column(index=True)
    finished: Mapped[datetime | None]
    state: Mapped[str]
    environment_id: Mapped[int] = mapped_column(Id, ForeignKey("environments.id"), index=True)
    request: Mapped[dict[str, Any]]
    origin: Mapped[str]
    version: Mapped[str]
    git_commit: Mapped[str | None]


class Point(Base):
    """One thing that can be measured. NULL is for imported points: the foreign file could not know it."""

    __tablename__ = "points"
    __table_args__ = (
        CheckConstraint("batch > 0", name="batch"),
        CheckConstraint("seq > 0", name="seq"),
        Index(None, "model", "head", "dtype"),
    )

    key: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str | None]
    weights: Mapped[str | None]
    head: Mapped[str | None]
    backend: Mapped[str]
    variant: Mapped[str]
    device: Mapped[str | None]
    dtype: Mapped[str | None]
    batch: Mapped[int | None]
    seq: Mapped[int | None]
    workload: Mapped[str | None]
    protocol: Mapped[str]
    overrides: Mapped[dict[str, Any]]
    options: Mapped[dict[str, Any]]


class RunPoint(Base):
    """The plan of a run: a planned point without a measurement is missing, and `--resume` measures it."""

    __tablename__ = "run_points"
    __table_args__ = (
        UniqueConstraint("run_id", "ordinal"),
        CheckConstraint("replicates > 0", name="replicates"),
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    point_key: Mapped[str] = mapped_column(ForeignKey("points.key"), primary_key=True, index=True)
    ordinal: Mapped[int]
    replicates: Mapped[int]


class Launch(Base):
    """One worker process."""

    __tablename__ = "launches"
    __table_args__ = ({"sqlite_autoincrement": True},)  # a removed id never comes back as another launch

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    replicate: Mapped[int]
    pid: Mapped[int] = mapped_column(BigInteger)
    started: Mapped[datetime]
    finished: Mapped[datetime | None]
    exit: Mapped[str | None]


class Measurement(Base):
    """The outcome of one point in one launch. `host_…` and `device_…` are `statistics.Summary` of either clock."""

    __tablename__ = "measurements"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "point_key"], ["run_points.run_id", "run_points.point_key"], ondelete="CASCADE"
        ),
        CheckConstraint(_one_of("status", STATUSES), name="status"),
        Index(
            "uq_measurements_current",  # at most one row counts for a launch of a point
            "run_id",
            "point_key",
            "replicate",
            unique=True,
            sqlite_where=text("NOT superseded"),
            postgresql_where=text("NOT superseded"),
        ),
        Index("ix_measurements_outcome", "run_id", "superseded", "point_key", "status"),
        Index("ix_measurements_series", "point_key", "fingerprint", "started"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    run_id: Mapped[str]
    point_key: Mapped[str]
    launch_id: Mapped[int | None] = mapped_column(Id, ForeignKey("launches.id", ondelete="CASCADE"), index=True)
    fingerprint: Mapped[str]  # of the run's environment, here so that one index serves a series
    superseded: Mapped[bool]  # a later row of the same run, point and replicate counts instead
    replicate: Mapped[int]
    ordinal: Mapped[int]
    status: Mapped[str]
    phase: Mapped[str | None]
    error: Mapped[str | None]
    started: Mapped[datetime] = mapped_column(index=True)

    host_n: Mapped[int | None]
    host_mean_ms: Mapped[float | None]
    host_std_ms: Mapped[float | None]
    host_min_ms: Mapped[float | None]
    host_max_ms: Mapped[float | None]
    host_mad_ms: Mapped[float | None]
    host_p50_ms: Mapped[float | None]
    host_p90_ms: Mapped[float | None]
    host_p95_ms: Mapped[float | None]
    host_p99_ms: Mapped[float | None]
    host_p99_9_ms: Mapped[float | None]
    host_p50_low_ms: Mapped[float | None]
    host_p50_high_ms: Mapped[float | None]
    host_p90_upper_ms: Mapped[float | None]
    host_p95_upper_ms: Mapped[float | None]
    host_p99_upper_ms: Mapped[float | None]
    host_p99_9_upper_ms: Mapped[float | None]
    host_autocorrelation: Mapped[float | None]
    host_drift: Mapped[float | None]
    host_steady: Mapped[bool | None]

    device_n: Mapped[int | None]
    device_mean_ms: Mapped[float | None]
    device_std_ms: Mapped[float | None]
    device_min_ms: Mapped[float | None]
    device_max_ms: Mapped[float | None]
    device_mad_ms: Mapped[float | None]
    device_p50_ms: Mapped[float | None]
    device_p90_ms: Mapped[float | None]
    device_p95_ms: Mapped[float | None]
    device_p99_ms: Mapped[float | None]
    device_p99_9_ms: Mapped[float | None]
    device_p50_low_ms: Mapped[float | None]
    device_p50_high_ms: Mapped[float | None]
    device_p90_upper_ms: Mapped[float | None]
    device_p95_upper_ms: Mapped[float | None]
    device_p99_upper_ms: Mapped[float | None]
    device_p99_9_upper_ms: Mapped[float | None]
    device_autocorrelation: Mapped[float | None]
    device_drift: Mapped[float | None]
    device_steady: Mapped[bool | None]

    throughput_seq_s: Mapped[float | None]
    throughput_batches: Mapped[int | None]
    throughput_window_s: Mapped[float | None]
    throughput_isolated: Mapped[bool | None]
    tokens_s: Mapped[float | None]
    padding_fraction: Mapped[float | None]

    parity_ok: Mapped[bool | None]  # NULL: the answer was not compared
    parity_rel_l2: Mapped[float | None]
    parity_max_abs: Mapped[float | None]
    parity_cosine: Mapped[float | None]
    parity_gain: Mapped[float | None]
    parity_nan_share: Mapped[float | None]
    parity_reason: Mapped[str | None]

    settled: Mapped[bool | None]
    timed_out: Mapped[bool | None]
    warmup_n: Mapped[int | None]
    warmup_s: Mapped[float | None]
    export_s: Mapped[float | None]
    compile_s: Mapped[float | None]
    load_s: Mapped[float | None]
    build_s: Mapped[float | None]
    first_run_s: Mapped[float | None]
    artefact_bytes: Mapped[int | None] = mapped_column(BigInteger)
    cache_hit: Mapped[bool | None]
    peak_device_bytes: Mapped[int | None] = mapped_column(BigInteger)
    peak_allocator_bytes: Mapped[int | None] = mapped_column(BigInteger)
    peak_host_bytes: Mapped[int | None] = mapped_column(BigInteger)

    flops: Mapped[float | None]
    least_bytes: Mapped[int | None] = mapped_column(BigInteger)
    least_launches: Mapped[int | None]
    energy_joules: Mapped[float | None]
    joules_per_seq: Mapped[float | None]
    telemetry: Mapped[dict[str, Any] | None] = mapped_column(Document(none_as_null=True))

    flags: Mapped[list[str]] = mapped_column(Document)
    facts: Mapped[dict[str, Any]]
    settings: Mapped[dict[str, Any]]


class Ceiling(Base):
    """What a machine can do at most, as measured by `benchrun ceilings`. The latest row of each kind counts."""

    __tablename__ = "ceilings"
    __table_args__ = (CheckConstraint(_one_of("quantity", CEILING_QUANTITIES), name="quantity"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(index=True)
    device: Mapped[str]
    quantity: Mapped[str]
    dtype: Mapped[str | None]
    threads: Mapped[int | None]
    value: Mapped[float]  # FLOP/s, bytes/s or seconds, by quantity
    spread: Mapped[float | None]
    n: Mapped[int]
    measured: Mapped[datetime]
    conditions: Mapped[dict[str, Any]]


class SampleSet(Base):
    """All samples of one clock of a measurement, in order; `data` is in the format of `samples.py`."""

    __tablename__ = "samples"
    __table_args__ = (CheckConstraint(_one_of("clock", CLOCKS), name="clock"),)

    measurement_id: Mapped[int] = mapped_column(Id, ForeignKey("measurements.id", ondelete="CASCADE"), primary_key=True)
    clock: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int]
    version: Mapped[int]
    data: Mapped[bytes] = mapped_column(LargeBinary)


class ScoreValue(Base):
    """How good the answers of a measurement are on a task; see `rows.Score`. NULL: the value was not finite."""

    __tablename__ = "scores"

    measurement_id: Mapped[int] = mapped_column(Id, ForeignKey("measurements.id", ondelete="CASCADE"), primary_key=True)
    task: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]
    n: Mapped[int]
    reference: Mapped[float | None]


class AttachedText(Base):
    """A text file of a measurement; `data` is in the format of `attached.py`, `size_bytes` that of the text in UTF-8."""

    __tablename__ = "attachments"

    measurement_id: Mapped[int] = mapped_column(Id, ForeignKey("measurements.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int]
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Gate(Base):
    """One gate run: see `gate_rows.GateRow`."""

    __tablename__ = "gates"
    __table_args__ = (
        CheckConstraint(_one_of("state", GATE_STATES), name="state"),
        CheckConstraint(_one_of("kind", GATE_KINDS), name="kind"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str]
    started: Mapped[datetime] = mapped_column(index=True)
    finished: Mapped[datetime | None]
    state: Mapped[str]
    kind: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    settings: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any]]
    request: Mapped[dict[str, Any]]
    limits: Mapped[list[dict[str, Any]]] = mapped_column(Document)
    acceptances: Mapped[list[dict[str, Any]]] = mapped_column(Document)
    notes: Mapped[list[str]] = mapped_column(Document)
    version: Mapped[str]
    stopped: Mapped[str]
    verdict: Mapped[str | None]
    exit_code: Mapped[int | None]
    document: Mapped[str | None]


class GateSide(Base):
    """What one side of a gate ran. Its run may be removed; the verdict stays."""

    __tablename__ = "gate_sides"
    __table_args__ = (CheckConstraint(_one_of("side", GATE_SIDES), name="side"),)

    gate_id: Mapped[str] = mapped_column(ForeignKey("gates.id", ondelete="CASCADE"), primary_key=True)
    side: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"), index=True)
    subject: Mapped[str]
    label: Mapped[str]
    git_commit: Mapped[str | None]
    details: Mapped[dict[str, Any]]


class GatePoint(Base):
    """A point of a gate and its verdict. `base_key`, `new_key`: the point in each side's run."""

    __tablename__ = "gate_points"
    __table_args__ = (UniqueConstraint("gate_id", "ordinal"),)

    gate_id: Mapped[str] = mapped_column(ForeignKey("gates.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    ordinal: Mapped[int]
    label: Mapped[str]
    device_class: Mapped[str]
    worker: Mapped[str]
    in_base: Mapped[bool]
    in_new: Mapped[bool]
    base_key: Mapped[str | None]
    new_key: Mapped[str | None] = mapped_column(index=True)
    verdict: Mapped[str | None]
    reason: Mapped[str]
    accepted: Mapped[str]


class GateLaunch(Base):
    """One launch of a gate; its measurements are the rows of its side's run whose `replicate` is `place`."""

    __tablename__ = "gate_launches"
    __table_args__ = (CheckConstraint(_one_of("side", GATE_SIDES), name="side"),)

    gate_id: Mapped[str] = mapped_column(ForeignKey("gates.id", ondelete="CASCADE"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    side: Mapped[str]
    stage: Mapped[int]
    pair: Mapped[int]
    fingerprint: Mapped[str]
    points: Mapped[list[str]] = mapped_column(Document)
    control_ms: Mapped[float | None]
    started: Mapped[datetime]
    finished: Mapped[datetime]


class GateVerdict(Base):
    """One metric of one point of a gate, as it was decided."""

    __tablename__ = "gate_verdicts"
    __table_args__ = (
        ForeignKeyConstraint(["gate_id", "point"], ["gate_points.gate_id", "gate_points.key"], ondelete="CASCADE"),
    )

    gate_id: Mapped[str] = mapped_column(primary_key=True)
    point: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    verdict: Mapped[str]
    stage: Mapped[str]
    reason: Mapped[str]
    launches: Mapped[int]
    ratio: Mapped[float | None]
    ratio_low: Mapped[float | None]
    ratio_high: Mapped[float | None]
    fresh_ratio: Mapped[float | None]
    fresh_launches: Mapped[int]
    p: Mapped[float | None]
    p_adjusted: Mapped[float | None]
    sd: Mapped[float | None]
    excluded_slowdown: Mapped[float | None]
    detectable_slowdown: Mapped[float | None]
    base: Mapped[float | None]
    new: Mapped[float | None]
    improved: Mapped[bool]
    check_work: Mapped[bool]
