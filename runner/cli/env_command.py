"""`benchrun env`: what a run records of its machine, and what differs between two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchrun.runner.devices import list_devices
from benchrun.runner.plan import normalise_device

HERE = "here"


def show_environment(device: str | None, *, as_json: bool) -> int:
    """The environment that a run started now would record."""
    where = normalise_device(device or list_devices()[0])
    found = _here(where)
    if as_json:
        print(json.dumps({"schema": 1, "device": where, **found}, indent=1))
        return 0
    from benchrun.results.views.environments import flatten

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("name", no_wrap=True)
    table.add_column("value")
    for name, value in flatten(found).items():
        table.add_row(name, Text(value))
    Console().print(table, highlight=False)
    return 0


def compare_environments(first: str, second: str, device: str | None, db: str | None, *, as_json: bool) -> int:
    """What differs between the environments of two runs, either of which may be `here`. Exit 1 where they differ."""
    from benchrun.results.views.environments import differences

    wanted = device or _device_of(second if first == HERE else first, db)
    one, two = (_environment(given, wanted, db) for given in (first, second))
    found = differences(one, two)
    if as_json:
        changes = [{"name": name, "first": before, "second": after} for name, before, after in found]
        same = one["fingerprint"] == two["fingerprint"]
        print(json.dumps({"schema": 1, "same_hardware": same, "differences": changes}, indent=1))
        return 1 if found else 0
    console = Console()
    if not found:
        console.print(f"{first} and {second} were found in the same environment", highlight=False)
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", first, second):
        table.add_column(heading, overflow="fold")
    for name, before, after in found:
        table.add_row(name, Text(before or "–"), Text(after or "–"))
    console.print(table, highlight=False)
    if one["fingerprint"] != two["fingerprint"]:
        console.print("other hardware: their measurements are never one series", style="yellow", highlight=False)
    return 1


def _here(device: str) -> dict[str, Any]:
    from benchrun.runner.environment import read_environment

    row = read_environment(device)
    return {"fingerprint": row.fingerprint, **row.details}


def _device_of(given: str, db: str | None) -> str | None:
    """The device of a run where this machine has it, else one of its kind; None where there is none and for `here`."""
    if given == HERE:
        return None
    from benchrun.results import open_store

    with open_store(db, read_only=True) as store:
        devices = [
            planned.point.device for planned in store.run(store.resolve_run(given)).points if planned.point.device
        ]
    if not devices:
        return None
    present, kind = list_devices(), devices[0].partition(":")[0]
    return devices[0] if devices[0] in present else next((each for each in present if each.startswith(kind)), None)


def _environment(given: str, device: str | None, db: str | None) -> Mapping[str, Any]:
    if given == HERE:
        return _here(normalise_device(device or list_devices()[0]))
    from benchrun.results import open_store

    with open_store(db, read_only=True) as store:
        environment = store.run(store.resolve_run(given)).run.environment
    return {"fingerprint": environment.fingerprint, **environment.details}
