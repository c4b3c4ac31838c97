"""Everything that a damaged or hostile file may be, through the command and into a database that holds something already.

For each: one sentence that names the file (and line and field where there are any), the database byte for byte as it was in
all its rows, nothing run, in seconds.
"""

from __future__ import annotations

import io
import sqlite3
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from benchrun.runner.cli import run

DATA = Path(__file__).parent / "data"
Make = Callable[[bytes], bytes]


def zip_bomb(_: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("times.json", b"[" * 100_000_000)
    return buffer.getvalue()


def replaced(old: bytes, new: bytes) -> Make:
    def make(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return make


CASES: tuple[tuple[str, str, Make, str], ...] = (
    ("truncated", "trtexec/times_v8.json", lambda data: data[: len(data) // 2], "ends too early"),
    (
        "wrong encoding",
        "ort_benchmark/detail.csv",
        lambda data: data.decode().encode("utf-16"),
        "is UTF-16 or UTF-32 text",
    ),
    ("Latin-1", "pytest_benchmark/saved.json", replaced(b'"node": "', b'"node": "\xe4'), "is not UTF-8 text"),
    ("100 MB of nesting", "trtexec/times_v8.json", lambda _: b"[" * 100_000_000, "is larger than 64 MiB"),
    ("64 MiB of nesting", "trtexec/times_v8.json", lambda _: b"[" * (64 * 2**20), "holds over 4,000,000 values"),
    (
        "NaN",
        "google_benchmark/out.json",
        replaced(b'"real_time": ', b'"real_time": NaN, "x": '),
        "which is not a finite number",
    ),
    (
        "Infinity",
        "nvbench/out.json",
        replaced(b'"json": ', b'"json": -Infinity, "x": '),
        "which is not a finite number",
    ),
    ("negative time", "trtexec/times_v8.json", replaced(b'"computeMs" : ', b'"computeMs" : -'), "is negative"),
    ("ZIP bomb renamed", "optimum/benchmark.json", zip_bomb, "is a ZIP archive, not text"),
    ("formula", "ort_benchmark/detail.csv", replaced(b"bert", b"=cmd|'/c calc'!A0 bert"), "is a formula, not text"),
    (
        "mixed units",
        "migraphx/perf.txt",
        replaced(b"Mean: 71.4244ms", b"Mean: 71.4244s"),
        "is not between minimum and maximum",
    ),
)


@pytest.mark.parametrize(("name", "fixture", "make", "message"), CASES, ids=[case[0] for case in CASES])
def test_damage(
    name: str,
    fixture: str,
    make: Make,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    db = tmp_path / "runs.db"
    monkeypatch.setenv("BENCHRUN_DB", str(db))
    assert run(["import", "auto", str(DATA / "mlperf/singlestream_summary.txt")]) == 0
    before = rows(db)
    capsys.readouterr()
    folder = fixture.partition("/")[0].replace("_", "-")
    formats = {"optimum": "optimum-benchmark", "ort-benchmark": "onnxruntime-benchmark"}
    file = tmp_path / Path(fixture).name
    file.write_bytes(make((DATA / fixture).read_bytes()))
    started = time.perf_counter()
    assert run(["import", formats.get(folder, folder), str(file)]) == 1
    assert time.perf_counter() - started < 30
    text = capsys.readouterr().err
    assert text.startswith(f"benchrun: {file.name}") and message in text and text.count("\n") == 1, text
    assert rows(db) == before
    assert run(["import", "mlperf", str(DATA / "mlperf/server_summary.txt")]) == 0  # and it goes on


def test_a_path_outside_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCHRUN_DB", str(tmp_path / "runs.db"))
    side = tmp_path / "side.toml"
    side.write_text('log = "../../../../etc/passwd"\n')
    assert run(["import", "trtexec", str(DATA / "trtexec/times_v11.json"), "--sidecar", str(side)]) == 2
    text = capsys.readouterr().err
    assert "side.toml: '../../../../etc/passwd' lies outside the sidecar's folder" in text and text.count("\n") == 1
    assert not (tmp_path / "runs.db").exists()


def rows(db: Path) -> list[str]:
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return list(connection.iterdump())
