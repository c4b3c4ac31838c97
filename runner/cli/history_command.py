"""`benchrun history`: a point over commits, from the store. It never blocks: exit 0 whatever it finds."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from benchrun.results.plain import plain_json
from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from benchrun.results.rows import PointRow
    from benchrun.results.series import SeriesPoint
    from benchrun.runner.gate.commits import PointHistory

METRICS = ("p50", "throughput")
CANDIDATES = 10  # that a message lists


def show_history(words: Sequence[str], metric: str, hardware: str | None, db: str | None, *, as_json: bool) -> int:
    """Print the series and its change points."""
    from benchrun.results import open_store
    from benchrun.results.queries import environments
    from benchrun.results.series import measured_points, point_launches
    from benchrun.runner.gate.commits import trace_history

    if metric not in METRICS:
        raise UsageError(f"unknown metric {metric!r}: choose from {', '.join(METRICS)}")
    with open_store(db, read_only=True) as store, store.reading() as connection:
        found, others = find_point(measured_points(connection), " ".join(words), hardware)
        launches = point_launches(connection, [found.point.key], found.fingerprint)
        details = {each.id: each.details for each in environments(connection)}
    history = trace_history(launches, metric, details)
    if as_json:
        json.dump(history_document(found, history), sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
        return 0
    from rich.console import Console

    console = Console()
    for part in history_parts(found, others, history):
        console.print(part, highlight=False)
    return 0


def find_point(points: Sequence[SeriesPoint], text: str, hardware: str | None) -> tuple[SeriesPoint, int]:
    """The point that a user means: its key or the start of it, or words of its name if they fit one point only; on the
    machine last measured on, unless `hardware` is (the start of) a fingerprint. And on how many other machines it was
    measured.
    """
    wanted = text.lower().split()
    if not wanted:
        raise UsageError("name a point: some words of its name, like 'benchrun history torch:eager bert-base b1 s128'")
    if not points:
        raise UsageError("there are no measured points yet: measure some with 'benchrun --backend torch'")
    names = name_points([each.point for each in points])
    hits = [key for key in names if key == text.strip()]
    if not hits and len(wanted) == 1 and len(text.strip()) >= 4:
        hits = [key for key in names if key.startswith(wanted[0])]
    if not hits:
        hits = [key for key, name in names.items() if all(_fits(word, name) for word in wanted)]
    if not hits:
        raise UsageError(f"no measured point fits {text!r}; the latest are: {_listing(list(names), names)}")
    if len(hits) > 1:
        raise UsageError(f"{text!r} fits {len(hits)} points: {_listing(hits, names)}; say more of the name, or the key")
    places = [each for each in points if each.point.key == hits[0]]
    chosen = [each for each in places if hardware is None or each.fingerprint.startswith(hardware.lower())]
    if not chosen:
        known = ", ".join(each.fingerprint for each in places)
        raise UsageError(f"that point was not measured on hardware {hardware!r}: choose from {known}")
    return chosen[0], len(places) - 1


def name_points(points: Sequence[PointRow]) -> dict[str, str]:
    """Key → name; where points share one, with the settings that tell them apart: `… s128 cpu attention=eager`."""
    from benchrun.runner.gate.comparison import label_row

    settings = {
        each.key: {"weights": each.weights, "workload": each.workload, "protocol": each.protocol}
        | {**each.overrides, **each.options}
        for each in points
    }
    alike: dict[str, list[str]] = {}
    for each in {point.key: point for point in points}.values():
        alike.setdefault(label_row(each), []).append(each.key)
    names = {}
    for label, keys in alike.items():
        known = dict.fromkeys(name for key in keys for name in settings[key])
        differ = [name for name in known if any(settings[key].get(name) != settings[keys[0]].get(name) for key in keys)]
        for key in keys:
            names[key] = " ".join([label, *(f"{name}={settings[key].get(name, 'unset')}" for name in differ)])
    return names


def _fits(word: str, name: str) -> bool:
    parts = name.lower().split()
    return word in parts or any(word in part.split(":") for part in parts)


def _listing(keys: Sequence[str], names: dict[str, str]) -> str:
    more = f" and {len(keys) - CANDIDATES} more" if len(keys) > CANDIDATES else ""
    return "; ".join(f"{names[key]} ({key})" for key in keys[:CANDIDATES]) + more


def history_document(found: SeriesPoint, history: PointHistory) -> dict[str, Any]:
    """Plain JSON values, version 1."""
    from benchrun.runner.gate.comparison import label_row

    document: dict[str, Any] = plain_json(
        {
            "schema": "benchrun.history/1",
            "point": found.point.key,
            "label": label_row(found.point),
            "fingerprint": found.fingerprint,
            "metric": history.metric,
            "commits": [
                {
                    "commit": each.commit,
                    "first": each.first.isoformat(),
                    "launches": each.launches,
                    "failed": each.failed,
                    "runs": list(each.runs),
                    "value": each.value,
                    "changed": list(each.changed),
                }
                for each in history.commits
            ],
            "changes": [
                {"commit": history.commits[each.index].commit, "index": each.index, "ratio": each.ratio, "p": each.p}
                for each in history.changes
            ],
        }
    )
    return document


def history_parts(found: SeriesPoint, others: int, history: PointHistory) -> Iterator[RenderableType]:
    """Changes first, then the series."""
    from rich.table import Table
    from rich.text import Text

    from benchrun.runner.cli.tables import DASH, milliseconds
    from benchrun.runner.gate.comparison import label_row
    from benchrun.runner.gate.reports.wording import with_unit

    yield Text(f"{label_row(found.point)}  {found.point.key}", style="bold")
    where = f"hardware {found.fingerprint}" + (f"; also measured on {others} other machines" if others else "")
    yield Text(where, style="dim")
    yield Text(_conclusion(history))
    at = {each.index: each for each in history.changes}
    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = ("launches", with_unit(history.metric))
    for name in ("commit", "measured", *numbers):
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True, min_width=10)
    table.add_column("")  # change and versions: they may take several lines
    for index, each in enumerate(history.commits):
        remarks = Text("")
        if (change := at.get(index)) is not None:
            remarks.append(
                f"← {100 * (change.ratio - 1):+.1f} % from here", style="red" if change.ratio > 1 else "green"
            )
        if each.changed:
            remarks.append(("; " if remarks.plain else "") + ", ".join(each.changed))
        table.add_row(
            Text(_short(each.commit)),
            f"{each.first:%Y-%m-%d}",
            str(each.launches) + (f" ({each.failed} failed)" if each.failed else ""),
            milliseconds(each.value) if math.isfinite(each.value) else DASH,
            remarks,
        )
    yield table


def _conclusion(history: PointHistory) -> str:
    count = len(history.commits)
    if count < 6:
        return f"commits: {count}; a change needs at least 3 on either side"
    if not history.changes:
        return f"commits: {count}; no change of 3 % or more is certain (p ≤ 0.001)"
    told = "; ".join(
        f"{abs(100 * (each.ratio - 1)):.1f} % {'slower' if each.ratio > 1 else 'faster'} since "
        f"{_short(history.commits[each.index].commit)} (p {each.p:.1g})"
        for each in history.changes
    )
    return f"commits: {count}; {told}. This informs, and never blocks"


def _short(commit: str) -> str:
    head, plus, rest = commit.partition("+")
    return head[:10] + plus + rest if len(head) == 40 else commit
