"""The table of LoadGen points: LoadGen's own rate, percentiles and verdict, readable at 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchrun.results.layouts import layout_of, split_layout
from benchrun.results.statistics import mean_of_known
from benchrun.runner.cli.remarks import tell_notes
from benchrun.runner.cli.tables import BROADEST, DASH, milliseconds, rate

if TYPE_CHECKING:
    from rich.console import RenderableType

    from benchrun.results.records import MeasurementRecord, PlannedPoint, RunRecord
    from benchrun.results.rows import MeasurementRow, PointRow

KIND = "loadgen:"
PERCENTILES = {"p50": "p50_ms", "p90": "p90_ms", "p95": "p95_ms", "p97": "", "p99": "p99_ms", "p99.9": "p99_9_ms"}
TOLD = "loadgen_invalid"  # the flag that the verdict says already
PADDING, ENERGY = "pad-\nding", "J per\nsample"
STARTS: Mapping[str, Callable[[PointRow], str]] = {
    "engine": lambda point: f"{point.backend}:{point.variant}",
    "batch": lambda point: str(point.batch or DASH),
    "seq": lambda point: str(point.seq or DASH),
}
# columns that a narrow terminal does without, the first one first
SPARE = {ENERGY: "energy", PADDING: "padding", "p97": "p97", "p95": "p95"}
RATES = {
    "single-stream": "queries/s",
    "multi-stream": "samples/s",
    "server": "completed\nsamples/s",
    "offline": "samples/s",
}


def mix_of(workload: str | None) -> str | None:
    """What the points of one table share: of a LoadGen workload all but its layout, of another the whole."""
    parts = split_layout(workload) if (workload or "").startswith(KIND) else None
    return parts[0] if parts else workload


def loadgen_table(record: RunRecord, points: Sequence[PlannedPoint], width: int) -> Iterator[RenderableType]:
    """A line for each point of one mix, its layouts one below the other, and below what a reader must know.

    With several layouts, what all points share of engine, batch and length stands above. What does not fit into `width` columns is left
    out as `SPARE` says, and that is told.
    """
    scenario, _, rest = (points[0].point.workload or "").partition(":")[2].partition(":")
    accuracy = rest.split(":")[0] == "accuracy"
    layouts = len({each.point.workload for each in points}) > 1
    starts: dict[str, Callable[[PointRow], str]] = dict(STARTS)
    if layouts:
        starts = {name: of for name, of in STARTS.items() if len({of(each.point) for each in points}) > 1}
        if shared := [f"{name} {STARTS[name](points[0].point)}" for name in STARTS if name not in starts]:
            yield Text(" · ".join(shared).removeprefix("engine "))
        starts["layout"] = lambda point: layout_of(point.workload)
        places = list(dict.fromkeys(_place(each.point) for each in points))
        points = sorted(points, key=lambda each: places.index(_place(each.point)))
    columns = _columns(scenario, accuracy, layouts)
    if not any(each.row.joules_per_seq is not None for point in points for each in record.by_point[point.point.key]):
        columns.pop(ENERGY, None)
    left_out = []
    table = _table(record, points, starts, columns)
    for name in SPARE:
        if name in columns and Console(width=BROADEST).measure(table).maximum > width:
            del columns[name]
            left_out.append(SPARE[name])
            table = _table(record, points, starts, columns)
    table.caption = _caption(record, points, scenario, accuracy)
    yield table
    if left_out:
        yield Text(f"  {', '.join(left_out)}: in a wider terminal, and in --json", style="dim")

    def shape(point: PointRow) -> str:
        short = {"batch": f"b{point.batch}", "seq": f"s{point.seq}", "layout": layout_of(point.workload)}
        return " ".join(text for each, text in short.items() if each in starts)

    yield from _remarks(record, points, shape)


def _place(point: PointRow) -> tuple[str, ...]:
    return tuple(of(point) for of in STARTS.values())


def _table(
    record: RunRecord,
    points: Sequence[PlannedPoint],
    starts: Mapping[str, Callable[[PointRow], str]],
    columns: Mapping[str, Any],
) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left", padding=(0, 1, 0, 0))
    for name in (*starts, *columns, "LoadGen"):
        table.add_column(name, justify="left" if name in ("engine", "layout", "LoadGen") else "right", no_wrap=True)
    for planned in points:
        found = [each for each in record.by_point[planned.point.key] if each.row.facts.get("loadgen")]
        cells = [cell(found) if found else "" for cell in columns.values()]
        verdict = _verdict(record, planned, found)
        style = "strike" if verdict.plain != "VALID" and verdict.plain != "done" and found else ""
        start = [of(planned.point) for of in starts.values()]
        table.add_row(*start, *(Text(cell, style=style) for cell in cells), verdict)
    return table


def _columns(scenario: str, accuracy: bool, layouts: bool) -> dict[str, Any]:
    """Heading → how its cell is made from the measurements of a point."""

    def told(name: str, show: Any) -> Any:
        return lambda found: show(mean_of_known(each.row.facts["loadgen"].get(name) for each in found))

    def summary(name: str) -> Any:
        return lambda found: milliseconds(
            mean_of_known(getattr(each.row.host, name) for each in found if each.row.host is not None)
        )

    columns: dict[str, Any] = {}
    if accuracy:
        columns["answers"] = told("answers", _whole)
        columns["compared"] = told("compared", _whole)
        columns["rel. L2\nerror"] = _error
        return columns
    if scenario in RATES:
        columns[RATES[scenario]] = lambda found: rate(mean_of_known(_rate_of(each.row) for each in found))
    if scenario == "offline":
        columns["tokens/s"] = lambda found: rate(mean_of_known(each.row.tokens_s for each in found))
        columns["padding"] = _padding
        columns["mean\nbatch"] = told("mean_batch", lambda value: DASH if value is None else f"{value:.1f}")
    else:
        for name, field in PERCENTILES.items():
            columns[name] = summary(field) if field else told("p97_ms", milliseconds)
        columns |= {PADDING: _padding} if layouts else {}
    columns[ENERGY] = lambda found: rate(mean_of_known(each.row.joules_per_seq for each in found))
    return columns


def _padding(found: Sequence[MeasurementRecord]) -> str:
    return _share(mean_of_known(each.row.padding_fraction for each in found))


def _rate_of(row: MeasurementRow) -> float | None:
    """LoadGen's own rate. In MultiStream it tells none: what a query holds by its mean latency, as they follow each other.
    There a query is one call of the engine, so that the mean batch is what it holds.
    """
    told = row.facts["loadgen"]
    mean_ms = row.host.mean_ms if row.host is not None else None
    if told.get("scenario") != "multi-stream" or not mean_ms or not told.get("mean_batch"):
        return row.throughput_seq_s
    return float(1000 * told["mean_batch"] / mean_ms)


def _verdict(record: RunRecord, planned: PlannedPoint, found: Sequence[MeasurementRecord]) -> Text:
    """LoadGen's own word where it gave one and nothing else is wrong, else what became of the point."""
    status = record.status(planned)
    if status == "ok":
        word = {each.row.facts["loadgen"].get("validity") for each in found}
        return Text("VALID" if word == {"VALID"} else "done", style="green")
    if status == "invalid" and any(TOLD in each.row.flags for each in found):
        return Text("INVALID", style="red")
    return Text(status, style="yellow" if status in ("skipped", "unsupported") else "red")


def _caption(record: RunRecord, points: Sequence[PlannedPoint], scenario: str, accuracy: bool) -> str:
    rows = [each.row for planned in points for each in record.by_point[planned.point.key]]
    told = [row.facts["loadgen"] for row in rows if row.facts.get("loadgen")]
    parts = []
    if not accuracy and scenario != "offline":
        parts.append("ms; percentiles as LoadGen defines them")
    if not accuracy and scenario == "multi-stream":
        parts.append("a query is a batch, samples/s are that by its mean latency")
    if settings := list(dict.fromkeys(str(each.get("setting")) for each in told)):
        parts.append(f"{'/'.join(settings)} minima")
    worst = max((row.parity.rel_l2 or 0.0 for row in rows if row.parity is not None and row.parity.ok), default=None)
    if worst is not None:
        parts.append(f"answers ✓ {worst:.0e}" if worst else "answers ✓ exact")
    return "; ".join(parts)


def _remarks(record: RunRecord, points: Sequence[PlannedPoint], shape: Callable[[PointRow], str]) -> Iterator[Text]:
    """In Server what was asked for and how it was found, what LoadGen says of its verdict, then errors and flags."""
    for planned in points:
        name = f"{planned.point.backend}:{planned.point.variant} {shape(planned.point)}"
        said: Counter[str] = Counter()
        for each in record.by_point[planned.point.key]:
            row = each.row
            told = row.facts.get("loadgen", {})
            if told.get("scenario") == "server" and told.get("mode") == "performance" and "qps" in told:
                late = told.get("overlatency_queries")
                over = f", {late} queries over it" if late else ""
                runs = len(told.get("runs", ()))
                tried = (
                    f"; {len(told['probes'])} probes, {runs} full run{'s' if runs != 1 else ''}"
                    if told.get("probes")
                    else ""
                )
                bracket = told.get("bracket") or {}
                if (refused := bracket.get("invalid_qps")) is not None:
                    tried += f"; {refused:.4g} refused by a {bracket['by']}"
                said[f"{told['qps']:.4g} queries/s under {told.get('limit_ms', 0):g} ms{over}{tried}"] += 1
            for percentile in ("p90", "p99"):
                if (estimate := told.get(f"early_stopping_{percentile}_ms")) is not None:
                    said[f"MLPerf's figure, early stopping's {percentile}: {milliseconds(estimate)} ms"] += 1
            if told.get("early_stopping") is False and told.get("early_stopping_result"):  # what would make it VALID
                said[f"LoadGen: {' '.join(told['early_stopping_result'].replace('*', ' ').split())}"] += 1
        for text, count in said.items():
            launches = f" ({count} of {planned.replicates} launches)" if planned.replicates > 1 else ""
            yield Text(f"  {name}: {text}{launches}", style="dim")
    yield from tell_notes(record, points, (TOLD,), shape)


def _error(found: Sequence[MeasurementRecord]) -> str:
    errors = [
        each.row.parity.rel_l2 for each in found if each.row.parity is not None and each.row.parity.rel_l2 is not None
    ]
    return DASH if not errors else f"{max(errors):.0e}" if max(errors) else "exact"


def _whole(value: float | None) -> str:
    return DASH if value is None else f"{value:.0f}"


def _share(value: float | None) -> str:
    return DASH if value is None else f"{value:.1%}"
