"""Migrations: the chain, the schema they build, and what happens to an older database."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from benchrun.results import engine, migrations
from benchrun.results.errors import StoreError
from benchrun.results.migrations import HEAD, REVISIONS, VERSION_TABLE
from benchrun.results.schema import Base
from benchrun.results.store import open_store
from tests.results.conftest import NewMeasurement, NewPoint, NewRun

FOLDER = Path(migrations.__file__).parent


def test_the_list_of_revisions_is_the_chain_of_files() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    chain = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(chain)) == REVISIONS
    assert chain[0] == HEAD


def test_migrations_build_the_schema(location: str) -> None:
    with open_store(location) as store, store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrations_build_the_schema_to_the_letter(tmp_path: Path) -> None:
    """Checks, partial indexes and deletion rules too, which Alembic does not compare."""

    def statements(path: Path) -> dict[str, list[str]]:
        with closing(sqlite3.connect(path)) as connection:
            query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE ?"
            found = connection.execute(query, (f"%{VERSION_TABLE}%",)).fetchall()
        return {
            name: sorted(
                part.strip(" ,\t()")
                for line in sql.replace("(\n", "\n").splitlines()
                for part in re.split(r",(?![^(]*\))", line.rstrip(", "))  # SQLite writes added columns into one line
            )
            for name, sql in found
        }

    with open_store(tmp_path / "migrated.db"):
        pass
    created = create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    Base.metadata.create_all(created)
    created.dispose()
    assert statements(tmp_path / "migrated.db") == statements(tmp_path / "created.db")


# --- an older database: with one revision more than there is ---

LATER = '''
"""A later revision, which rebuilds a table that others refer to."""
import sqlalchemy as sa
from alembic import op
revision, down_revision = "later", {head!r}
def upgrade():
    rebuild = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    with op.batch_alter_table("measurements", recreate=rebuild) as table:
        table.add_column(sa.Column("added_joules", sa.Double()))
    {more}
'''


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Makes benchrun one revision newer than it is."""

    def install(more: str = "") -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "later.py").write_text(LATER.format(head=HEAD, more=more))

        def upgrade(connection: Connection) -> None:
            from alembic import command

            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(folder))
            command.upgrade(config, "head")

        monkeypatch.setattr(engine, "upgrade", upgrade)
        monkeypatch.setattr(engine, "HEAD", "later")
        monkeypatch.setattr(engine, "REVISIONS", (*REVISIONS, "later"))

    return install


def _filled(location: str, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement) -> None:
    with open_store(location) as store:
        store.add_run(new_run(), [new_point()], 1)
        store.add_measurement(new_run().id, None, new_measurement(samples=[1000, 2000]))


def test_an_older_database_is_migrated_with_all_its_rows(
    location: str, later: Callable[[], None], new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    _filled(location, new_run, new_point, new_measurement)
    later()
    with pytest.raises(StoreError, match=f"has schema {HEAD}, this benchrun reads later: write to it once"):
        open_store(location, read_only=True)
    with open_store(location) as store:
        (found,) = store.run(new_run().id, samples=True).measurements
        assert found.row.host_samples is not None and found.row.host_samples.tolist() == [1000, 2000]
        with store.reading() as connection:
            assert connection.exec_driver_sql("SELECT added_joules FROM measurements").scalar() is None
    with open_store(location, read_only=True) as store:
        assert len(store.runs()) == 1


def test_the_backup_beside_an_older_file_is_the_old_database(
    tmp_path: Path, later: Callable[[], None], new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    _filled(str(folder / "a.db"), new_run, new_point, new_measurement)
    with open_store(folder / "a.db"):
        pass
    assert [each.name for each in folder.iterdir()] == ["a.db"]  # nothing to migrate, no backup
    later()
    with open_store(folder / "a.db"):
        pass
    (backup,) = [each for each in folder.iterdir() if each.name != "a.db"]
    assert backup.match(f"a.db.{HEAD}-????????T??????Z.backup")
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall() == [(HEAD,)]
        assert connection.execute("SELECT count(*) FROM samples").fetchall() == [(1,)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            'op.execute("INSERT INTO nowhere VALUES (1)")',
            "no such table: nowhere; it was not migrated, and .*backup is a copy",
        ),
        (
            'op.execute("UPDATE samples SET measurement_id = 99")',
            "refers to rows that do not exist, so it was not migrated",
        ),
    ],
)
def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path,
    later: Callable[[str], None],
    new_run: NewRun,
    new_point: NewPoint,
    new_measurement: NewMeasurement,
    more: str,
    message: str,
) -> None:
    path = tmp_path / "a.db"
    _filled(str(path), new_run, new_point, new_measurement)
    before = path.read_bytes()
    later(more)
    with pytest.raises(StoreError, match=message):
        open_store(path)
    assert path.read_bytes() == before


def test_a_damaged_older_database_is_not_migrated(
    tmp_path: Path, later: Callable[[], None], new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    path = tmp_path / "folder" / "a.db"
    path.parent.mkdir()
    _filled(str(path), new_run, new_point, new_measurement)
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'samples'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size + 8 : page * size] = b"\xff" * (size - 8)
    path.write_bytes(content)
    later()
    with pytest.raises(StoreError, match=r"a.db is damaged, so it was not migrated and is left as it is"):
        open_store(path)
    assert path.read_bytes() == bytes(content)
    assert not list(path.parent.glob("*.backup")) and not list(path.parent.glob("*.part"))


def test_a_newer_database_is_refused_on_every_engine(location: str, later: Callable[[], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "REVISIONS", ())
        with open_store(location):
            pass  # creating needs no known revision
        with pytest.raises(StoreError, match=rf"was written by a newer benchrun .schema {HEAD}"):
            open_store(location)
