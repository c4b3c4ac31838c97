"""Plain values: what both databases and JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def plain_text(value: str) -> str:
    """`value` without what a database refuses: NUL becomes U+FFFD, a lone surrogate its escape."""
    if value.isascii() and "\0" not in value:  # nearly all of it, and it is called for every cell
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "backslashreplace").decode()


def plain_json(value: Any) -> Any:
    """`value` as dictionaries with text keys, lists, text, numbers, booleans and None.

    NumPy scalars become numbers, figures that are not finite None. Raises TypeError for anything else: an object that was
    silently turned into text would be a corrupt result.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {plain_text(str(name)): plain_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(plain_json(each) for each in value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return plain_json(value.item())
    raise TypeError(f"a {type(value).__name__} cannot be stored as JSON")
