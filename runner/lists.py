"""Lists of whole numbers as the command line takes them: `1,2,4`, ranges `1..8`, `1..128*2`, `64..512+64`."""

from __future__ import annotations

import re

from benchrun.runner.errors import UsageError

_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:([*+])(\d+))?")
LONGEST = 10_000


def parse_numbers(text: str, name: str) -> tuple[int, ...]:
    """Positive whole numbers in the order given, without repeats. Raises UsageError naming `name`."""
    found: dict[int, None] = {}
    for part in text.split(","):
        part = part.strip()
        if part.isascii() and part.isdecimal():
            numbers = [int(part)]
        elif match := _RANGE.fullmatch(part):
            numbers = _expand(int(match[1]), int(match[2]), match[3] or "+", int(match[4] or 1))
        else:
            raise UsageError(
                f"--{name} {text}: {part!r} is not a number; give numbers like 1,2,4 or a range like 1..128*2"
            )
        if not numbers or min(numbers) < 1:
            raise UsageError(
                f"--{name} {text}: {part!r} must be 1 or more; give numbers like 1,2,4 or a range like 1..128*2"
            )
        found.update(dict.fromkeys(numbers))
    return tuple(found)


def parse_names(text: str) -> tuple[str, ...]:
    """Comma-separated names in the order given, without repeats or blanks."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _expand(start: int, stop: int, operator: str, step: int) -> list[int]:
    if step < (2 if operator == "*" else 1) or start < 1:
        return []
    numbers: list[int] = []
    while start <= stop and len(numbers) < LONGEST:
        numbers.append(start)
        start = start * step if operator == "*" else start + step
    return numbers
