"""Published rows with ours beside them, as a table, as a chart's data and as rows to take away. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchrun.dashboard.charts.figures import LATENCIES, THROUGHPUT, Figure
from benchrun.dashboard.formats import DASH, count, figure, ratio, short
from benchrun.dashboard.markup import Cell, Column, table
from benchrun.results.layouts import layout_of

if TYPE_CHECKING:
    import pandas as pd

    from benchrun.results.published import ComparisonRow, MeasuredPoint, PublishedRow, PublishedTable

MOST_LINES = 200
MOST_ENGINES = 6  # of ours side by side; more would be wider than a page


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure that both sides may have: its names in a published row (and in ours), and that of its ratio ours ÷ published."""

    column: str
    ratio: str
    figure: Figure


COMPARED = (
    Compared("avg_ms", "avg_ratio", LATENCIES["mean"]),
    Compared("p50_ms", "p50_ratio", LATENCIES["p50"]),
    Compared("p95_ms", "p95_ratio", LATENCIES["p95"]),
    Compared("p99_ms", "p99_ratio", LATENCIES["p99"]),
    Compared("throughput_seq_s", "throughput_ratio", THROUGHPUT),
)
UNSAID = "not stated"
# what is alike in all rows stands above them
_ABOUT = ("hardware", "engine", "precision", "head", "scenario", "tokens", "batch")
_PART = "part"
_PRINTED = {
    "avg_ms": ("mean", "ms"),
    "p50_ms": ("p50", "ms"),
    "p90_ms": ("p90", "ms"),
    "p95_ms": ("p95", "ms"),
    "p97_ms": ("p97", "ms"),
    "p99_ms": ("p99", "ms"),
    "p99_9_ms": ("p99.9", "ms"),
    "throughput_seq_s": ("throughput", "seq/s"),
    "throughput_per_device_seq_s": ("a device", "seq/s"),
}


def compared(rows: Sequence[PublishedRow], beside: Sequence[ComparisonRow]) -> Compared:
    """The figure to lay side by side: the one that most pairs have, else that most published rows print."""
    return max(
        COMPARED,
        key=lambda each: (
            sum(getattr(pair, each.ratio) is not None for pair in beside),
            sum(getattr(row, each.column) is not None for row in rows),
        ),
    )


def like_for_like(beside: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """The pairs to show: where a table has rows of our own hardware and engines, each engine stands beside itself only, and in the same
    scenario where there is one."""
    alike = [each for each in beside if each.published.engine == each.measured.engine]
    if not any(each.published.hardware == each.measured.hardware for each in alike):
        return list(beside)
    return [each for each in alike if each.published.scenario == each.measured.scenario] or alike


def chart_frame(
    chosen: PublishedTable, rows: Sequence[PublishedRow], beside: Sequence[ComparisonRow], what: Compared = COMPARED[0]
) -> pd.DataFrame:
    """Rows for `published_chart`: a published figure over the batch, and ours that stand beside it; none where nothing published
    has a batch and the figure."""
    import pandas as pd

    theirs = list(_theirs(chosen, rows, what))
    found = [*theirs, *_ours(beside, what)] if theirs else []
    return pd.DataFrame(found, columns=["series", "ours", "batch", "value", "note"])


def _theirs(chosen: PublishedTable, rows: Sequence[PublishedRow], what: Compared) -> Iterator[dict[str, Any]]:
    # beside engine and hardware only what tells rows apart is named, the section of the page last: a line joins rows that differ in
    # nothing but their batch
    used: list[str] = []
    for name in ("precision", "scenario", "head", "section"):
        if len(_lines(rows, [*used, name])) > len(_lines(rows, used)):
            used.append(name)
    for row in rows:
        value = getattr(row, what.column)
        if value is not None and row.batch is not None:
            about = [row.engine, *(str(getattr(row, name)) for name in used if getattr(row, name))]
            series = short(f"{', '.join(about)}, {hardware_text(row) or 'hardware not stated'} (published)", 72)
            note = short(chosen.conditions(row).software or "published", 80)
            yield {"series": series, "ours": False, "batch": row.batch, "value": value, "note": note}


def _lines(rows: Sequence[PublishedRow], used: Sequence[str]) -> set[tuple[Any, ...]]:
    return {(row.engine, hardware_text(row), *(getattr(row, name) for name in used)) for row in rows}


def _ours(beside: Sequence[ComparisonRow], what: Compared) -> Iterator[dict[str, Any]]:
    for pair in _best(beside, lambda each: (our_name(each.measured), each.measured.batch), what).values():
        ours, value = pair.measured, getattr(pair.measured, what.column)
        if value is not None:
            series = short(f"{our_name(ours)}, {ours.hardware} (ours)", 64)
            note = f"ours, {ours.head}, {ours.dtype}, {ours.seq:,} tokens"
            yield {"series": series, "ours": True, "batch": ours.batch, "value": value, "note": note}


def _best(
    beside: Sequence[ComparisonRow], key: Callable[[ComparisonRow], tuple[Any, ...]], what: Compared
) -> dict[tuple[Any, ...], ComparisonRow]:
    """The pair of each key to show, one rule for table and chart: that whose figure of ours is best, the first of equal ones."""

    def goodness(each: ComparisonRow) -> float:
        value = getattr(each.measured, what.column)
        return -math.inf if value is None else value if what.figure.more_is_better else -value

    found: dict[tuple[Any, ...], ComparisonRow] = {}
    for each in beside:
        other = found.setdefault(key(each), each)
        if goodness(each) > goodness(other):
            found[key(each)] = each
    return found


def our_name(point: MeasuredPoint) -> str:
    """`torch:eager`, with the layout of a mix of lengths."""
    return f"{point.engine} {layout_of(point.conditions.workload)}".strip()


def hardware_text(row: PublishedRow) -> str:
    """`NVIDIA T4`, `8 × NVIDIA H200`; empty where the source states none."""
    many = f"{row.devices} × " if row.devices is not None and row.devices > 1 else ""
    return f"{many}{row.hardware or 'hardware not stated'}" if many else row.hardware or ""


@dataclass(frozen=True, slots=True)
class Laid:
    """Published rows with ours beside each, as a table shows them.

    `columns` are names of ours with a group of columns each; with `own_column` there is one of ours a row at most, and it says its
    name. `pairs` has for each row as many as there are groups. With `shaped`, ours say their batch and length.
    """

    rows: tuple[PublishedRow, ...]
    pairs: tuple[tuple[ComparisonRow | None, ...], ...]
    columns: tuple[str, ...]
    own_column: bool
    shaped: bool
    more_rows: int
    more_engines: int


def lay_out(rows: Sequence[PublishedRow], beside: Sequence[ComparisonRow], what: Compared) -> Laid:
    """Which of ours stands beside which published row: of several at one place, the best."""
    shown = rows[:MOST_LINES]
    orders = {row.order for row in shown}
    placed = _best(
        [each for each in beside if each.published.order in orders],
        lambda each: (each.published.order, our_name(each.measured)),
        what,
    )
    names = list(dict.fromkeys(name for _, name in placed))
    own_column = len(names) > 1 and len({order for order, _ in placed}) == len(placed)
    columns = names if own_column else names[:MOST_ENGINES]
    pairs = [tuple(placed.get((row.order, name)) for name in columns) for row in shown]
    if own_column:
        pairs = [(next((each for each in line if each is not None), None),) for line in pairs]
    return Laid(
        tuple(shown),
        tuple(pairs),
        tuple(columns),
        own_column,
        any(None in (each.published.batch, each.published.seq) for each in placed.values()),
        len(rows) - len(shown),
        len(names) - len(columns),
    )


def table_words(laid: Laid, beside: Sequence[ComparisonRow], what: Compared) -> list[str]:
    """What `published_table` chose among ours and what it left out, in sentences."""
    found = []
    if laid.shaped:
        found.append(
            "Where the source states no batch or length, ours is the best of those measured, at the batch and length named."
        )
    same: dict[tuple[Any, ...], set[int]] = {}
    for each in beside:
        ours = each.measured
        same.setdefault((our_name(ours), ours.dtype, ours.batch, ours.seq), set()).add(id(ours))
    alike = sum(len(points) - 1 for points in same.values())
    if alike:
        best = "highest" if what.figure.more_is_better else "lowest"
        found.append(
            f"{count(alike, 'point')} of ours with the engine and shape of another (other options or weights) left out: shown is the "
            f"one with the {best} {what.figure.title}. The CSV has all."
        )
    if laid.more_engines:
        found.append(f"{count(laid.more_engines, 'more engine')} of ours in the CSV only.")
    if laid.more_rows:
        found.append(f"{count(laid.more_rows, 'more row')} in the CSV only.")
    return found


def published_table(rows: Sequence[PublishedRow], beside: Sequence[ComparisonRow], what: Compared = COMPARED[0]) -> str:
    """HTML: a line for each published row with its figures as printed, and a group of columns for each engine of ours; what is
    alike in all rows stands above them."""
    laid = lay_out(rows, beside, what)
    printed = [name for name in _PRINTED if any(row.printed.get(name) for row in laid.rows)] or ["avg_ms"]
    about = [_about(row) for row in laid.rows]
    told = [title for title in _ABOUT if len({row[title] for row in about}) > 1 or title in ("engine", "batch")]
    if _kinds(about, [*told, _PART]) > _kinds(
        about, told
    ):  # rows that only the part of the page tells apart, such as layouts
        told.append(_PART)
    columns = [Column(title, number=title in ("tokens", "batch")) for title in told]
    columns += [Column(*_PRINTED[name], number=True, group="published") for name in printed]
    lines: list[list[Cell | str]] = []
    for row, said, pairs in zip(laid.rows, about, laid.pairs, strict=True):
        theirs = [Cell(said[title], "muted" if said[title].endswith(UNSAID) else "") for title in told]
        ours = (cell for each in pairs for cell in _our(each, what, laid))
        lines.append([*theirs, *_figures(row, printed), *ours])
    alike = {title: about[0][title] for title in _ABOUT if about and title not in told and about[0][title] != DASH}
    caption = " · ".join(f"{text} tokens" if title == "tokens" else text for title, text in alike.items())
    return table([*columns, *_our_columns(laid, what)], lines, caption=caption)


def _kinds(about: Sequence[Mapping[str, str]], titles: Sequence[str]) -> int:
    return len({tuple(row[title] for title in titles) for row in about})


def _our_columns(laid: Laid, what: Compared) -> list[Column]:
    unit = "seq/s" if what.figure.more_is_better else what.figure.unit
    title = what.figure.title.removeprefix("latency ")
    found = []
    for group in ["ours"] if laid.own_column else [f"ours: {name}" for name in laid.columns]:
        found += [Column("engine", group=group)] if laid.own_column else []
        found += [Column("at", group=group)] if laid.shaped else []
        found += [Column(title, unit, number=True, group=group), Column("ours ÷ theirs", number=True, group=group)]
    return found


def _about(row: PublishedRow) -> dict[str, str]:
    shape = [f"{size:,}" if size else DASH for size in (row.seq, row.batch)]
    texts = (
        hardware_text(row) or f"hardware {UNSAID}",
        row.engine,
        row.precision or row.dtype,
        row.head or f"head {UNSAID}",
    )
    return dict(zip((*_ABOUT, _PART), (*texts, row.scenario or DASH, *shape, row.section or DASH), strict=True))


def _figures(row: PublishedRow, printed: Sequence[str]) -> list[Cell | str]:
    if row.status == "oom":
        return [Cell("oom", "failed", "the source says: out of memory"), *[""] * (len(printed) - 1)]
    texts = [row.printed.get(name) or DASH for name in printed]
    return [Cell(text, "muted" if text == DASH else "", row.note) for text in texts]


def _our(each: ComparisonRow | None, what: Compared, laid: Laid) -> list[Cell | str]:
    if each is None:
        return [""] * (laid.own_column + laid.shaped + 2)
    ours = each.measured
    found: list[Cell | str] = [our_name(ours)] if laid.own_column else []
    found += [f"batch {ours.batch:,}, {ours.seq:,} tokens"] if laid.shaped else []
    return [*found, figure(getattr(ours, what.column)), Cell(ratio(getattr(each, what.ratio)), "strong")]


def taken_away(rows: Sequence[PublishedRow], beside: Sequence[ComparisonRow]) -> pd.DataFrame:
    """Published rows, once for each of ours beside them, for a CSV."""
    import pandas as pd

    theirs = (
        *("order", "section", "hardware", "devices", "model", "head", "engine", "precision", "dtype", "scenario"),
        *("batch", "seq", "status", *_PRINTED, "note"),
    )
    ours = ("hardware", "head", "engine", "scenario", "batch", "seq", *(each.column for each in COMPARED))
    by_order: dict[int, list[ComparisonRow]] = {}
    for each in beside:
        by_order.setdefault(each.published.order, []).append(each)
    found = []
    for row in rows:
        about = {name: getattr(row, name) for name in theirs}
        for pair in by_order.get(row.order, [None]):
            mine = {f"our_{name}": getattr(pair.measured, name) if pair else None for name in ours}
            mine |= {"our_workload": pair.measured.conditions.workload if pair else None}
            shares = {each.ratio: getattr(pair, each.ratio) if pair else None for each in COMPARED}
            found.append(about | mine | shares)
    return pd.DataFrame(found)
