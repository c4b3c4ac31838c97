"""The table of layouts: what bucketing and packing gain over padding, for a run that holds them side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from benchrun.results.layouts import layout_gains, layout_of, split_lengths
from benchrun.results.statistics import mean_of_known

if TYPE_CHECKING:
    from rich.console import RenderableType

    from benchrun.results.layouts import LayoutGain
    from benchrun.results.records import PlannedPoint, RunRecord

COLUMNS = ("engine", "batch", "seq", "layout", "padding", "tokens/s", "seq/s", "faster", "ideal", "share")


def layout_tables(record: RunRecord) -> Iterator[RenderableType]:
    """One table for each model, head, dtype, device and mix of lengths that has a layout beside `padded`; none without."""
    gains = layout_gains(record)
    blocks: dict[tuple[str | None, ...], list[PlannedPoint]] = {}
    for planned in record.points:
        point, parts = planned.point, split_lengths(planned.point.workload)
        if parts:
            blocks.setdefault((point.model, point.head, point.dtype, point.device, parts[0]), []).append(planned)
    for names, points in blocks.items():
        if not any(each.point.key in gains for each in points):
            continue
        yield Text(f"\n{' · '.join(str(name) for name in names)} · layouts", style="bold")
        table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left", collapse_padding=True)
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in ("engine", "layout") else "right", no_wrap=True)
        ranked = sorted(
            points,
            key=lambda each: (each.point.backend, each.point.variant, each.point.batch or 0, each.point.seq or 0),
        )
        for planned in ranked:
            if record.status(planned) == "ok":
                table.add_row(*_cells(record, planned, gains))
        table.caption = "tokens/s without padding; ideal = 1/(1 − padding of padded)"
        yield table


def _cells(record: RunRecord, planned: PlannedPoint, gains: Mapping[str, LayoutGain]) -> Iterator[str]:
    point = planned.point
    rows = [each.row for each in record.by_point[point.key]]
    yield f"{point.backend}:{point.variant}"
    yield str(point.batch)
    yield str(point.seq)
    yield layout_of(point.workload)
    padding, tokens, rate = (
        mean_of_known(getattr(row, name) for row in rows)
        for name in ("padding_fraction", "tokens_s", "throughput_seq_s")
    )
    yield "–" if padding is None else f"{padding:.1%}"
    yield "–" if tokens is None else f"{tokens:.0f}"
    yield "–" if rate is None else f"{rate:.1f}"
    gain = gains.get(point.key)
    yield "" if gain is None else f"{gain.speedup:.2f}×"
    yield "" if gain is None else f"{gain.ideal:.2f}×"
    yield "" if gain is None else f"{gain.share:.0%}"
