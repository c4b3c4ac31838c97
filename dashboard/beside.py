"""Published rows with ours beside them, as a table, as a chart's data and as rows to take away. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchrun.dashboard.charts.figures import LATENCIES, THROUGHPUT, Figure
from benchrun.dashboard.formats import DASH, figure, ratio, short
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
_ABOUT = (
    "hardware",
    "engine",
    "precision",
    "head",
    "scenario",
    "tokens",
    "batch",
)  # what is alike in all rows stands above them
_PRINTED = {
    "avg_ms": ("mean", "ms"),
    "p50_ms": ("p50", "ms"),
    "p90_ms": ("p90", "ms"),
    "p95_ms": ("p95", "ms"),
    "p99_ms": ("p99", "ms"),
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
    """The pairs to show: where a table has rows of our own hardware and engines, each engine stands beside itself only."""
    alike = [each for each in beside if each.published.engine == each.measured.engine]
    same = any(each.published.hardware == each.measured.hardware for each in alike)
    return alike if same else list(beside)


def chart_frame(
    chosen: PublishedTable, rows: Sequence[PublishedRow], beside: Sequence[ComparisonRow], what: Compared = COMPARED[0]
) -> pd.DataFrame:
    """Rows for `published_chart`: a published figure over the batch, and ours that stand beside it."""
    import pandas as pd

    found = [*_theirs(chosen, rows, what), *_ours(beside, what)]
    return pd.DataFrame(found, columns=["series", "ours", "batch", "value", "note"])


def _theirs(chosen: PublishedTable, rows: Sequence[PublishedRow], what: Compared) -> Iterator[dict[str, Any]]:
    # only what tells rows of one batch apart is named, the section of the page last
    used = ["engine"]
    for name in ("precision", "scenario", "section"):
        keys = [(row.batch, *(getattr(row, each) for each in used)) for row in rows]
        if len(set(keys)) < len(keys):
            used.append(name)
    for row in rows:
        value = getattr(row, what.column)
        if value is not None and row.batch is not None:
            about = [str(getattr(row, name)) for name in used if getattr(row, name)]
            series = short(f"{', '.join(about)}, {hardware_text(row) or 'hardware not stated'} (published)", 72)
            note = short(chosen.conditions(row).software or "published", 80)
            yield {"series": series, "ours": False, "batch": row.batch, "value": value, "note": note}


def _ours(beside: Sequence[ComparisonRow], what: Compared) -> Iterator[dict[str, Any]]:
    ours = {(row.measured.engine, row.measured.conditions.workload, row.measured.batch): row.measured for row in beside}
    for each in ours.values():
        value = getattr(each, what.column)
        if value is not None:
            series, note = short(f"{our_name(each)}, {each.hardware} (ours)", 64), f"ours, {each.head}, {each.dtype}"
            yield {"series": series, "ours": True, "batch": each.batch, "value": value, "note": note}


def our_name(point: MeasuredPoint) -> str:
    """`torch:eager`, with the layout of a mix of lengths."""
    return f"{point.engine} {layout_of(point.conditions.workload)}".strip()


def hardware_text(row: PublishedRow) -> str:
    """`NVIDIA T4`, `8 × NVIDIA H200`; empty where the source states none."""
    many = f"{row.devices} × " if row.devices is not None and row.devices > 1 else ""
    return f"{many}{row.hardware or 'hardware not stated'}" if many else row.hardware or ""


def published_table(rows: Sequence[PublishedRow], beside: Sequence[ComparisonRow], what: Compared = COMPARED[0]) -> str:
    """HTML: a line for each published row with its figures as printed, and a group of columns for each engine of ours; what is
    alike in all rows stands above them."""
    shown = rows[:MOST_LINES]
    printed = [name for name in _PRINTED if any(row.printed.get(name) for row in shown)] or ["avg_ms"]
    by_place: dict[tuple[int, str], ComparisonRow] = {}
    for each in beside:
        by_place.setdefault((each.published.order, our_name(each.measured)), each)
    ours = list(dict.fromkeys(name for _, name in by_place))[:MOST_ENGINES]
    own_column = (
        len({order for order, _ in by_place}) == len(by_place) and len(ours) > 1
    )  # one of ours a line: no group each
    unit = "seq/s" if what.figure.more_is_better else what.figure.unit
    title = what.figure.title.removeprefix("latency ")
    about = [_about(row) for row in shown]
    told = [title for title in _ABOUT if len({row[title] for row in about}) > 1 or title in ("engine", "batch")]
    alike = [
        f"{about[0][title]}{' tokens' if title == 'tokens' else ''}" for title in _ABOUT if title not in told and about
    ]
    columns = [Column(title, number=title in ("tokens", "batch")) for title in told]
    columns += [Column(*_PRINTED[name], number=True, group="published") for name in printed]
    if own_column:
        columns.append(Column("engine", group="ours"))
    for group in ["ours"] if own_column else [f"ours: {name}" for name in ours]:
        columns += [Column(title, unit, number=True, group=group), Column("ours ÷ theirs", number=True, group=group)]
    lines = []
    for row, said in zip(shown, about, strict=True):
        pairs = [by_place.get((row.order, name)) for name in ours]
        if own_column:
            pairs = [next((each for each in pairs if each is not None), None)]
        name = [our_name(pairs[0].measured) if pairs[0] else ""] if own_column else []
        theirs = [
            *(Cell(said[title], "muted" if said[title].endswith(UNSAID) else "") for title in told),
            *_figures(row, printed),
        ]
        lines.append([*theirs, *name, *(cell for each in pairs for cell in _our(each, what))])
    return table(columns, lines, caption=" · ".join(each for each in alike if each != DASH))


def _about(row: PublishedRow) -> dict[str, str]:
    shape = [f"{size:,}" if size else DASH for size in (row.seq, row.batch)]
    texts = (
        hardware_text(row) or f"hardware {UNSAID}",
        row.engine,
        row.precision or row.dtype,
        row.head or f"head {UNSAID}",
    )
    return dict(zip(_ABOUT, (*texts, row.scenario or DASH, *shape), strict=True))


def _figures(row: PublishedRow, printed: Sequence[str]) -> list[Cell | str]:
    if row.status == "oom":
        return [Cell("oom", "failed", "the source says: out of memory"), *[""] * (len(printed) - 1)]
    texts = [row.printed.get(name) or DASH for name in printed]
    return [Cell(text, "muted" if text == DASH else "", row.note) for text in texts]


def _our(each: ComparisonRow | None, what: Compared) -> tuple[Cell | str, Cell | str]:
    if each is None:
        return "", ""
    return figure(getattr(each.measured, what.column)), Cell(ratio(getattr(each, what.ratio)), "strong")


def taken_away(rows: Sequence[PublishedRow], beside: Sequence[ComparisonRow]) -> pd.DataFrame:
    """Published rows, once for each of ours beside them, for a CSV."""
    import pandas as pd

    theirs = (
        *("order", "section", "hardware", "devices", "model", "head", "engine", "precision", "dtype", "scenario"),
        *("batch", "seq", "status", *_PRINTED, "note"),
    )
    ours = ("hardware", "head", "engine", *(each.column for each in COMPARED))
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
