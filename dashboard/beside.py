"""Published rows with ours beside them, as a table and as a chart's data. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from benchrun.dashboard.formats import DASH, figure, ratio, short
from benchrun.dashboard.markup import Cell, Column, table
from benchrun.results.layouts import layout_of

if TYPE_CHECKING:
    import pandas as pd

    from benchrun.results.published import ComparisonRow, PublishedRow, PublishedTable

MOST_LINES = 200
_PRINTED = ("avg_ms", "p95_ms", "p99_ms", "throughput_seq_s")


def chart_frame(chosen: PublishedTable, rows: Sequence[PublishedRow], beside: Sequence[ComparisonRow]) -> pd.DataFrame:
    """Rows for `published_chart`: published latencies, and ours that stand beside them."""
    import pandas as pd

    found = [*_theirs(chosen, rows), *_ours(beside)]
    return pd.DataFrame(found, columns=["series", "ours", "batch", "ms", "note"])


def _theirs(chosen: PublishedTable, rows: Sequence[PublishedRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row.avg_ms is not None and row.batch is not None:
            series = short(f"{row.engine}, {row.hardware or 'hardware not stated'} (published)", 64)
            note = short(chosen.conditions(row).software or "published", 80)
            yield {"series": series, "ours": False, "batch": row.batch, "ms": row.avg_ms, "note": note}


def _ours(beside: Sequence[ComparisonRow]) -> Iterator[dict[str, Any]]:
    ours = {(row.measured.engine, row.measured.conditions.workload, row.measured.batch): row.measured for row in beside}
    for each in ours.values():
        if each.avg_ms is not None:
            name = f"{each.engine} {layout_of(each.conditions.workload)}".strip()
            series, note = short(f"{name}, {each.hardware} (ours)", 64), f"ours, {each.head}, {each.dtype}"
            yield {"series": series, "ours": True, "batch": each.batch, "ms": each.avg_ms, "note": note}


def published_table(rows: Sequence[PublishedRow], beside: Sequence[ComparisonRow]) -> str:
    """HTML: a line for each published row, with ours beside it where there is one; figures as printed."""
    columns = [
        Column("hardware"), Column("engine"), Column("precision"), Column("head"),
        Column("tokens", number=True), Column("batch", number=True),
        *[Column(title, "ms", number=True, group="published") for title in ("mean", "p95", "p99")],
        Column("throughput", "seq/s", number=True, group="published"),
        Column("engine", group="ours"), Column("mean", "ms", number=True, group="ours"),
        Column("throughput", "seq/s", number=True, group="ours"),
        Column("takes", "×", number=True, group="ours"),
    ]  # fmt: skip
    by_order: dict[int, list[ComparisonRow | None]] = {}
    for each in beside:
        by_order.setdefault(each.published.order, []).append(each)
    lines = [
        [*_published_cells(row), *_our_cells(each)]
        for row in rows[:MOST_LINES]
        for each in by_order.get(row.order, [None])
    ]
    return table(columns, lines)


def _published_cells(row: PublishedRow) -> list[Cell | str]:
    unsaid = Cell("not stated", "muted")
    about: list[Cell | str] = [row.hardware or unsaid, row.engine, row.precision or row.dtype, row.head or unsaid]
    shape = [f"{row.seq:,}" if row.seq else DASH, f"{row.batch:,}" if row.batch else DASH]
    if row.status == "oom":
        return [*about, *shape, Cell("oom", "failed", "the source says: out of memory"), "", "", ""]
    printed = [row.printed.get(name) or DASH for name in _PRINTED]
    return [*about, *shape, *(Cell(text, "muted" if text == DASH else "") for text in printed)]


def _our_cells(each: ComparisonRow | None) -> list[Cell | str]:
    if each is None:
        return ["", "", "", ""]
    ours = each.measured
    return [ours.engine, figure(ours.avg_ms), figure(ours.throughput_seq_s), Cell(ratio(each.avg_ratio), "strong")]
