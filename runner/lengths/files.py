"""Lengths and texts from files: read, checked, and named by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchrun.backends.tokenisation import text_lines
from benchrun.runner.errors import UsageError
from benchrun.runner.lengths.mixes import LONGEST

DIGITS = 8  # of the content's SHA-256, in the name of a workload
LARGEST_BYTES = 1 << 28
ALLOWED = "lengths are uniform:LOW-HIGH, lognormal:MEAN:LOW-HIGH, a file of them, text:FILE or squad:FILE"


def read_text(path: Path, allowed: str = ALLOWED) -> tuple[str, str]:
    """The text of a file and the first digits of its SHA-256.

    Raises UsageError where it cannot be read, ending in what is `allowed`, or is no text.
    """
    try:
        if path.is_file() and path.stat().st_size > LARGEST_BYTES:
            raise UsageError(
                f"{path} has {path.stat().st_size >> 20} MiB: give a file of lengths or lines of at most {LARGEST_BYTES >> 20}"
            )
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): {allowed}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(f"{path} is no text: give a UTF-8 file with one sequence, or one length, a line")
    return text, hashlib.sha256(content).hexdigest()[:DIGITS]


def parse_lengths(text: str, path: Path) -> tuple[int, ...]:
    """One integer a line; empty lines and those that begin with # are passed over. Raises UsageError."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if not (word.isascii() and word.isdigit() and len(word) <= len(str(LONGEST)) and 1 <= int(word) <= LONGEST):
            raise UsageError(
                f"{path}, line {number}: {word[:40]!r} is no length; write one whole number from 1 to {LONGEST} a line"
            )
        found.append(int(word))
    if not found:
        raise UsageError(f"{path} holds no lengths: write one whole number a line")
    return tuple(found)


def parse_lines(text: str, path: Path) -> tuple[str, ...]:
    """The lines that are not blank. Raises UsageError where there are none."""
    found = text_lines(text)
    if not found:
        raise UsageError(f"{path} holds no text: write one sequence a line")
    return found
