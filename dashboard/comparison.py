"""Tables and names for two sides. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchrun.dashboard.charts.figures import Figure
from benchrun.dashboard.charts.ratios import WORDS, interval
from benchrun.dashboard.formats import DASH, change, figure, known
from benchrun.dashboard.markup import Cell, Column, Tone, table
from benchrun.dashboard.sentences import point_text
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    import pandas as pd

MOST_LINES = 300


def names_of_pairs(rows: pd.DataFrame) -> list[str]:
    """A name for each row with only what differs between the rows, no two alike."""
    several = {name: rows[name].nunique(dropna=False) > 1 for name in ("backend", "variant", "model", "head", "dtype")}
    engine = several["backend"] or several["variant"]
    model = several["model"] or several["head"]
    names = [point_text(row, engine=engine, model=model, dtype=several["dtype"]) for row in rows_of(rows)]
    used: dict[str, int] = {}
    found = []
    for name in names:
        used[name] = used.get(name, 0) + 1
        found.append(name if used[name] == 1 else f"{name} ({used[name]})")
    return found


def compare_table(rows: pd.DataFrame, shown: Figure) -> str:
    """Rows of `pairing.pair` with `name`, as HTML."""
    columns = [
        Column("point"), Column("first", shown.unit, number=True), Column("second", shown.unit, number=True),
        Column("takes", "against the first", number=True), Column("95 % interval"), Column("finding"),
        Column("launches", number=True), Column("n", number=True),
    ]  # fmt: skip
    return table(columns, [_line(row, shown) for row in rows_of(rows.head(MOST_LINES))])


def _line(row: Any, shown: Figure) -> list[Cell | str]:
    tone: Tone = row.word if row.word in ("slower", "faster") else ""
    return [
        row.name,
        figure(getattr(row, f"{shown.column}_base")),
        figure(getattr(row, f"{shown.column}_new")),
        Cell(change(row.ratio), tone),
        Cell(interval(row) if known(row.ratio_low) else DASH, "muted", interval(row)),
        Cell(WORDS.get(row.word, DASH), tone or "muted"),
        f"{int(row.launches_base)} / {int(row.launches_new)}",
        f"{int(row.n_base):,} / {int(row.n_new):,}",
    ]
