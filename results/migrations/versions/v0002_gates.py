"""Gate runs: what was compared, their points and launches, and the verdicts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SIDES = "side IN ('base', 'new')"
_FIGURES = (
    "ratio", "ratio_low", "ratio_high", "fresh_ratio", "p", "p_adjusted", "sd", "excluded_slowdown",
    "detectable_slowdown", "base", "new",
)  # fmt: skip


def upgrade() -> None:
    """Create the tables of gates."""
    op.create_table(
        "gates",
        _text("id"),
        _text("label"),
        _time("started"),
        _time("finished", nullable=True),
        _text("state"),
        _text("kind"),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        *(_json(name) for name in ("settings", "plan", "request", "limits", "acceptances", "notes")),
        _text("version"),
        _text("stopped"),
        _text("verdict", nullable=True),
        sa.Column("exit_code", sa.Integer()),
        _text("document", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_gates"),
        sa.CheckConstraint("state IN ('running', 'finished', 'interrupted')", name="ck_gates_state"),
        sa.CheckConstraint("kind IN ('session', 'baseline')", name="ck_gates_kind"),
    )
    op.create_index("ix_gates_started", "gates", ["started"])
    op.create_table(
        "gate_sides",
        _text("gate_id"),
        _text("side"),
        _text("run_id", nullable=True),
        _text("subject"),
        _text("label"),
        _text("git_commit", nullable=True),
        _json("details"),
        sa.PrimaryKeyConstraint("gate_id", "side", name="pk_gate_sides"),
        _of_gate("gate_sides"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_gate_sides_run_id", ondelete="SET NULL"),
        sa.CheckConstraint(_SIDES, name="ck_gate_sides_side"),
    )
    op.create_index("ix_gate_sides_run_id", "gate_sides", ["run_id"])
    _create_point_tables()


def _create_point_tables() -> None:
    op.create_table(
        "gate_points",
        _text("gate_id"),
        _text("key"),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        *(_text(name) for name in ("label", "device_class", "worker")),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("in_base", "in_new")),
        *(_text(name, nullable=True) for name in ("base_key", "new_key", "verdict")),
        *(_text(name) for name in ("reason", "accepted")),
        sa.PrimaryKeyConstraint("gate_id", "key", name="pk_gate_points"),
        sa.UniqueConstraint("gate_id", "ordinal", name="uq_gate_points_gate_id_ordinal"),
        _of_gate("gate_points"),
    )
    op.create_index("ix_gate_points_new_key", "gate_points", ["new_key"])
    op.create_table(
        "gate_launches",
        _text("gate_id"),
        sa.Column("place", sa.Integer(), nullable=False, autoincrement=False),
        _text("side"),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("pair", sa.Integer(), nullable=False),
        _text("fingerprint"),
        _json("points"),
        sa.Column("control_ms", sa.Double()),
        _time("started"),
        _time("finished"),
        sa.PrimaryKeyConstraint("gate_id", "place", name="pk_gate_launches"),
        _of_gate("gate_launches"),
        sa.CheckConstraint(_SIDES, name="ck_gate_launches_side"),
    )
    op.create_table(
        "gate_verdicts",
        *(_text(name) for name in ("gate_id", "point", "metric", "verdict", "stage", "reason")),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("launches", "fresh_launches")),
        *(sa.Column(name, sa.Double()) for name in _FIGURES),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("improved", "check_work")),
        sa.PrimaryKeyConstraint("gate_id", "point", "metric", name="pk_gate_verdicts"),
        sa.ForeignKeyConstraint(
            ["gate_id", "point"],
            ["gate_points.gate_id", "gate_points.key"],
            name="fk_gate_verdicts_gate_id_point",
            ondelete="CASCADE",
        ),
    )


def _of_gate(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["gate_id"], ["gates.id"], name=f"fk_{table}_gate_id", ondelete="CASCADE")


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(), nullable=False)
