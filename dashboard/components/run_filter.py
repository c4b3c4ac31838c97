"""Choosing a run."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from benchrun.dashboard.components.database import Database
from benchrun.dashboard.components.filters import Filters
from benchrun.dashboard.formats import moment, unique_labels
from benchrun.results.views.runs import RunEntry, run_entry, run_list

_LISTED = 200


def run_options(database: Database, *names: str) -> dict[str, RunEntry]:
    """The latest runs, and those that the URL names; by id."""
    listed = database.read(run_list, "", _LISTED)
    runs = {entry.id: entry for entry in listed}
    for name in names:
        wanted = st.query_params.get(name)
        if wanted and wanted not in runs:
            found = database.read(run_entry, wanted)
            if found is not None:
                runs[found.id] = found
    return runs


def choose_run(
    filters: Filters, name: str, label: str, runs: Mapping[str, RunEntry], *, default: str | None = None
) -> RunEntry:
    """One of the runs, which must not be empty."""
    more = f"The latest {_LISTED} runs; a link can name an older one." if len(runs) >= _LISTED else None
    chosen = filters.choose(
        name,
        label,
        unique_labels({key: run_text(entry) for key, entry in runs.items()}, 72),
        default=default,
        help=more,
        width=490,
    )
    return runs[chosen]


def run_text(entry: RunEntry) -> str:
    """`nightly · 2026-11-22 15:30 UTC · x7kq`."""
    return " · ".join(part for part in (entry.label, moment(entry.started), entry.id.rpartition("-")[2]) if part)
