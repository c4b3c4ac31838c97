"""Links from one page to another view: as part of a table (`href`), and as a line to click (`link`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import streamlit as st

TITLES = {
    "overview": "Overview",
    "explore": "Explore",
    "compare": "Compare",
    "distribution": "Distribution",
    "trends": "Trends",
    "published": "Published",
    "machine": "Machine",
}
Parameters = Mapping[str, str | Sequence[str]]


def href(page: str, parameters: Parameters) -> str:
    """A relative address inside the dashboard."""
    return f"{_path(page)}?{urlencode(parameters, doseq=True)}"


def link(page: str, label: str, parameters: Parameters, icon: str = ":material/arrow_forward:") -> None:
    """A line that opens a view; `label` is Markdown."""
    st.page_link(
        st.Page(_never_run, title=TITLES[page], url_path=_path(page), default=page == "overview"),
        label=label,
        icon=icon,
        query_params={name: value if isinstance(value, str) else list(value) for name, value in parameters.items()},
    )


def _path(page: str) -> str:
    """The overview lives at the root."""
    return "" if page == "overview" else page


def _never_run() -> None:
    """Stands for a page in a link; the navigation runs the real one."""
