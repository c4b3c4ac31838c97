"""What costs less than the real thing: a worker that starts at once (see `worker_double`), a command in this process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchrun.runner import launcher
from benchrun.runner.cli import run
from tests.conftest import Bench, Outcome

Stage = Callable[..., None]
Inside = Callable[..., Outcome]


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inside:
    """`inside(bench, …)`: the command of that bench without a process of its own, for what is refused or planned only."""

    def call(bench: Bench, *arguments: str) -> Outcome:
        for name, value in bench.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(bench.folder)
        capsys.readouterr()
        status = run(list(arguments))
        said = capsys.readouterr()
        return Outcome(status, said.out, said.err)

    return call


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    """Let the double take the worker's place; `stage({"2": "die"}, start="silent")` tells it what to do."""
    double = Path(__file__).with_name("worker_double.py")
    interpreter = tmp_path / "interpreter"
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{double}" "$4"\n')
    interpreter.chmod(0o755)

    def tell(deeds: dict[str, str] | None = None, **more: str) -> None:
        monkeypatch.setattr(launcher, "sys", SimpleNamespace(executable=str(interpreter)))
        monkeypatch.setenv("DOUBLE", json.dumps((deeds or {}) | more))

    return tell


@pytest.fixture(scope="session")
def driver_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver of our own, CUDA's and HIP's in one: see `driver_double.c`."""
    built = tmp_path_factory.mktemp("driver") / "libdriver.so"
    source = Path(__file__).with_name("driver_double.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", built, source], check=True)
    return built
