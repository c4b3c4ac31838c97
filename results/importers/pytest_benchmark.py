"""pytest-benchmark (3 to 5): the JSON of `--benchmark-json` or `--benchmark-save`.

Seconds on the host clock. `stats.data` is there only with `--benchmark-json` or `--benchmark-save-data`. A round of
several iterations gives their mean, not a latency: then only the mean is taken over. What was measured is told by
`extra_info` (or by parameters) under benchrun's words: model, head, backend, variant, device, dtype, batch, seq,
workload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
from benchrun.results.importers.sidecar import DTYPES, NO_SIDECAR, Sidecar
from benchrun.results.importers.values import show, to_moment
from benchrun.results.statistics import ReportedSummary

FORMAT = "pytest-benchmark"
_NAMES = ("model", "weights", "head", "backend", "variant", "device", "dtype", "workload")
_COUNTS = {"batch": ("batch", "batch_size"), "seq": ("seq", "seq_len", "seq_length", "sequence_length")}
_MACHINE = ("node", "processor", "machine", "system", "release")


def recognise(source: Source) -> bool:
    """Is this a file of pytest-benchmark's?"""
    return (
        source.data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
        and b'"machine_info"' in source.data
        and b'"benchmarks"' in source.data
        and b'"commit_info"' in source.data
    )


def parse(source: Source, sidecar: Sidecar = NO_SIDECAR) -> ForeignResult:
    """Read all benchmarks of the file; one that measured nothing of ours keeps its name as a fact."""
    document = parse_json(source)
    warnings: list[str] = []
    version = each.name() if (each := document.get("version")) is not None else None
    protocol = version.partition(".")[0] if version else None
    benchmarks = document.need("benchmarks").items()
    measurements = collect(source, (_measurement(source, each, protocol, sidecar) for each in benchmarks))
    if not measurements:
        raise document.need("benchmarks").failed("is empty: no benchmark ran")
    if any("averaged-rounds" in each.flags for each in measurements):
        warnings.append("rounds of several iterations are means, not latencies: of those only the mean is taken over")
    started = None
    if (moment := document.get("datetime")) is not None:
        started, zoned = to_moment(moment.value, moment.failed)
        if not zoned:
            warnings.append("the file's time of day names no timezone and was read as UTC")
    machine = document.get("machine_info")
    commit = document.get("commit_info")
    return ForeignResult(
        format=FORMAT,
        tool="pytest-benchmark",
        tool_version=version,
        sha256=source.sha256,
        measurements=measurements,
        started=started,
        hardware=_hardware(machine) if machine is not None else {},
        software={"python": found.name()} if machine is not None and (found := machine.get("python_version")) else {},
        facts={"commit": commit.kept()} if commit is not None else {},
        warnings=tuple(warnings),
    )


def _measurement(source: Source, node: Node, version: str | None, sidecar: Sidecar) -> ForeignMeasurement:
    stats = node.need("stats")
    name = node.need("fullname" if node.get("fullname") is not None else "name").name()
    iterations = found.count(least=1) if (found := stats.get("iterations")) is not None else None
    mean = stats.need("mean").ms("s")
    data = stats.get("data")
    genuine = data is not None and iterations == 1
    point = _point(node, version, genuine, sidecar, source)
    facts: dict[str, Any] = {"benchmark": name, "iterations": iterations, "rounds": _optional_count(stats, "rounds")}
    for key in ("extra_info", "params", "options", "group"):
        if (each := node.get(key)) is not None:
            facts[key] = each.kept()
    common: dict[str, Any] = {
        "point": point,
        "place": f"benchmarks[{node.path[-1]}]",
        "throughput_seq_s": point.batch * 1e3 / mean if point.batch is not None and mean > 0 else None,
        "throughput_isolated": True if point.batch is not None and mean > 0 else None,
        "facts": {key: value for key, value in facts.items() if value is not None},
    }
    if genuine and data is not None:
        samples = data.times_ns("s")
        if not samples:
            raise data.failed("is empty")
        rounds = facts["rounds"]
        if rounds is not None and rounds != len(samples):
            raise data.failed(f"has {len(samples)} times, but there were {rounds} rounds")
        return ForeignMeasurement(trust="samples", host_ns=samples, **common)
    if iterations == 1:
        return ForeignMeasurement(trust="summary", host=_summary(stats), **common)
    flags = ("averaged-rounds",)  # unknown counts as several
    return ForeignMeasurement(trust="mean", host=ReportedSummary(mean_ms=mean), flags=flags, **common)


def _summary(stats: Node) -> ReportedSummary:
    """The summary of single-iteration rounds; its median is the only quantile it shares with ours."""
    figures = {
        ours: each.ms("s")
        for ours, theirs in (
            ("mean_ms", "mean"),
            ("std_ms", "stddev"),
            ("min_ms", "min"),
            ("max_ms", "max"),
            ("p50_ms", "median"),
        )
        if (each := stats.get(theirs)) is not None
    }
    n = _optional_count(stats, "rounds")
    if n == 1:
        figures.pop("std_ms", None)  # it prints 0
    return reported(n, figures, stats.failed)


def _point(node: Node, version: str | None, genuine: bool, sidecar: Sidecar, source: Source) -> ForeignPoint:
    told: dict[str, Any] = {}
    for holder in (node.get("params"), node.get("extra_info")):  # the latter is said on purpose: it wins
        if holder is None:
            continue
        holder.object()
        for name in _NAMES:
            if (each := holder.get(name)) is not None:
                told[name] = each.name()
        for name, spellings in _COUNTS.items():
            for spelling in spellings:
                if (each := holder.get(spelling)) is not None:
                    told[name] = each.count(least=1)
    if told.get("dtype") not in (None, *DTYPES):
        raise node.failed(f"the dtype {show(told['dtype'])} is not one of {', '.join(DTYPES)}")
    point = ForeignPoint(
        backend=told.pop("backend", "pytest-benchmark"),
        variant=told.pop("variant", "unknown"),
        protocol=protocol_id("pytest-benchmark", version, clock="host", pct="linear" if genuine else "none"),
        options={"benchmark": node.need("fullname" if node.get("fullname") is not None else "name").name()},
    )
    return sidecar.complete(replace(point, **told), source)


def _hardware(machine: Node) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name in _MACHINE:
        if (each := machine.get(name)) is not None and each.value != "":
            found[name] = each.name()
    cpu = machine.get("cpu")
    if cpu is not None:
        for ours, theirs in (("cpu", "brand_raw"), ("cores", "count")):  # hz_actual changes from run to run
            if (each := cpu.get(theirs)) is not None:
                found[ours] = each.name() if ours == "cpu" else each.count()
    return found


def _optional_count(node: Node, name: str) -> int | None:
    each = node.get(name)
    return each.count(least=1) if each is not None else None
