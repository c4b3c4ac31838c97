"""The report as Markdown for a job's summary page: the headline, what failed, all points in a table."""

from __future__ import annotations

import math
import re

from benchrun.results.exporters.markdown import escape
from benchrun.runner.gate.outcome import GateOutcome
from benchrun.runner.gate.reports.wording import (
    DASH,
    change,
    explain,
    finds,
    interval,
    launches_a_side,
    levels,
    needs_words,
    percent,
    point_names,
    remarks,
    sides,
    title,
    word,
    worst_first,
)

MARKS = {
    "FAIL": "❌",
    "MISSING": "⛔",
    "INVALID": "⛔",
    "INCONCLUSIVE": "❔",
    "accepted": "☑️",
    "IMPROVED": "🚀",
    "PASS": "✅",
    "NEW": "🆕",
}
MOST_ROWS = 500  # a job summary holds 1 MiB


def gate_markdown(outcome: GateOutcome) -> str:
    """GitHub-flavoured Markdown; a blank line at either end, so that it can be appended to anything."""
    names = point_names(outcome.points)
    ordered = worst_first(outcome)
    lines = ["", f"## {quote(title(outcome))}", "", quote(sides(outcome)), ""]
    for point in ordered[:MOST_ROWS]:
        if needs_words(point):
            lines.append(f"- {MARKS[word(point)]} **{word(point)}** {quote(names[point.point])}")
            lines += [f"  - {quote(each)}" for each in explain(point)]
    if lines[-1]:
        lines.append("")
    lines += [f"> {quote(each)}  " for each in remarks(outcome)]
    metrics = outcome.plan.metrics
    heads = ["verdict", "point", *(f"{each} time" for each in metrics), "launches a side", "finds"]
    lines += ["", _row(heads), _row(["---", "---", *("---:" for _ in range(len(metrics) + 2))])]
    for point in ordered[:MOST_ROWS]:
        by_name = {each.metric: each for each in point.metrics}
        cells = [
            f"{levels(each)}{change(each)} ({interval(each)})"
            if each is not None and math.isfinite(each.ratio)
            else DASH
            for each in (by_name.get(name) for name in metrics)
        ]
        lines.append(
            _row(
                [
                    f"{MARKS[word(point)]} {word(point)}",
                    quote(names[point.point]),
                    *cells,
                    str(launches_a_side(point)),
                    percent(finds(outcome, point)),
                ]
            )
        )
    if len(ordered) > MOST_ROWS:
        lines += ["", f"{len(ordered) - MOST_ROWS} more points are left out here."]
    lines += [
        "",
        f"Gate run `{outcome.id}`. Changes are in time: +5 % is 5 % slower, in brackets the 95 % interval.",
        "\n",
    ]
    return "\n".join(lines)


def quote(text: str) -> str:
    """Text that Markdown shows as it is: no markup, links, mentions or references to issues."""
    quoted = escape(text).replace("@", "&#64;").replace("://", ":&#47;/")
    return re.sub(r"\bwww\.", "www&#46;", quoted, flags=re.IGNORECASE)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
