"""`benchrun published`: vendors' printed figures, and a run laid beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from benchrun.runner.cli.tables import DASH, milliseconds
from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.results.published import ComparisonRow, MeasuredPoint, PublishedRow, PublishedTable
    from benchrun.results.records import RunRecord

_NOT_STATED = "not stated"


def list_tables(*, as_json: bool) -> int:
    """`benchrun published ls`."""
    from benchrun.results.published import published_tables

    tables = published_tables()
    if as_json:
        found = [{"name": each.name, "title": each.title, "rows": len(each.rows)} for each in tables]
        print(json.dumps({"schema": 1, "tables": found}, indent=1))
        return 0
    shown = _grid("table", "rows", "what", right=("rows",))
    for each in tables:
        shown.add_row(each.name, str(len(each.rows)), Text(each.title))
    Console().print(shown, highlight=False)
    return 0


def show_table(name: str, *, as_json: bool) -> int:
    """`benchrun published show`."""
    table = _load(name)
    if as_json:
        print(json.dumps(table_document(table), indent=1, ensure_ascii=False))
        return 0
    console = Console()
    for each in table_parts(table):
        console.print(each, highlight=False)
    return 0


def compare_run(given: str, db: str | None, names: list[str], *, as_json: bool) -> int:
    """`benchrun published compare`: 0 where something could be laid beside the run, 1 where nothing fits."""
    from benchrun.results import open_store
    from benchrun.results.published import compare, published_tables, run_points

    tables = [_load(name) for name in names] or published_tables()
    with open_store(db, read_only=True) as store:
        record = store.run(store.resolve_run(given))
    points = run_points(record)
    found = [(table, rows) for table in tables if (rows := compare(points, table))]
    if as_json:
        print(json.dumps(comparison_document(record, found), indent=1, ensure_ascii=False))
    else:
        console = Console()
        for part in comparison_parts(record, points, found, tables):
            console.print(part, highlight=False)
    return 0 if found else 1


def _load(name: str) -> PublishedTable:
    from benchrun.results.published import UnknownTable, load

    try:
        return load(name)
    except UnknownTable as error:
        raise UsageError(str(error.args[0])) from None


# --- documents ------------------------------------------------------------------------------------------------------


def table_document(table: PublishedTable) -> dict[str, Any]:
    """The `--json` document of one table; figures as printed are in `printed`."""
    return {
        "schema": 1,
        "name": table.name,
        "title": table.title,
        "source": dict(table.source),
        "hardware": dict(table.hardware),
        "software": dict(table.software),
        "protocol": asdict(table.protocol),
        "engine_protocol": {engine: asdict(each) for engine, each in table.engine_protocol.items()},
        "evidence": dict(table.evidence),
        "caveats": list(table.caveats),
        "derived": list(table.derived),
        "odd": [{"order": order, "what": what} for order, what in table.odd],
        "rows": [_row_document(row) for row in table.rows],
    }


def comparison_document(
    record: RunRecord, found: Iterable[tuple[PublishedTable, list[ComparisonRow]]]
) -> dict[str, Any]:
    """The `--json` document of a comparison: each pair with its ratios (measured ÷ published) and what differs."""
    return {
        "schema": 1,
        "run": record.run.id,
        "tables": [
            {
                "name": table.name,
                "rows": [
                    {
                        "published": _row_document(row.published)
                        | {"conditions": asdict(table.conditions(row.published))},
                        "measured": asdict(row.measured),
                        "ratios": {
                            "avg": row.avg_ratio,
                            "p50": row.p50_ratio,
                            "p95": row.p95_ratio,
                            "p99": row.p99_ratio,
                            "throughput": row.throughput_ratio,
                        },
                        "differs": list(row.differs),
                        "unknown": list(row.unknown),
                    }
                    for row in rows
                ],
            }
            for table, rows in found
        ],
    }


def _row_document(row: PublishedRow) -> dict[str, Any]:
    return {each.name: getattr(row, each.name) for each in fields(row) if each.name != "printed"} | {
        "printed": dict(row.printed)
    }


# --- tables of 80 columns -------------------------------------------------------------------------------------------


def table_parts(table: PublishedTable) -> Iterator[RenderableType]:
    """A table as it was printed, its conditions, its caveats, and what looks odd in it."""
    yield Text(table.title, style="bold")
    yield Text(f"source: {'; '.join(table.source.values())}")
    odd = {order for order, _ in table.odd}
    blocks: dict[tuple[str, str, str, str], list[PublishedRow]] = {}
    for row in table.rows:
        key = (row.hardware or f"hardware {_NOT_STATED}", row.model, row.head or f"head {_NOT_STATED}", row.engine)
        blocks.setdefault(key, []).append(row)
    for key, rows in blocks.items():
        yield Text(f"\n{_block_title(key, rows)}", style="bold")
        yield _printed(rows, odd)
        yield from (Text(f"  {_shape(row)}: {row.note}") for row in rows if len(row.note) > _SHORT)
    yield from _conditions(table)
    for caveat in table.caveats:
        yield Text(f"caveat: {caveat}")
    if table.odd:
        yield Text("\n* looks odd, and stands as it was printed:", style="bold")
        by_order = {row.order: row for row in table.rows}
        for order, what in table.odd:
            yield Text(f"  {_shape(by_order[order])}: {what}")
    if table.derived:
        yield Text(f"derived by a reader, not printed by the source: {', '.join(table.derived)}")


_FIGURES = (
    *(("p50_ms", "p50 ms"), ("avg_ms", "avg ms"), ("p90_ms", "p90"), ("p95_ms", "p95"), ("p97_ms", "p97")),
    *(
        ("p99_ms", "p99"),
        ("p99_9_ms", "p99.9"),
        ("throughput_seq_s", "seq/s"),
        ("throughput_per_device_seq_s", "a device"),
    ),
)


def _printed(rows: Sequence[PublishedRow], odd: set[int]) -> Table:
    """Columns that say the same in every row are left out: `_block_title` has them."""
    figures = [(name, caption) for name, caption in _FIGURES if any(name in row.printed for row in rows)]
    words = [name for name in _WORDS if len({getattr(row, name) for row in rows}) > 1]
    notes = any(_beside_note(row) or row.status != "ok" or row.order in odd for row in rows)
    lengths = ("seq",) if len({row.seq for row in rows}) > 1 else ()
    captions = (*lengths, "batch", *words, *(caption for _, caption in figures), *(("",) if notes else ()))
    shown = _grid(*captions, left=(*words, ""))
    for row in rows:
        status = {"oom": "OOM", "blank": "(blank)"}.get(row.status, "")
        note = " ".join(filter(None, (status, "*" if row.order in odd else "", _beside_note(row))))
        cells = [
            *(str(row.seq or DASH) for _ in lengths),
            str(row.batch or DASH),
            *(str(getattr(row, name) or DASH) for name in words),
        ]
        cells += [*(row.printed.get(name, "") for name, _ in figures), *((note,) if notes else ())]
        shown.add_row(*map(escape, cells))
    return shown


_ROOMY = 8  # columns that fit into 80 characters two apart
_SHORT = 12  # characters of a note that fit into a column; longer ones stand under the table
_WORDS = ("section", "devices", "scenario", "precision")


def _beside_note(row: PublishedRow) -> str:
    """The note where it is short enough for a column."""
    return row.note if len(row.note) <= _SHORT else ""


def _block_title(key: Sequence[str], rows: Sequence[PublishedRow]) -> str:
    common = [(name, getattr(rows[0], name)) for name in _WORDS if len({getattr(row, name) for row in rows}) == 1]
    said = [f"{value} devices" if name == "devices" else str(value) for name, value in common if value not in (None, 1)]
    length = [f"{rows[0].seq or DASH} tokens"] if len({row.seq for row in rows}) == 1 else []
    return " · ".join((*key, *said, *length))


def _conditions(table: PublishedTable) -> Iterator[Text]:
    yield Text("\nconditions", style="bold")
    for name, value in asdict(table.protocol).items():
        others = {
            engine: own for engine, each in table.engine_protocol.items() if (own := getattr(each, name)) != value
        }
        said = [value or _NOT_STATED, *(f"{engine}: {own or _NOT_STATED}" for engine, own in others.items())]
        yield Text(f"  {name}: {'; '.join(said)}")


def comparison_parts(
    record: RunRecord,
    points: Sequence[MeasuredPoint],
    found: Sequence[tuple[PublishedTable, Sequence[ComparisonRow]]],
    tables: Sequence[PublishedTable],
) -> Iterator[RenderableType]:
    """A run beside each table: figures and ratios (here ÷ published), then every condition that differs or is not known."""
    label = f" “{record.run.label}”" if record.run.label else ""
    yield Text(f"run {record.run.id}{label} beside published figures", style="bold")
    if not found:
        yield Text(_why_nothing(points, tables))
        return
    yield Text("Cells are here / published; × is here ÷ published: below 1 is faster in ms and slower in seq/s.")
    for table, rows in found:
        yield Text(f"\n{table.name}: {table.title}", style="bold")
        common = _common(rows)
        yield from _spelled("differs", common.differs)
        yield from _spelled("not known on one side", common.unknown)
        blocks: dict[str, list[ComparisonRow]] = {}
        for row in rows:
            blocks.setdefault(_sides(row), []).append(row)
        for title, block in blocks.items():
            yield Text(f"\n{title}", style="bold")
            yield _beside(block)
            own = _common(block)
            yield from _spelled("differs", [each for each in own.differs if each not in common.differs])
            yield from _spelled("not known on one side", [each for each in own.unknown if each not in common.unknown])
            yield from _apart(_measured(block), own)
    yield Text("\nA condition that is not listed is the same on both sides, or neither side states it.", style="dim")


@dataclass(frozen=True, slots=True)
class _Sentences:
    differs: tuple[str, ...]
    unknown: tuple[str, ...]


def _measured(rows: Sequence[ComparisonRow]) -> Sequence[ComparisonRow]:
    """Rows with a figure of ours: what failed was measured under no conditions, and its status is in the table."""
    return [row for row in rows if row.measured.status == "ok"] or rows


def _common(rows: Sequence[ComparisonRow]) -> _Sentences:
    """What holds for all of the rows, in the first one's order."""
    first, *others = _measured(rows)
    return _Sentences(
        tuple(each for each in first.differs if all(each in other.differs for other in others)),
        tuple(each for each in first.unknown if all(each in other.unknown for other in others)),
    )


def _spelled(title: str, sentences: Iterable[str]) -> Iterator[RenderableType]:
    for index, sentence in enumerate(sentences):
        if index == 0:
            yield Text(f"{title}:")
        yield Padding(Text(sentence), (0, 0, 0, 2))


def _apart(rows: Sequence[ComparisonRow], common: _Sentences) -> Iterator[RenderableType]:
    """Each sentence that holds for some of the rows only, with their shapes."""
    for title, sets in (("differs", [r.differs for r in rows]), ("not known on one side", [r.unknown for r in rows])):
        known = {*common.differs, *common.unknown}
        for sentence in dict.fromkeys(each for sentences in sets for each in sentences if each not in known):
            where = [
                f"s{r.measured.seq} b{r.measured.batch}"
                for r, sentences in zip(rows, sets, strict=True)
                if sentence in sentences
            ]
            shown = ", ".join(where[:4]) + (f" and {len(where) - 4} more" if len(where) > 4 else "")
            yield Padding(Text(f"{title} at {shown}: {sentence}"), (0, 0, 0, 2))


def _sides(row: ComparisonRow) -> str:
    theirs, ours = row.published, row.measured
    words = (
        theirs.engine,
        theirs.precision or theirs.dtype,
        theirs.scenario,
        theirs.hardware or f"hardware {_NOT_STATED}",
    )
    section = theirs.section if theirs.scenario else None  # MLPerf's rounds and targets
    return f"{ours.model} here {ours.engine} {ours.dtype}, published {' '.join(each for each in (*words, section) if each)}"


def _beside(rows: Sequence[ComparisonRow]) -> Table:
    kinds = [
        (caption, name, ratio)
        for caption, name, ratio in _PAIRS
        if any(getattr(row, ratio) is not None for row in rows)
    ]
    statuses = any(row.published.status != "ok" or row.measured.status != "ok" for row in rows)
    captions = [each for caption, _, _ in kinds for each in (caption, "×")]
    shown = _grid("seq", "batch", *captions, *(("status",) if statuses or not kinds else ()), left=("status",))
    for row in rows:
        cells = [str(row.measured.seq), str(row.measured.batch)]
        for _, name, ratio in kinds:
            ours, theirs = getattr(row.measured, name), row.published.printed.get(name)
            cells += [f"{milliseconds(ours)} / {theirs or DASH}", _ratio(getattr(row, ratio))]
        if statuses or not kinds:
            cells.append(f"{row.measured.status} / {row.published.status}")
        shown.add_row(*cells)
    return shown


_PAIRS = (
    ("avg ms", "avg_ms", "avg_ratio"),
    ("p50 ms", "p50_ms", "p50_ratio"),
    ("p95 ms", "p95_ms", "p95_ratio"),
    ("p99 ms", "p99_ms", "p99_ratio"),
    ("seq/s", "throughput_seq_s", "throughput_ratio"),
)


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _shape(row: PublishedRow) -> str:
    seq = f"s{row.seq}" if row.seq else None
    batch = f"b{row.batch}" if row.batch else None
    words = (row.engine, row.scenario, row.precision or row.dtype, seq, batch)
    return " ".join(each for each in words if each)


def _why_nothing(points: Sequence[MeasuredPoint], tables: Sequence[PublishedTable]) -> str:
    if not points:
        return "Nothing can be laid beside it: no point of this run names its model, head, dtype, batch and sequence length."
    here = sorted({(point.model, point.dtype) for point in points})
    there = sorted({(row.model, row.dtype) for table in tables for row in table.rows})
    common = sorted(set(here) & set(there))
    if not common:
        have, want = (", ".join(f"{model} {dtype}" for model, dtype in each) for each in (here, there))
        return f"No published row fits: this run has {have}; the tables have {want}."
    shapes = ", ".join(dict.fromkeys(f"s{point.seq} b{point.batch}" for point in points))
    return f"No published row of {', '.join(f'{m} {d}' for m, d in common)} has one of this run's shapes ({shapes})."


def _grid(*captions: str, left: Sequence[str] = (), right: Sequence[str] | None = None) -> Table:
    """A plain table; columns are right-aligned except `left`, or left-aligned except `right`. Many stand closer together."""
    gap = (0, 1) if len(captions) <= _ROOMY else (0, 1, 0, 0)
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=gap)
    for caption in captions:
        numeric = caption in right if right is not None else caption not in left
        shown.add_column(
            caption, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold", min_width=len(caption)
        )
    return shown
