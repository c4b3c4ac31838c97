"""Gate runs as tables, and as marks on a course. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchrun.dashboard.addresses import href
from benchrun.dashboard.formats import DASH, ago, change, count, interval_words, known, moment, short
from benchrun.dashboard.markup import Cell, Column, Tone, table
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from benchrun.results.views.gates import GateEntry

WORST_FIRST = ("FAIL", "MISSING", "INVALID", "INCONCLUSIVE", "PASS", "NEW", None)
_KINDS = {"session": "in turns", "baseline": "against a stored run"}


def tone_of(verdict: str | None) -> Tone:
    """How a verdict is shown: a FAIL stands out, a PASS is quiet."""
    return "failed" if verdict in ("FAIL", "MISSING", "INVALID") else "strong" if verdict == "INCONCLUSIVE" else "muted"


def gates_table(gates: Sequence[GateEntry], now: datetime) -> str:
    """The latest gate runs as HTML."""
    titles = ("gate", "started", "verdict", "points", "base", "new", "measured", "")
    columns = [Column(title) for title in titles]
    return table(columns, [_gate_line(gate, now) for gate in gates])


def _gate_line(gate: GateEntry, now: datetime) -> list[Cell | str]:
    verdict = gate.verdict or {"running": "in progress"}.get(gate.state, gate.state)
    counts = [f"{gate.points[each]} {each or 'not decided'}" for each in WORST_FIRST if gate.points.get(each)]
    counts += [f"{gate.accepted} of the FAILs accepted"] if gate.accepted else []
    weak = "measured at different times: weaker than a gate that measures both sides in turns"
    return [
        Cell(short(gate.label or gate.id, 40), "strong", gate.id),
        Cell(ago(gate.started, now), "", moment(gate.started)),
        Cell(verdict, tone_of(gate.verdict), f"ended by {gate.stopped}" if gate.stopped else ""),
        Cell(", ".join(counts) or DASH),
        _side(gate, "base"),
        _side(gate, "new"),
        Cell(_KINDS.get(gate.kind, gate.kind), "muted", weak if gate.kind == "baseline" else ""),
        _compare_cell(*(gate.sides[side].run_id if side in gate.sides else None for side in ("base", "new"))),
    ]


def _side(gate: GateEntry, name: str) -> Cell:
    side = gate.sides.get(name)
    if side is None:
        return Cell(DASH, "muted")
    return Cell(short(side.label or (side.commit or DASH)[:9], 32), "", side.commit or "")


def _compare_cell(base: Any, new: Any) -> Cell:
    """A link to both sides point by point, where both runs are still there."""
    if not known(base) or not known(new):
        return Cell("")
    return Cell("compare", "", "both sides point by point", href("compare", {"mode": "runs", "base": base, "new": new}))


def verdicts_table(verdicts: pd.DataFrame) -> str:
    """Rows of `gates.open_verdicts` as HTML."""
    columns = [
        Column("point"), Column("verdict"), Column("why"), Column("figure"), Column("takes", "against base", number=True),
        Column("95 % interval"), Column("gate"), Column(""),
    ]  # fmt: skip
    rows: list[list[Cell | str]] = [
        [
            short(row.label, 72),
            Cell(row.verdict, tone_of(row.verdict)),
            short(row.reason if known(row.reason) and row.reason else DASH, 110),
            Cell(short(row.metric, 24) if known(row.metric) else DASH, "muted"),
            change(row.ratio),
            Cell(interval_words(row.ratio_low, row.ratio_high), "muted"),
            Cell(short(row.gate_label or row.gate_id, 32), "", f"{row.gate_id}, {moment(row.gate_started)}"),
            _compare_cell(row.run_id_base, row.run_id_new),
        ]
        for row in rows_of(verdicts)
    ]
    return table(columns, rows)


def mark_rows(marks: pd.DataFrame, series: dict[str, str]) -> list[dict[str, str]]:
    """Marks for `charts.trend.trend_chart` from rows of `gates.gate_marks`; `series` names the points where there are several.

    Several points of one gate that came out alike become one mark. An accepted FAIL, an intended change, is a kind of its own.
    """
    found: dict[tuple[str, str, str], list[Any]] = {}
    for row in rows_of(marks):
        kind = "accepted" if row.accepted else "pass" if row.verdict in ("PASS", "NEW") else "verdict"
        found.setdefault((row.run_id, kind, row.verdict), []).append(row)
    return [
        {"run_id": run_id, "kind": kind, "text": _mark_text(kind, verdict, rows, series)}
        for (run_id, kind, verdict), rows in found.items()
    ]


def _mark_text(kind: str, verdict: str, rows: Sequence[Any], series: dict[str, str]) -> str:
    first = rows[0]
    named = short(series.get(first.point_key, ""), 24) if len(series) > 1 else ""
    who = named if len(rows) == 1 else count(len(rows), "series", "series")
    moved = change(first.ratio) if len(rows) == 1 and known(first.ratio) else ""
    weak = "(stored base)" if first.gate_kind == "baseline" else ""
    words = f"accepted: {short(first.accepted, 30)}" if kind == "accepted" else f"gate {verdict}"
    return " ".join(part for part in (who, words, moved, weak) if part)
