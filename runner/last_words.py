"""What a program that failed said last: what an error message quotes of it."""

from __future__ import annotations

import re

from benchrun.runner.messages import clean_line

LONGEST = 300  # characters of a line that is quoted
_TELLING = re.compile(r"^(E\s+)?[\w.]*(Error|Exception)\b|\b(?i:error):")


def find_last_words(said: str) -> str:
    """The last line of a program's output as printable text; empty where it said nothing.

    Where that line names no error but an earlier one does, the last such line stands before it: pytest ends with a mere
    count, pip with a notice.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if not lines:
        return ""
    last = clean_line(lines[-1].strip("= ") or lines[-1], LONGEST)
    if _TELLING.search(lines[-1]):
        return last
    telling = next((line for line in reversed(lines) if _TELLING.search(line)), None)
    return last if telling is None else f"{clean_line(telling, LONGEST)} … {last}"


def quote_last_words(said: str) -> str:
    """The same as the end of a sentence, `; its last words: …`; empty where it said nothing."""
    words = find_last_words(said)
    return f"; its last words: {words}" if words else ""
