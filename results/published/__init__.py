"""Published tables: figures that vendors printed, with the conditions they were taken under.

    from benchrun.results.published import load, published_tables, compare

Nothing here touches the database.
"""

from __future__ import annotations

from benchrun.results.published.comparison import ComparisonRow, MeasuredPoint, compare, ratio, spell_differences
from benchrun.results.published.consistency import OddCell, find_odd_cells
from benchrun.results.published.stored import run_points
from benchrun.results.published.tables import (
    Conditions,
    PublishedRow,
    PublishedTable,
    UnknownTable,
    load,
    published_tables,
    table_names,
)

__all__ = [
    "ComparisonRow",
    "Conditions",
    "MeasuredPoint",
    "OddCell",
    "PublishedRow",
    "PublishedTable",
    "UnknownTable",
    "compare",
    "find_odd_cells",
    "load",
    "published_tables",
    "ratio",
    "run_points",
    "spell_differences",
    "table_names",
]
