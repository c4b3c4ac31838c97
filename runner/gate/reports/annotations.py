"""Annotations on a GitHub Actions run: workflow commands, one a line, for its log.

Source: GitHub's documentation of workflow commands, and the escaping of actions/toolkit (core/src/command.ts): in data
`%`, CR and LF become %25, %0D, %0A; in properties also `:` and `,`.
"""

from __future__ import annotations

from benchrun.runner.gate.outcome import GateOutcome
from benchrun.runner.gate.reports.wording import (
    compared_nothing,
    explain,
    needs_words,
    point_names,
    remarks,
    title,
    word,
    worst_first,
)

MOST = 9  # GitHub shows 10 of each kind a step; the last says how many more there are
LEVELS = {"FAIL": "error", "MISSING": "error", "INVALID": "error", "INCONCLUSIVE": "warning", "accepted": "notice"}


def gate_annotations(outcome: GateOutcome) -> list[str]:
    """The headline, then a command for each point that needs words, the worst first."""
    level = {0: "notice", 4: "warning"}.get(outcome.exit_code, "error")
    if level == "notice" and compared_nothing(outcome):
        level = "warning"  # a gate that never compares anything has to be seen
    lines = [command(level, "benchrun gate", "\n".join([title(outcome), *remarks(outcome)]))]
    names = point_names(outcome.points)
    shown: dict[str, int] = {}
    for point in worst_first(outcome):
        if not needs_words(point):
            continue
        kind = LEVELS.get(word(point), "notice")
        shown[kind] = shown.get(kind, 0) + 1
        if shown[kind] < MOST:
            name = names[point.point]
            lines.append(command(kind, f"{word(point)} {name}", "\n".join([name, *explain(point)])))
    lines += [
        command(kind, "benchrun gate", f"{count - MOST + 1} more points: see the log or the job summary")
        for kind, count in shown.items()
        if count >= MOST
    ]
    return lines


def command(level: str, title: str, message: str) -> str:
    """One workflow command, escaped: whatever the texts hold, it is one command on one line."""
    return f"::{level} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
