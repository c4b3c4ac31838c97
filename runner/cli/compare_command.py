"""`benchrun compare RUN_A RUN_B`: two stored runs side by side, with intervals and without a verdict."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from benchrun.runner.gate.comparison import Comparison, compare_records

if TYPE_CHECKING:
    from rich.console import Console

USUAL = frozenset({"imported", "trust:samples"})  # of every suite with its samples: no news where both sides have them


def compare_runs(base: str, new: str, db: str | None, *, as_json: bool) -> int:
    """Print the comparison; returns 0, for it judges nothing."""
    from benchrun.results import open_store

    with open_store(db, read_only=True) as store:
        one, other = (store.run(store.resolve_run(given)) for given in (base, new))
    found = compare_records(one, other)
    if as_json:
        json.dump(compare_document(found), sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
        return 0
    print_comparison(found)
    return 0


def compare_document(found: Comparison) -> dict[str, Any]:
    """As plain JSON values."""
    from dataclasses import asdict

    from benchrun.results.plain import plain_json

    document: dict[str, Any] = plain_json({"schema": "benchrun.compare/1", **asdict(found)})
    return document


def print_comparison(found: Comparison) -> None:
    """As a table, with what must be known beside it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from benchrun.runner.gate.reports.terminal import shorten_names
    from benchrun.runner.gate.reports.wording import with_unit

    console = Console()
    console.print(Text(f"base {found.base}, new {found.new}", style="bold"))
    for remark in found.remarks:
        console.print(Text(remark, style="yellow"))
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for name, right in (("point", False), ("metric", False), ("base", True), ("new", True), ("time new\n÷ base", True),
                        ("95 % of\nlaunches", True), ("launches", True)):  # fmt: skip
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "point", overflow="fold")
    names, shared = shorten_names({each.key: each.label for each in found.points})
    for point in found.points:
        name = names[point.key]
        for at, each in enumerate(point.metrics):
            interval = "–" if each.low is None or each.high is None else f"{each.low:.3f} … {each.high:.3f}"
            ratio = "–" if each.ratio is None else f"{each.ratio:.3f}"
            counts = f"{each.launches_base} / {each.launches_new}"
            figures = tuple("–" if value is None else f"{value:.4g}" for value in (each.base, each.new))
            table.add_row(Text("" if at else name), with_unit(each.metric), *figures, ratio, interval, counts)
        for metric, values, pattern in (
            ("of ceiling", (point.base.ceiling_share, point.new.ceiling_share), "{:.0%}"),
            ("J/seq", (point.base.joules_per_seq, point.new.joules_per_seq), "{:.4g}"),
        ):
            if any(value is not None for value in values):
                figures = tuple("–" if value is None else pattern.format(value) for value in values)
                table.add_row("", metric, *figures, "", "", "")
        if not point.metrics:
            table.add_row(Text(name), Text(point.remark, style="yellow"), "", "", "–", "", "")
    table.caption = "above 1 the new run is slower; the interval is of the launches alone, not of sessions"
    if shared:
        console.print(Text(f"{'all points' if len(found.points) > 1 else 'the point'}: {shared}", style="dim"))
    console.print(table, highlight=False)
    _print_rest(console, found)


def _print_rest(console: Console, found: Comparison) -> None:
    """Flags, and points that only one run has."""
    from rich.text import Text

    for sentence in tell_flags(found):
        console.print(Text(sentence, style="yellow"))
    for names, where in ((found.only_base, "base"), (found.only_new, "new")):
        for name in names:
            console.print(Text(f"only in the {where} run: {name}", style="dim"))


def tell_flags(found: Comparison) -> list[str]:
    """A sentence for each flag: once for all points that have it, and once for both sides where these points are the same."""
    flagged: dict[str, dict[str, list[str]]] = {}
    for point in found.points:
        for name, side in (("base", point.base), ("new", point.new)):
            for flag in side.flags:
                flagged.setdefault(flag, {"base": [], "new": []})[name].append(point.label)
    told = []
    for flag, sides in flagged.items():
        if sides["base"] == sides["new"]:
            if flag not in USUAL:
                told.append(f"both runs are flagged {flag}: {_where(sides['base'], found)}")
            continue
        told += [
            f"the {name} run is flagged {flag}: {_where(labels, found)}" for name, labels in sides.items() if labels
        ]
    return told


def _where(labels: list[str], found: Comparison) -> str:
    count = len(found.points)
    if len(labels) == count > 1:
        return "all points"
    return labels[0] if len(labels) == 1 else f"{len(labels)} of {count} points"
