"""The data behind a chart or table as CSV. Pictures are saved from a chart's own menu."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from benchrun.dashboard.tabular import csv_bytes

if TYPE_CHECKING:
    import pandas as pd


def offer_csv(frame: pd.DataFrame, name: str, label: str = "Data as CSV") -> None:
    """A button; the file is made when it is pressed."""
    st.download_button(
        label,
        data=lambda: csv_bytes(frame),
        file_name=f"benchrun-{name}.csv",
        mime="text/csv",
        key=f"csv.{name}",
        on_click="ignore",
        icon=":material/download:",
        type="tertiary",
    )
