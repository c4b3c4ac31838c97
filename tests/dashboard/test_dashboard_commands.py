"""`benchrun dashboard` and `benchrun report` as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchrun.runner.cli import run
from tests.dashboard.conftest import Databases
from tests.dashboard.serving import free_port

HEAVY = ("streamlit", "altair", "pandas", "vl_convert", "torch")
Captured = pytest.CaptureFixture[str]


def test_a_report_is_written_where_it_was_asked_for(databases: Databases, tmp_path: Path, capsys: Captured) -> None:
    target = tmp_path / "report.html"
    assert run(["report", "last", "-o", str(target), "--db", str(databases("one"))]) == 0
    said = capsys.readouterr()
    assert said.out == "" and str(target) in said.err and "run 20260302-120000-r001" in said.err
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_report_has_a_name_of_its_own(
    databases: Databases, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["report", "r001", "--db", str(databases("one")), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == "20260302-120000-r001" and found["path"] == f"benchrun-{found['run']}.html"
    assert found["bytes"] == (tmp_path / found["path"]).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["report", "nonsense"], "there is no run 'nonsense'"),
        (["report", "last", "-o", "none/report.html"], "the report cannot be written to none/report.html"),
        (["dashboard", "--port", "0"], "--port is a number from 1 to 65535, not 0"),
        (["dashboard", "--host", "no.such.host.invalid"], "is no address of this machine"),
        (["dashboard", "--db", "mysql://user:secret@host/name"], "not supported"),
    ],
)
def test_errors_are_one_sentence(line: list[str], words: str, databases: Databases, capsys: Captured) -> None:
    given = line if "--db" in line else [*line, "--db", str(databases("one"))]
    assert run(given) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and "secret" not in said and "Traceback" not in said


@pytest.mark.parametrize("command", ["dashboard", "report", "export"])
def test_without_its_extra_a_command_says_how_to_install_it(command: str, databases: Databases, tmp_path: Path) -> None:
    """In a process of its own that cannot find the libraries, as in an environment that lacks them."""
    code = f"""
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {HEAVY!r} else real(name, *rest)
from benchrun.runner.cli import run
status = run(sys.argv[1:])
assert not set(sys.modules) & set({HEAVY!r}), sorted(set(sys.modules) & set({HEAVY!r}))
sys.exit(status)
"""
    written = ["last", "-o", "x.html", *(["--format", "html"] if command == "export" else [])]
    line = [command, *(["--port", str(free_port())] if command == "dashboard" else written)]
    ended = subprocess.run(
        [sys.executable, "-c", code, *line, "--db", str(databases("one"))],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1 and "pip install 'benchrun-inference[dashboard]'" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", [["--help"], ["dashboard", "--help"], ["report", "--help"]])
def test_help_loads_no_heavy_library(line: list[str]) -> None:
    code = f"""
import sys
from benchrun.runner.cli import run
assert run(sys.argv[1:]) == 0
assert not set(sys.modules) & set({HEAVY!r}), sorted(set(sys.modules) & set({HEAVY!r}))
"""
    ended = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "dashboard" in ended.stdout or "report" in ended.stdout
