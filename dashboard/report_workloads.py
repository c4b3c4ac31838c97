"""Sections of the report for what other workloads than a fixed batch measure: scores, LoadGen's verdicts, what layouts gain. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from benchrun.dashboard.formats import DASH, engine_text, figure, named, short
from benchrun.dashboard.markup import Cell, Column, table
from benchrun.dashboard.selection import TOLD_INVALID
from benchrun.results.layouts import layout_gains, layout_of, split_layout, split_lengths
from benchrun.results.statistics import mean_of_known

if TYPE_CHECKING:
    from benchrun.results.records import PlannedPoint, RunRecord
    from benchrun.results.rows import MeasurementRow

MOST_LINES = 400  # of a section
_ABOUT = 6  # columns that say what a line is of
_PERCENTILES = {"p50": "p50_ms", "p90": "p90_ms", "p95": "p95_ms", "p97": "", "p99": "p99_ms", "p99.9": "p99_9_ms"}


def workload_sections(record: RunRecord) -> str:
    """HTML: the sections that the run has something for."""
    return "".join([_scores(record), _loadgen(record), _layouts(record)])


def _section(title: str, columns: list[Column], lines: list[list[Cell | str]], words: str) -> str:
    """HTML of a table with a heading. Of its first columns, `_ABOUT` of them, those that are alike in all lines stand above it."""
    if not lines:
        return ""
    alike = [place for place in range(_ABOUT) if len(lines) > 1 and len({str(line[place]) for line in lines}) == 1]
    said = [f"{columns[at].title} {lines[0][at]}" if columns[at].number else str(lines[0][at]) for at in alike]
    kept = [place for place in range(len(columns)) if place not in alike]
    shown = table(
        [columns[place] for place in kept],
        [[line[place] for place in kept] for line in lines[:MOST_LINES]],
        caption=" · ".join(said),
    )
    more = f" The first {MOST_LINES} of {len(lines):,} lines." if len(lines) > MOST_LINES else ""
    return f'<h2>{title}</h2>{shown}<p class="quiet">{words}{more}</p>'


def _rows(record: RunRecord, planned: PlannedPoint) -> list[MeasurementRow]:
    return [each.row for each in record.by_point[planned.point.key] if each.row.status in ("ok", "invalid")]


def _wrong(rows: list[MeasurementRow]) -> bool:
    """Whether the figures count for nothing, by the status of any launch."""
    return any(row.status == "invalid" for row in rows)


def _figures(values: Iterable[str], rows: list[MeasurementRow]) -> list[Cell | str]:
    """Figures as cells, struck through where they count for nothing."""
    return [Cell(text, "strike" if text != DASH and _wrong(rows) else "") for text in values]


def _engine(planned: PlannedPoint) -> list[Cell | str]:
    """Engine with what else sets an artefact apart, dtype, layout where there is one."""
    point = planned.point
    layout = layout_of(point.workload)
    return [f"{engine_text(point.backend, point.variant)}{f' {layout}' if layout else ''}", named(point.dtype)]


def _shape(planned: PlannedPoint) -> list[Cell | str]:
    return [f"{size:,}" if size else DASH for size in (planned.point.seq, planned.point.batch)]


def _scores(record: RunRecord) -> str:
    lines: list[list[Cell | str]] = []
    for planned in record.points:
        rows = _rows(record, planned)
        found = {(score.task, score.metric): score for row in rows for score in row.scores}
        median = mean_of_known(row.host.p50_ms for row in rows if row.host is not None)
        for (task, metric), score in sorted(found.items()):
            share = f"{score.value / score.reference:.2%}" if score.reference else DASH
            figures = [figure(score.value), figure(score.reference), share]
            lines.append(
                [
                    f"{short(task, 40)} {short(metric, 40)}", short(planned.point.model, 40), *_engine(planned), *_shape(planned),
                    *_figures(figures, rows), f"{score.n:,}", figure(median),
                ]
            )  # fmt: skip
    lines.sort(key=lambda line: str(line[0]))
    columns = [
        Column("score"), Column("model"), Column("engine"), Column("dtype"), Column("tokens", number=True), Column("batch", number=True),
        Column("value", number=True), Column("fp32", number=True), Column("of fp32", number=True), Column("n", number=True),
        Column("p50", "ms", number=True),
    ]  # fmt: skip
    return _section("Scores", columns, lines, "A score over n texts; one answer more or less moves it by about 1/n.")


def _loadgen(record: RunRecord) -> str:
    lines: list[list[Cell | str]] = []
    for planned in record.points:
        found = [row for row in _rows(record, planned) if isinstance(row.facts.get("loadgen"), dict)]
        if not found:
            continue
        told: list[dict[str, Any]] = [row.facts["loadgen"] for row in found]
        mix, _ = split_layout(planned.point.workload) or (planned.point.workload, "")
        rate = mean_of_known(row.throughput_seq_s for row in found)
        minima = ", ".join(sorted({named(each.get("setting")) for each in told}))
        figures = [figure(rate), *(figure(value) for value in _percentiles(found, told))]
        lines.append(
            [
                short((mix or "").removeprefix("loadgen:"), 60), short(planned.point.model, 40), *_engine(planned), *_shape(planned),
                _verdict(found), minima, figure(_known(told, "qps")), *_figures(figures, found),
            ]
        )  # fmt: skip
    columns = [
        Column("scenario"), Column("model"), Column("engine"), Column("dtype"), Column("tokens", number=True), Column("batch", number=True),
        Column("LoadGen says"), Column("minima"), Column("asked", "queries/s", number=True), Column("done", "samples/s", number=True),
        *(Column(name, "ms", number=True) for name in _PERCENTILES),
    ]  # fmt: skip
    text = "LoadGen's own percentiles and verdict; the batch is the largest. Offline has a rate alone: all its samples wait from the start."
    return _section("LoadGen", columns, lines, text)


def _verdict(rows: list[MeasurementRow]) -> Cell:
    """LoadGen's own word where it gave one and the answers were right."""
    if any(row.status == "invalid" and TOLD_INVALID not in row.flags for row in rows):
        return Cell("wrong answer", "failed")
    words = sorted({str(row.facts["loadgen"].get("validity") or "done") for row in rows})
    if _wrong(rows):
        return Cell("INVALID", "failed")
    return Cell(", ".join(words), "strong" if words == ["VALID"] else "muted" if words == ["done"] else "failed")


def _percentiles(rows: list[MeasurementRow], told: list[dict[str, Any]]) -> Iterator[float | None]:
    for field in _PERCENTILES.values():
        values = (getattr(row.host, field) for row in rows if row.host is not None) if field else ()
        yield mean_of_known(values) if field else _known(told, "p97_ms")


def _known(told: list[dict[str, Any]], name: str) -> float | None:
    return mean_of_known(float(each[name]) for each in told if isinstance(each.get(name), int | float))


def _layouts(record: RunRecord) -> str:
    gains = layout_gains(record)
    lines: list[list[Cell | str]] = []
    for planned in record.points:
        split = split_lengths(planned.point.workload)
        gain = gains.get(planned.point.key)
        if split is None or (gain is None and (split[1] != "padded" or not gains)):
            continue
        rows = _rows(record, planned)
        padding = mean_of_known(row.padding_fraction for row in rows)
        rates = [mean_of_known(getattr(row, name) for row in rows) for name in ("tokens_s", "throughput_seq_s")]
        about = [short(split[0], 60), short(planned.point.model, 40), *_engine(planned), *_shape(planned)]
        gained = [f"{gain.speedup:.2f}×", f"{gain.ideal:.2f}×", f"{gain.share:.0%}"] if gain else [DASH] * 3
        shown = _figures(map(figure, rates), rows)
        lines.append([*about, DASH if padding is None else f"{padding:.1%}", *shown, *gained])
    columns = [
        Column("lengths"), Column("model"), Column("engine"), Column("dtype"), Column("tokens", number=True), Column("batch", number=True),
        Column("padding", number=True), Column("tokens/s", "without padding", number=True), Column("throughput", "seq/s", number=True),
        Column("over padded", number=True), Column("ideal", number=True), Column("of the ideal", number=True),
    ]  # fmt: skip
    return _section(
        "Layouts",
        columns,
        lines,
        "Ideal: 1 ÷ (1 − padding of the padded one), as if padding were all there is to gain.",
    )
