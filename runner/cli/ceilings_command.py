"""`benchrun ceilings`: what this machine can do at most, measured once for an environment and kept."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from benchrun.runner.devices import list_devices, usable_cores
from benchrun.runner.plan import normalise_device


def show_ceilings(device: str | None, threads: int | None, db: str | None, *, again: bool, as_json: bool) -> int:
    """Print the stored ceilings; measure them first where there are none, where the environment changed, or `again`. Exit 1 where nothing
    could be measured.
    """
    from benchrun.results import open_store
    from benchrun.runner.ceilings import describe, measure_ceilings, stale, to_json
    from benchrun.runner.environment import driving_software, read_environment

    where = normalise_device(device or list_devices()[0])
    count = (threads or usable_cores()) if where == "cpu" else None
    log = Console(stderr=True)
    fingerprint = read_environment(where).fingerprint
    software = driving_software(where)
    with open_store(db) as store:
        rows = [row for row in store.ceilings(fingerprint, where) if row.threads == count]
        reason = "asked for again" if again else stale(rows, software)
        if reason:
            log.print(f"measuring the ceilings of {where}: {reason}", highlight=False)
            rows = measure_ceilings(
                where, count, fingerprint, software, lambda text: log.print(f"  {text}", highlight=False)
            )
            if not rows:
                log.print(
                    f"none of the ceilings of {where} could be measured: see why above", style="red", highlight=False
                )
                return 1
            store.add_ceilings(rows)
        shown = store.shown
    if as_json:
        found = {"schema": 1, "fingerprint": fingerprint, "device": where, "measured_now": bool(reason)}
        print(json.dumps(found | {"ceilings": list(to_json(rows))}, indent=1))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold", caption=f"database {shown}", caption_justify="left")
    for name in ("ceiling", "value", "spread", "n", "measured (UTC)", "flags"):
        table.add_column(name, justify="right" if name in ("value", "spread", "n") else "left", no_wrap=True)
    for row in rows:
        name, figure = describe(row)
        flags = ", ".join(row.conditions.get("flags", ())) or "–"
        spread = "–" if row.spread is None else f"{row.spread:.1%}"
        table.add_row(name, figure, spread, str(row.n), f"{row.measured:%Y-%m-%d %H:%M}", flags)
    on = f"{where}, {count} threads" if count else where
    console = Console()
    console.print(f"{on} · hardware {fingerprint}", highlight=False)
    console.print(table, highlight=False)
    return 0
