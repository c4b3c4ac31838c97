"""MLPerf's scenarios, by LoadGen itself: an engine is its system under test, its logs are the measurement. See docs/loadgen.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchrun.runner.errors import UsageError
from benchrun.runner.loadgen.traffic import FIXED, Traffic, parse_traffic
from benchrun.runner.protocol import LOADGEN

if TYPE_CHECKING:
    from benchrun.backends.catalogue import ModelSpec
    from benchrun.backends.contract import Point
    from benchrun.runner.bench import Bench
    from benchrun.runner.channel import Progress

PERCENTILES = LOADGEN


def canonical(text: str) -> str:
    """The one spelling, see `runner.loadgen.traffic`; a mix of lengths is spelled as in a workload `lengths:…`."""
    from benchrun.runner.lengths.naming import parse_workload

    traffic = parse_traffic(text)
    if traffic.lengths == FIXED:
        return traffic.text
    return replace(traffic, lengths=parse_workload(traffic.engine_workload).source).text


def with_layout(text: str, layout: str) -> str:
    """The workload in another layout. Raises UsageError where it names one already."""
    traffic = parse_traffic(text)
    if text.endswith(f":{traffic.layout}"):
        raise UsageError(f"{text} names its layout already: leave out --layout, or {traffic.layout} there")
    return replace(traffic, layout=layout).text


def settings(text: str) -> Mapping[str, Any]:
    """Where the files lie that the lengths name by content."""
    from benchrun.runner.workloads import lengths

    traffic = parse_traffic(text)
    return {} if traffic.lengths == FIXED else lengths.settings(traffic.engine_workload)


def check_point(workload: str, spec: ModelSpec, head: str, seq: int, asked: Mapping[str, Any]) -> None:
    """Raises UsageError where LoadGen is not installed, or the lengths cannot be run at this length or by this model."""
    from benchrun.runner.loadgen.trial import missing_loadgen
    from benchrun.runner.workloads import lengths

    if absent := missing_loadgen():
        raise UsageError(absent)
    traffic: Traffic = parse_traffic(workload)
    if traffic.lengths != FIXED:
        lengths.check_point(traffic.engine_workload, spec, head, seq, asked)


def measure(bench: Bench, point: Point, progress: Progress, found: dict[str, Any]) -> None:
    """Build the sessions, check their answers, let LoadGen ask."""
    from benchrun.runner.loadgen.measurement import measure_traffic

    measure_traffic(bench, point, progress, found, parse_traffic(point.workload))
