"""Bencher Metric Format (BMF), version 0: a JSON object of benchmarks, each of measures with `value` and, where there are,
`lower_value` and `upper_value`.

Bencher's own measures are used where they mean the same: `latency` in nanoseconds (the median with its interval),
`throughput` in operations a second (an operation is a sequence), `build-time` in seconds. The others, `latency-mean`,
`latency-p95` and `latency-p99`, are in nanoseconds too. BMF has no place for a failure: points that are not `ok` are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchrun.results.exporters.series_names import Series, named_series
from benchrun.results.records import RunRecord

_NS = 1e6  # nanoseconds in a millisecond
LONGEST_NAME = 1024


def export_bencher(records: Sequence[RunRecord]) -> str:
    """One BMF document of all points that are `ok`."""
    found = {series.name[:LONGEST_NAME]: _measures(series) for series in named_series(records)}
    return (
        json.dumps({name: measures for name, measures in found.items() if measures}, indent=2, ensure_ascii=False)
        + "\n"
    )


def _measures(series: Series) -> dict[str, dict[str, float]]:
    measures: dict[str, dict[str, float]] = {}
    figures = series.figures
    if figures is not None:
        for slug, name in (
            ("latency", "p50"),
            ("latency-mean", "mean"),
            ("latency-p95", "p95"),
            ("latency-p99", "p99"),
        ):
            if figures[name] is not None:
                low, high = figures["intervals"].get(name, (None, None))
                measures[slug] = _metric(figures[name], low, high, _NS)
    if series.point["throughput_seq_s"] is not None:
        measures["throughput"] = _metric(series.point["throughput_seq_s"], None, None, 1.0)
    if series.point["build_s"] is not None:
        measures["build-time"] = _metric(series.point["build_s"], None, None, 1.0)
    return measures


def _metric(value: float, low: float | None, high: float | None, factor: float) -> dict[str, float]:
    given: Mapping[str, Any] = {"value": value, "lower_value": low, "upper_value": high}
    return {name: each * factor for name, each in given.items() if each is not None}
