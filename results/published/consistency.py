"""Does a published table agree with itself? What does not is listed; nothing is mended.

The checks, per row or against the row before it of the same engine, model, precision and sequence length:

- `percentiles`: a higher percentile is below a lower one, or p95 below the average;
- `tail`: p95 more than 10 % above the average, or p99 more than 20 % above p95;
- `throughput`: not batch / average, within what the printed digits allow;
- `batch`: a larger batch gives over 5 % fewer sequences a second;
- `devices`: the figure per device is not the total divided by the devices, within its printed digits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from benchrun.results.published.tables import PublishedRow, PublishedTable

_ORDERED = ("p50_ms", "p90_ms", "p95_ms", "p97_ms", "p99_ms", "p99_9_ms")


@dataclass(frozen=True, slots=True)
class OddCell:
    """One thing that looks wrong with the row of that order: `kind` is one of the checks above."""

    order: int
    kind: str
    what: str


def find_odd_cells(table: PublishedTable) -> list[OddCell]:
    """What in a table does not agree with the rest of it, in page order."""
    found: list[OddCell] = []
    before: dict[tuple[object, ...], PublishedRow] = {}
    for row in table.rows:
        found.extend(OddCell(row.order, kind, what) for kind, what in _row_oddities(row))
        if row.batch is not None and row.avg_ms is not None:
            series = (row.hardware, row.model, row.engine, row.dtype, row.seq)
            previous = before.get(series)
            if previous is not None:
                found.extend(OddCell(row.order, "batch", what) for what in _batch_oddities(previous, row))
            before[series] = row
    return found


def _row_oddities(row: PublishedRow) -> Iterator[tuple[str, str]]:
    present = [(name, value) for name in _ORDERED if (value := getattr(row, name)) is not None]
    for (low, low_value), (high, high_value) in itertools.pairwise(present):
        if high_value < low_value:
            yield "percentiles", f"{high} {high_value} is below {low} {low_value}"
    if row.avg_ms is not None and row.p95_ms is not None:
        if row.p95_ms < row.avg_ms:
            yield "percentiles", f"p95 {row.p95_ms} ms is below the average {row.avg_ms} ms"
        if row.p95_ms > 1.10 * row.avg_ms:
            yield "tail", f"p95 {row.p95_ms} ms is {row.p95_ms / row.avg_ms:.2f} x the average {row.avg_ms} ms"
    if row.p95_ms is not None and row.p99_ms is not None and row.p99_ms > 1.20 * row.p95_ms:
        yield "tail", f"p99 {row.p99_ms} ms is {row.p99_ms / row.p95_ms:.2f} x p95 {row.p95_ms} ms"
    if row.batch is not None and row.avg_ms and row.throughput_seq_s is not None:
        latency, rate = Decimal(row.printed["avg_ms"]), Decimal(row.printed["throughput_seq_s"])
        slack, rate_slack = _half_digit(latency), _half_digit(rate)
        lowest = row.batch * 1000 / (latency + slack) - rate_slack
        highest = row.batch * 1000 / (latency - slack) + rate_slack
        if not lowest <= rate <= highest:
            yield "throughput", f"{rate} seq/s is not {row.batch} / {latency} ms = {row.batch * 1000 / latency:.2f}"
    if row.devices and row.throughput_seq_s is not None and row.throughput_per_device_seq_s is not None:
        each = Decimal(row.printed["throughput_per_device_seq_s"])
        expected = Decimal(row.printed["throughput_seq_s"]) / row.devices
        if abs(each - expected) > _half_digit(each):
            yield "devices", f"{each} seq/s a device is not {row.throughput_seq_s} / {row.devices}"


def _batch_oddities(previous: PublishedRow, row: PublishedRow) -> Iterator[str]:
    if previous.batch is None or row.batch is None or not previous.avg_ms or not row.avg_ms:
        return
    if row.batch <= previous.batch:
        return
    change = (row.batch / row.avg_ms) / (previous.batch / previous.avg_ms) - 1
    if change < -0.05:
        yield f"batch {row.batch} gives {-change:.1%} fewer sequences a second than batch {previous.batch}"


def _half_digit(value: Decimal) -> Decimal:
    """Half a unit of the last printed digit."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)  # never NaN or infinite: the tables are ours
    return Decimal(5).scaleb(exponent - 1)
