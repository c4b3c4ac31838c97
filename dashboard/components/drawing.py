"""Charts on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from benchrun.dashboard.charts.look import Look, config, look_of

if TYPE_CHECKING:
    import altair as alt


def current_look() -> Look:
    """The look of the visitor's theme."""
    return look_of(st.context.theme.type)


def draw(chart: alt.Chart | alt.LayerChart, alt_text: str) -> Any:
    """Show a chart over the width of its container, and return it; `alt_text` is read aloud instead of it."""
    st.altair_chart(chart, width="stretch", theme=None, alt=alt_text)
    return chart


__all__ = ["config", "current_look", "draw"]
