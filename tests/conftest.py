"""Fixtures that several rooms share: the installed command, run for real in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # its processes ignore Ctrl-C, and so would every command that a test starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

# modules that take longest on two cores, the longest first; a process of xdist gets whole modules, and one that begins
# last would keep one core busy while the other has nothing left to do
LONGEST = (
    "runner/test_loadgen_command.py",
    "accuracy/test_accuracy_trained.py",
    "gate/test_gate_simulation.py",
    "runner/test_hostile.py",
    "dashboard/test_dashboard_browser.py",
    "runner/test_build_command.py",
    "runner/test_sweep_command.py",
    "gate/test_gate_suites.py",
    "runner/test_lengths_sweep.py",
    "runner/test_backends_command.py",
    "runner/test_true_timing.py",
    "gate/test_gate_interpreters.py",
    "runner/test_train_command.py",
    "dashboard/test_dashboard_pages.py",
    "backends/test_torch.py",
    "backends/test_torch_packed.py",
)

COMMAND = Path(sys.executable).with_name("benchrun")
SECONDS = 240.0  # far more than any command here takes, so that a hang ends as a failure


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first where several processes share the tests."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    folder = Path(__file__).parent
    places = {folder / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as the one JSON document that it must be, checked against the schema kept in the repository."""
        from jsonschema import Draft202012Validator

        from benchrun.results.document import document_schema

        found: dict[str, Any] = json.loads(self.out)
        Draft202012Validator(document_schema()).validate(found)
        return found


@dataclass(frozen=True, slots=True)
class Bench:
    """Runs `benchrun` with its database, artefact cache and working directory in `folder`."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def db(self) -> Path:
        """The database that `$BENCHRUN_DB` names."""
        return self.folder / "runs.db"

    @property
    def environment(self) -> dict[str, str]:
        """Wide, without colours, without a network."""
        return {
            **os.environ,
            "BENCHRUN_DB": str(self.db),
            "BENCHRUN_CACHE": str(self.folder / "cache"),
            "HF_HUB_OFFLINE": "1",
            "NO_COLOR": "1",
            "COLUMNS": "200",
            **self.settings,
        }

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the command and go on."""
        return subprocess.Popen(
            [str(COMMAND), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=self.folder,
            env=self.environment,
            **options,
        )

    def __call__(self, *arguments: str, **options: Any) -> Outcome:
        """Run the command to its end."""
        with self.start(*arguments, **options) as process:
            try:
                out, err = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Outcome(process.returncode, out, err)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """The command in a fresh folder."""
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def make_bench(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Bench]:
    """Fresh folders for sweeps that all tests of a module look at."""
    return lambda: Bench(tmp_path_factory.mktemp("bench"))
