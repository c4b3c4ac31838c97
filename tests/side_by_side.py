"""Runs commands at the same time, one argument each, and prints what each said when it has ended: tox runs one after the other.

    python side_by_side.py "mypy" "pyright --pythonpath python"

Exits with 1 where one of them did not exit with 0.
"""

from __future__ import annotations

import shlex
import subprocess
import sys


def main(commands: list[str]) -> int:
    started = [
        subprocess.Popen(shlex.split(each), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for each in commands
    ]
    failed = 0
    for command, process in zip(commands, started, strict=True):
        said, _ = process.communicate()
        print(f"$ {command}\n{said}", flush=True)
        if process.returncode:
            failed = 1
            print(f"exit status {process.returncode}: {command}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
