"""Alembic migrations of the results database, packaged so that any installed benchrun can bring a database up to date.

`REVISIONS` repeats the chain of versions/ in order, so that opening an up-to-date database need not import Alembic; a test
compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

REVISIONS = ("0001", "0002", "0003", "0004")
HEAD = REVISIONS[-1]
VERSION_TABLE = "benchrun_version"


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Run the pending migrations up to `revision` inside the connection's open transaction; the caller commits."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    command.upgrade(config, revision)
