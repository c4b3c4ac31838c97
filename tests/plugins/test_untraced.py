"""The plugin of coverage: a large library is imported untraced, and all that is counted is counted as without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from coverage import CoverageData

# stands in the way of the real one
LIBRARY = """
import sys

TRACER = sys.gettrace()


def call(function):
    return function()
"""
COUNTED = """
import sys


def said(word):
    if word:
        return word
    return "nothing"


tracer = sys.gettrace()
said("before")
import sympy

assert sys.gettrace() is not None and sys.gettrace() is tracer
print(sympy.TRACER is None)
said("")
try:
    import sympy.absent
except ImportError:
    said("after")
sympy.call(lambda: said("in a call from the library"))
"""


def measure(folder: Path, plugins: str) -> tuple[str, set[int], set[tuple[int, int]]]:
    """What the program printed, and the lines and branches that coverage counted."""
    settings, data = folder / f"settings{plugins}", folder / f"data{plugins}"
    settings.write_text(f"[run]\nbranch = true\nsource = counted\nplugins = {plugins}\ndata_file = {data}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", "-m", "counted"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    found = CoverageData(str(data))
    found.read()
    (name,) = found.measured_files()
    return done.stdout, set(found.lines(name) or ()), set(found.arcs(name) or ())


def test_a_library_is_imported_untraced_and_nothing_counted_is_missed(tmp_path: Path) -> None:
    (tmp_path / "sympy").mkdir()
    (tmp_path / "sympy" / "__init__.py").write_text(LIBRARY)
    (tmp_path / "counted.py").write_text(COUNTED)
    said, *without = measure(tmp_path, "")
    assert said == "False\n"
    said, *found = measure(tmp_path, "benchrun_untraced")
    assert said == "True\n" and found == without
