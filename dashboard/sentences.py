"""Sentences about sets of points. Pure text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from benchrun.dashboard.formats import DASH, count, engine_text, known, short

_FINDINGS = {
    "slower": "slower",
    "faster": "faster",
    "same": "within 5 %",
    "unclear": "undecided",
    "one launch": "with one launch on a side, so without an interval",
}


def findings(words: Iterable[str | None]) -> str:
    """`24 points: 3 slower, 5 faster, 16 within 5 %`."""
    counts = Counter(word for word in words if word)
    parts = [f"{counts[word]} {text}" for word, text in _FINDINGS.items() if counts[word]]
    return f"{count(sum(counts.values()), 'point')}: {', '.join(parts)}." if parts else "No point to compare."


def point_text(row: Any, *, engine: bool = True, model: bool = True, dtype: bool = True) -> str:
    """`torch:eager tiny encoder fp32 b8 s128`, or only parts of it."""
    parts = [engine_text(row.backend, row.variant)] if engine else []
    parts += [short(row.model, 32)] if model and known(row.model) else []
    parts += [short(row.head, 16)] if model and known(row.head) else []
    parts += [short(row.dtype, 12)] if dtype and known(row.dtype) else []
    return short(" ".join([*parts, shape_text(row)]), 90)


def shape_text(row: Any) -> str:
    """`b8 s128`."""
    return " ".join(
        f"{letter}{int(value) if known(value) else DASH}" for letter, value in (("b", row.batch), ("s", row.seq))
    )


CROSS_SESSION = (
    "Two runs of different hours differ by a percent or two for reasons of their own. Read a small difference as a hint; "
    "'benchrun gate' measures both sides together and decides."
)
