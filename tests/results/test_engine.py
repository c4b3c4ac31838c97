"""Opening: where the database is, and one clear line for everything that can be wrong with it, nothing damaged."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from benchrun.results import engine, reasons
from benchrun.results.errors import NoDatabase, StoreError
from benchrun.results.sqlite_file import copy_database, use_wal
from benchrun.results.store import open_store
from benchrun.results.target import default_path, locate
from tests.results.conftest import NewRun


@pytest.fixture
def database(tmp_path: Path, new_run: NewRun) -> Path:
    """A closed database with one run, in a folder of its own."""
    path = tmp_path / "folder" / "results.db"
    path.parent.mkdir()
    with open_store(path) as store:
        store.add_run(new_run(), [], 1)
    assert _names(path.parent) == ["results.db"]
    return path


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def _drop_override() -> None:
    """Take root's right to ignore file permissions away from this process, so that they mean what they say."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if os.geteuid() == 0 and libc.prctl(24, capability, 0, 0, 0) != 0:  # PR_CAPBSET_DROP
            raise OSError(ctypes.get_errno(), "prctl")


def _limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def _run(script: str, *arguments: object, prepare: Callable[[], None] | None = None) -> list[str]:
    """The lines a script prints in a process of its own; `StoreError` as `error: …`."""
    head = """
        import os, sys
        from pathlib import Path
        from benchrun.results.errors import NoDatabase, StoreError
        from benchrun.results.store import open_store
        def attempt(action):
            try:
                print(action())
            except StoreError as error:
                print(f"error: {error}")
        path = Path(sys.argv[1])
    """
    text = textwrap.dedent(head) + textwrap.dedent(script)
    command = [sys.executable, "-c", text, *map(str, arguments)]
    # A process with limited files could not write its coverage figures whole, which would spoil those of all.
    limited = prepare not in (None, _drop_override)
    env = {name: value for name, value in os.environ.items() if not (limited and name.startswith("COVERAGE_"))}
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=prepare, env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


COUNT = """
def count(read_only):
    with open_store(path, read_only=read_only) as store:
        return f"{len(store.runs())} runs"
"""


# --- where it is ---


def test_a_path_or_a_url_is_located_without_touching_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("a.db").path == tmp_path / "a.db"
    assert locate(Path("a.db")).path == tmp_path / "a.db"
    assert locate("~/a.db").path == tmp_path / "a.db"
    assert locate("sqlite:///a.db").path == tmp_path / "a.db"
    assert locate("sqlite:////var/a.db").path == Path("/var/a.db")
    for given in (
        "postgresql://u:pw@h:1/n",
        "postgres://u:pw@h:1/n",
        "postgresql+psycopg://u:pw@h:1/n?sslmode=require&password=pw",
    ):
        target = locate(given)
        assert target.path is None and target.shown == "postgresql://u:***@h:1/n"
    assert list(tmp_path.iterdir()) == []


def test_the_default_is_the_environment_variable_else_the_folder_for_user_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("BENCHRUN_DB", raising=False)
    assert locate().path == default_path()
    assert default_path().name == "benchrun.db" and default_path().is_relative_to(tmp_path)
    with open_store() as store:  # its folder is made
        assert store.shown == str(default_path()) and default_path().is_file()
    monkeypatch.setenv("BENCHRUN_DB", str(tmp_path / "other.db"))
    assert locate().path == tmp_path / "other.db"
    assert locate("mine.db").path == Path("mine.db").absolute()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mysql://u:s3cret@h/n", "mysql databases are not supported; give a file"),
        ("postgresql://u:s3cret@h:port/n", "the database URL cannot be read; give a file"),
        ("://s3cret", "the database URL cannot be read"),
        ("sqlite://", "in memory would be lost"),
        (":memory:", "in memory would be lost"),
        ("a\0b.db", "cannot hold a NUL"),
        ("~nobody-of-this-name/a.db", "there is no home folder for ~nobody-of-this-name"),
        ("sqlite:///a.db?mode=ro", "takes no query"),
    ],
)
def test_what_cannot_be_a_database_is_refused(given: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        open_store(given)
    assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)


def test_odd_names_are_only_names(tmp_path: Path) -> None:
    for name in ("a?mode=memory", "b#c", "100%25", "ü 🐎", "file:x"):
        with open_store(tmp_path / name) as store:
            assert store.runs() == []
    assert {each.name for each in tmp_path.iterdir()} == {"a?mode=memory", "b#c", "100%25", "ü 🐎", "file:x"}


# --- what is there ---


def test_a_folder_a_device_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=rf"{tmp_path} is a folder; give a file in it, such as {tmp_path}/benchrun.db"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match="/dev/null is not a regular file"):
        open_store("/dev/null")
    with pytest.raises(StoreError, match=f"cannot be created: there is no folder {tmp_path}/no"):
        open_store(tmp_path / "no" / "a.db")
    assert list(tmp_path.iterdir()) == []


def test_nothing_there_is_said_when_reading(tmp_path: Path) -> None:
    with pytest.raises(NoDatabase, match=r"there is no database at .*a.db yet"):
        open_store(tmp_path / "a.db", read_only=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(NoDatabase, match=r"empty.db holds no benchrun tables yet"):
        open_store(tmp_path / "empty.db", read_only=True)
    assert (tmp_path / "empty.db").read_bytes() == b""
    with open_store(tmp_path / "empty.db") as store:
        assert store.runs() == []


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary")
    with pytest.raises(StoreError, match=r"notes.txt is not a SQLite database; give another file"):
        open_store(path, read_only=read_only)
    assert path.read_text() == "Dear diary" and _names(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("kept", [50, 5000, 20_000])
def test_a_damaged_file_is_left_alone(database: Path, kept: int, read_only: bool) -> None:
    os.truncate(database, kept)
    before = database.read_bytes()
    with pytest.raises(StoreError, match=r"results.db is damaged; restore a backup") as caught:
        open_store(database, read_only=read_only)
    assert "\n" not in str(caught.value)
    assert database.read_bytes() == before


def test_damage_that_shows_later_is_named_too(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    content = bytearray(database.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    database.write_bytes(content)
    with open_store(database) as store, pytest.raises(StoreError, match=r"results.db is damaged"):
        store.runs()
    assert database.read_bytes() == bytes(content)


@pytest.mark.parametrize("read_only", [False, True])
def test_another_programs_database_is_left_alone(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "places.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE moz_places (url)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"places.sqlite belongs to another program"):
        open_store(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_schema_is_refused(database: Path, read_only: bool) -> None:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("UPDATE benchrun_version SET version_num = '9999'")
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    before = database.read_bytes()
    with pytest.raises(
        StoreError, match=r"results.db was written by a newer benchrun .schema 9999, .*: upgrade benchrun"
    ):
        open_store(database, read_only=read_only)
    assert database.read_bytes() == before and _names(database.parent) == ["results.db"]


# --- reading only ---


def test_reading_leaves_nothing_behind(database: Path) -> None:
    before = database.stat().st_mtime_ns, database.read_bytes()
    with open_store(database, read_only=True) as store:
        assert len(store.runs()) == 1
    assert (database.stat().st_mtime_ns, database.read_bytes()) == before
    assert _names(database.parent) == ["results.db"]


def test_reading_sees_what_a_killed_writer_left_in_its_log(database: Path) -> None:
    script = """
        store = open_store(path)
        store.finish_run(store.resolve_run("last"), "interrupted")
        os._exit(0)
    """
    assert _run(script, database) == []
    before = {each.name: each.read_bytes() for each in database.parent.iterdir() if not each.name.endswith("-shm")}
    assert set(before) == {"results.db", "results.db-wal"}
    with open_store(database, read_only=True) as store:
        assert store.runs()[0].state == "interrupted"
    assert {name: (database.parent / name).read_bytes() for name in before} == before


def test_a_read_only_folder_is_read_from_a_copy_and_not_written(database: Path, tmp_path: Path) -> None:
    database.parent.chmod(0o555)
    try:
        script = f"{COUNT}\nattempt(lambda: count(True))\nattempt(lambda: count(False))\nprint(os.listdir(sys.argv[2]))"
        (tmp_path / "tmp").mkdir()
        os.environ["TMPDIR"] = str(tmp_path / "tmp")
        lines = _run(script, database, tmp_path / "tmp", prepare=_drop_override)
    finally:
        del os.environ["TMPDIR"]
        database.parent.chmod(0o755)
    assert lines[0] == "1 runs"
    assert (
        lines[1]
        == f"error: {database} cannot be written: the folder {database.parent} is read-only; give another database"
    )
    assert lines[2] == "[]"  # the copy is gone


def test_a_read_only_file_can_be_read_and_not_written(database: Path) -> None:
    database.chmod(0o444)
    lines = _run(
        f"{COUNT}\nattempt(lambda: count(True))\nattempt(lambda: count(False))", database, prepare=_drop_override
    )
    assert lines == ["1 runs", f"error: {database} cannot be written: the file is read-only; give another database"]


def test_a_file_that_may_not_be_read_is_named(database: Path) -> None:
    database.chmod(0)
    lines = _run(
        f"{COUNT}\nattempt(lambda: count(True))\nattempt(lambda: count(False))", database, prepare=_drop_override
    )
    assert lines == [f"error: {database}: Permission denied"] * 2


def test_a_copy_that_changes_while_it_is_made_is_made_again(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = shutil.copyfile, []

    def copyfile(source: Path, to: Path) -> None:
        real(source, to)
        calls.append(source)
        if len(calls) < often:
            os.utime(source, ns=(len(calls), len(calls)))

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    often = 3
    copy_database(database, tmp_path / "copy.db")
    assert len(calls) == 3 and (tmp_path / "copy.db").read_bytes() == database.read_bytes()
    often = 100
    with pytest.raises(StoreError, match="changes too fast to be copied"):
        copy_database(database, tmp_path / "copy.db")


# --- disks and locks ---

FILL = """
import numpy as np
from datetime import UTC, datetime
from benchrun.results.rows import EnvironmentRow, MeasurementRow, PointRow, RunRow
now = datetime.now(UTC)
def fill():
    stored = 0
    with open_store(path) as store:
        point = PointRow("k", "m", "w", "encoder", "torch", "eager", "cpu", "fp32", 1, 1, "padded", "p1")
        store.add_run(RunRow("r", "", now, "running", EnvironmentRow("f", {})), [point], 1000)
        try:
            for replicate in range(1000):
                samples = np.random.default_rng(replicate).integers(0, 2**60, 500)
                store.add_measurement("r", None, MeasurementRow("k", replicate, 0, "ok", now, host_samples=samples))
                stored += 1
        finally:
            print(stored, "stored")
attempt(fill)
"""


def _check_after_filling(path: Path, lines: list[str]) -> None:
    assert lines[1].startswith(f"error: {path} ") and "disk" in lines[1] and len(lines) == 2
    with open_store(path) as store:
        record = store.run("r", samples=True)
        assert len(record.measurements) == int(lines[0].split()[0]) > 0
        with store.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_a_file_that_cannot_grow_keeps_all_that_was_stored(tmp_path: Path) -> None:
    with open_store(tmp_path / "a.db"):
        pass
    prepare = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))  # noqa: E731
    _check_after_filling(tmp_path / "a.db", _run(FILL, tmp_path / "a.db", prepare=prepare))


def test_a_full_disk_keeps_all_that_was_stored(tmp_path: Path) -> None:
    """On a small file system of its own: needs the right to mount one, as root in a container has it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("may not mount a file system here; the limited file size above stands in for it")
    try:
        lines = _run(FILL, disk / "a.db")
        assert "cannot grow: the disk is full; free some space" in lines[1]
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        _check_after_filling(disk / "a.db", lines)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_database_that_cannot_be_created_says_so(tmp_path: Path) -> None:
    (line,) = _run(f"{COUNT}\nattempt(lambda: count(False))", tmp_path / "a.db", prepare=_limit_file_size)
    assert line.startswith(f"error: {tmp_path}/a.db cannot ") and "disk" in line
    with open_store(tmp_path / "a.db") as store:  # what is left is no obstacle
        assert store.runs() == []


def test_a_lock_that_is_held_too_long_is_explained(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "BUSY_S", 0.2)
    holder = sqlite3.connect(database, isolation_level=None)
    with open_store(database) as store:
        holder.execute("BEGIN IMMEDIATE")
        assert len(store.runs()) == 1  # readers do not wait
        with pytest.raises(
            StoreError, match=r"results.db is locked by another program .waited 30 s, nothing was written."
        ):
            store.finish_run(store.runs()[0].id, "finished")
        holder.execute("ROLLBACK")
        store.finish_run(store.runs()[0].id, "finished")
    holder.close()


def test_many_that_switch_to_the_write_ahead_log_at_once_all_succeed(tmp_path: Path) -> None:
    """SQLite refuses one of them now and then, at once and whatever its busy timeout."""
    for i in range(40):
        path, together = tmp_path / f"{i}.db", threading.Barrier(6)

        def switch(path: Path = path, together: threading.Barrier = together) -> None:
            together.wait()
            use_wal(path)

        with ThreadPoolExecutor(6) as pool:
            for each in [pool.submit(switch) for _ in range(6)]:
                each.result()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_switching_to_the_write_ahead_log_ends_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(reasons, "BUSY_S", 0.2)
    with pytest.raises(StoreError, match=r"a.db is locked by another program"):
        open_store(tmp_path / "a.db")
    holder.execute("CREATE TABLE t (x)")
    holder.execute("COMMIT")
    holder.execute("BEGIN")
    holder.execute("SELECT * FROM t").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        use_wal(tmp_path / "a.db")
    holder.close()


def test_a_creation_that_fails_is_reported_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upgrade(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE half (done)")
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "upgrade", upgrade)
        with pytest.raises(StoreError, match=r"a.db: no such table: nowhere"):
            open_store(tmp_path / "a.db")
    with open_store(tmp_path / "a.db") as store:
        assert store.runs() == []


def test_a_database_that_another_process_brought_up_to_date_is_left_as_it_is(database: Path) -> None:
    before = database.read_bytes()
    engine._migrate_file(database, locate(database))
    assert database.read_bytes() == before


# --- PostgreSQL ---


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(StoreError, match=rf"^postgresql://me:\*\*\*@127.0.0.1:{port}/results: ") as caught:
            open_store(f"postgresql://me:s3cret@127.0.0.1:{port}/results?application_name=s3cret")
    assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)


def test_postgresql_without_its_driver_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'benchrun-inference\[postgres\]'"):
        open_store("postgresql://me@127.0.0.1/results")


# --- imports ---


def test_opening_an_up_to_date_database_is_light(database: Path) -> None:
    script = """
        with open_store(path) as store:
            store.runs()
        print([name for name in ("alembic", "numpy", "pandas", "scipy", "psycopg") if name in sys.modules])
    """
    assert _run(script, database) == ["[]"]
