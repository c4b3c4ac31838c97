"""trtexec: the JSON of `--exportTimes` (both schemas), alone or with its log, or the log alone.

The JSON has a time for each query and nothing else: no shape, precision, GPU or version. The log has those, and the
throughput. Latency is H2D + compute + D2H, a sum of device times; what is stored as device time is the compute alone,
as our own protocol measures it. The printed throughput counts queries, and with an explicit batch a query is a whole
batch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from benchrun.results.importers import values
from benchrun.results.importers.documents import Node, parse_json
from benchrun.results.importers.foreign import (
    ForeignMeasurement,
    ForeignPoint,
    ForeignResult,
    Source,
    protocol_id,
)
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar
from benchrun.results.importers.trtexec_log import TrtexecLog, parse_log

FORMAT = "trtexec"
NEW = ("h2dMs", "computeMs", "d2hMs", "latencyMs")
OLD = ("inMs", "computeMs", "outMs", "latencyMs")  # TensorRT 7
MAX_QUERIES = 1_000_000
_RECORDS = re.compile(rb'\s*\[\s*\{\s*"start(?:Enq|In)Ms"')
_VERSION = re.compile(r"\d{1,3}(\.\d{1,4})*", re.ASCII)
_LOG = re.compile(rb"&&&& \w+ TensorRT\.trtexec |\[I\] === Performance summary ===")


def recognise(source: Source) -> bool:
    """Is this a file of trtexec's?"""
    start = source.data[:65_536].removeprefix(b"\xef\xbb\xbf")
    return (
        _RECORDS.match(start) is not None
        or (b'"computeMs"' in start and start.lstrip()[:1] == b"[")
        or (_LOG.search(source.data) is not None)
    )


def parse(source: Source, sidecar: Sidecar = NO_SIDECAR) -> ForeignResult:
    """Read the JSON of `--exportTimes`, with the sidecar's `log` where it names one, or a log."""
    if source.data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] not in (b"[", b"{") or _LOG.search(source.data[:4096]):
        log = parse_log(source)
        return _from_log(source, log, sidecar)
    companion = sidecar.companions.get("log")
    log = parse_log(companion) if companion is not None else TrtexecLog()
    return _from_times(source, parse_json(source), log, companion, sidecar)


def _from_times(
    source: Source, document: Node, log: TrtexecLog, companion: Source | None, sidecar: Sidecar
) -> ForeignResult:
    times = read_times(document)
    count = len(times["compute"])
    expected = log.queries
    if companion is not None and expected is not None and expected not in (count, count * (log.implicit_batch or 1)):
        raise companion.failed(f"speaks of {expected} queries, {source.name} has {count}: it is the log of another run")
    warnings: list[str] = []
    point = _point(source, log, sidecar, "linear", warnings)
    facts = _facts(log) | {
        "schema": "TensorRT 7" if times["old"] else "TensorRT 8 or newer",
        "h2d_mean_ms": _mean_ms(times["h2d"]),
        "d2h_mean_ms": _mean_ms(times["d2h"]),
        "latency_mean_ms": _mean_ms(times["latency"]),
    }
    measurement = _measurement(
        point, log, "samples", "all records", facts, device_ns=None if _streamed(log) else tuple(times["compute"])
    )
    return _result(source, log, sidecar, measurement, warnings)


def _from_log(source: Source, log: TrtexecLog, sidecar: Sidecar) -> ForeignResult:
    compute = log.metrics.get("GPU Compute Time")
    if log.qps is None and compute is None:
        why = "the run failed" if log.passed is False else "it is not the log of a finished run of trtexec 8 or newer"
        raise source.failed(f"has no performance summary: {why}")
    warnings: list[str] = []
    point = _point(source, log, sidecar, "exclusion", warnings)
    facts = _facts(log)
    latency = log.metrics.get("Latency")
    if latency is not None:
        facts["latency_mean_ms"] = latency.mean_ms
    trust = "summary" if compute is not None and not _streamed(log) else "mean"
    summary = None if _streamed(log) else compute
    measurement = _measurement(point, log, trust, "performance summary", facts, device=summary)
    return _result(source, log, sidecar, measurement, warnings)


def _measurement(
    point: ForeignPoint, log: TrtexecLog, trust: str, place: str, facts: dict[str, Any], **clock: Any
) -> ForeignMeasurement:
    throughput = None
    if log.qps is not None:
        if log.implicit_batch is not None:
            throughput = log.qps
        elif point.batch is not None:
            throughput = log.qps * point.batch
    flags = [flag for flag, on in (("unstable-clock", log.unstable), ("several-streams", _streamed(log))) if on]
    if log.expose_dma is not True:
        flags.append("enqueued-ahead")  # a second query is in flight: latencies include the neighbour's overlap
    return ForeignMeasurement(
        point=point,
        trust=trust,
        place=place,
        throughput_seq_s=throughput,
        throughput_isolated=None if throughput is None else False,
        throughput_window_s=log.window_s,
        flags=tuple(flags),
        facts={name: value for name, value in facts.items() if value is not None},
        **clock,
    )


def _result(
    source: Source, log: TrtexecLog, sidecar: Sidecar, measurement: ForeignMeasurement, warnings: list[str]
) -> ForeignResult:
    if measurement.throughput_seq_s is None:
        warnings.append("no throughput: it is in the log, and needs the batch size (a query is a whole batch)")
    return ForeignResult(
        format=FORMAT,
        tool="trtexec",
        tool_version=_version(log, sidecar),
        sha256=source.sha256,
        measurements=(measurement,),
        hardware={"device": log.device} if log.device else {},
        software={"tensorrt": version} if (version := _version(log, sidecar)) else {},
        warnings=tuple(warnings),
    )


def read_times(document: Node) -> dict[str, Any]:
    """The columns of an export in whole nanoseconds:

    `h2d`, `compute`, `d2h`, `latency`; `old` for TensorRT 7's names.
    """
    records: list[Any] = document.value if isinstance(document.value, list) else list(document.items())
    if not records:
        raise document.failed("has no records: every query was warm-up")
    if len(records) > MAX_QUERIES:
        raise document.failed(f"has over {MAX_QUERIES:,} records; split it")
    first = next(document.items()).object()
    old = "inMs" in first
    names = OLD if old else NEW
    h2d, compute, d2h, latency = (_column(document, records, name) for name in names)
    for index, parts in enumerate(zip(h2d, compute, d2h, latency, strict=True)):
        # float32 milliseconds with 6 digits: the sum is right to about 1e-5 of it
        if abs(sum(parts[:3]) - parts[3]) > 2_000 + parts[3] // 1_000:
            node = Node(document.source, document.text, None, (index, "latencyMs"))
            raise node.failed(f"{parts[3] / 1e6} ms is not {' + '.join(names[:3])} = {sum(parts[:3]) / 1e6} ms")
    return {"h2d": h2d, "compute": compute, "d2h": d2h, "latency": latency, "old": old}


def _column(document: Node, records: Sequence[Any], name: str) -> list[int]:
    found = []
    for index, record in enumerate(records):
        value = record.get(name) if isinstance(record, dict) else None
        if isinstance(value, float | int) and type(value) is not bool and 0 <= value <= values.MAX_MS:
            found.append(round(value * 1e6))
        else:
            node = Node(document.source, document.text, record, (index,))
            found.append(round(node.need(name).ms("ms") * 1e6))
    return found


def _point(source: Source, log: TrtexecLog, sidecar: Sidecar, percentile: str, warnings: list[str]) -> ForeignPoint:
    version = _version(log, sidecar)
    major = int(version.partition(".")[0]) if version else None
    settings = _conditions(log, sidecar, major, warnings)
    batch, seq = _shape(log, warnings)
    point = ForeignPoint(
        backend="trt",
        variant="trtexec",
        protocol=protocol_id(
            "trtexec",
            major,
            graph=settings["graph"],
            xfer=settings["transfers"],
            spin=settings["spin"],
            clock="device-compute",
            pct=percentile,
        ),
        device="cuda",
        batch=batch,
        seq=seq,
    )
    return sidecar.complete(point, sidecar.companions.get("log", source))


def _conditions(log: TrtexecLog, sidecar: Sidecar, major: int | None, warnings: list[str]) -> dict[str, bool | None]:
    """Graph, transfers, spin-wait:

    as the log says, else the sidecar, else the command line under its version's defaults.
    """
    command = log.command or sidecar.command
    found: dict[str, bool | None] = {}
    for name, in_log in (("graph", log.graph), ("transfers", log.transfers), ("spin", log.spin)):
        stated = sidecar.condition(name)
        if in_log is not None and stated is not None and in_log != stated:
            problem = f"contradicts the log, which says {'on' if in_log else 'off'}"
            raise sidecar.failed(problem, field=f"protocol.{name}")
        found[name] = in_log if in_log is not None else stated
        if found[name] is None and command is not None and major is not None:
            found[name] = default_condition(name, command.split(), major)
    unknown = [name for name, value in found.items() if value is None]
    if unknown:
        warnings.append(
            f"not known: {', '.join(unknown)}; their defaults changed with TensorRT 11: give log or sidecar"
        )
    return found


def default_condition(name: str, arguments: Sequence[str], major: int) -> bool:
    """A condition under the defaults of a version:

    TensorRT 11 turned all three around and made the old flags no-ops.
    """
    if major >= 11:
        flag, default = {
            "graph": ("--noCudaGraph", True),
            "transfers": ("--includeDataTransfers", False),
            "spin": ("--noSpinWait", True),
        }[name]
    else:
        flag, default = {
            "graph": ("--useCudaGraph", False),
            "transfers": ("--noDataTransfers", True),
            "spin": ("--useSpinWait", False),
        }[name]
    return default != (flag in arguments)


def _shape(log: TrtexecLog, warnings: list[str]) -> tuple[int | None, int | None]:
    """Batch and sequence length, from inputs that all have the same two sizes."""
    if log.implicit_batch is not None:
        return log.implicit_batch, None
    shapes = {sizes for sizes in log.shapes.values() if len(sizes) == 2 and min(sizes) >= 1}
    if len(shapes) == 1:
        batch, seq = next(iter(shapes))
        return batch, seq
    if log.shapes:
        warnings.append("the input shapes are not [batch, seq]; give both in the sidecar")
    return None, None


def _version(log: TrtexecLog, sidecar: Sidecar) -> str | None:
    stated = sidecar.software.get("tensorrt")
    if stated is not None and not (isinstance(stated, str) and _VERSION.fullmatch(stated)):
        raise sidecar.failed(f'{values.show(stated)} is not a version such as "10.3"', field="software.tensorrt")
    if stated and log.version and stated.partition(".")[0] != log.version.partition(".")[0]:
        raise sidecar.failed(f"says {stated}, but the log says {log.version}", field="software.tensorrt")
    return log.version or stated


def _facts(log: TrtexecLog) -> dict[str, Any]:
    return {
        "command": log.command,
        "precision_allowed": log.precision,  # what the builder might use, not what ran
        "queries_s": log.qps,
        "streams": log.streams,
        "expose_dma": log.expose_dma,
    }


def _streamed(log: TrtexecLog) -> bool:
    return log.streams is not None and log.streams > 1


def _mean_ms(column: Sequence[int]) -> float:
    return sum(column) / len(column) / 1e6
