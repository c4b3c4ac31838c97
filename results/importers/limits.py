"""Bounds on what is read: size, kind, encoding, nesting. All of them before anything is parsed.

With 64 MiB of text and 4 million values the parsed document stays well under 1 GB and a few seconds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from benchrun.results.importers.foreign import ForeignMeasurement, ImportFailed, Source

MAX_BYTES = 64 * 2**20
MAX_VALUES = 4_000_000  # commas, brackets and strings of a JSON document; cells of a CSV file
MAX_DEPTH = 64
MAX_LINE = 1_000_000  # characters of one line of text
MAX_LINES = 2_000_000
MAX_MEASUREMENTS = 150_000  # what goes into a database in well under 30 s

_ARCHIVES = {
    b"PK\x03\x04": "a ZIP archive",
    b"PK\x05\x06": "a ZIP archive",
    b"\x1f\x8b": "gzip-compressed",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"7z\xbc\xaf": "a 7z archive",
    b"SQLite format 3": "a SQLite database",
    b"\x80\x04\x95": "a Python pickle, which is never loaded",
}
_WIDE = (b"\xff\xfe", b"\xfe\xff")


def read_bounded(path: Path, *, limit: int = MAX_BYTES) -> Source:
    """The content of a regular file of at most `limit` bytes; `ImportFailed` otherwise."""
    name = path.name
    try:
        # Not blocking: opening a pipe without a writer would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ImportFailed(f"cannot be read: {(error.strerror or str(error)).lower()}", file=name) from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ImportFailed("is not a regular file", file=name)
    with os.fdopen(descriptor, "rb") as file:
        if found.st_size <= limit:
            data = file.read(limit + 1)  # it may be growing
            if len(data) <= limit:
                return Source(name, data)
    raise ImportFailed(f"is larger than {limit // 2**20} MiB, the most that is read; split it", file=name)


def read_companion(folder: Path, given: str, *, of: str) -> Source:
    """A file that a sidecar names: it must lie in the sidecar's folder or below it, links followed."""
    root = folder.resolve()
    target = (root / given).resolve()
    if not target.is_relative_to(root):
        raise ImportFailed(f"'{given}' lies outside the sidecar's folder; copy it there", file=of)
    return read_bounded(target)


def decode_text(source: Source) -> str:
    """The content as text: UTF-8, with or without a byte order mark. Archives and binary files are refused by name."""
    if len(source.data) > MAX_BYTES:
        raise source.failed(f"is larger than {MAX_BYTES // 2**20} MiB, the most that is read; split it")
    for magic, kind in _ARCHIVES.items():
        if source.data.startswith(magic):
            raise source.failed(f"is {kind}, not text; unpack it first" if "pickle" not in kind else f"is {kind}")
    if source.data.startswith(_WIDE):
        raise source.failed("is UTF-16 or UTF-32 text; save it as UTF-8")
    if not source.data.strip():
        raise source.failed("is empty")
    end = source.data.find(b"\0")
    if end >= 0:
        raise source.failed("holds a NUL byte, so it is no text file", line=_line_at(source.data, end))
    try:
        return source.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line_at(source.data, error.start)
        raise source.failed("is not UTF-8 text; save it as UTF-8", line=line) from None


def split_lines(source: Source) -> list[str]:
    """The lines of a text file, ends stripped; line n has index n − 1."""
    text = decode_text(source)
    if text.count("\n") > MAX_LINES:
        raise source.failed(f"has over {MAX_LINES:,} lines; split it")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            raise source.failed(f"is longer than {MAX_LINE:,} characters", line=number)
    return lines


def collect(source: Source, measurements: Iterable[ForeignMeasurement]) -> tuple[ForeignMeasurement, ...]:
    """The measurements of a file, up to the most that one may have."""
    found: list[ForeignMeasurement] = []
    for each in measurements:
        if len(found) == MAX_MEASUREMENTS:
            raise source.failed(f"has over {MAX_MEASUREMENTS:,} measurements; split it")
        found.append(each)
    return tuple(found)


def _line_at(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1
