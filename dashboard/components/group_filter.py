"""The filters that choose a group: hardware, model, head, workload, protocol. A filter with one possible value is not drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import streamlit as st

from benchrun.dashboard.components.filters import Filters
from benchrun.dashboard.components.text import markdown
from benchrun.dashboard.formats import count, hardware, named, settings, short, token, unique_labels
from benchrun.dashboard.selection import differing_protocol
from benchrun.results.views.catalogue import Group, GroupEntry, Machine

if TYPE_CHECKING:
    import pandas as pd

Naming = Callable[[Group], str]
Step = tuple[str, str, Naming, Naming]  # name in the address, label, token of a group, its text
_WIDTHS = {"hardware": 250, "protocol": 330}


def choose_group(filters: Filters, entries: Sequence[GroupEntry], machines: Sequence[Machine]) -> Group:
    """Draws the filters, each with what is possible under those before it; `entries`, the newest first, must not be empty.

    What nothing names is of the newest group in which a point succeeded.
    """
    ambiguous = machine_names(machines)
    protocols = [entry.group.protocol for entry in entries]
    steps: list[Step] = [
        ("hardware", "Hardware", _hardware_token, lambda group: hardware_label(group, machines, ambiguous)),
        ("model", "Model", _model_token, _model_text),
        ("head", "Head", lambda group: token(group.head), lambda group: named(group.head)),
        ("workload", "Workload", lambda group: token(group.workload), lambda group: named(group.workload)),
        (
            "protocol",
            "Protocol",
            lambda group: token(group.protocol),
            lambda group: protocol_label(group.protocol, protocols),
        ),
    ]
    left = list(entries)
    for place, (name, label, of, text) in enumerate(steps):
        by_token = {of(entry.group): entry.group for entry in left}
        # A link may say the model alone: then the machine is one that has it.
        fitting = _fitting(filters, left, steps[place:])
        usual = next((entry for entry in fitting if entry.good), fitting[0]).group
        options = unique_labels({key: text(group) for key, group in by_token.items()}, 56)
        drawn = len(options) > 1 or name in ("hardware", "model", "head")
        width = max(_WIDTHS.get(name, 165), min(420, 70 + 7 * max(map(len, options.values())))) if drawn else 165
        chosen = filters.choose(name, label, options, default=of(usual), show=drawn, width=width)
        left = [entry for entry in left if of(entry.group) == chosen]
    return left[0].group


def _fitting(filters: Filters, entries: Sequence[GroupEntry], steps: Sequence[Step]) -> list[GroupEntry]:
    """What fits the address from here on, the model first; a value that would leave nothing is passed over."""
    left = list(entries)
    for name, _, of, _ in sorted(steps, key=lambda step: step[0] != "model"):
        asked = filters.asked(name)
        left = [entry for entry in left if asked in (None, of(entry.group))] or left
    return left


def say_group(group: Group, points: pd.DataFrame) -> None:
    """One line with what is alike for everything shown, and which filters with one value therefore do not name."""
    dtypes = sorted({named(value) for value in points["dtype"]})
    parts = [f"dtype {short(dtypes[0], 20)}"] if len(dtypes) == 1 else []
    workloads = set(points["workload"])  # with its layout, where there is one only
    workload = workloads.pop() if len(workloads) == 1 else group.workload
    parts += [f"workload {short(named(workload), 60)}", f"protocol {short(group.protocol, 160)}"]
    st.caption(markdown(" · ".join([*parts, count(len(points), "point")]), 400))


def _hardware_token(group: Group) -> str:
    return token(f"{group.fingerprint}/{named(group.device)}")


def _model_token(group: Group) -> str:
    changed = settings(group.overrides)
    return token(group.model) if not changed else token(f"{group.model}{group.overrides}")


def _model_text(group: Group) -> str:
    changed = ", ".join(f"{name}={value}" for name, value in settings(group.overrides).items())
    return f"{named(group.model)} ({changed})" if changed else named(group.model)


def machine_names(machines: Sequence[Machine]) -> dict[str, bool]:
    """Fingerprint → whether another machine has the same hardware name."""
    names = [hardware(machine.details) for machine in machines]
    return {machine.fingerprint: names.count(hardware(machine.details)) > 1 for machine in machines}


def hardware_label(group: Group, machines: Sequence[Machine], ambiguous: dict[str, bool]) -> str:
    """`NVIDIA H200 · cuda:0`, with the fingerprint's start where two machines have the same name."""
    details = next((machine.details for machine in machines if machine.fingerprint == group.fingerprint), {})
    tail = f" · {group.fingerprint[:6]}" if ambiguous.get(group.fingerprint) else ""
    return f"{short(hardware(details, group.device), 36)} · {named(group.device)}{tail}"


def protocol_label(protocol: str, others: Sequence[str]) -> str:
    """What sets a protocol id apart from the first of the others; its own version where it is that one."""
    reference = next((other for other in others if other != protocol), None)
    return short(protocol, 40) if reference is None else differing_protocol(reference, protocol)
