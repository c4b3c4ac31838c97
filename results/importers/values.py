"""Numbers and names out of foreign text: finite, not negative, in known units, of a believable size."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from benchrun.results.importers.foreign import ImportFailed

Fail = Callable[[str], ImportFailed]

PER_SECOND: Mapping[str, float] = {"ns": 1e9, "us": 1e6, "µs": 1e6, "ms": 1e3, "s": 1.0, "sec": 1.0}
MAX_MS = 1e10  # nearly four months: anything longer is a wrong unit or damage
MAX_COUNT = 2**31 - 1
MAX_RATE = 1e12
MAX_NAME = 300

# Python's float() also takes "1_000", " 1 " and "infinity"; a file that says so is not what it seems.
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_COUNT = re.compile(r"\d{1,18}", re.ASCII)


def to_number(value: Any, fail: Fail, *, what: str = "a number") -> float:
    """A finite number ≥ 0 from a JSON number, or from text that spells one."""
    if isinstance(value, bool) or value is None or not isinstance(value, int | float | str):
        raise fail(f"{show(value)} is not {what}")
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            spelled = text.lower().lstrip("+-")
            if spelled in ("nan", "inf", "infinity"):
                raise fail(f"{show(value)} is not a finite number")
            raise fail(f"{show(value)} is not {what}")
        value = text
    try:
        number = float(value)
    except OverflowError:
        raise fail(f"{show(value)} is not a finite number") from None
    if not math.isfinite(number):
        raise fail(f"{show(value)} is not a finite number")
    if number < 0:
        raise fail(f"{show(value)} is negative")
    return number + 0.0  # −0 becomes 0


def to_ms(value: Any, unit: str, fail: Fail) -> float:
    """A time in milliseconds, from a number in `unit`."""
    ms = ms_from(to_number(value, fail, what="a time"), unit)
    if ms > MAX_MS:
        raise fail(f"{show(value)} {unit} is longer than any measurement; is the unit right?")
    return ms


def ms_from(number: float, unit: str) -> float:
    """`number` in milliseconds, rounded once: 949667 ns is 0.949667 ms."""
    per_second = PER_SECOND[unit]
    return number / (per_second / 1e3) if per_second >= 1e3 else number * (1e3 / per_second)


def to_ns(value: Any, unit: str, fail: Fail) -> int:
    """A time in whole nanoseconds, from a number in `unit`."""
    return round(to_ms(value, unit, fail) * 1e6)


def to_count(value: Any, fail: Fail, *, least: int = 0, most: int = MAX_COUNT) -> int:
    """A whole number from a JSON number or from text."""
    if isinstance(value, str) and _COUNT.fullmatch(value.strip()):
        number = int(value.strip())
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise fail(f"{show(value)} is not a whole number")
    if not least <= number <= most:
        raise fail(f"{show(value)} is not between {least} and {most}")
    return number


def to_rate(value: Any, fail: Fail) -> float:
    """A rate, per second."""
    rate = to_number(value, fail, what="a rate")
    if rate > MAX_RATE:
        raise fail(f"{show(value)} per second is not believable")
    return rate


def to_name(value: Any, fail: Fail) -> str:
    """A short printable name, stripped."""
    if not isinstance(value, str):
        raise fail(f"{show(value)} is not text")
    text = value.strip()
    if not text:
        raise fail("is empty")
    if len(text) > MAX_NAME:
        raise fail(f"is longer than {MAX_NAME} characters")
    if not text.isprintable():
        raise fail("holds characters that cannot be printed")
    return text


def to_unit(value: Any, fail: Fail) -> str:
    """A unit of time that is known here."""
    if not isinstance(value, str) or value not in PER_SECOND:
        raise fail(f"{show(value)} is no unit of time; known are {', '.join(PER_SECOND)}")
    return value


def to_moment(value: Any, fail: Fail) -> tuple[datetime, bool]:
    """A time of day in UTC from ISO 8601 text, and whether the text named its timezone (else it is read as UTC)."""
    if not isinstance(value, str):
        raise fail(f"{show(value)} is not a date")
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        raise fail(f"{show(value)} is not an ISO 8601 date") from None
    zoned = moment.tzinfo is not None
    try:
        return (moment.astimezone(UTC) if zoned else moment.replace(tzinfo=UTC)), zoned
    except (OverflowError, ValueError):  # the year 1 or 9999, shifted by its timezone
        raise fail(f"{show(value)} is not a believable date") from None


def show(value: Any) -> str:
    """A value for a message: short, printable."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**40:
        return "a number of over 40 digits"
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
