"""`benchrun import` as a user types it: lines, documents, exit codes, one-sentence errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchrun.results import open_store
from benchrun.results.importers import FORMATS
from benchrun.runner.cli import run

Capture = pytest.CaptureFixture[str]
DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def db(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BENCHRUN_DB", str(tmp_path / "runs.db"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path / "runs.db"


def count_runs(db: Path) -> int:
    with open_store(db, read_only=True) as store:
        return len(store.runs())


def test_one_file_and_the_same_again(db: Path, capsys: Capture) -> None:
    file = str(DATA / "optimum/benchmark.json")
    assert run(["import", "optimum-benchmark", file]) == 0
    assert capsys.readouterr().out == "benchmark.json: optimum-benchmark, 1 measurement, run import-2fd922193fe82ee1\n"
    assert run(["import", "auto", file]) == 0
    assert "already there as run import-2fd922193fe82ee1, nothing added" in capsys.readouterr().out
    assert count_runs(db) == 1


def test_a_bad_file_among_good_ones(db: Path, tmp_path: Path, capsys: Capture) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text((DATA / "trtexec/times_v8.json").read_text().replace('"computeMs" : ', '"computeMs" : -', 1))
    assert run(["import", "trtexec", str(bad), str(DATA / "trtexec/times_v8.json"), str(tmp_path / "none.json")]) == 1
    told = capsys.readouterr()
    first, last = (line for line in told.err.splitlines() if "note:" not in line)
    assert first.startswith("benchrun: bad.json, line ") and "computeMs: " in first and first.endswith("is negative")
    assert last == "benchrun: none.json: cannot be read: no such file or directory"
    assert told.out.splitlines()[-1].startswith("1 added, 0 already there, 2 failed; database ")
    assert count_runs(db) == 1


def test_json_is_the_only_thing_on_standard_output(capsys: Capture, tmp_path: Path) -> None:
    files = [DATA / "csv/summary.csv", tmp_path / "none.csv"]
    assert run(["import", "csv", *map(str, files), "--sidecar", str(DATA / "csv/summary.toml"), "--json"]) == 1
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert told.err == ""
    assert (found["schema"], found["added"], found["known"], found["failed"]) == (1, 1, 0, 1)
    assert found["files"][0]["measurements"] == 3 and found["files"][0]["added"] is True
    assert found["files"][1]["error"] == "none.csv: cannot be read: no such file or directory"


def test_a_sidecar_for_each_file(db: Path, capsys: Capture) -> None:
    names = ("csv/summary", "csv/samples")
    sides = [part for name in names for part in ("--sidecar", str(DATA / f"{name}.toml"))]
    assert run(["import", "csv", *(str(DATA / f"{name}.csv") for name in names), *sides]) == 0
    assert count_runs(db) == 2
    assert run(["import", "csv", str(DATA / "csv/samples.csv"), *sides]) == 2
    assert "1 files, but 2 sidecars" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import"], "name a format and at least one file"),
        (["import", "trtexec"], "name a format and at least one file"),
        (["import", "foo", "x"], "there is no format 'foo'; there are trtexec, "),
        (["import", "csv", "x", "--sidecar", "nosuch.toml"], "nosuch.toml: cannot be read: no such file or directory"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, db: Path, capsys: Capture) -> None:
    assert run(arguments) == 2
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1
    assert not db.exists()


def test_the_list_of_formats(capsys: Capture) -> None:
    assert run(["import", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*FORMATS, "auto")) and max(map(len, text.splitlines())) <= 80
    assert run(["import", "--list", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["formats"]] == list(FORMATS)


def test_an_imported_run_can_be_shown(capsys: Capture) -> None:
    assert (
        run(["import", "csv", str(DATA / "csv/summary.csv"), "--sidecar", str(DATA / "csv/summary.toml"), "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert run(["show", found["files"][0]["run"]]) == 0
    text = capsys.readouterr().out
    assert "None" not in text and "0.780" in text and "device unknown" in text  # device times without host times
