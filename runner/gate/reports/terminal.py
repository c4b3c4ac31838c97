"""The report for a terminal, readable at 80 columns. What failed comes first, the table of all points after it.

No line begins with text from outside, and `##[` is broken up: CI services read commands there.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchrun.runner.durations import describe_seconds
from benchrun.runner.gate.reports.wording import (
    DASH,
    change,
    explain,
    finds,
    interval,
    launches_a_side,
    needs_words,
    percent,
    point_names,
    remarks,
    sides,
    title,
    word,
    worst_first,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from benchrun.runner.gate.outcome import GateOutcome

STYLES = {
    "FAIL": "bold red",
    "MISSING": "red",
    "INVALID": "red",
    "INCONCLUSIVE": "yellow",
    "accepted": "magenta",
    "IMPROVED": "green",
    "PASS": "green",
    "NEW": "cyan",
}
LAST_WORDS = 3  # of a single point's name that the table shows: batch, sequence, device
WIDE = 110  # columns from which on the table shows intervals


def print_gate(console: Console, outcome: GateOutcome, db: str = "") -> None:
    """Print the whole report. `db` names the database where it is not the usual one."""
    from rich.text import Text

    for each in gate_parts(outcome, console.width, db):
        console.print(each, highlight=False, soft_wrap=isinstance(each, Text))


def terminal_text(outcome: GateOutcome, width: int = 80) -> str:
    """The report as plain text."""
    from rich.console import Console

    stream = io.StringIO()
    print_gate(Console(file=stream, width=width, color_system=None, force_terminal=False), outcome)
    return stream.getvalue()


def gate_parts(outcome: GateOutcome, width: int, db: str = "") -> Iterator[RenderableType]:
    """The report, part by part. Lines are folded already: print them with `soft_wrap`, so that rich leaves them alone."""
    from rich.text import Text

    failed = "bold red" if outcome.exit_code == 1 else "bold" if outcome.exit_code == 0 else "bold yellow"
    for line in textwrap.wrap(title(outcome), width):
        yield Text(line, style=failed)
    names = {key: _calm(name) for key, name in point_names(outcome.points).items()}
    for point in worst_first(outcome):
        if needs_words(point):
            yield Text.assemble((word(point), STYLES[word(point)]), "  ", names[point.point])
            for sentence in explain(point):
                yield from _wrapped(sentence, width)
    yield from _wrapped(f"sides: {sides(outcome)}", width, "", "dim")
    for remark in remarks(outcome):
        yield from _wrapped(remark, width)
    short, shared = shorten_names(names)
    if shared:
        yield from _wrapped(f"{'all points' if len(names) > 1 else 'the point'}: {shared}", width, "", "dim")
    yield _table(outcome, width, short)
    yield from (Text(line, style="dim") for line in _stored(outcome, db))


def _calm(text: str) -> str:
    return text.replace("##[", "## [")


def _wrapped(sentence: str, width: int, begin: str = "  · ", style: str = "") -> Iterator[RenderableType]:
    """Folded between words; a number keeps its unit beside it."""
    from rich.text import Text

    text = re.sub(r"(?<=\d) (?=(%|ms|min|seq/s)(\W|$))", "\N{NO-BREAK SPACE}", _calm(sentence))
    for line in textwrap.wrap(
        text, max(20, width), initial_indent=begin, subsequent_indent="  | ", break_on_hyphens=False
    ):
        yield Text(line.replace("\N{NO-BREAK SPACE}", " "), style=style)


def _table(outcome: GateOutcome, width: int, names: dict[str, str]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    metrics = outcome.plan.metrics
    wide = width >= WIDE
    table = Table(box=None, pad_edge=False, header_style="bold", width=width)
    table.add_column("verdict", no_wrap=True)
    table.add_column("point", no_wrap=True, overflow="ellipsis", ratio=1, min_width=12)
    for metric in metrics:
        table.add_column(f"{metric}\ntime", justify="right", no_wrap=True)
        if wide:
            table.add_column(f"{metric}\n95 % interval", justify="right", no_wrap=True)
    table.add_column("launches\na side", justify="right", no_wrap=True)
    table.add_column("finds", justify="right", no_wrap=True)
    for point in worst_first(outcome):
        by_name = {each.metric: each for each in point.metrics}
        cells: list[str] = []
        for name in metrics:
            found = by_name.get(name)
            cells.append(change(found) if found is not None else DASH)
            if wide:
                cells.append(interval(found) if found is not None else DASH)
        table.add_row(
            Text(word(point), style=STYLES[word(point)]),
            Text(names[point.point]),
            *cells,
            str(launches_a_side(point)),
            percent(finds(outcome, point)),
        )
    return table


def shorten_names(names: dict[str, str]) -> tuple[dict[str, str], str]:
    """Names without what all of them share, so that what differs fits the table; and what that is. Of one name that is
    its beginning.
    """
    words = {key: name.split(" ") for key, name in names.items()}
    if len(names) == 1 and len(*words.values()) > LAST_WORDS:
        ((key, parts),) = words.items()
        return {key: " ".join(parts[-LAST_WORDS:])}, " ".join(parts[:-LAST_WORDS])
    if len(names) < 2 or len({len(each) for each in words.values()}) != 1:
        return names, ""
    columns = [set(column) for column in zip(*words.values(), strict=True)]
    shared = [next(iter(column)) for column in columns if len(column) == 1]
    short = {
        key: " ".join(each for each, column in zip(parts, columns, strict=True) if len(column) > 1)
        for key, parts in words.items()
    }
    start = os.path.commonprefix(list(short.values()))  # noqa: RUF071 - of names, which are no paths
    start = start[: max(start.rfind(mark) for mark in "/:") + 1]  # a folder, a file, a class of tests
    if start and start not in short.values():
        short = {key: name[len(start) :] for key, name in short.items()}
        shared.append(f"{start}…")
    return short, " ".join(shared)


def _stored(outcome: GateOutcome, db: str) -> tuple[str, str]:
    count = outcome.verdict.launches
    beside = " beside the discarded ones" if outcome.kind == "session" and outcome.settings.warmup else ""
    took = f", {describe_seconds(outcome.seconds)}" if outcome.seconds is not None else ""
    where = f" --db {shlex.quote(db)}" if db else ""
    return (
        f"{count} launch{'es' if count != 1 else ''}{beside}{took}",
        f"show it again: benchrun gate show {outcome.id}{where}",
    )
