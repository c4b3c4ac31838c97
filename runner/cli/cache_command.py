"""`benchrun cache`: exported graphs, compiled engines and the like, kept between runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchrun.backends.cache import Entry, default_cache
from benchrun.runner.cli.tables import DASH, WIDE
from benchrun.runner.errors import UsageError

# where ingredients name the parts that say what the model is, and other entries that this one was made from
PARTS = ("export", "config", "plan")
SOURCES = ("graph", "engine")
LAYERS, WIDTHS = ("num_hidden_layers", "n_layers", "layers"), ("hidden_size", "dim", "hidden")
MACHINES = ("target", "arch", "device", "machine", "gpu")


@dataclass(frozen=True, slots=True)
class About:
    """What an entry is, as far as its ingredients and those of its sources tell: `model` is layers × width."""

    model: str
    dtype: str
    made_for: str


def list_entries(*, as_json: bool) -> int:
    """`benchrun cache ls`: entries, latest used last."""
    cache = default_cache()
    entries = sorted(cache.entries(), key=lambda entry: entry.used)
    total = sum(entry.n_bytes for entry in entries)
    if as_json:
        found = [
            asdict(describe_entry(e, entries))
            | {
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
    console = Console()
    wide = console.width >= WIDE  # a narrow table has the kind in the key alone, and the time of use in the order alone
    kind = ("kind",) if wide else ()
    for name in ("key", *kind, "model", "dtype", "made for", "MB", *(("used (UTC)",) if wide else ())):
        table.add_column(name, justify="right" if name == "MB" else "left", no_wrap=name != "made for", overflow="fold")
    for entry in entries:
        about = describe_entry(entry, entries)
        known = (*((entry.kind,) if wide else ()), about.model, about.dtype, about.made_for)
        used = (_time(entry.used),) if wide else ()
        table.add_row(Text(entry.key), *map(Text, known), f"{entry.n_bytes / 1e6:.1f}", *used)
    if entries:
        console.print(table, highlight=False)
    order = "" if wide or not entries else ", the last used last"
    console.print(
        f"{len(entries)} entries{order}, {total / 1e9:.2f} GB of {cache.limit_bytes / 1e9:.0f} GB", highlight=False
    )
    console.print(f"in {cache.root}", highlight=False, markup=False, soft_wrap=True)
    return 0


def describe_entry(entry: Entry, entries: Sequence[Entry]) -> About:
    """What an entry is; a dash where neither its ingredients nor those of the entries it was made from say so."""
    by_key = {each.key: each for each in entries}
    known = list(_ingredients(entry, by_key))

    def first(names: Sequence[str]) -> str | None:
        return next((str(part[name]) for part in known for name in names if part.get(name)), None)

    layers, width = first(LAYERS), first(WIDTHS)
    dtype = first(("dtype",))
    if first(("tf32",)):
        dtype = "tf32"
    elif first(("quantisation",)):
        dtype = "int8"
    machines = dict.fromkeys(str(part[name]) for part in known for name in MACHINES if part.get(name))
    return About(f"{layers} × {width}" if layers and width else DASH, dtype or DASH, ", ".join(machines) or "any")


def _ingredients(entry: Entry, by_key: Mapping[str, Entry]) -> Iterator[Mapping[str, object]]:
    """The ingredients of an entry, of the parts of them that are named, and of the entries it was made from, nearest first."""
    waiting: list[object] = [entry.ingredients]
    while waiting:
        part = waiting.pop(0)
        if not isinstance(part, Mapping):
            continue
        yield part
        waiting += [part.get(name) for name in PARTS]
        sources = [by_key.get(str(part.get(name))) for name in SOURCES]
        waiting += [source.ingredients for source in sources if source is not None]


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
