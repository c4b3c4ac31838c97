"""A worker that costs nothing to start: see `worker_double`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchrun.runner import launcher

Stage = Callable[..., None]


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
