"""A run as one HTML file to send to somebody: tables, charts as pictures, and the data; no script, nothing fetched."""

from __future__ import annotations

import base64
import gzip
import html
import importlib.util
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.dashboard.formats import DASH, count, figure, hardware, known, moment, named, short
from benchrun.dashboard.markup import Cell, Column, pairs, table
from benchrun.dashboard.selection import STATUS_WORDS, drawable, notes_on
from benchrun.results.errors import ExportError, StoreError
from benchrun.results.layouts import layout_of, split_layout
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from benchrun.results.records import PlannedPoint, RunRecord

# Together they keep the file under 5 MB.
MOST_CHARTS = 12
MOST_SERIES = 16  # of a chart: more cannot be told apart
MOST_FAILED = 400
MOST_TABLE = 2_000_000  # characters of the tables of points
MOST_CSV = 1_000_000  # bytes of plain CSV; a larger one is packed with gzip
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_SHEET = """
body { font: 16px/1.5 'Source Sans 3', 'Segoe UI', system-ui, sans-serif; max-width: 1240px; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; margin: 0 0 0.2rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2.2rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.3rem; } figure { margin: 0.5rem 0 1.5rem; } svg { max-width: 100%; height: auto; }
.quiet { font-size: 0.9rem; } a.button { font-size: 0.9rem; }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
"""


@dataclass(frozen=True, slots=True)
class Written:
    """A report that is there: the whole id of its run, and the file."""

    run: str
    path: Path


MACHINE_COLUMNS = ("of ceiling", "J/seq", "flags")  # those that a run has something in


def write_report(db: str | Path | None, run_id: str, path: str | Path | None = None) -> Written:
    """Write the report of a run (an id, the start of one, `last`) and return where it is; by default in the working folder.

    The file appears complete or not at all. Raises `StoreError` where there is no such run or the file cannot be
    written, `ExportError` where the libraries for charts are missing.
    """
    from benchrun.results.store import open_store

    check_libraries()  # before a long look into the database
    with open_store(db, read_only=True) as store:
        record = store.run(store.resolve_run(run_id))
        text = run_report(record, datetime.now(UTC))
    target = Path(path) if path is not None else Path(f"benchrun-{_file_name(record.run.id)}.html")
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise StoreError(f"the report cannot be written to {target}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return Written(record.run.id, target)


def check_libraries() -> None:
    """Raises `ExportError` where what draws the charts is not installed."""
    missing = [name for name in ("altair", "pandas", "vl_convert") if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"a report needs {', '.join(missing)}: pip install 'benchrun-inference[dashboard]'")


def run_report(record: RunRecord, now: datetime) -> str:
    """The HTML of a run's report. Raises `ExportError` where the libraries for charts are missing."""
    check_libraries()
    from benchrun.dashboard.charts.look import LIGHT
    from benchrun.dashboard.report_workloads import workload_sections
    from benchrun.dashboard.style import style_sheet

    points = _points(record)
    run = record.run
    title = run.label or run.id
    parts = [
        f"<h1>{html.escape(short(title, 160))}</h1>",
        f'<p class="quiet">{html.escape(_subtitle(record))}</p>',
        _about(record, points),
        *_charts(points),
        workload_sections(record),
        _tables(points, {planned.point.key: _machine_cells(record, planned) for planned in record.points}),
        _failures(points),
        _data(points, run.id),
        _method(now),
    ]
    sheet = _SHEET + style_sheet(LIGHT)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY, quote=True)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
        f"<title>{html.escape(short(title, 120))} · benchrun</title><style>{sheet}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _points(record: RunRecord) -> pd.DataFrame:
    """A frame like that of the views, from the record."""
    from benchrun.dashboard.labels import add_series
    from benchrun.results.views.frames import record_frame
    from benchrun.results.views.summaries import summarise

    return add_series(summarise(record_frame(record)))


def _machine_cells(record: RunRecord, planned: PlannedPoint) -> tuple[str, str, str]:
    """A point's share of the ceiling that binds it, energy and flags, as texts; empty where not known."""
    from benchrun.results.statistics import mean_of_known

    rows = [each.row for each in record.by_point[planned.point.key] if each.row.status in ("ok", "invalid")]
    places = [record.position(planned, row) for row in rows]
    share, joules = (
        mean_of_known(place.ceiling_share for place in places),
        mean_of_known(row.joules_per_seq for row in rows),
    )
    binding = next((place.ceiling for place in places if place.ceiling), "")
    flags = ", ".join(sorted({flag for row in rows for flag in row.flags}))
    return ("" if share is None else f"{share:.0%} {binding}", "" if joules is None else figure(joules), flags)


def _subtitle(record: RunRecord) -> str:
    run = record.run
    parts = [hardware(run.environment.details), f"started {moment(run.started)}", run.state]
    parts += [f"commit {run.commit[:12]}"] if run.commit else []
    return " · ".join([*parts, f"run {run.id}"])


def _about(record: RunRecord, points: pd.DataFrame) -> str:
    run = record.run
    good = int((points["status"] == "ok").sum())
    missing = int((points["status"] == "interrupted").sum())
    failed = len(points) - good - missing
    libraries = run.environment.details.get("libraries")
    shown = ", ".join(f"{name} {version}" for name, version in libraries.items()) if isinstance(libraries, dict) else ""
    entries: list[tuple[str, Cell | str]] = [
        ("points", f"{len(points):,} planned, {good:,} ok, {failed:,} failed, {missing:,} not measured"),
        ("launches", count(len(record.launches), "worker process", "worker processes")),
        ("finished", moment(run.finished) if run.finished else "not yet"),
        ("libraries", short(shown or "not recorded", 400)),
        ("fingerprint of the hardware", run.environment.fingerprint),
        (
            "measured by",
            short(f"benchrun {run.version}" if run.origin == "benchrun" else f"another tool, {run.origin}", 120),
        ),
    ]
    notes = notes_on(drawable(points, ()))
    said = f'<p class="quiet">Keep in mind: {html.escape("; ".join(notes))}.</p>' if notes else ""
    return f"<h2>About</h2>{pairs(entries)}{said}"


def _groups(points: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Points that may share an axis, with a heading. The layouts of a mix of lengths are series of one group."""
    names = ["model", "overrides", "head", "device", "mix", "protocol"]
    mixes = [(split_layout(each) or (each,))[0] if known(each) else each for each in points["workload"]]
    found = []
    for key, part in points.assign(mix=mixes).groupby(names, sort=False, dropna=False):
        model, overrides, head, device, workload, _ = key
        changed = f" {overrides}" if overrides not in ("{}", "") and known(overrides) else ""
        found.append(
            (
                f"{short(named(model) + changed, 60)} · {short(head, 20)} · {short(device, 20)} · {short(workload, 60)}",
                part.drop(columns="mix"),
            )
        )
    return found


def _charts(points: pd.DataFrame) -> list[str]:
    from benchrun.dashboard.charts.bars import bar_chart
    from benchrun.dashboard.charts.figures import LATENCIES, THROUGHPUT
    from benchrun.dashboard.charts.look import LIGHT
    from benchrun.dashboard.charts.scaling import scaling_chart

    found: list[str] = []
    for heading, group in _groups(points):
        for seq, part in group.groupby("seq", sort=True):
            for shown in (LATENCIES["p50"], THROUGHPUT):
                drawn = drawable(part, [shown.column])
                drawn = drawn[drawn["batch"].notna()]
                crowded = drawn["series"].nunique() > MOST_SERIES
                batches, band = drawn["batch"].nunique(), shown.unit == "ms"
                alone = batches < 2 and drawn["series"].nunique() < 2  # its figure is in the table
                if crowded or drawn.empty or alone or len(found) >= MOST_CHARTS:
                    continue
                if batches < 2:
                    chart = bar_chart(drawn, shown, LIGHT, band=band)
                else:
                    chart = scaling_chart(drawn, "batch", shown, LIGHT, band=band, logarithmic=True, height=300)
                found.append(f"<h3>{html.escape(heading)} · {seq:g} tokens</h3><figure>{_picture(chart)}</figure>")
    return ["<h2>Charts</h2>", *found] if found else []


def _picture(chart: Any) -> str:
    """SVG of a chart. What screen readers are told of a mark becomes its tooltip too."""
    from benchrun.dashboard.charts.pictures import svg

    return re.sub(
        r'<(path|rect)([^>]*?) aria-label="([^"]*)"([^>]*?)/>',
        r'<\1\2 aria-label="\3"\4><title>\3</title></\1>',
        svg(chart),
    )


def _tables(points: pd.DataFrame, machine: Mapping[str, Sequence[str]]) -> str:
    """`machine`: point key → its texts of `MACHINE_COLUMNS`."""
    columns = [
        Column("engine"), Column("dtype"), Column("tokens", number=True), Column("batch", number=True), Column("mean", "ms", number=True),
        Column("p50", "ms", number=True), Column("interval of p50", "ms", number=True),
        Column("p95", "ms", number=True), Column("p99", "ms", number=True),
        Column("throughput", "seq/s", number=True), Column("launches", number=True), Column("n", number=True), Column("answer"),
    ]  # fmt: skip
    shown_too = [place for place in range(len(MACHINE_COLUMNS)) if any(cells[place] for cells in machine.values())]
    columns += [Column(MACHINE_COLUMNS[place], number=MACHINE_COLUMNS[place] != "flags") for place in shown_too]
    found = ["<h2>Points</h2>"]
    left, unlisted = MOST_TABLE, 0
    for heading, group in _groups(points):
        rows = [[*_line(row), *(machine[row.point_key][place] for place in shown_too)] for row in rows_of(group)]
        shown = table(columns, rows)
        fitting = int(len(rows) * min(1.0, left / len(shown)))
        unlisted += len(rows) - fitting
        if fitting < len(rows):
            shown = table(columns, rows[:fitting])
        left -= len(shown)
        if fitting:
            found.append(f"<h3>{html.escape(heading)}</h3>{shown}")
    if unlisted:
        found.append(f'<p class="quiet">{count(unlisted, "more point")} only in the data below.</p>')
    return "".join(found)


def _line(row: Any) -> list[Cell | str]:
    wrong = row.status == "invalid"
    failed = row.status not in ("ok", "invalid")
    interval = f"{figure(row.p50_low_ms)} – {figure(row.p50_high_ms)}" if known(row.p50_low_ms) and not failed else DASH
    texts = [
        figure(row.mean_ms),
        figure(row.p50_ms),
        interval,
        figure(row.p95_ms),
        figure(row.p99_ms),
        figure(row.throughput_seq_s),
    ]
    figures: list[Cell | str] = [Cell("" if failed else text, "strike" if wrong else "") for text in texts]
    answer = (
        Cell("wrong", "failed")
        if wrong
        else Cell(row.status, "failed")
        if failed
        else Cell("right" if row.parity_ok is True else "not compared", "muted")
    )
    shape = [f"{int(value):,}" if known(value) else DASH for value in (row.seq, row.batch)]
    engine = f"{row.engine} {layout_of(row.workload) if known(row.workload) else ''}".strip()
    return [engine, named(row.dtype), *shape, *figures, f"{int(row.launches)}", f"{int(row.n):,}", answer]


def _failures(points: pd.DataFrame) -> str:
    failed = points[~points["status"].isin(["ok"])]
    if failed.empty:
        return "<h2>Failed points</h2><p>None; every point has its figures.</p>"
    columns = [Column("point"), Column("status"), Column("phase"), Column("why")]
    rows: list[list[Cell | str]] = []
    for row in rows_of(failed.head(MOST_FAILED)):
        shape = f"b{int(row.batch) if known(row.batch) else DASH} s{int(row.seq) if known(row.seq) else DASH}"
        words: str = STATUS_WORDS.get(row.status) or str(row.status)
        rows.append(
            [
                f"{row.engine} {named(row.dtype)} {shape}",
                Cell(row.status, "failed", words),
                named(row.phase) if known(row.phase) else DASH,
                short(row.error, 150) if known(row.error) else DASH,
            ]
        )
    more = (
        f'<p class="quiet">and {count(len(failed) - MOST_FAILED, "more point")}, in the data below.</p>'
        if len(failed) > MOST_FAILED
        else ""
    )
    return f"<h2>Points without figures or with a wrong answer</h2>{table(columns, rows)}{more}"


def _data(points: pd.DataFrame, run_id: str) -> str:
    from benchrun.dashboard.tabular import csv_bytes, public

    data = csv_bytes(public(points))
    kind, ending, words = "text/csv;charset=utf-8", "csv", "as CSV"
    if len(data) > MOST_CSV:
        data, kind, ending, words = (
            gzip.compress(data, mtime=0),
            "application/gzip",
            "csv.gz",
            "as CSV, packed with gzip",
        )
    name = _file_name(run_id)
    address = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    said = f"All {count(len(points), 'point')} {words}"
    return f'<h2>Data</h2><p><a class="button" download="benchrun-{name}.{ending}" href="{address}">{said}</a></p>'


def _file_name(run_id: str) -> str:
    return re.sub(r"[^\w.-]", "_", run_id)[:60]


def _method(now: datetime) -> str:
    return (
        '<h2>How to read it</h2><p class="quiet">A figure is the mean over launches (fresh processes). '
        "The interval of p50 is the 95 % interval between launches where there are three or more, their range where there "
        "are two, and inside the launch where there is one. A p95 or p99 from few samples is a sample percentile, not a "
        "bound. A wrong answer is struck through and counts for nothing. Lines show p50 with bands to p95 and p99, "
        "bars p50 with ticks at p95 and p99.</p>"
        f'<p class="quiet">Written by benchrun on {moment(now)}.</p>'
    )
