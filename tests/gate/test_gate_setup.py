"""Setting sides up: commits in trees and environments of their own, the control, and small pieces of the session."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchrun.runner.errors import UsageError
from benchrun.runner.gate import checkouts
from benchrun.runner.gate.checkouts import check_out, contains, find_commit, is_dirty
from benchrun.runner.gate.control import REPETITIONS, ControlWorkload, summarise_control
from benchrun.runner.gate.interpreters import introduce
from benchrun.runner.gate.preparation import choose_cores
from benchrun.runner.launcher import pinned, worker_environment
from tests.gate.processes import is_running, wait_until

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "gate-double"
version = "1.{n}"
[tool.setuptools]
py-modules = ["gate_double"]
"""
INSTALL = "pip install --quiet --no-build-isolation --no-deps --no-index ."


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *names, "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    for n in (1, 2):
        (folder / "pyproject.toml").write_text(PROJECT.replace("{n}", str(n)))
        (folder / "gate_double.py").write_text(f"LEVEL = {n}\n")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", str(n))
    return folder


def test_each_commit_has_its_own_package(repository: Path, tmp_path: Path) -> None:
    levels = []
    for ref in ("HEAD~1", "HEAD"):
        made = check_out(repository, find_commit(repository, ref), INSTALL, tmp_path / "cache")
        assert not made.reused and not made.note
        variables = {name: value for name, value in os.environ.items() if name not in made.environment}
        variables |= {name: value for name, value in made.environment.items() if value is not None}
        code = "import gate_double, numpy; print(gate_double.LEVEL)"  # its own, and what the gate's environment has
        done = subprocess.run(
            [made.python, "-P", "-c", code], env=variables, capture_output=True, text=True, check=True
        )
        levels.append(int(done.stdout))
        assert introduce(made.python, [("torch", "eager")], made.environment).missing == {"torch:eager": None}
    assert levels == [1, 2]
    again = check_out(repository, find_commit(repository, "HEAD"), INSTALL, tmp_path / "cache")
    assert again.reused


def test_an_install_command_that_fails_or_does_nothing(repository: Path, tmp_path: Path) -> None:
    commit = find_commit(repository, "HEAD")
    with pytest.raises(UsageError, match=r"install command failed .*exit status 3.*: no such wheel; give another"):
        check_out(repository, commit, "echo no such wheel >&2; exit 3", tmp_path / "cache")
    assert not list((tmp_path / "cache" / "sides").glob("*/ready"))
    made = check_out(repository, commit, "true", tmp_path / "cache")
    assert "added no package" in made.note
    assert "added no package" in check_out(repository, commit, "true", tmp_path / "cache").note


def test_an_install_command_that_is_cancelled_leaves_nothing(repository: Path, bench: Any) -> None:
    """Cancelled by CI before the gate is stored: one word, and neither processes nor half a side."""
    there = type(bench)(repository)
    nap = "31415.9265"
    process = there.start(
        "gate", "--aa", "--base-ref", "HEAD", "--cmd", "bench {out}", "--install", f"sleep {nap}; true"
    )
    wait_until(lambda: is_running(nap))
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and told.splitlines()[-1] == "benchrun: interrupted", told
    assert not is_running(nap)
    assert [each.suffix for each in (repository / "cache" / "sides").iterdir()] == [".lock"]


def test_the_oldest_sides_are_removed(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkouts, "KEPT", 1)
    old, new = (find_commit(repository, ref) for ref in ("HEAD~1", "HEAD"))
    first = check_out(repository, old, "", tmp_path / "cache")
    os.utime(first.tree.parent / "ready", (1, 1))
    second = check_out(repository, new, "", tmp_path / "cache")
    assert not first.tree.exists() and second.tree.exists()
    assert git(repository, "worktree", "list").count("\n") == 1  # the repository itself and the one that is left


def test_what_git_does_not_know(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="git knows no commit 'nowhere'"):
        find_commit(repository, "nowhere")
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(UsageError, match="no git repository"):
        find_commit(outside, "HEAD")
    assert contains(repository, "HEAD", "HEAD~1") is True
    assert contains(repository, "HEAD~1", "HEAD") is False
    assert contains(repository, "HEAD", "nowhere") is None
    assert not is_dirty(repository)
    (repository / "gate_double.py").write_text("changed")
    assert is_dirty(repository)


def test_the_control_is_the_same_work_every_time() -> None:
    control = ControlWorkload(choose_cores(1))
    taken = control.run()
    assert len(taken) == REPETITIONS and min(taken) > 0
    assert summarise_control(taken) == sorted(taken)[REPETITIONS // 2]


def test_pinning_is_undone() -> None:
    before = os.sched_getaffinity(0)
    with pinned([min(before)]):
        assert os.sched_getaffinity(0) == {min(before)}
    with pinned(()):
        assert os.sched_getaffinity(0) == before
    assert os.sched_getaffinity(0) == before
    assert choose_cores(len(before)) == () and choose_cores(10_000) == ()


def test_a_side_sees_nothing_of_the_gates_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/work/tree")
    found = worker_environment(2, {"PYTHONPATH": None, "PATH": "/side/bin"})
    assert "PYTHONPATH" not in found and found["PATH"] == "/side/bin" and found["OMP_NUM_THREADS"] == "2"
