"""The first schema: environments, runs and their plans, points, launches, measurements, samples.

A migration is history: it names plain column types and values, and imports nothing from the schema that will go on changing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_FIGURES = (
    "mean_ms", "std_ms", "min_ms", "max_ms", "mad_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms",
    "p50_low_ms", "p50_high_ms", "p90_upper_ms", "p95_upper_ms", "p99_upper_ms", "p99_9_upper_ms",
    "autocorrelation", "drift",
)  # fmt: skip
_STATUSES = (
    "ok", "oom", "timeout", "crashed", "build_failed", "error", "unsupported", "invalid", "interrupted", "skipped",
)  # fmt: skip


def upgrade() -> None:
    """Create all tables."""
    _create_plan_tables()
    op.create_table(
        "measurements",
        sa.Column("id", _ID, nullable=False),
        _text("run_id"),
        _text("point_key"),
        sa.Column("launch_id", _ID),
        _text("fingerprint"),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("replicate", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        _text("status"),
        _text("phase", nullable=True),
        _text("error", nullable=True),
        _time("started"),
        *_summary("host"),
        *_summary("device"),
        sa.Column("throughput_seq_s", sa.Double()),
        sa.Column("throughput_batches", sa.Integer()),
        sa.Column("throughput_window_s", sa.Double()),
        sa.Column("throughput_isolated", sa.Boolean()),
        sa.Column("tokens_s", sa.Double()),
        sa.Column("padding_fraction", sa.Double()),
        sa.Column("parity_ok", sa.Boolean()),
        *(sa.Column(f"parity_{name}", sa.Double()) for name in ("rel_l2", "max_abs", "cosine", "gain", "nan_share")),
        _text("parity_reason", nullable=True),
        sa.Column("settled", sa.Boolean()),
        sa.Column("timed_out", sa.Boolean()),
        sa.Column("warmup_n", sa.Integer()),
        *(
            sa.Column(name, sa.Double())
            for name in ("warmup_s", "export_s", "compile_s", "load_s", "build_s", "first_run_s")
        ),
        sa.Column("artefact_bytes", sa.BigInteger()),
        sa.Column("cache_hit", sa.Boolean()),
        sa.Column("peak_device_bytes", sa.BigInteger()),
        sa.Column("peak_allocator_bytes", sa.BigInteger()),
        sa.Column("peak_host_bytes", sa.BigInteger()),
        _json("flags"),
        _json("facts"),
        _json("settings"),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
        sa.ForeignKeyConstraint(
            ["run_id", "point_key"],
            ["run_points.run_id", "run_points.point_key"],
            name="fk_measurements_run_id_point_key",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["launch_id"], ["launches.id"], name="fk_measurements_launch_id", ondelete="CASCADE"),
        sa.CheckConstraint(_one_of("status", _STATUSES), name="ck_measurements_status"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_measurements_current",
        "measurements",
        ["run_id", "point_key", "replicate"],
        unique=True,
        sqlite_where=sa.text("NOT superseded"),
        postgresql_where=sa.text("NOT superseded"),
    )
    op.create_index("ix_measurements_outcome", "measurements", ["run_id", "superseded", "point_key", "status"])
    op.create_index("ix_measurements_series", "measurements", ["point_key", "fingerprint", "started"])
    op.create_index("ix_measurements_started", "measurements", ["started"])
    op.create_index("ix_measurements_launch_id", "measurements", ["launch_id"])
    op.create_table(
        "samples",
        sa.Column("measurement_id", _ID, nullable=False),
        _text("clock"),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("measurement_id", "clock", name="pk_samples"),
        sa.ForeignKeyConstraint(
            ["measurement_id"], ["measurements.id"], name="fk_samples_measurement_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint(_one_of("clock", ("host", "device")), name="ck_samples_clock"),
    )


def _create_plan_tables() -> None:
    op.create_table(
        "environments",
        sa.Column("id", _ID, nullable=False),
        _text("digest"),
        _text("fingerprint"),
        _json("details"),
        sa.PrimaryKeyConstraint("id", name="pk_environments"),
        sa.UniqueConstraint("digest", name="uq_environments_digest"),
    )
    op.create_index("ix_environments_fingerprint", "environments", ["fingerprint"])
    op.create_table(
        "runs",
        _text("id"),
        _text("label"),
        _time("started"),
        _time("finished", nullable=True),
        _text("state"),
        sa.Column("environment_id", _ID, nullable=False),
        _json("request"),
        _text("origin"),
        _text("version"),
        _text("git_commit", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name="fk_runs_environment_id"),
        sa.CheckConstraint(_one_of("state", ("running", "finished", "interrupted")), name="ck_runs_state"),
    )
    op.create_index("ix_runs_started", "runs", ["started"])
    op.create_index("ix_runs_environment_id", "runs", ["environment_id"])
    op.create_table(
        "points",
        _text("key"),
        *(_text(name, nullable=True) for name in ("model", "weights", "head")),
        *(_text(name) for name in ("backend", "variant")),
        *(_text(name, nullable=True) for name in ("device", "dtype")),
        sa.Column("batch", sa.Integer()),
        sa.Column("seq", sa.Integer()),
        _text("workload", nullable=True),
        _text("protocol"),
        _json("overrides"),
        _json("options"),
        sa.PrimaryKeyConstraint("key", name="pk_points"),
        sa.CheckConstraint("batch > 0", name="ck_points_batch"),
        sa.CheckConstraint("seq > 0", name="ck_points_seq"),
    )
    op.create_index("ix_points_model_head_dtype", "points", ["model", "head", "dtype"])
    op.create_table(
        "run_points",
        _text("run_id"),
        _text("point_key"),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("replicates", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "point_key", name="pk_run_points"),
        sa.UniqueConstraint("run_id", "ordinal", name="uq_run_points_run_id_ordinal"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_points_run_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["point_key"], ["points.key"], name="fk_run_points_point_key"),
        sa.CheckConstraint("replicates > 0", name="ck_run_points_replicates"),
    )
    op.create_index("ix_run_points_point_key", "run_points", ["point_key"])
    op.create_table(
        "launches",
        sa.Column("id", _ID, nullable=False),
        _text("run_id"),
        sa.Column("replicate", sa.Integer(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        _time("started"),
        _time("finished", nullable=True),
        _text("exit", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_launches"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_launches_run_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_launches_run_id", "launches", ["run_id"])


def _summary(clock: str) -> list[sa.Column[object]]:
    columns: list[sa.Column[object]] = [sa.Column(f"{clock}_n", sa.Integer())]
    columns += [sa.Column(f"{clock}_{name}", sa.Double()) for name in _FIGURES]
    return [*columns, sa.Column(f"{clock}_steady", sa.Boolean())]


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(), nullable=False)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"
