"""A run laid beside published figures, with what differs in conditions spelled out. Pure: data in, data out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from benchrun.results.published.tables import Conditions, PublishedRow, PublishedTable, condition_names

TRAINING = "training"  # a scenario: steps of it are no inference, so the two are never laid beside each other
_SCENARIOS = {
    "offline": "Offline", "server": "Server", "single-stream": "SingleStream", "multi-stream": "MultiStream",
}  # fmt: skip
_WORDS = {
    "graph": "CUDA graph",
    "transfers": "copies to and from the device",
    "workload": "workload",
    "mask": "attention mask",
    "accumulation": "accumulation dtype",
    "clocks": "device clocks",
    "timing": "timing",
    "percentile": "percentile definition",
    "warmup": "warm-up",
    "samples": "samples",
    "inputs": "inputs",
    "software": "software",
}


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """What a comparison needs of a measurement: which point it is, its figures (ms, sequences/s) and its conditions.

    `scenario` is LoadGen's name of one, `TRAINING`, or None for a fixed batch.
    """

    model: str
    head: str
    engine: str
    dtype: str
    batch: int
    seq: int
    hardware: str | None = None
    devices: int = 1
    avg_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    throughput_seq_s: float | None = None
    status: str = "ok"
    scenario: str | None = None
    conditions: Conditions = field(default_factory=Conditions)


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One measured point beside one published row.

    The ratios are measured ÷ published, None where either side lacks the figure. `differs` says which conditions are
    known to differ, `unknown` which of them only one side states: both in words. An empty list does not mean "same".
    """

    table: str
    published: PublishedRow
    measured: MeasuredPoint
    avg_ratio: float | None
    p50_ratio: float | None
    p95_ratio: float | None
    p99_ratio: float | None
    throughput_ratio: float | None
    differs: tuple[str, ...]
    unknown: tuple[str, ...]


def compare(run_points: Iterable[MeasuredPoint], table: PublishedTable) -> list[ComparisonRow]:
    """Each measured point beside each published row of the same model, dtype, sequence length and batch, in page order.

    A published row that states no batch or no sequence length (MLPerf scenarios) is laid beside every batch or length,
    and `differs` says so. Blank cells have nothing to lay beside; cells `oom` are kept.
    """
    points = list(run_points)
    return [
        _lay_beside(row, point, table)
        for row in table.rows
        if row.status != "blank"
        for point in points
        if _same_point(row, point)
    ]


def scenario_of(workload: str | None) -> str | None:
    """LoadGen's name of the scenario in a point's workload, `TRAINING` for a training step, else None."""
    kind, _, rest = (workload or "").partition(":")
    return TRAINING if kind == "train" else _SCENARIOS.get(rest.partition(":")[0]) if kind == "loadgen" else None


def _same_point(row: PublishedRow, point: MeasuredPoint) -> bool:
    return (
        row.model == point.model
        and row.dtype == point.dtype
        and row.seq in (None, point.seq)
        and row.batch in (None, point.batch)
        and (row.scenario == TRAINING) == (point.scenario == TRAINING)
    )


def _lay_beside(row: PublishedRow, point: MeasuredPoint, table: PublishedTable) -> ComparisonRow:
    differs = [*_point_differences(row, point), *spell_differences(table.conditions(row), point.conditions)]
    if "throughput_seq_s" in table.derived and row.throughput_seq_s is not None:
        differs.append("throughput: published is batch / average latency, not a measurement of its own")
    return ComparisonRow(
        table=table.name,
        published=row,
        measured=point,
        avg_ratio=ratio(point.avg_ms, row.avg_ms),
        p50_ratio=ratio(point.p50_ms, row.p50_ms),
        p95_ratio=ratio(point.p95_ms, row.p95_ms),
        p99_ratio=ratio(point.p99_ms, row.p99_ms),
        throughput_ratio=ratio(point.throughput_seq_s, row.throughput_seq_s),
        differs=tuple(differs),
        unknown=tuple(_spell_unknown(table.conditions(row), point.conditions)),
    )


def ratio(measured: float | None, published: float | None) -> float | None:
    """measured ÷ published; None where either is missing or the published figure is zero."""
    if measured is None or not published:
        return None
    return measured / published


def _point_differences(row: PublishedRow, point: MeasuredPoint) -> Iterator[str]:
    if row.hardware != point.hardware:
        yield f"hardware: published {row.hardware or 'not stated'}, here {point.hardware or 'not recorded'}"
    if row.devices is not None and row.devices != point.devices:
        yield f"devices: published {row.devices}, here {point.devices}"
    if row.engine != point.engine:
        yield f"engine: published {row.engine}, here {point.engine}"
    if row.head != point.head:
        yield f"head: published {row.head or 'not stated'}, here {point.head}"
    if row.scenario != point.scenario:
        yield f"scenario: published {row.scenario or 'a fixed batch'}, here {point.scenario or 'a fixed batch'}"
    if row.batch is None:
        yield f"batch: published not stated, here {point.batch}"
    if row.seq is None:
        yield f"sequence length: published not stated, here {point.seq}"
    if row.status != point.status:
        yield f"status: published {row.status}, here {point.status}"


def spell_differences(published: Conditions, measured: Conditions) -> list[str]:
    """One sentence for each condition that both sides state and that differs."""
    return [
        f"{_WORDS[name]}: published {theirs}, here {ours}"
        for name, theirs, ours in _pairs(published, measured)
        if theirs is not None and ours is not None and theirs != ours
    ]


def _spell_unknown(published: Conditions, measured: Conditions) -> Iterator[str]:
    for name, theirs, ours in _pairs(published, measured):
        if theirs is None and ours is not None:
            yield f"{_WORDS[name]}: not stated by the source, here {ours}"
        elif theirs is not None and ours is None:
            yield f"{_WORDS[name]}: published {theirs}, not recorded here"


def _pairs(published: Conditions, measured: Conditions) -> Iterator[tuple[str, str | None, str | None]]:
    for name in condition_names():
        yield name, getattr(published, name), getattr(measured, name)
