"""github-action-benchmark's own JSON: a list of {name, unit, value, range, extra}.

One file is read by one of its tools, which fixes the direction for all entries: `customSmallerIsBetter` for latencies,
`customBiggerIsBetter` for throughput. So these are two formats here. Points that are not `ok` are left out: it has no place for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from benchrun.results.exporters.series_names import Series, named_series
from benchrun.results.records import RunRecord


def export_latencies(records: Sequence[RunRecord]) -> str:
    """For `customSmallerIsBetter`: the median and p99 of each point, in milliseconds."""
    return _document(entry for series in named_series(records) for entry in _latencies(series))


def export_throughput(records: Sequence[RunRecord]) -> str:
    """For `customBiggerIsBetter`: sequences a second of each point."""
    found = ((series, series.point["throughput_seq_s"]) for series in named_series(records))
    return _document(_entry(series, "throughput", "seq/s", value, None) for series, value in found if value is not None)


def _latencies(series: Series) -> Iterator[dict[str, Any]]:
    figures = series.figures
    if figures is None:
        return
    for name in ("p50", "p99"):
        value = figures[name]
        if value is None:
            continue
        low, high = figures["intervals"][name]
        reach = max((abs(each - value) for each in (low, high) if each is not None), default=None)
        yield _entry(series, name, "ms", value, f"± {reach:.6g}" if reach is not None else None)


def _entry(series: Series, figure: str, unit: str, value: float, spread: str | None) -> dict[str, Any]:
    point = series.point
    extra = {
        "clock": f"{series.clock}, {point['protocol']}",
        "samples": f"{point['n']} in {point['launches']} launches",
        "run": series.record.run.id,
        "machine": series.record.run.environment.fingerprint,
        "flags": ", ".join(point["flags"]),
    }
    entry: dict[str, Any] = {"name": f"{series.name} {figure}", "unit": unit, "value": value}
    if spread is not None:
        entry["range"] = spread
    return entry | {"extra": "\n".join(f"{name}: {each}" for name, each in extra.items() if each)}


def _document(entries: Iterator[dict[str, Any]]) -> str:
    return json.dumps(list(entries), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
