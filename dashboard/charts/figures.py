"""What can be drawn: the figures of a point, with their units and which direction is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A column of a points frame, as an axis: `title` without the unit."""

    column: str
    title: str
    unit: str
    more_is_better: bool = False

    @property
    def axis(self) -> str:
        """`latency p50, ms`."""
        return f"{self.title}, {self.unit}"


LATENCIES = {
    "p50": Figure("p50_ms", "latency p50", "ms"),
    "p95": Figure("p95_ms", "latency p95", "ms"),
    "p99": Figure("p99_ms", "latency p99", "ms"),
    "mean": Figure("mean_ms", "latency mean", "ms"),
}
THROUGHPUT = Figure("throughput_seq_s", "throughput", "sequences/s", more_is_better=True)
TOKENS = Figure("tokens_s", "effective tokens", "tokens/s", more_is_better=True)
FIGURES = {**LATENCIES, "throughput": THROUGHPUT, "tokens": TOKENS}
AXES = {"batch": "batch, sequences per call", "seq": "sequence length, tokens"}
CLOCKS = {"host": "host time, until the call is done", "device": "device time, between events"}
