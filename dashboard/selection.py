"""Which points a view shows, and what it says of the others. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from benchrun.dashboard.formats import count, known, named, protocol_parts, short

if TYPE_CHECKING:
    import pandas as pd

    from benchrun.results.views.catalogue import Group, GroupEntry

# flag of a row that LoadGen itself called INVALID; without it `invalid` is a wrong answer
TOLD_INVALID = "loadgen_invalid"
_LISTED = 5  # other workloads by name
STATUS_WORDS = {
    "oom": "ran out of memory",
    "timeout": "timed out",
    "crashed": "crashed",
    "build_failed": "failed to build",
    "error": "raised an error",
    "unsupported": "unsupported by the engine",
    "invalid": "gave a wrong answer",
    "interrupted": "not measured (yet)",
    "skipped": "skipped",
}


def drawable(points: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The `ok` points that have all of these figures, above zero."""
    mask = points["status"] == "ok"
    for column in columns:
        mask &= points[column] > 0
    return points[mask]


def explain_missing(points: pd.DataFrame, columns: Sequence[str] = ()) -> list[str]:
    """What `drawable` leaves out, in words: wrong answers, failures, figures that were not taken."""
    found: list[str] = []
    invalid = points[points["status"] == "invalid"]
    told = sum(TOLD_INVALID in flags for flags in invalid.get("flags", ()))
    wrong = len(invalid) - told
    if wrong:
        found.append(
            f"{count(wrong, 'point')} with a wrong answer: struck through in the table, never drawn or compared."
        )
    if told:
        found.append(f"{count(told, 'point')} that LoadGen called INVALID: struck through in tables, never drawn.")
    failed = Counter(status for status in points["status"] if status not in ("ok", "invalid"))
    if failed:
        parts = ", ".join(
            f"{number} {STATUS_WORDS.get(status, short(status, 20))}" for status, number in failed.most_common()
        )
        found.append(f"{count(sum(failed.values()), 'point')} without figures: {parts}.")
    bare = int((points["status"] == "ok").sum()) - len(drawable(points, columns))
    if bare:
        found.append(f"{count(bare, 'point')} without this figure.")
    return found


def explain_neighbours(group: Group, entries: Sequence[GroupEntry]) -> list[str]:
    """Groups that differ from `group` in protocol id or workload only: related figures that must not share its axis."""
    found: list[str] = []
    workloads: Counter[str] = Counter()
    for entry in entries:
        other = entry.group
        if other == group:
            continue
        if replace(other, protocol=group.protocol) == group:
            found.append(
                f"{count(entry.points, 'point')} measured under another protocol ({differing_protocol(group.protocol, other.protocol)})."
            )
        elif replace(other, workload=group.workload, protocol=group.protocol) == group:
            workloads[named(other.workload)] += entry.points
    if workloads:
        listed = ", ".join(f"{short(name, 60)} ({number:,})" for name, number in workloads.most_common(_LISTED))
        more = f" and {len(workloads) - _LISTED} more" if len(workloads) > _LISTED else ""
        found.append(
            f"{count(workloads.total(), 'point')} of other workloads, whose inputs never share an axis with these: {listed}{more}."
        )
    return found


def differing_protocol(ours: str, theirs: str) -> str:
    """What is different about their protocol id: `transfers=include`; what only ours says, where theirs says nothing else."""
    mine, other = protocol_parts(ours), protocol_parts(theirs)
    parts = [f"{name}={short(other[name], 40)}" for name in sorted(other) if mine.get(name) != other[name]]
    parts = parts or [f"{name}=not said" for name in sorted(mine.keys() - other.keys())]
    return ", ".join(parts[:4]) or short(theirs, 60)


def notes_on(points: pd.DataFrame) -> list[str]:
    """Differences inside the drawn points that a reader must know: thread counts, unsteady samples, unchecked answers."""
    found: list[str] = []
    threads = sorted({int(value) for value in points["threads"] if known(value)})
    if len(threads) > 1:
        found.append(f"measured with different thread counts ({', '.join(map(str, threads))})")
    unsteady = sum("unsteady" in flags for flags in points["flags"])
    if unsteady:
        found.append(f"{count(unsteady, 'point')} drifted while measured (unsteady)")
    unchecked = sum(not known(value) for value in points["parity_ok"])
    if unchecked:
        found.append(f"{count(unchecked, 'point')} whose answer was not compared with the reference")
    single = int((points["launches"] == 1).sum())
    if single:
        found.append(f"{count(single, 'point')} from one launch, so the spread between launches is unknown")
    return found
