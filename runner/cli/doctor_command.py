"""`benchrun doctor`: what will make this machine noisy, and how to mend it. Looks, and changes nothing."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchrun.runner.devices import list_devices
from benchrun.runner.doctor import WARN, diagnose
from benchrun.runner.plan import normalise_device
from benchrun.runner.telemetry.interface import open_telemetry

WATCH_S = 1.0  # between the two readings: long enough for a share of a core
STYLES = {"ok": "green", "warn": "yellow", "unknown": "dim"}


def examine(device: str | None, *, as_json: bool) -> int:
    """Print the findings; exit 1 where something will make a run noisy, else 0."""
    where = normalise_device(device or list_devices()[0])
    telemetry = open_telemetry(where)
    before = telemetry.read()
    time.sleep(WATCH_S)
    findings = diagnose(before, telemetry.read())
    status = 1 if any(each.state == WARN for each in findings) else 0
    if as_json:
        print(
            json.dumps(
                {"schema": 1, "device": where, "quiet": not status, "findings": [asdict(each) for each in findings]},
                indent=1,
            )
        )
        return status
    console = Console()
    table = Table(box=None, pad_edge=False, show_header=False)
    for name in ("state", "check", "found"):
        table.add_column(name, no_wrap=name != "found")
    for each in findings:
        found = Text(each.found)
        if each.mend:
            found.append(f"\n{each.mend}", style="cyan")
        table.add_row(Text(each.state, style=STYLES[each.state]), each.check, found)
    console.print(table, highlight=False)
    count = sum(each.state == WARN for each in findings)
    console.print(
        f"{where}: {count} thing{'s' if count != 1 else ''} will make a run noisy"
        if count
        else f"{where}: nothing that can be seen will make a run noisy",
        style="bold",
        highlight=False,
    )
    return status
