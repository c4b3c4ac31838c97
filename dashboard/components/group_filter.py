"""The filters that choose a group: hardware, model, head, workload, protocol. A filter with one possible value is not drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchrun.dashboard.components.filters import Filters
from benchrun.dashboard.formats import distinct_short, hardware, named, settings, short, token
from benchrun.dashboard.selection import differing_protocol
from benchrun.results.views.catalogue import Group, GroupEntry, Machine

_WIDTHS = {"hardware": 250, "protocol": 330}


def choose_group(filters: Filters, entries: Sequence[GroupEntry], machines: Sequence[Machine]) -> Group:
    """Draws the filters, each with what is possible under those before it; `entries` must not be empty."""
    left = list(entries)
    names = machine_names(machines)
    for name, label, of, text in (
        ("hardware", "Hardware", _hardware_token, lambda g: hardware_label(g, machines, names)),
        ("model", "Model", _model_token, _model_text),
        ("head", "Head", lambda g: token(g.head), lambda g: named(g.head)),
        ("workload", "Workload", lambda g: token(g.workload), lambda g: named(g.workload)),
        (
            "protocol",
            "Protocol",
            lambda g: token(g.protocol),
            lambda g: protocol_label(g.protocol, [e.group.protocol for e in left]),
        ),
    ):
        left = _narrow(filters, left, name, label, of, text)
    return left[0].group


def _narrow(
    filters: Filters,
    entries: list[GroupEntry],
    name: str,
    label: str,
    of: Callable[[Group], str],
    text: Callable[[Group], str],
) -> list[GroupEntry]:
    by_token = {of(entry.group): entry.group for entry in entries}
    shown = distinct_short([text(group) for group in by_token.values()], 56)
    options = {key: shown[text(group)] for key, group in by_token.items()}
    chosen = filters.choose(
        name,
        label,
        options,
        show=len(options) > 1 or name in ("hardware", "model", "head"),
        width=_WIDTHS.get(name, 165),
    )
    return [entry for entry in entries if of(entry.group) == chosen]


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
