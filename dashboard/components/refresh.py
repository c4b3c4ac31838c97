"""A page that notices new results by itself."""

from __future__ import annotations

import streamlit as st

from benchrun.dashboard.components.database import StoreError, database
from benchrun.results.views.freshness import Freshness

_RUNNING_S, _IDLE_S = 3, 20


def watch(shown: Freshness | None) -> None:
    """Look every few seconds whether the database has changed since `shown`, and run the page again where it has."""
    every = _RUNNING_S if shown is not None and shown.running else _IDLE_S

    drawn = False

    @st.fragment(run_every=every)
    def look() -> None:
        nonlocal drawn
        if not drawn:  # the page itself runs this once: a database that changes all the time must not keep it running
            drawn = True
            return
        try:
            now = database().token
        except StoreError:
            now = None
        if now != shown:
            st.rerun()

    look()
