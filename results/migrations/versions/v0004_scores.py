"""How good the answers are, and the text files that belong to a measurement."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables of scores and attachments."""
    op.create_table(
        "scores",
        sa.Column("measurement_id", _ID, nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("reference", sa.Double()),
        sa.PrimaryKeyConstraint("measurement_id", "task", "metric", name="pk_scores"),
        _of_measurement("scores"),
    )
    op.create_table(
        "attachments",
        sa.Column("measurement_id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("measurement_id", "name", name="pk_attachments"),
        _of_measurement("attachments"),
    )


def _of_measurement(table: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_measurement_id"
    return sa.ForeignKeyConstraint(["measurement_id"], ["measurements.id"], name=name, ondelete="CASCADE")
