"""Addresses inside the dashboard. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

Parameters = Mapping[str, str | Sequence[str]]


def href(page: str, parameters: Parameters) -> str:
    """A relative address of a view: a page with its filters."""
    return f"{path_of(page)}?{urlencode(parameters, doseq=True)}"


def path_of(page: str) -> str:
    """The overview lives at the root."""
    return "" if page == "overview" else page
