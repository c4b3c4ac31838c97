"""The interpreters that sides run with: what they are, and whether they can measure."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchrun.runner.errors import UsageError
from benchrun.runner.last_words import find_last_words

ANSWER_S = 120.0
# What would make two interpreters run the same code, or another environment's.
FOREIGN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
# Runs in the side's interpreter, with its own benchrun: so it uses nothing that 0.1.0 does not have.
_QUESTION = """
import json, sys
asked = json.loads(sys.argv[1])
found = {"prefix": sys.prefix, "python": sys.version.split()[0]}
try:
    from benchrun.backends.registry import load_backend
    from benchrun.runner.environment import benchrun_version, read_environment
except Exception as error:
    found["problem"] = f"{type(error).__name__}: {error}"
else:
    found["version"] = benchrun_version()
    found["libraries"] = read_environment("cpu").details["libraries"]
    try:
        from dataclasses import fields
        from benchrun.runner.messages import Assignment
        from benchrun.runner.protocol import Protocol
        parts = {"assignment": Assignment, "protocol": Protocol}
        found["takes"] = {name: [each.name for each in fields(part)] for name, part in parts.items()}
    except Exception:
        found["takes"] = {}
    missing = {}
    for name, variant in asked:
        try:
            missing[f"{name}:{variant}"] = load_backend(name).missing(variant)
        except Exception as error:
            missing[f"{name}:{variant}"] = f"{name} cannot be loaded: {error}"
    found["missing"] = missing
print("\\n" + json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What an interpreter says of itself. `missing`: `backend:variant` → what it lacks, None where it lacks nothing;
    `takes`: the fields that its workers know, by the part of an assignment, empty where it does not tell.
    """

    prefix: str
    python: str
    version: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str | None] = field(default_factory=dict)
    takes: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Tells environments apart without naming a path."""
        return hashlib.sha256(self.prefix.encode()).hexdigest()[:8]

    @property
    def details(self) -> dict[str, Any]:
        """What is stored of a side: its Python and its software."""
        return {"python": self.python, "benchrun": self.version, "libraries": dict(self.libraries)}


def find_interpreter(given: str) -> str:
    """The absolute path of an interpreter; links are kept, for a virtual environment is one. Raises UsageError."""
    path = Path(given).expanduser()
    if path.is_dir():
        path = path / "bin" / "python"
    if not path.is_file() or not os.access(path, os.X_OK):
        raise UsageError(f"{given} is no Python interpreter: give its path, such as envs/new/bin/python")
    return str(Path(os.path.abspath(path)))  # noqa: PTH100 - resolve() would leave the virtual environment


def introduce(
    python: str | None,
    engines: Iterable[tuple[str, str]],
    environment: Mapping[str, str | None] | None = None,
    *,
    shown: str = "this interpreter",
) -> Introduction:
    """Ask an interpreter (None: this one) who it is and what it lacks for (backend, variant) pairs.

    Raises UsageError where it does not answer or has no benchrun.
    """
    changes = environment or {}
    variables = {name: value for name, value in os.environ.items() if name not in changes}
    variables |= {name: value for name, value in changes.items() if value is not None}
    try:
        done = subprocess.run(
            [python or sys.executable, "-P", "-c", _QUESTION, json.dumps(list(engines))],
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            env=variables,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"{shown} does not run: {' '.join(str(error).split())}") from error
    found = _read(done.stdout)
    if found is None:
        said = find_last_words(done.stderr) or "it said nothing"
        raise UsageError(f"{shown} gives no answer (exit status {done.returncode}): {said}")
    if "problem" in found:
        raise UsageError(
            f"{shown} cannot measure, for it has no working benchrun ({found['problem']}): "
            "install benchrun-inference there, in a version that has the engines that you compare"
        )
    return Introduction(**found)


def _read(text: str) -> dict[str, Any] | None:
    lines = text.strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError):
        return None
    return found if isinstance(found, dict) and "prefix" in found else None


def clean_variables() -> dict[str, str | None]:
    """Changes to the environment of a side with an interpreter of its own: nothing of ours leads into it."""
    return dict.fromkeys(FOREIGN_VARIABLES)
