"""Filters whose values live in the URL, so that a link reproduces a view.

The URL leads: a value that arrives in it wins over what the widget had. Every value is written back, defaults too, because a
default depends on the data and would be another one tomorrow. Values that several pages share are remembered for the session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from benchrun.dashboard.components.text import markdown

SHARED = (
    "hardware",
    "model",
    "head",
    "workload",
    "protocol",
    "dtype",
    "engine",
    "seq",
    "batch",
    "run",
)  # remembered from page to page
Kind = Literal["select", "segments", "pills"]


class Filters:
    """The filters of one page. Call `commit` after the last one."""

    def __init__(self, page: str) -> None:
        self._page = page
        self._url: Mapping[str, list[str]] = {name: st.query_params.get_all(name) for name in st.query_params}
        self._entered = st.session_state.get("filters.page") != page
        st.session_state["filters.page"] = page
        self._values: dict[str, list[str]] = {}
        # A visitor who clicks quickly sends the address of the view before: what they just chose wins over it.
        known: Mapping[str, Any] = st.session_state.get(f"{page}:state", {})
        self._touched = any(key in st.session_state and st.session_state[key] != value for key, value in known.items())
        self.unknown: list[str] = []  # what the link asked for and is not there, in words

    def asked(self, name: str) -> str | None:
        """What the address says of a filter, known or not."""
        return next(iter(self._url.get(name, [])), None)

    def choose(
        self,
        name: str,
        label: str,
        options: Mapping[str, str],
        *,
        default: str | None = None,
        kind: Kind = "select",
        help: str | None = None,
        show: bool = True,
        width: int | None = None,
    ) -> str:
        """One of `options` (token → text). With `show` False nothing is drawn: the value comes from the URL or the default."""
        fallback = default if default is not None and default in options else next(iter(options), "")
        wanted = self._arrived(name, label, options)
        key = f"{self._page}.{name}"
        if wanted:
            st.session_state[key] = wanted[0]
        elif st.session_state.get(key) not in options:
            st.session_state[key] = self._shared(name, options) or fallback
        if not options:
            return ""
        picked: str | None = st.session_state[key]
        if show:
            tokens = list(options)
            text = options.__getitem__
            if kind == "select":
                wide = width or min(420, max(165, 62 + 8 * max(map(len, options.values()))))
                picked = st.selectbox(label, tokens, format_func=text, key=key, help=help, width=wide)
            elif kind == "segments":
                picked = st.segmented_control(
                    label, tokens, format_func=lambda t: markdown(options[t]), key=key, help=help, required=True
                )
            else:
                picked = st.pills(
                    label, tokens, format_func=lambda t: markdown(options[t]), key=key, help=help, required=True
                )
        chosen = picked if picked is not None and picked in options else fallback
        self._keep(name, [chosen])
        return chosen

    def choose_many(
        self,
        name: str,
        label: str,
        options: Mapping[str, str],
        *,
        default: Sequence[str] | None = None,
        help: str | None = None,
        show: bool = True,
        most: int | None = None,
        placeholder: str = "all",
        width: int = 290,
    ) -> list[str]:
        """Any number of `options`; none chosen means all of them, and the URL then names none."""
        key = f"{self._page}.{name}"
        wanted = self._arrived(name, label, options)
        if wanted:
            st.session_state[key] = wanted[:most]
        elif key not in st.session_state:
            st.session_state[key] = self._shared_many(name, options)[:most] or list(default or ())
        st.session_state[key] = [token for token in st.session_state[key] if token in options]
        chosen: list[str] = st.session_state[key]
        if show and options:
            chosen = st.multiselect(
                label,
                list(options),
                format_func=options.__getitem__,
                key=key,
                help=help,
                max_selections=most,
                placeholder=placeholder,
                width=width,
            )
        self._keep(name, chosen)
        return chosen

    def switch(self, name: str, label: str, *, default: bool, help: str | None = None, show: bool = True) -> bool:
        """On or off. With `show` False nothing is drawn and the value stays in the URL."""
        key = f"{self._page}.{name}"
        wanted = self._arrived(name, label, {"1": "on", "0": "off"})
        if wanted:
            st.session_state[key] = wanted[0] == "1"
        elif key not in st.session_state:
            st.session_state[key] = default
        chosen: bool = st.toggle(label, key=key, help=help) if show else st.session_state[key]
        self._keep(name, ["1" if chosen else "0"])
        return chosen

    def number(
        self, name: str, label: str, *, default: float, least: float, most: float, help: str | None = None
    ) -> float:
        """A number between `least` and `most`."""
        key = f"{self._page}.{name}"
        wanted = self._changed(name)
        if wanted:
            try:
                st.session_state[key] = min(most, max(least, float(wanted[0])))
            except ValueError:
                self.unknown.append(f"{label}: the link's value is no number")
        if not isinstance(st.session_state.get(key), float) or st.session_state[key] != st.session_state[key]:
            st.session_state[key] = default
        chosen = float(
            st.number_input(
                label, min_value=least, max_value=most, key=key, help=help, format="%g", step=None, width=150
            )
            or default
        )
        self._keep(name, [f"{chosen:g}"])
        return chosen

    def commit(self) -> None:
        """Write all values into the URL, in one go and only where they differ from it."""
        wanted = {name: values for name, values in self._values.items() if values}
        last = st.session_state.get(f"{self._page}:url")
        keys = [f"{self._page}.{name}" for name in self._values]
        st.session_state[f"{self._page}:state"] = {
            key: st.session_state[key] for key in keys if key in st.session_state
        }
        if not self._entered and not self._url and wanted == last:
            return  # the visitor pressed Back to the bare address: writing there again would hold them on this page
        if wanted != {name: values for name, values in self._url.items() if name in wanted or name in self._values}:
            kept = {
                name: values
                for name, values in self._url.items()
                if name not in self._values and name.startswith("embed")
            }
            st.query_params.from_dict(kept | wanted)
        st.session_state[f"{self._page}:url"] = dict(wanted)

    # --- shared ---

    def _changed(self, name: str) -> list[str]:
        """What the URL says, where that is not what this page wrote there itself."""
        if self._touched:
            return []
        last: Mapping[str, list[str]] = st.session_state.get(f"{self._page}:url", {})
        now = self._url.get(name, [])
        return now if now and now != last.get(name) else []

    def _arrived(self, name: str, label: str, options: Mapping[str, Any]) -> list[str]:
        changed = self._changed(name)
        missing = [value for value in changed if value not in options]
        if missing:
            self.unknown.append(f"{label}: “{missing[0][:60]}” is not in this database or not with these filters")
        return [value for value in changed if value in options]

    def _shared(self, name: str, options: Mapping[str, str]) -> str | None:
        if name not in SHARED:
            return None
        found: dict[str, list[str]] = st.session_state.get("filters.shared", {})
        values = found.get(name, [])
        return values[0] if values and values[0] in options else None

    def _shared_many(self, name: str, options: Mapping[str, str]) -> list[str]:
        if name not in SHARED:
            return []
        found: dict[str, list[str]] = st.session_state.get("filters.shared", {})
        return [value for value in found.get(name, []) if value in options]

    def _keep(self, name: str, values: list[str]) -> None:
        self._values[name] = list(values)
        st.session_state.setdefault("filters.shared", {})[name] = list(values)


def tokens_of(values: Sequence[Any], token: Callable[[Any], str], text: Callable[[Any], str]) -> dict[str, str]:
    """Options for `choose`: token → text of each value."""
    return {token(value): text(value) for value in values}
