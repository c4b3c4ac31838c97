"""JSON documents: bounded before they are parsed, and read with messages that name line and field.

`parse_json` gives a `Node`, a value with its path. The line of a path is looked up only when a message needs it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from benchrun.results.importers import values
from benchrun.results.importers.foreign import ImportFailed, Source
from benchrun.results.importers.limits import MAX_DEPTH, MAX_VALUES, decode_text

Path = tuple[str | int, ...]

# A string runs to its closing quote or, unterminated, to the end: so no character is looked at twice.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{},:]', re.DOTALL)
_ODD_ESCAPE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_LONG_NUMBER = re.compile(r"\d{4300}", re.ASCII)
MAX_FACTS = 100_000  # characters of JSON that are kept as they are


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a JSON document, where it stands, and what is asked of it."""

    source: Source
    text: str
    value: Any
    path: Path = ()

    def failed(self, problem: str) -> ImportFailed:
        """The exception for a problem with this value."""
        return self.source.failed(problem, line=line_of(self.text, self.path), field=spell(self.path) or None)

    def get(self, name: str) -> Node | None:
        """A member of an object; None where it is missing or null."""
        if not isinstance(self.value, dict):
            raise self.failed(f"{values.show(self.value)} is not an object")
        found = self.value.get(name)
        return None if found is None else Node(self.source, self.text, found, (*self.path, name))

    def need(self, name: str) -> Node:
        """A member of an object that must be there."""
        found = self.get(name)
        if found is None:
            raise self.failed(f"'{name}' is missing")
        return found

    def items(self) -> Iterator[Node]:
        """The members of a list."""
        if not isinstance(self.value, list):
            raise self.failed(f"{values.show(self.value)} is not a list")
        for index, value in enumerate(self.value):
            yield Node(self.source, self.text, value, (*self.path, index))

    def object(self) -> dict[str, Any]:
        """The value, which must be an object."""
        if not isinstance(self.value, dict):
            raise self.failed(f"{values.show(self.value)} is not an object")
        return self.value

    def number(self) -> float:
        """A finite number ≥ 0."""
        return values.to_number(self.value, self.failed)

    def ms(self, unit: str) -> float:
        """A time in milliseconds, given in `unit`."""
        return values.to_ms(self.value, unit, self.failed)

    def rate(self) -> float:
        """A rate, per second."""
        return values.to_rate(self.value, self.failed)

    def count(self, *, least: int = 0) -> int:
        """A whole number."""
        return values.to_count(self.value, self.failed, least=least)

    def name(self) -> str:
        """A short printable name."""
        return values.to_name(self.value, self.failed)

    def times_ns(self, unit: str) -> tuple[int, ...]:
        """A list of times, in whole nanoseconds."""
        if not isinstance(self.value, list):
            raise self.failed(f"{values.show(self.value)} is not a list")
        factor = 1e9 / values.PER_SECOND[unit]
        most = values.MAX_MS * 1e6 / factor
        found = []
        for index, value in enumerate(self.value):
            # The plain case first: there may be a million of them.
            if type(value) not in (float, int) or not 0 <= value <= most:
                value = values.to_ms(value, unit, Node(self.source, self.text, value, (*self.path, index)).failed)
                found.append(round(value * 1e6))
            else:
                found.append(round(value * factor))
        return tuple(found)

    def kept(self) -> Any:
        """The value as it is, for the record; a note where it is too large to keep."""
        size = len(json.dumps(self.value))
        return self.value if size <= MAX_FACTS else f"left out: {size} characters"


def parse_json(source: Source) -> Node:
    """A JSON document, within the limits; `ImportFailed` with line and, where there is one, field otherwise."""
    text = decode_text(source)
    _refuse_excess(source, text)
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        what = "ends too early" if cut else f"is not JSON: {error.msg.lower()}"
        raise source.failed(what, line=error.lineno) from None
    except _NotFinite as error:
        line = text.count("\n", 0, max(0, _find_bare(text, error.spelled))) + 1
        raise source.failed(f"holds {error.spelled[:40]}, which is not a finite number", line=line) from None
    except ValueError:
        found = _LONG_NUMBER.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else 1
        raise source.failed("holds a number of thousands of digits", line=line) from None
    if _ODD_ESCAPE.search(text):
        _refuse_odd_text(source, value)
    return Node(source, text, value)


class _NotFinite(ValueError):
    def __init__(self, spelled: str) -> None:
        super().__init__(spelled)
        self.spelled = spelled


def _refuse_constant(spelled: str) -> NoReturn:
    raise _NotFinite(spelled)


def _finite(spelled: str) -> float:
    number = float(spelled)
    if number - number != 0.0:
        raise _NotFinite(spelled)
    return number


def _find_bare(text: str, spelled: str) -> int:
    """Where `spelled` first stands outside of a string; −1 where it does not."""
    end = 0
    for found in _TOKEN.finditer(text):
        at = text.find(spelled, end, found.start())
        if at >= 0:
            return at
        end = found.end()
    return text.find(spelled, end)


def _refuse_excess(source: Source, text: str) -> None:
    """Count what a parser would have to build, and how deep, before any of it is built."""
    for sign in ',"[{':
        if text.count(sign) > MAX_VALUES * (2 if sign == '"' else 1):
            raise source.failed(f"holds over {MAX_VALUES:,} values; split it")
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for found in _TOKEN.finditer(text):
        sign = text[found.start()]
        if sign in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                line = text.count("\n", 0, found.start()) + 1
                raise source.failed(f"is nested more than {MAX_DEPTH} levels deep", line=line)
        elif sign in "]}":
            depth -= 1


def _refuse_odd_text(source: Source, value: Any) -> None:
    """Refuse text that no database takes: NUL, and halves of surrogate pairs."""
    spelled = json.dumps(value, ensure_ascii=False)
    try:
        spelled.encode()
    except UnicodeEncodeError:
        raise source.failed("holds half a surrogate pair in a text") from None
    if "\\u0000" in spelled:
        raise source.failed("holds a NUL character in a text")


def spell(path: Path) -> str:
    """A path as people write it: `benchmarks[2].stats.mean`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return ascii(text)[1:-1].lstrip(".")[:200]


def line_of(text: str, path: Path) -> int | None:
    """The line on which the value of a path starts; None where it is not found (a key spelled with escapes)."""
    stack: list[str | int] = []  # the key or index at which each open container stands
    pending = ""
    after_colon = False
    if not path:
        return 1 if text else None
    for found in _TOKEN.finditer(text):
        sign = text[found.start()]
        if sign == '"':
            if not after_colon:
                pending = found[0][1:-1]
                if stack and isinstance(stack[-1], str):
                    stack[-1] = pending
        elif sign in "[{":
            stack.append(0 if sign == "[" else "")
        elif sign in "]}" and stack:
            stack.pop()
        elif sign == "," and stack and isinstance(stack[-1], int):
            stack[-1] += 1
        after_colon = sign == ":"
        if sign in ":[," and tuple(stack) == path:
            start = found.end()
            while start < len(text) and text[start] in " \t\r\n":
                start += 1
            return text.count("\n", 0, start) + 1
    return None
