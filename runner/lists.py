"""Lists of whole numbers as the command line takes them: `1,2,4`, ranges `1..8`, `1..128*2`, `64..512+64`."""

from __future__ import annotations

import re

from benchrun.runner.errors import UsageError

LARGEST = 2**31 - 1
LONGEST = 10_000  # numbers in one list
EXAMPLE = "give numbers like 1,2,4 or a range like 1..128*2"
_RANGE = re.compile(r"(\d{1,10})\.\.(\d{1,10})(?:([*+])(\d{1,10}))?", re.ASCII)
_NUMBER = re.compile(r"\d{1,10}", re.ASCII)


def parse_numbers(text: str, name: str) -> tuple[int, ...]:
    """Positive whole numbers in the order given, without repeats. Raises UsageError naming `name`."""
    found: dict[int, None] = {}
    for part in text.split(","):
        part = part.strip()
        if _NUMBER.fullmatch(part):
            numbers = [int(part)]
        elif match := _RANGE.fullmatch(part):
            numbers = _expand(int(match[1]), int(match[2]), match[3] or "+", int(match[4] or 1))
        else:
            raise UsageError(f"--{name} {text}: {part!r} is not a number of up to 10 digits; {EXAMPLE}")
        if not numbers:
            raise UsageError(f"--{name} {text}: {part!r} is a range without numbers; {EXAMPLE}")
        if not 1 <= min(numbers) <= max(numbers) <= LARGEST:
            raise UsageError(f"--{name} {text}: {part!r} must be 1 or more, and at most {LARGEST}; {EXAMPLE}")
        found.update(dict.fromkeys(numbers))
        if len(found) > LONGEST:
            raise UsageError(f"--{name} {text}: these are more than {LONGEST} numbers; {EXAMPLE}")
    return tuple(found)


def parse_names(text: str) -> tuple[str, ...]:
    """Comma-separated names in the order given, without repeats or blanks."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _expand(start: int, stop: int, operator: str, step: int) -> list[int]:
    """The numbers from `start` to `stop`, one more than LONGEST at most; none for a step that leads nowhere."""
    if (operator == "*" and (step < 2 or start < 1)) or step < 1:
        return []
    numbers: list[int] = []
    while start <= stop and len(numbers) <= LONGEST:
        numbers.append(start)
        start = start * step if operator == "*" else start + step
    return numbers
