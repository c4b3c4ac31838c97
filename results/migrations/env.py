"""Alembic runs this file for every migration; `migrations.upgrade` hands it the connection."""

from __future__ import annotations

from alembic import context

from benchrun.results.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
