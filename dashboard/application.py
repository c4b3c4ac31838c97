"""The app around the pages: navigation, style, the open database, and one calm page where something is wrong."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from functools import cache

import streamlit as st

from benchrun.dashboard.components.database import Database, NoDatabase, StoreError, database
from benchrun.dashboard.components.drawing import current_look
from benchrun.dashboard.components.notices import show_empty
from benchrun.dashboard.components.refresh import watch
from benchrun.dashboard.components.text import markdown
from benchrun.dashboard.pages import accuracy, compare, distribution, explore, machine, overview, published, trends
from benchrun.dashboard.style import APP_SHEET, icon, style_sheet

Page = Callable[[Database], None]
PAGES: dict[str, tuple[str, str, Page]] = {
    "overview": ("Overview", ":material/dashboard:", overview.show),
    "explore": ("Explore", ":material/query_stats:", explore.show),
    "compare": ("Compare", ":material/compare_arrows:", compare.show),
    "distribution": ("Distribution", ":material/scatter_plot:", distribution.show),
    "accuracy": ("Accuracy", ":material/target:", accuracy.show),
    "trends": ("Trends", ":material/timeline:", trends.show),
    "published": ("Published", ":material/menu_book:", published.show),
    "machine": ("Machine", ":material/memory:", machine.show),
}
logger = logging.getLogger("benchrun.dashboard")


def show() -> None:
    """One run of the app's script."""
    st.set_page_config(page_title="benchrun", page_icon=icon(), layout="wide")
    pages = [
        st.Page(
            _runner(page),
            title=title,
            icon=mark,
            url_path="" if path == "overview" else path,
            default=path == "overview",
        )
        for path, (title, mark, page) in PAGES.items()
    ]
    chosen = st.navigation(pages, position="top")
    chosen.run()
    _settle()


@cache
def _settle() -> None:
    """What the libraries made when they were imported stays: Streamlit collects garbage after every run of the script, and looking
    through all of that each time took half of a run."""
    import scipy.special  # noqa: F401 - imported on the first figure otherwise

    gc.collect()
    gc.freeze()


def _runner(page: Page) -> Callable[[], None]:
    def run() -> None:
        show_page(page)

    return run


def show_page(page: Page) -> None:
    """A page with style and database; what goes wrong is explained without paths and credentials."""
    st.html(f"<style>{APP_SHEET}{style_sheet(current_look())}</style>")
    try:
        opened = database()
        page(opened)
        watch(opened.token)
    except NoDatabase:
        show_empty(
            "No database yet",
            "Nothing has been measured here, or the dashboard was started on another file. A first sweep takes a minute:",
            ["benchrun --backend torch --model tiny --batch 1,8 --seq 32,128"],
        )
        watch(None)
    except StoreError as error:
        logger.warning("%s", error)
        st.error("The database cannot be read.", icon=":material/database_off:")
        st.markdown(markdown(reason(error)))
        watch(None)
    except Exception:  # the last resort: a visitor gets a sentence, the terminal the traceback
        logger.exception("a page failed")
        st.error("This page failed. The terminal that runs the dashboard shows why.", icon=":material/error:")


def reason(error: StoreError) -> str:
    """What a visitor may know of an error: no path, no address, no name of a user."""
    cause = str(error)
    for mark in (
        "is damaged",
        "is locked",
        "newer benchrun",
        "has schema",
        "belongs to another program",
        "is not a SQLite database",
        "read-only",
    ):
        if mark in cause:
            return {
                "is damaged": "The file is damaged; restore a backup.",
                "is locked": "Another program holds a lock on it; this page tries again by itself.",
                "newer benchrun": "It was written by a newer benchrun; upgrade this one.",
                "has schema": "It was written by an older benchrun; a sweep into it, or 'benchrun merge', migrates it after a backup.",
                "belongs to another program": "The file belongs to another program.",
                "is not a SQLite database": "The file is not a database.",
                "read-only": "It lies in a folder that cannot be written, and could not be copied.",
            }[mark]
    return "The terminal that runs the dashboard shows why."
