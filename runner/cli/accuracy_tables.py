"""The table of `benchrun accuracy`: scores beside speed, readable at 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchrun.results.statistics import mean_of_known
from benchrun.runner.accuracy.gates import PERCENTS, Standing, find_standing
from benchrun.runner.cli.output import Output
from benchrun.runner.cli.remarks import tell_notes
from benchrun.runner.cli.tables import DASH, milliseconds, named_settings, rate, run_header
from benchrun.runner.workloads.accuracy import RANDOM_HEAD

if TYPE_CHECKING:
    from rich.console import RenderableType

    from benchrun.results.records import PlannedPoint, RunRecord
    from benchrun.results.rows import MeasurementRow, PointRow

NAMES = {"f1": "F1", "exact_match": "EM", "mrr": "MRR", "top1": "top-1"}


@dataclass(frozen=True)
class AccuracyOutput(Output):
    """What a sweep says, with the scores' table as its result. `gate` is the percentage that was asked for."""

    gate: float | None = None

    def result(self, record: RunRecord, db: str) -> None:
        """The table, and with `--json` the run's document."""
        if self.as_json:
            super().result(record, db)
            return
        for each in (*run_header(record, db), *accuracy_tables(record, self.gate)):
            self.tables.print(each, highlight=False)


def open_accuracy_output(as_json: bool, gate: float | None) -> AccuracyOutput:
    """Tables on stdout, or with `--json` a document there and the tables on stderr."""
    return AccuracyOutput(as_json, Console(stderr=True), Console(stderr=as_json), gate)


def accuracy_tables(record: RunRecord, gate: float | None) -> Iterator[RenderableType]:
    """One table for each model, length and workload: a line a point, its mean scores over the launches."""
    percents = PERCENTS if gate is None or gate in PERCENTS else (*PERCENTS, gate)
    blocks: dict[tuple[str | None, ...], list[PlannedPoint]] = {}
    for planned in record.points:
        p = planned.point
        if not (p.workload or "").startswith("accuracy:"):
            continue
        model = f"{p.model} ({named_settings(p.overrides)})" if p.overrides else p.model
        blocks.setdefault((model, p.weights, str(p.seq), p.workload), []).append(planned)
    for (model, weights, seq, workload), points in blocks.items():
        rows = [each.row for planned in points for each in record.by_point[planned.point.key]]
        n = next((score.n for row in rows for score in row.scores), None)
        yield Text(
            f"\n{model} · {weights} · seq {seq} · {workload} · {DASH if n is None else n} questions", style="bold"
        )
        yield _block(record, points, percents)
        yield from tell_notes(record, points, shape=_name)
        if gate is not None:
            yield from _below_gate(record, points, gate)


def _block(record: RunRecord, points: Sequence[PlannedPoint], percents: Sequence[float]) -> Table:
    metrics = list(
        dict.fromkeys(
            score.metric
            for planned in points
            for each in record.by_point[planned.point.key]
            for score in each.row.scores
        )
    )
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left", padding=(0, 1, 0, 0))
    headings = ["engine", "dtype", "batch", *(NAMES.get(each, each) for each in metrics), "of fp32"]
    headings += [f"{percent:g} %" for percent in percents] + ["p50\nms", "seq/s"]
    for place, name in enumerate(headings):
        table.add_column(name, justify="left" if place < 2 else "right", no_wrap=True)
    for planned in points:
        point, status = planned.point, record.status(planned)
        rows = [each.row for each in record.by_point[point.key]]
        start = [Text(f"{point.backend}:{point.variant}"), Text(str(point.dtype)), Text(str(point.batch))]
        scored = [row for row in rows if row.scores]
        if not scored:
            table.add_row(*start, Text(status, style="yellow" if status == "skipped" else "red"))
            continue
        style = "strike" if status == "invalid" else ""
        cells = [Text(_score(scored, metric), style=style) for metric in metrics]
        standings = [each for row in scored if (each := find_standing(row.scores)) is not None]
        cells.append(Text(_percent(standings), style=style))
        cells += [_verdict([] if _is_random(scored) else standings, percent) for percent in percents]
        table.add_row(*start, *cells, *(Text(each, style=style) for each in _speed(scored)))
    references = dict.fromkeys(
        f"{NAMES.get(score.metric, score.metric)} {score.reference:.3f}"
        for planned in points
        for each in record.by_point[planned.point.key]
        for score in each.row.scores
        if score.reference is not None
    )
    table.caption = f"100 %: {', '.join(references) or DASH} (PyTorch fp32, unless --reference said otherwise)"
    return table


def _score(rows: Sequence[MeasurementRow], metric: str) -> str:
    value = mean_of_known(score.value for row in rows for score in row.scores if score.metric == metric)
    return DASH if value is None else f"{value:.3f}"


def _percent(standings: Sequence[Standing]) -> str:
    value = mean_of_known(each.percent for each in standings)
    return DASH if value is None else f"{value:.2f} %"


def _verdict(standings: Sequence[Standing], percent: float) -> Text:
    if not standings:
        return Text(DASH)
    passed = all(each.passes(percent) for each in standings)
    return Text("PASS", style="green") if passed else Text("FAIL", style="red")


def _speed(rows: Sequence[MeasurementRow]) -> tuple[str, str]:
    clocks = [row.device or row.host for row in rows]
    p50 = mean_of_known(clock.p50_ms for clock in clocks if clock is not None)
    return milliseconds(p50), rate(mean_of_known(row.throughput_seq_s for row in rows))


def _is_random(rows: Iterable[MeasurementRow]) -> bool:
    """Whether a head was drawn, whose score means nothing: it passes no gate, whatever it reached."""
    return any(RANDOM_HEAD in row.flags for row in rows)


def _below_gate(record: RunRecord, points: Sequence[PlannedPoint], gate: float) -> Iterator[Text]:
    """What missed the gate that was asked for: of each point the launch furthest below it, or that its head is random."""
    for planned in points:
        rows = [each.row for each in record.by_point[planned.point.key]]
        standings = [each for row in rows if (each := find_standing(row.scores)) is not None]
        below = [each for each in standings if not each.passes(gate)]
        name = f"{planned.point.backend}:{planned.point.variant} {_name(planned.point)}"
        if _is_random(rows):
            yield Text(f"  {name}: a random head passes no gate", style="red")
            continue
        if not below:
            continue
        worst = min(below, key=lambda each: each.percent)
        shown = f"{NAMES[worst.score.metric]} {worst.score.value:.3f} is {worst.percent:.2f} % of {worst.reference:.3f}"
        often = f" ({len(below)} of {planned.replicates} launches)" if planned.replicates > 1 else ""
        yield Text(f"  {name}: below the gate of {gate:g} %: {shown}{often}", style="red")


def _name(point: PointRow) -> str:
    """A point among those of its engine: a table has all dtypes and one length."""
    return f"{point.dtype} b{point.batch}"
