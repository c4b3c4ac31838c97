"""What a page says beside its figures: what it left out and why, what is not there yet, what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import streamlit as st

from benchrun.dashboard.components.text import markdown


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that a view does not show. `what` is plain text."""

    what: str


def show_left_out(entries: Sequence[LeftOut]) -> None:
    """One quiet line for each thing left out."""
    if entries:
        lines = "  \n".join(markdown(entry.what, 400) for entry in entries)
        st.caption(f"**Not shown here.** {lines}" if len(entries) == 1 else f"**Not shown here**  \n{lines}")


def show_unknown(entries: Iterable[str]) -> None:
    """What a link asked for and this database does not have."""
    lines = "  \n".join(f"{markdown(entry)}." for entry in entries)
    if lines:
        st.info(f"The link asks for something that is not here. {lines}", icon=":material/link_off:")


def show_empty(title: str, what: str, commands: Sequence[str] = ()) -> None:
    """A page without data: what is missing, and the command that makes it."""
    with st.container(border=True):
        st.markdown(f"#### {markdown(title)}")
        st.markdown(markdown(what, 600))
        for command in commands:
            st.code(command, language=None)  # colours of a highlighted option are too pale to read
