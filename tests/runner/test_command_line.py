"""What the command line itself promises: completion, help, --debug, names as they are, and what --resume refuses."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchrun.results.rows import EnvironmentRow, RunRow
from benchrun.results.store import open_store
from benchrun.runner import cli
from benchrun.runner.environment import read_environment
from benchrun.runner.plan import SweepRequest
from benchrun.runner.presets import BUILT_IN
from tests.conftest import Bench

RUN = "20260301-000000-abcd"


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database in a folder whose name looks like console markup."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    path = tmp_path / "[bold]" / "runs.db"
    path.parent.mkdir()
    monkeypatch.setenv("BENCHRUN_DB", str(path))
    return path


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("benchrun --ba", {"--backend", "--batch"}),
        ("benchrun --seq 128 --dr", {"--dry-run"}),
        ("benchrun ru", {"run", "runs"}),
        ("benchrun run --pre", {"--preset"}),
    ],
)
def test_a_shell_completes_a_sweep_without_its_command(bench: Bench, typed: str, offered: set[str]) -> None:
    told = {
        "_BENCHRUN_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    assert set(Bench(bench.folder, told)().out.split()) == offered


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"COMP_WORDS": "benchrun\n--ba", "COMP_CWORD": "1"}, {"COMP_WORDS": "benchrun run --ba", "COMP_CWORD": "2"}),
        ({"_TYPER_COMPLETE_ARGS": "benchrun --ba"}, {"_TYPER_COMPLETE_ARGS": "benchrun run --ba"}),
        (
            {"COMP_WORDS": "benchrun --version", "COMP_CWORD": "1"},
            {"COMP_WORDS": "benchrun --version", "COMP_CWORD": "1"},
        ),
        ({"COMP_WORDS": "benchrun", "COMP_CWORD": "0"}, {"COMP_WORDS": "benchrun", "COMP_CWORD": "0"}),
        ({}, {}),
    ],
)
def test_the_line_to_complete_gets_its_command(before: dict[str, str], after: dict[str, str]) -> None:
    cli.complete_sweep(before)
    assert before == after


def test_the_help_names_what_can_be_given_and_no_type_for_flags(bench: Bench) -> None:
    options = bench("run", "--help").out
    for preset in BUILT_IN.values():
        assert (preset.name in options) == (preset.command == "run")
    assert "<int>" in options and "--debug" in bench("--help").out
    for arguments in (("run",), (), ("cache", "ls")):
        lines = bench(*arguments, "--help").out.splitlines()
        typed = [line for line in lines if "<bool>" in line and "-h " not in line]  # Typer makes --help by itself
        assert lines and not typed


def test_debug_shows_the_traceback_before_the_line(db: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--backend", "nosuch", "--debug"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and "Traceback" in err and err.splitlines()[-1].startswith("benchrun: unknown backend 'nosuch'")


@pytest.mark.parametrize("arguments", [["runs", "--limit", "0"], ["runs", "--limit", "-5"], ["--threads", "0"]])
def test_numbers_below_one_are_refused(arguments: list[str], db: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and arguments[-2] in err and "1" in err
    assert not db.exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["show"], "(see 'benchrun show --help')"),
        (["--iterations", "ten"], "('benchrun run --help' lists the sweep options)"),
        (["measure"], "('benchrun run --help' lists the sweep options)"),
    ],
)
def test_the_hint_is_about_the_command_that_was_given(
    arguments: list[str], hint: str, db: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    assert hint in capfd.readouterr().err


def test_brackets_in_names_are_shown_as_they_are(
    db: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from benchrun.backends.torch import TorchBackend

    hint = "it needs more: pip install 'benchrun-inference[ort]'"
    monkeypatch.setattr(
        TorchBackend, "missing", classmethod(lambda cls, variant: hint if variant == "compile" else None)
    )
    monkeypatch.setenv("COLUMNS", "400")
    folder = db.parent.parent / "[red]model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert", "num_hidden_layers": 1}')
    assert cli.run(["--backend", "torch,torch:compile", "--model", str(folder), "--device", "cpu", "--dry-run"]) == 0
    shown = capfd.readouterr().err
    assert hint in shown and "[red]model@" in shown
    keep(db)
    assert cli.run(["--resume", "last", "--dry-run"]) == 0
    assert str(db) in capfd.readouterr().err


def keep(db: Path, **libraries: str) -> None:
    """A run of this machine without rows, made with other versions of `libraries`."""
    here = read_environment("cpu")
    details: dict[str, Any] = {**here.details, "libraries": {**here.details["libraries"], **libraries}}
    request = {"sweeps": [SweepRequest(models=("tiny",), device="cpu", threads=1).to_json()]}
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    environment = EnvironmentRow(here.fingerprint, details)
    with open_store(db) as store:
        store.add_run(RunRow(RUN, "kept", moment, "interrupted", environment, request), [], 1)


def test_a_run_is_not_resumed_with_other_libraries(db: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keep(db, torch="1.0.0")
    assert cli.run(["--resume", "last", "--dry-run"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    assert f"run {RUN} was measured with other libraries (torch 1.0.0, here " in err and "start a new run" in err


def test_what_has_joined_since_is_no_hindrance(db: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keep(db, tensorrt="10.0")  # was there, is not now: its points could not be planned, the others can
    assert cli.run(["--resume", "last", "--dry-run"]) == 0
    assert "1 to measure" in capfd.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_a_run_is_not_removed_without_a_yes(
    db: Path, answer: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(db)
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert cli.run(["rm", "last"]) == 130
    assert capfd.readouterr().err.endswith("benchrun: interrupted\n")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert cli.run(["rm", "last"]) == 0


def test_a_resumed_run_keeps_its_name(db: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keep(db)
    assert cli.run(["--resume", "last", "--label", "other"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "leave --label out" in err
