"""Counts the lines that coverage is told not to look at: each needs a reason, and together they may be 2 % of the code at most."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOMS = ("backends", "runner", "results", "dashboard")
LIMIT = 0.02
EXCUSE = re.compile(r"#\s*pragma:\s*no\s*cover(?P<reason>.*)")


def count(root: Path) -> tuple[int, int, list[str]]:
    """Excused lines, all lines of code, and excuses without a reason. An excused `def`, `class` or `if` excuses its whole block."""
    excused = total = 0
    unreasoned = []
    for path in sorted(each for room in ROOMS for each in (root / room).rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        total += sum(1 for line in lines if line.strip() and not line.strip().startswith("#"))
        for index, line in enumerate(lines):
            if match := EXCUSE.search(line):
                excused += 1 + block_length(lines, index)
                if len(match["reason"].strip(" -–:")) < 8:
                    unreasoned.append(f"{path}:{index + 1}")
    return excused, total, unreasoned


def block_length(lines: list[str], start: int) -> int:
    """Lines of the block that a line opens; 0 where it opens none."""
    if not lines[start].split("#")[0].rstrip().endswith(":"):
        return 0
    indent = len(lines[start]) - len(lines[start].lstrip())
    length = 0
    for line in lines[start + 1 :]:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        length += bool(line.strip())
    return length


def main() -> int:
    excused, total, unreasoned = count(Path(__file__).parent.parent)
    print(f"{excused} of {total} lines ({excused / total:.2%}) are excused from coverage; {LIMIT:.0%} are allowed")
    for where in unreasoned:
        print(f"{where}: 'pragma: no cover' without a reason")
    return int(bool(unreasoned) or excused > LIMIT * total)


if __name__ == "__main__":
    sys.exit(main())
