"""What can be taken away: the data behind charts and tables as CSV, charts as SVG. A chart's own menu saves it as PNG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from benchrun.dashboard.charts.pictures import svg
from benchrun.dashboard.tabular import csv_bytes

if TYPE_CHECKING:
    import pandas as pd


def offer(
    name: str, frame: pd.DataFrame, charts: Mapping[str, Any] | None = None, *, label: str = "Data as CSV"
) -> None:
    """A row of buttons: the frame as CSV, each chart (button's text → chart) as SVG. A file is made when its button is pressed."""
    with st.container(horizontal=True, gap="small"):
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
        for place, (text, chart) in enumerate((charts or {}).items()):
            st.download_button(
                text,
                data=_picture(chart),
                file_name=f"benchrun-{name}{f'-{place + 1}' if place else ''}.svg",
                mime="image/svg+xml",
                key=f"svg.{name}.{place}",
                on_click="ignore",
                icon=":material/image:",
                type="tertiary",
            )


def _picture(chart: Any) -> Any:
    return lambda: svg(chart).encode()
