"""Figures and names as people read them. Pure text."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

DASH = "–"
UNKNOWN = "not recorded"
_SHORT = 48


def known(value: Any) -> bool:
    """True for a value that is there: not None, not NaN."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def figure(value: Any) -> str:
    """Four significant digits without an exponent, as `benchrun show` prints them; a dash where there is none."""
    if not known(value):
        return DASH
    number = float(value)
    size = abs(number)
    if size >= 10_000:
        return f"{number:,.0f}"
    return (
        f"{number:.3f}"
        if size < 10
        else f"{number:.2f}"
        if size < 100
        else f"{number:.1f}"
        if size < 1000
        else f"{number:.0f}"
    )


def ratio(value: Any) -> str:
    """`1.07×`."""
    return f"{float(value):.2f}×" if known(value) else DASH


def percent(value: Any) -> str:
    """A relative change with its sign: 1.07 is `+7.0 %`."""
    if not known(value):
        return DASH
    change = 100 * (float(value) - 1)
    text = f"{change:+.0f} %" if abs(change) >= 100 else f"{change:+.1f} %"
    return text.replace("-", "−")


def change(value: Any) -> str:
    """How much longer something takes: `+7.0 %`, `−12.0 %`; from twice on `2.5× slower`, `8.9× faster`."""
    if not known(value) or not value > 0 or 0.5 < value < 2:
        return percent(value)
    number = float(value)
    larger = max(number, 1 / number)
    return f"{larger:,.{1 if larger < 100 else 0}f}× {'slower' if number > 1 else 'faster'}"


def interval_words(low: Any, high: Any) -> str:
    """A ratio's interval with both ends in one notation: `+1.2 % to +4.0 %`, `3.5× to 1.2× faster`; a dash where there is none."""
    if not known(low) or not known(high):
        return DASH
    ends = float(low), float(high)
    if all(0.5 < end < 2 for end in ends) or not all(0 < end < math.inf for end in ends):
        return " to ".join(map(percent, ends))
    one, two = (f"{value:,.{1 if value < 100 else 0}f}×" for value in (max(end, 1 / end) for end in ends))
    if ends[0] < 1 < ends[1]:
        return f"{one} faster to {two} slower"
    return f"{one} to {two} {'faster' if ends[1] <= 1 else 'slower'}"


def count(value: Any, one: str, many: str | None = None) -> str:
    """`1 point`, `12,345 points`."""
    number = int(value)
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(value: Any) -> str:
    """Bytes in binary units."""
    if not known(value):
        return DASH
    number = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def moment(value: datetime | None) -> str:
    """`2026-11-22 15:30 UTC`."""
    return DASH if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def ago(value: datetime, now: datetime) -> str:
    """`5 minutes ago`."""
    seconds = max(0.0, (now - value).total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{count(seconds // length, unit)} ago"
    return "just now"


def named(value: Any) -> str:
    """Text from the database, or `not recorded`."""
    return str(value) if known(value) else UNKNOWN


def short(value: Any, length: int = _SHORT) -> str:
    """Text on one line, at most `length` characters: a longer one keeps its start and its end."""
    text = " ".join(named(value).split())
    if len(text) <= length:
        return text
    tail = length // 3
    return f"{text[: length - tail - 1]}…{text[-tail:]}"


def distinct_short(values: Iterable[Any], length: int = _SHORT) -> dict[Any, str]:
    """A short text for each value; two that would look the same get a number."""
    found: dict[Any, str] = {}
    used: dict[str, int] = {}
    for value in dict.fromkeys(values):
        text = short(value, length)
        used[text] = used.get(text, 0) + 1
        found[value] = text if used[text] == 1 else f"{text} ({used[text]})"
    return found


def unique_labels(texts: Mapping[str, str], length: int = _SHORT) -> dict[str, str]:
    """Key → short text; keys with the same text get numbers, so that a reader can tell them apart."""
    used: dict[str, int] = {}
    found: dict[str, str] = {}
    for key, text in texts.items():
        label = short(text, length)
        used[label] = used.get(label, 0) + 1
        found[key] = label if used[label] == 1 else f"{label} ({used[label]})"
    return found


def token(value: Any) -> str:
    """A value as a URL carries it: text as it is, long text as a hash, nothing recorded as `-`."""
    if not known(value):
        return "-"
    text = str(value)
    if text != "-" and len(text) <= 80 and text.isprintable() and not text.startswith("~"):
        return text
    return f"~{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:12]}"


def hardware(details: Mapping[str, Any], device: str | None = None) -> str:
    """The name of the hardware that a device stands for: the GPU's where the device is one, else the processor's."""
    found = details.get("hardware")
    parts: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    gpu = parts.get("gpu")
    name = gpu.get("name") if isinstance(gpu, Mapping) else None
    if device is not None and device.startswith("cpu"):
        name = None
    return str(name or parts.get("cpu") or "unknown hardware")


def settings(text: Any) -> dict[str, Any]:
    """JSON text of a frame (`options`, `overrides`) as a dictionary; empty where it is none."""
    if not isinstance(text, str):
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def protocol_parts(protocol: str) -> dict[str, str]:
    """A protocol id's settings: `v1;transfers=exclude` is {version: v1, transfers: exclude}."""
    parts: dict[str, str] = {}
    for part in protocol.split(";"):
        name, separator, value = part.partition("=")
        parts[name if separator else "version"] = value if separator else part
    return parts


def engine_text(backend: Any, variant: Any) -> str:
    """`torch:eager`; a backend without variants (imports) stands alone."""
    return f"{backend}:{variant}" if known(variant) and variant != "" else str(backend)
