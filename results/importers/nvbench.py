"""nvbench: its JSON (`--json`). Seconds on the device, numbers as strings.

Cold measurements flush the L2 cache and run one launch at a time: `nv/cold/time/gpu/…` is device time,
`nv/cold/time/cpu/…` host time. `nv/batch/…` is back to back. There are quartiles but no percentile of ours except the
median. A state may be skipped, with a reason; samples lost to throttling can leave NaN or zero samples, which is an
error of that state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchrun.results.importers.documents import Node, parse_json
from benchrun.results.importers.foreign import (
    ForeignMeasurement,
    ForeignPoint,
    ForeignResult,
    Source,
    protocol_id,
    reported,
)
from benchrun.results.importers.limits import collect
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar
from benchrun.results.importers.values import show, to_count, to_ms, to_name, to_number
from benchrun.results.statistics import ReportedSummary

FORMAT = "nvbench"
_STATISTICS = {
    "mean": "mean_ms",
    "min": "min_ms",
    "max": "max_ms",
    "median": "p50_ms",
    "stdev/absolute": "std_ms",
}
_SHAPE = {
    "batch": "batch",
    "batchsize": "batch",
    "batch_size": "batch",
    "seq": "seq",
    "seqlen": "seq",
    "sequencelength": "seq",
}


def recognise(source: Source) -> bool:
    """Is this a file of nvbench's?"""
    return (
        source.data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
        and b'"benchmarks"' in source.data
        and b'"states"' in source.data
        and (b'"is_skipped"' in source.data or b'"summaries"' in source.data)
    )


def parse(source: Source, sidecar: Sidecar = NO_SIDECAR) -> ForeignResult:
    """Read all states of all benchmarks."""
    document = parse_json(source)
    listed = document.get("devices")
    devices = {each.need("id").count(): each for each in (listed.items() if listed is not None else ())}
    measurements = collect(source, _measurements(source, document, sidecar))
    if not measurements:
        raise document.need("benchmarks").failed("has no states: no benchmark ran")
    used = sorted({str(each.facts["device"]) for each in measurements if "device" in each.facts})
    first = devices.get(int(used[0])) if len(used) == 1 else None
    version = _version(document)
    warnings = ["no percentiles: the file has quartiles only"]
    if len(used) > 1:
        warnings.append(f"states on devices {', '.join(used)}: the environment names none of them")
    return ForeignResult(
        format=FORMAT,
        tool="nvbench",
        tool_version=version,
        sha256=source.sha256,
        measurements=measurements,
        hardware=_hardware(first) if first is not None else {},
        facts={"devices": listed.kept()} if listed is not None else {},
        warnings=tuple(warnings),
    )


def _measurements(source: Source, document: Node, sidecar: Sidecar) -> Iterator[ForeignMeasurement]:
    for benchmark in document.need("benchmarks").items():
        name = benchmark.need("name").name()
        if (states := benchmark.get("states")) is not None:
            for state in states.items():
                yield _measurement(source, name, state, sidecar)


def _measurement(source: Source, benchmark: str, state: Node, sidecar: Sidecar) -> ForeignMeasurement:
    axes = _axes(state)
    shape: dict[str, int] = {}
    for axis, value in axes.items():
        ours = _SHAPE.get(axis.lower().replace(" ", ""))
        if ours is not None and isinstance(value, str) and value.isascii() and value.isdigit():
            shape[ours] = to_count(value, state.failed, least=1)
    point = sidecar.complete(
        ForeignPoint(
            backend="nvbench",
            variant="unknown",
            protocol=protocol_id("nvbench", clock="events", l2="cold", pct="none"),
            device=f"cuda:{device.count()}" if (device := state.get("device")) is not None else None,
            options={"benchmark": benchmark, **axes},
            batch=shape.get("batch"),
            seq=shape.get("seq"),
        ),
        source,
    )
    place = f"benchmarks[{state.path[1]}].states[{state.path[3]}]"
    facts: dict[str, Any] = {"device": device.count()} if device is not None else {}
    if (skipped := state.get("is_skipped")) is not None and skipped.value is True:
        reason = reason_node.value if (reason_node := state.get("skip_reason")) is not None else None
        text = reason.strip()[:500] if isinstance(reason, str) and reason.strip() else "nvbench gives no reason"
        return ForeignMeasurement(point=point, trust="mean", place=place, status="skipped", error=text, facts=facts)
    found = _summaries(state)
    count = found.get("nv/cold/sample_size")
    n = to_count(count.value, count.failed) if count is not None else None
    if n == 0:
        return ForeignMeasurement(
            point=point,
            trust="mean",
            place=place,
            status="error",
            error="no sample was accepted (throttling?)",
            facts=facts,
        )
    device_clock, host_clock = (_clock(state, found, clock, n) for clock in ("gpu", "cpu"))
    if device_clock is None:
        raise state.failed("has no 'nv/cold/time/gpu/mean', and is not skipped")
    if (rate := found.get("nv/cold/sm_clock_rate/mean")) is not None:
        facts["sm_clock_hz"] = to_number(rate.value, rate.failed)
    if (batch_mean := found.get("nv/batch/time/gpu/mean")) is not None:
        facts["back_to_back_ms"] = to_ms(batch_mean.value, "s", batch_mean.failed)
    throughput = None
    if point.batch is not None and facts.get("back_to_back_ms"):
        throughput = point.batch * 1e3 / facts["back_to_back_ms"]
    return ForeignMeasurement(
        point=point,
        trust="summary",
        place=place,
        device=device_clock,
        host=host_clock,
        throughput_seq_s=throughput,
        throughput_isolated=None if throughput is None else False,
        facts=facts,
    )


def _summaries(state: Node) -> dict[str, Node]:
    """Tag → the node of its `value`."""
    found: dict[str, Node] = {}
    summaries = state.get("summaries")
    for summary in summaries.items() if summaries is not None else ():
        tag = summary.get("tag")
        data = summary.get("data")
        if tag is None or data is None:
            continue
        for entry in data.items():
            if (name := entry.get("name")) is not None and name.value == "value":
                found[tag.name()] = entry.need("value")
    return found


def _clock(state: Node, found: Mapping[str, Node], clock: str, n: int | None) -> ReportedSummary | None:
    figures = {
        ours: to_ms(node.value, "s", node.failed)
        for theirs, ours in _STATISTICS.items()
        if (node := found.get(f"nv/cold/time/{clock}/{theirs}")) is not None
    }
    return reported(n, figures, state.failed) if "mean_ms" in figures else None


def _axes(state: Node) -> dict[str, str]:
    found: dict[str, str] = {}
    axes = state.get("axis_values")
    for axis in axes.items() if axes is not None else ():
        value = axis.need("value")
        text = value.value if isinstance(value.value, str) else show(value.value)
        found[axis.need("name").name()] = to_name(text, value.failed)
    return found


def _version(document: Node) -> str | None:
    node: Node | None = document
    for name in ("meta", "version", "nvbench", "string"):
        node = node.get(name) if node is not None else None
    return node.name() if node is not None else None


def _hardware(device: Node) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (name := device.get("name")) is not None:
        found["device"] = name.name()
    for key in ("sm_version", "sm_default_clock_rate", "ecc_state"):
        if (each := device.get(key)) is not None and isinstance(each.value, str | int | bool):
            found[key] = each.value if not isinstance(each.value, str) else each.name()
    return found
