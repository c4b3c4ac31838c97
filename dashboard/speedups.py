"""A table in the shape of the published ones: a line for each batch and length, the engines side by side, speed-ups against one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchrun.dashboard.charts.figures import Figure
from benchrun.dashboard.formats import DASH, known, ratio
from benchrun.dashboard.formats import figure as figure_text
from benchrun.dashboard.markup import Cell, Column, table
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    import pandas as pd

MOST_LINES = 400
WORTH_SAYING = 1.03  # below it, a speed-up is not set in bold


def speedup_table(points: pd.DataFrame, figure: Figure, reference: str) -> str:
    """HTML. A speed-up above 1 is better than `reference`; a wrong answer is struck through and has none."""
    names = sorted(set(points["series"]), key=lambda name: (name != reference, name))
    cells = {(row.seq, row.batch, row.series): row for row in rows_of(points)}
    lines = sorted(
        {(seq, batch) for seq, batch, _ in cells},
        key=lambda pair: tuple((not known(v), v if known(v) else 0) for v in pair),
    )
    columns = [Column("tokens", number=True), Column("batch", number=True)]
    for name in names:
        columns.append(Column(figure.title.removeprefix("latency "), figure.unit, number=True, group=name))
        if name != reference:
            columns.append(Column("speed-up", "×", number=True, group=name))
    rows = []
    for seq, batch in lines[:MOST_LINES]:
        base = cells.get((seq, batch, reference))
        line: list[Cell | str] = [_whole(seq), _whole(batch)]
        for name in names:
            row = cells.get((seq, batch, name))
            line.append(figure_cell(row, figure))
            if name != reference:
                line.append(_speedup_cell(base, row, figure))
        rows.append(line)
    return table(columns, rows)


def figure_cell(row: Any, figure: Figure) -> Cell:
    """A figure, or the status where there is none."""
    if row is None:
        return Cell(DASH, "muted", "not measured")
    value = getattr(row, figure.column)
    reason = str(row.error) if known(row.error) else ""
    if row.status == "invalid":
        return Cell(figure_text(value), "strike", f"wrong answer: {reason}")
    if row.status != "ok":
        return Cell(row.status, "failed", reason)
    return Cell(figure_text(value))


def _speedup_cell(base: Any, row: Any, figure: Figure) -> Cell:
    if base is None or row is None or base.status != "ok" or row.status != "ok":
        return Cell("")
    ours, theirs = getattr(row, figure.column), getattr(base, figure.column)
    if not known(ours) or not known(theirs) or ours <= 0 or theirs <= 0:
        return Cell("")
    value = ours / theirs if figure.more_is_better else theirs / ours
    return Cell(ratio(value), "strong" if value >= WORTH_SAYING else "")


def _whole(value: Any) -> str:
    return f"{int(value):,}" if known(value) else DASH
