"""The new side's figures in Bencher Metric Format, for `bencher run --adapter json`.

Source: bencher.dev/docs/reference/bencher-metric-format. `latency` is in nanoseconds, `throughput` in operations (here
sequences) a second; other percentiles are measures of their own, `p95-latency`, in nanoseconds too.
"""

from __future__ import annotations

import json
import math

from benchrun.runner.gate.outcome import GateOutcome
from benchrun.runner.gate.reports.wording import point_names
from benchrun.runner.gate.verdict import MetricVerdict

LONGEST = 1024  # characters of a benchmark's name
_SILENCER = "-bencher-ignore"  # Bencher would not alert on a name that ends so


def bencher_document(outcome: GateOutcome) -> dict[str, dict[str, dict[str, float]]]:
    """Benchmark → measure → value. Points without sound figures (MISSING, INVALID) are left out: Bencher has no word
    for them.
    """
    names = point_names(outcome.points)
    document: dict[str, dict[str, dict[str, float]]] = {}
    for point in outcome.points:
        measures = {
            measure: {"value": value}
            for metric in point.metrics
            if point.verdict not in ("MISSING", "INVALID")
            for measure, value in [_measure(metric)]
            if math.isfinite(value)
        }
        if measures:
            document[_name(names[point.point], point.point)] = measures
    return document


def bencher_json(outcome: GateOutcome) -> str:
    """The document as text."""
    return json.dumps(bencher_document(outcome), indent=1, allow_nan=False) + "\n"


def _measure(metric: MetricVerdict) -> tuple[str, float]:
    if metric.metric == "throughput":
        return "throughput", metric.new
    return ("latency" if metric.metric == "p50" else f"{metric.metric}-latency"), metric.new * 1e6


def _name(name: str, key: str) -> str:
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 60]} ({key[:50]})"
    return f"{name}." if name.endswith(_SILENCER) else name
