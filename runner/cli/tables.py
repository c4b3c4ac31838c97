"""Tables for a terminal: pure functions from rows to rich renderables and lines, readable at 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from benchrun.results.document import between_launches
from benchrun.results.statistics import mean_of_known
from benchrun.runner.cli.ceiling_remarks import ceiling_remarks
from benchrun.runner.cli.remarks import tell_remarks
from benchrun.runner.durations import describe_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

    from benchrun.backends.contract import Point
    from benchrun.results.records import MeasurementRecord, PlannedPoint, RunRecord
    from benchrun.results.roofline import Position
    from benchrun.results.rows import PointRow, Score
    from benchrun.results.statistics import ReportedSummary, Summary
    from benchrun.runner.plan import Plan, SweepRequest

WIDE = 120  # columns from which on the tables show more
BROADEST = 10_000  # columns of a console on which every table has its natural width
DASH = "–"
_BLOCK = (
    "model",
    "head",
    "dtype",
    "device",
    "workload",
)  # what a table's heading says; an imported file may not know it
SMALL_TFLOPS = 0.01  # where no point reaches it, a column is in GFLOP/s


def point_name(point: Point | PointRow) -> str:
    """`torch:eager bert-base encoder fp32 b1 s128 cpu`."""
    return f"{point.backend}:{point.variant} {point.model} {point.head} {point.dtype} b{point.batch} s{point.seq} {point.device}"


def named_settings(settings: Mapping[str, object]) -> str:
    """`hidden_act=relu, num_hidden_layers=6`."""
    return ", ".join(f"{name}={value}" for name, value in sorted(settings.items()))


def milliseconds(value: float | None) -> str:
    """Four significant digits, without an exponent."""
    if value is None:
        return DASH
    return (
        f"{value:.3f}"
        if value < 10
        else f"{value:.2f}"
        if value < 100
        else f"{value:.1f}"
        if value < 1000
        else f"{value:.0f}"
    )


def rate(value: float | None) -> str:
    """Sequences a second, four significant digits."""
    return milliseconds(value)


def plan_lines(plan: Plan, seconds: float, db: str | None, keys: set[str] | None) -> Iterator[str]:
    """Every setting of a sweep, the number of points and an estimate, as console markup."""
    from benchrun.runner.loadgen.minima import describe_minima

    request = plan.request
    engines = dict.fromkeys(planned.point.engine for planned in plan.points)
    models = dict.fromkeys(planned.point.model for planned in plan.points)
    yield f"[bold]engines[/]  {', '.join(engines)} on {request.device}, {request.threads} thread{'s' if request.threads != 1 else ''}"
    named = escape(", ".join(models))
    named += f" ({escape(named_settings(request.overrides))})" if request.overrides else ""
    yield f"[bold]models[/]   {named}; head {', '.join(request.heads)}; weights {_weights(plan)}; {', '.join(request.dtypes)}"
    yield f"[bold]shapes[/]   batch {_numbers(request.batches)} × seq {_numbers(request.seqs)}, {', '.join(request.workloads)}"
    if all(each.startswith("loadgen:") for each in request.workloads):
        yield f"[bold]LoadGen[/]  {describe_minima(request.settings)}, time-out {request.timeout_s:g} s, launches {request.launches}"
    else:
        yield _protocol_line(request)
    if db is not None:
        yield f"[bold]database[/] {escape(db)}"
    able = [planned.point.key for planned in plan.points if not planned.refusal]
    to_do = len(able) if keys is None else len(keys.intersection(able))
    done = f", {len(able) - to_do} already measured" if keys is not None else ""
    yield f"[bold]points[/]   {to_do} to measure{done}; takes about {describe_seconds(seconds)}"
    for reason in dict.fromkeys(planned.refusal for planned in plan.points if planned.refusal):
        count = sum(planned.refusal == reason for planned in plan.points)
        yield f"[yellow]skipped[/]  {count} points: {escape(reason)}"  # it may name an extra: 'benchrun-inference[ort]'


def _protocol_line(request: SweepRequest) -> str:
    protocol = request.protocol
    return (
        f"[bold]protocol[/] up to {protocol.iterations} iterations or {protocol.max_time_s:g} s, warm-up at least {protocol.warmup}, "
        f"transfers {protocol.transfers}d, time-out {request.timeout_s:g} s, launches {request.launches}"
    )


def run_header(record: RunRecord, db: str) -> Iterator[RenderableType]:
    """Run, machine and database in a few lines."""
    run = record.run
    hardware = run.environment.details.get("hardware", {})
    gpu = (hardware.get("gpu") or {}).get("name")
    label = f" “{run.label}”" if run.label else ""
    libraries = run.environment.details.get("libraries", {})
    shown = ", ".join(
        f"{name} {libraries[name]}"
        for name in ("torch", "onnxruntime", "onnxruntime-gpu", "tensorrt")
        if name in libraries
    )
    yield Text(f"run {run.id}{label} · {run.started:%Y-%m-%d %H:%M} UTC · {run.state}", style="bold")
    named = gpu or hardware.get("device") or hardware.get("cpu", "unknown hardware")
    yield Text(f"{named} · {shown or run.origin}")
    yield Text(f"database {db}", style="dim")


def run_tables(record: RunRecord, width: int) -> Iterator[RenderableType]:
    """One table for each model, head, dtype, device and workload: a line a point, in the order of the plan."""
    from benchrun.runner.cli.loadgen_tables import KIND, loadgen_table, mix_of

    blocks: dict[tuple[str | None, ...], list[PlannedPoint]] = {}
    for planned in record.points:
        p = planned.point
        model = f"{p.model} ({named_settings(p.overrides)})" if p.overrides else p.model
        blocks.setdefault((model, p.head, p.dtype, p.device, mix_of(p.workload), p.weights), []).append(planned)
    for (model, head, dtype, device, mix, weights), points in blocks.items():
        workloads = {planned.point.workload for planned in points}
        workload = mix if len(workloads) > 1 else workloads.pop()
        parts = (model, head, dtype, device, workload)
        named = [each or f"{name} unknown" for name, each in zip(_BLOCK, parts, strict=True)]
        yield Text(f"\n{' · '.join(named)} · weights {weights or 'unknown'}", style="bold")
        if (workload or "").startswith(KIND):  # other columns: rates and percentiles as LoadGen defines them
            yield from loadgen_table(record, points, width)
            continue
        yield _block(record, points, width)
        yield from tell_remarks(record, points)
        yield from _scores(record, points)
    if width < WIDE and (narrow := list(_dropped(record))):
        yield Text(f"  {' and '.join(narrow)}: in a terminal of {WIDE} columns or more, and in --json", style="dim")
    yield from ceiling_remarks(record)


def _dropped(record: RunRecord) -> Iterator[str]:
    """What of the columns about the machine this run has, for a table too narrow for them (LoadGen's tell it themselves)."""
    from benchrun.runner.cli.loadgen_tables import KIND

    rows = [
        (planned, each.row)
        for planned in record.points
        if not (planned.point.workload or "").startswith(KIND)
        for each in record.by_point[planned.point.key]
    ]
    if any(record.position(planned, row).ceiling_share is not None for planned, row in rows):
        yield "share of the ceiling"
    if any(row.joules_per_seq is not None for _, row in rows):
        yield "energy"


def _block(record: RunRecord, points: list[PlannedPoint], width: int) -> Table:
    wide = width >= WIDE
    several = max(planned.replicates for planned in points) > 1
    clock = "device" if any(m.row.device for p in points for m in record.by_point[p.point.key]) else "host"
    columns = _columns(clock, wide, several)
    if wide:
        columns |= _efficiency(record, points)
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for name in ("engine", "batch", "seq", *columns, "answer"):
        table.add_column(name, justify="left" if name in ("engine", "answer") else "right", no_wrap=True)
    for planned in points:
        point, status = planned.point, record.status(planned)
        found = [
            each
            for each in record.by_point[point.key]
            if (each.row.host, each.row.device, each.row.throughput_seq_s) != (None, None, None)
        ]
        start = [Text(f"{point.backend}:{point.variant}"), Text(str(point.batch or DASH)), Text(str(point.seq or DASH))]
        if status in ("ok", "invalid") and found:
            style = "strike" if status == "invalid" else ""
            table.add_row(
                *start, *(Text(cell(found), style=style) for cell in columns.values()), _answer(found, status)
            )
        else:
            mark = Text(status, style={"skipped": "yellow", "ok": "green"}.get(status, "red"))
            table.add_row(*start, *(Text("") for _ in columns), mark)
    launches = "one launch"
    if several:
        launches = f"{max(planned.replicates for planned in points)} launches, means over them"
        launches += "" if wide else "; ±: 95 % between launches"
    table.caption = f"{clock} time; n = samples, {launches}"
    if Console(width=BROADEST).measure(table).maximum > width:
        table.collapse_padding = True  # a blank less between columns, rather than figures that are cut off
    return table


Cell = Callable[[list["MeasurementRecord"]], str]


def _columns(clock: str, wide: bool, several: bool) -> dict[str, Cell]:
    """Heading → how its cell is made from the measurements of a point."""

    def figure(field: str, of: str = clock) -> Cell:
        return lambda found: milliseconds(mean_of_known(getattr(summary, field) for summary in _summaries(found, of)))

    half: Cell = lambda found: _half_width(between_launches(_medians(found, clock)))  # noqa: E731 - a table of cells
    between: Cell = lambda found: _interval(between_launches(_medians(found, clock)))  # noqa: E731 - a table of cells
    inside: Cell = lambda found: _interval(  # noqa: E731
        [
            mean_of_known(getattr(summary, field) for summary in _summaries(found, clock))
            for field in ("p50_low_ms", "p50_high_ms")
        ]
    )
    columns: dict[str, Cell] = {}
    if not several or wide:
        columns["mean\nms"] = figure("mean_ms")
    columns["p50\nms"] = figure("p50_ms")
    if several and wide:
        columns["95 % between\nlaunches, ms"] = between
    elif several:
        columns["±\nms"] = half
    elif wide:
        columns["95 % of p50\nms"] = inside
    columns["p95\nms"] = figure("p95_ms")
    columns["p99\nms"] = figure("p99_ms")
    if wide and clock == "device":
        columns["host p50\nms"] = figure("p50_ms", "host")
    if wide:
        columns["tokens/s"] = lambda found: rate(mean_of_known(each.row.tokens_s for each in found))
    columns["seq/s"] = lambda found: rate(mean_of_known(each.row.throughput_seq_s for each in found))
    columns["n"] = lambda found: str(sum(summary.n or 0 for summary in _summaries(found, clock)) or DASH)
    return columns


def _efficiency(record: RunRecord, points: list[PlannedPoint]) -> dict[str, Cell]:
    """Columns about the machine, those that have a figure: achieved rate, share of the ceiling that binds, energy."""
    places: dict[int, Position] = {
        each.id: record.position(planned, each.row) for planned in points for each in record.by_point[planned.point.key]
    }

    def share(found: list[MeasurementRecord]) -> str:
        value = mean_of_known(places[each.id].ceiling_share for each in found)
        binding = next((name for each in found if (name := places[each.id].ceiling)), "")
        return DASH if value is None else f"{value:.0%} {binding}"

    columns: dict[str, Cell] = {}
    if any(place.ceiling_share is not None for place in places.values()):
        known = [place.tflop_s for place in places.values() if place.tflop_s is not None]
        name, scale = ("GFLOP/s", 1000.0) if max(known, default=0.0) < SMALL_TFLOPS else ("TFLOP/s", 1.0)
        columns[name] = lambda found: rate(mean_of_known(_times(places[each.id].tflop_s, scale) for each in found))
        columns["of\nceiling"] = share
    if any(each.row.joules_per_seq is not None for planned in points for each in record.by_point[planned.point.key]):
        columns["J/seq"] = lambda found: rate(mean_of_known(each.row.joules_per_seq for each in found))
    return columns


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _summaries(found: list[MeasurementRecord], clock: str) -> list[Summary | ReportedSummary]:
    both = (each.row.device if clock == "device" else each.row.host for each in found)
    return [summary for summary in both if summary is not None]


def _medians(found: list[MeasurementRecord], clock: str) -> list[float]:
    return [summary.p50_ms for summary in _summaries(found, clock) if summary.p50_ms is not None]


def _interval(bounds: Sequence[float | None] | None) -> str:
    if bounds is None or None in bounds:
        return DASH
    return " … ".join(milliseconds(bound) for bound in bounds)


def _half_width(bounds: Sequence[float] | None) -> str:
    return DASH if bounds is None else milliseconds((bounds[1] - bounds[0]) / 2)


def _answer(found: list[MeasurementRecord], status: str) -> Text:
    parities = [each.row.parity for each in found if each.row.parity is not None]
    if status == "invalid":
        return Text("invalid", style="red")
    if not parities:
        return Text("unchecked", style="yellow")
    worst = max((parity.rel_l2 or 0.0) for parity in parities)
    return Text(f"✓ {worst:.0e}" if worst else "✓ exact", style="green")


def _scores(record: RunRecord, points: Iterable[PlannedPoint]) -> Iterator[Text]:
    """How good the answers of each point are, where that was measured: the means of its launches."""
    for planned in points:
        found: dict[str, dict[str, list[Score]]] = {}
        for each in record.by_point[planned.point.key]:
            for score in each.row.scores:
                found.setdefault(score.task, {}).setdefault(score.metric, []).append(score)
        for task, metrics in found.items():
            parts = []
            for metric, scores in metrics.items():
                reference = mean_of_known(score.reference for score in scores)
                against = f" (fp32: {milliseconds(reference)})" if reference is not None else ""
                parts.append(f"{metric} {milliseconds(mean_of_known(score.value for score in scores))}{against}")
            name = f"{planned.point.backend}:{planned.point.variant} b{planned.point.batch} s{planned.point.seq}"
            yield Text(f"  {name}: {task} {', '.join(parts)}")


def _numbers(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))


def _weights(plan: Plan) -> str:
    return ", ".join(dict.fromkeys(planned.point.weights for planned in plan.points))
