"""`benchrun cache`: exported graphs, compiled engines and the like, kept between runs."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchrun.backends.cache import default_cache
from benchrun.runner.errors import UsageError


def list_entries(*, as_json: bool) -> int:
    """`benchrun cache ls`: entries, latest used last."""
    cache = default_cache()
    entries = sorted(cache.entries(), key=lambda entry: entry.used)
    total = sum(entry.n_bytes for entry in entries)
    if as_json:
        found = [
            {
                "key": e.key,
                "kind": e.kind,
                "bytes": e.n_bytes,
                "used": _time(e.used),
                "ingredients": dict(e.ingredients),
            }
            for e in entries
        ]
        print(json.dumps({"schema": 1, "bytes": total, "entries": found}, indent=1))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("key", "MB", "used (UTC)"):
        table.add_column(name, justify="right" if name == "MB" else "left", no_wrap=True)
    for entry in entries:
        table.add_row(Text(entry.key), f"{entry.n_bytes / 1e6:.1f}", _time(entry.used))
    console = Console()
    if entries:
        console.print(table, highlight=False)
    console.print(f"{len(entries)} entries, {total / 1e9:.2f} GB of {cache.limit_bytes / 1e9:.0f} GB", highlight=False)
    console.print(f"in {cache.root}", highlight=False, markup=False, soft_wrap=True)
    return 0


def remove_entries(keys: list[str], *, everything: bool) -> int:
    """`benchrun cache rm`: the named entries, or all."""
    if everything == bool(keys):
        raise UsageError("name the entries to remove ('benchrun cache ls' lists them), or pass --all")
    cache = default_cache()
    removed = [each for key in keys or ["all"] for each in cache.remove(key)]
    print(f"removed {len(removed)} entries", file=sys.stderr)
    return 0


def verify_entries() -> int:
    """`benchrun cache verify`: compare every file with its checksum; damaged entries are discarded. Exit 1 if there were any."""
    faults = default_cache().verify()
    for fault in faults:
        print(f"{fault.key}: {fault.problem}; discarded, it will be made again when needed", file=sys.stderr)
    print("all entries are as they were stored" if not faults else f"{len(faults)} damaged entries", file=sys.stderr)
    return 1 if faults else 0


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
