"""Links from one page to another view, as a line to click; for those in tables see `addresses.href`."""

from __future__ import annotations

import streamlit as st

from benchrun.dashboard.addresses import Parameters, path_of

TITLES = {
    "overview": "Overview",
    "explore": "Explore",
    "compare": "Compare",
    "distribution": "Distribution",
    "trends": "Trends",
    "published": "Published",
    "machine": "Machine",
}


def link(page: str, label: str, parameters: Parameters, icon: str = ":material/arrow_forward:") -> None:
    """A line that opens a view; `label` is Markdown."""
    st.page_link(
        st.Page(_never_run, title=TITLES[page], url_path=path_of(page), default=page == "overview"),
        label=label,
        icon=icon,
        query_params={name: value if isinstance(value, str) else list(value) for name, value in parameters.items()},
    )


def _never_run() -> None:
    """Stands for a page in a link; the navigation runs the real one."""
