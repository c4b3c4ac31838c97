"""`benchrun show --attachments`: the files of a run, where they are asked for and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchrun.results.rows import Attachment, EnvironmentRow, MeasurementRow, PointRow, RunRow
from benchrun.results.store import open_store
from benchrun.runner import cli
from benchrun.runner.cli.attachments import plain_name

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A database with a run of two points in two launches, one of whose files has a name that leads elsewhere."""
    path = str(tmp_path / "results.db")
    points = [
        PointRow(key, "tiny", "random:0", "encoder", "torch", "eager", "cpu", "fp32", 1, seq, "loadgen:offline", "p")
        for seq, key in enumerate(("a", "b"), 8)
    ]
    with open_store(path) as store:
        store.add_run(RunRow("run-1", "", NOW, "running", EnvironmentRow("f", {})), points, 2)
        for replicate in range(2):
            files = (Attachment("log.txt", f"launch {replicate}\r\n"), Attachment("../../out of here", "é"))
            store.add_measurement("run-1", None, MeasurementRow("a", replicate, 0, "ok", NOW, attachments=files))
        store.add_measurement("run-1", None, MeasurementRow("b", 0, 0, "ok", NOW))
    return path


def test_files_are_written_a_folder_for_each_point(db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "files"
    assert cli.run(["show", "run-1", "--db", db, "--attachments", str(folder)]) == 0
    assert f"4 files written to {folder}" in capsys.readouterr().err
    written = {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    point = "01-torch-eager-tiny-fp32-b1-s8-loadgen_offline"
    assert written == {
        f"{point}/log.txt": b"launch 0\r\n",
        f"{point}/_.._out_of_here": "é".encode(),
        f"{point}/launch-1/log.txt": b"launch 1\r\n",
        f"{point}/launch-1/_.._out_of_here": "é".encode(),
    }


def test_a_run_without_files_and_a_folder_that_cannot_be(
    db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert cli.run(["show", "run-1", "--db", db, "--attachments", str(tmp_path / "file" / "in it")]) == 2
    assert "cannot write files to" in capsys.readouterr().err
    with open_store(db) as store:
        store.add_measurement("run-1", None, MeasurementRow("a", 0, 0, "ok", NOW))
        store.add_measurement("run-1", None, MeasurementRow("a", 1, 0, "ok", NOW))
    assert cli.run(["show", "run-1", "--db", db, "--attachments", str(tmp_path / "none")]) == 0
    assert "the run has no files" in capsys.readouterr().err and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a b/c.txt", "a_b_c.txt"), ("..", "_"), (".hidden", "hidden"), ("", "_"), ("x" * 300, "x" * 120)],
)
def test_names_are_made_plain(name: str, plain: str) -> None:
    assert plain_name(name) == plain
