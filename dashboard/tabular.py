"""Frames as CSV. Pure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def public(points: pd.DataFrame) -> pd.DataFrame:
    """A frame of points without the columns that only serve comparisons."""
    return points[[name for name in points.columns if not name.startswith(("log_", "var_", "tip_"))]]


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """UTF-8 with a header; text that a spreadsheet would take for a formula gets a leading apostrophe."""
    import pandas as pd

    safe = frame.copy(deep=False)
    for name in safe.columns:
        if safe[name].dtype == object or str(safe[name].dtype).startswith("str"):
            safe[name] = pd.Series([_plain(value) for value in safe[name]], index=safe.index, dtype=object)
    buffer = io.StringIO()
    safe.to_csv(buffer, index=False, lineterminator="\r\n")
    return buffer.getvalue().encode("utf-8", "replace")


def _plain(value: object) -> object:
    if isinstance(value, tuple | list):
        value = " ".join(str(each) for each in value)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
