"""Colours and type of all charts, for light and dark backgrounds.

The first five series colours and the pair slower/faster are told apart by colour-blind readers (all eight have shapes of their own
too); each has a contrast of at least 3:1 with its background, text at least 4.5:1. A test computes all of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Look:
    """One theme."""

    name: str
    background: str
    text: str
    muted: str
    grid: str
    series: tuple[str, ...]
    slower: str
    faster: str
    unclear: str
    failed: str
    failed_fill: str
    ramp: tuple[str, ...]  # heat maps, from little to much


LIGHT = Look(
    name="light",
    background="#ffffff",
    text="#1b2430",
    muted="#566170",
    grid="#e4e8ee",
    series=("#0b6bb8", "#c2410c", "#14907a", "#2b2370", "#70203c", "#7d5be0", "#6b7480", "#a07800"),
    slower="#c2410c",
    faster="#0b6bb8",
    unclear="#6b7480",
    failed="#9b1c31",
    failed_fill="#f1f3f6",
    ramp=("#eaf3fb", "#b5d6ef", "#6faedb", "#2f7fbd", "#0b4f8a"),
)
DARK = Look(
    name="dark",
    background="#10151c",
    text="#e6ebf2",
    muted="#a3aebb",
    grid="#2a333f",
    series=("#5cb0f5", "#ff9a5c", "#9ff0dc", "#6f63f0", "#d64a7c", "#efe05a", "#aab4c0", "#4fb56c"),
    slower="#ff9a5c",
    faster="#5cb0f5",
    unclear="#98a3b0",
    failed="#ff8fa0",
    failed_fill="#1d2530",
    ramp=("#16283a", "#1d4468", "#2a6a9e", "#5c9fd1", "#a9d2f2"),
)
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "triangle-left", "triangle-right")


def look_of(theme: str | None) -> Look:
    """The look for a theme's name (`light`, `dark`); light where it is not known."""
    return DARK if theme == "dark" else LIGHT


def config(look: Look) -> dict[str, Any]:
    """Vega-Lite's `config` for a look."""
    font = "'Source Sans', 'Source Sans 3', 'Segoe UI', system-ui, sans-serif"
    return {
        "background": look.background,  # a saved picture must not depend on what lies behind it
        "font": font,
        "view": {"stroke": None},
        "title": {"color": look.text, "fontSize": 14, "fontWeight": 600, "anchor": "start", "offset": 8},
        "axis": {
            "labelColor": look.muted,
            "titleColor": look.text,
            "gridColor": look.grid,
            "domainColor": look.grid,
            "tickColor": look.grid,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": 600,
            "labelPadding": 6,
            "titlePadding": 10,
            "labelOverlap": "greedy",
            "labelLimit": 220,
        },
        "legend": {
            "labelColor": look.text,
            "titleColor": look.muted,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": 400,
            "orient": "top",
            "direction": "horizontal",
            "labelLimit": 260,
            "symbolStrokeWidth": 2,
            "symbolSize": 90,
            "symbolOpacity": 1,
            "padding": 0,
            "offset": 12,
            "columns": {"expr": "max(1, floor(width / 210))"},
        },
        "range": {"category": list(look.series), "symbol": list(SHAPES)},
        "text": {"color": look.text},
        "rule": {"color": look.muted},
    }


USERMETA = {"embedOptions": {"renderer": "svg"}}  # sharp on every screen, and readable by tests and screen readers
