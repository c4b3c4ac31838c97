"""The machine around a measurement: work, energy, telemetry; and the measured ceilings of a machine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns, create the table of ceilings."""
    for column in (
        sa.Column("flops", sa.Double()),
        sa.Column("least_bytes", sa.BigInteger()),
        sa.Column("least_launches", sa.Integer()),
        sa.Column("energy_joules", sa.Double()),
        sa.Column("joules_per_seq", sa.Double()),
        sa.Column("telemetry", sa.JSON()),
    ):
        op.add_column("measurements", column)
    op.create_table(
        "ceilings",
        sa.Column("id", _ID, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Text(), nullable=False),
        sa.Column("dtype", sa.Text()),
        sa.Column("threads", sa.Integer()),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("spread", sa.Double()),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("measured", sa.DateTime(timezone=True), nullable=False),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ceilings"),
        sa.CheckConstraint("quantity IN ('matmul', 'copy', 'launch')", name="ck_ceilings_quantity"),
    )
    op.create_index("ix_ceilings_fingerprint", "ceilings", ["fingerprint"])
