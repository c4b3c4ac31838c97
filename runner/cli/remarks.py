"""What a reader must know beside the figures of a table: errors, flags, cut-off loops, percentiles from few samples.

What points and launches of an engine say alike is said once, with a range where only its figures differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.text import Text

from benchrun.results.statistics import BOUND_SAMPLES
from benchrun.runner.cli.training_notes import training_notes

if TYPE_CHECKING:
    from benchrun.results.records import PlannedPoint, RunRecord
    from benchrun.results.rows import MeasurementRow, PointRow

NAMED = 3  # points that a remark names; of more only the first and the last
# a plain number: no version, no power of ten, none with commas
_FIGURE = re.compile(r"(?<![\d.,])(?<!e-)(?<!e\+)(\d+(?:\.\d+)?)(?![.,]?\d|e[-+]?\d)")


@dataclass(slots=True)
class _Remark:
    """One thing that is said: of which points, by which measurements of how many planned ones, and each time in which words."""

    style: str
    shapes: list[str] = field(default_factory=list)
    planned: int = 0
    said: dict[int, str] = field(default_factory=dict)


def tell_remarks(record: RunRecord, points: Iterable[PlannedPoint]) -> Iterator[Text]:
    """A line for each set of remarks that the same points make, and what their percentiles lack."""
    points = list(points)
    yield from tell_notes(record, points)
    measured = (each.row.host for planned in points for each in record.by_point[planned.point.key] if each.row.host)
    if any((host.n or 0) < BOUND_SAMPLES["p99"] for host in measured):
        p99, others = BOUND_SAMPLES["p99"], f"p95: {BOUND_SAMPLES['p95']}, p90: {BOUND_SAMPLES['p90']}"
        yield Text(f"  p99 without an upper bound: it takes {p99} samples for one ({others})", style="dim")


def name_shape(point: PointRow) -> str:
    """What tells the points of an engine apart where a table has one dtype and one workload: `b8 s128`."""
    return f"b{point.batch} s{point.seq}"


def tell_notes(
    record: RunRecord,
    points: Iterable[PlannedPoint],
    told: Collection[str] = (),
    shape: Callable[[PointRow], str] = name_shape,
) -> Iterator[Text]:
    """A line for each set of remarks that the same measurements make; without the flags that are `told` elsewhere.

    `shape` names a point among those of its engine, as the table above does.
    """
    alike: dict[tuple[str, frozenset[int]], list[_Remark]] = {}
    for (engine, _), remark in _collect(record, points, told, shape).items():
        alike.setdefault((engine, frozenset(remark.said)), []).append(remark)
    for (engine, measurements), remarks in alike.items():
        first = remarks[0]
        shapes = first.shapes
        named = ", ".join(shapes) if len(shapes) <= NAMED else f"{shapes[0]} … {shapes[-1]} ({len(shapes)} points)"
        several = first.planned > len(shapes)
        often = f" ({len(measurements)} of {first.planned} launches)" if several else ""
        notes = "; ".join(fold_figures(list(each.said.values())) for each in remarks)
        yield Text(f"  {engine} {named}".rstrip() + f": {notes}{often}", style=first.style)


def _collect(
    record: RunRecord, points: Iterable[PlannedPoint], told: Collection[str], shape: Callable[[PointRow], str]
) -> dict[tuple[str, str], _Remark]:
    """By engine and words, which leave out the figures of a flag's reason."""
    found: dict[tuple[str, str], _Remark] = {}
    for planned in points:
        engine = f"{planned.point.backend}:{planned.point.variant}"
        name = shape(planned.point)
        for each in record.by_point[planned.point.key]:
            for words, text in _notes(each.row, told):
                remark = found.setdefault((engine, words), _Remark("yellow" if each.row.status == "ok" else "red"))
                if name not in remark.shapes:
                    remark.shapes.append(name)
                    remark.planned += planned.replicates
                remark.said[each.id] = text
    return found


def _notes(row: MeasurementRow, told: Collection[str]) -> Iterator[tuple[str, str]]:
    """What one row says: the words by which the same is known, and the text."""
    if row.error:
        yield row.error, row.error
    if row.status not in ("ok", "invalid"):
        return
    reasons = (row.telemetry or {}).get("reasons") or {}
    for flag in (each for each in row.flags if each not in told):
        reason = reasons.get(flag)
        text = f"{flag} ({reason})" if isinstance(reason, str) and reason else flag
        yield _FIGURE.sub("#", text), text
    others = ["warm-up did not settle"] if row.settled is False else []
    others += ["stopped by --max-time"] if row.timed_out else []
    for text in others + training_notes(row.facts):
        yield text, text


def fold_figures(texts: Sequence[str]) -> str:
    """Texts that differ in figures at most, as one: `kept 0.95–1.54 of 2 cores busy`."""
    pieces = [_FIGURE.split(text) for text in texts]
    if len({tuple(each[::2]) for each in pieces}) > 1:  # the same words with other figures have the same pieces between
        return texts[0]
    folded = []
    for place, values in enumerate(zip(*pieces, strict=True)):
        low, high = (min(values, key=float), max(values, key=float)) if place % 2 else (values[0], values[0])
        folded.append(low if low == high else f"{low}–{high}")
    return "".join(folded)
