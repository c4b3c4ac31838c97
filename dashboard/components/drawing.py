"""Charts on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from benchrun.dashboard.charts.look import Look, config, look_of

if TYPE_CHECKING:
    import altair as alt


def current_look() -> Look:
    """The look of the visitor's theme."""
    return look_of(st.context.theme.type)


def draw(chart: alt.TopLevelMixin, alt_text: str) -> None:
    """Show a chart over the width of its container; `alt_text` is read aloud instead of it."""
    st.altair_chart(chart, width="stretch", theme=None, alt=alt_text)  # type: ignore[arg-type]


__all__ = ["config", "current_look", "draw"]
