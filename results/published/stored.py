"""A stored run, ours or an imported one, as points that can be laid beside published figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchrun.results.published.comparison import MeasuredPoint, scenario_of
from benchrun.results.published.tables import Conditions
from benchrun.results.statistics import mean_of_known

if TYPE_CHECKING:
    from benchrun.results.records import PlannedPoint, RunRecord
    from benchrun.results.rows import MeasurementRow

_ENGINE_LIBRARIES = {
    "torch": ("torch",),
    "ort": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-migraphx"),
    "trt": ("tensorrt", "tensorrt-rtx-cu13-bindings"),
    "ait": ("aitemplate",),
    "migraphx": ("migraphx",),
}
_SETTING = re.compile(r"[:;,]?([a-z_]+)=([^;,]+)")
_TRANSFERS = {"exclude": "excluded", "include": "included", "off": "excluded", "on": "included"}


def run_points(record: RunRecord) -> list[MeasuredPoint]:
    """The points of a run whose model, head, dtype, batch and sequence length are all known, in the plan's order.

    Figures are of the device clock where it was read (as in the published tables), else of the host's, and means over the
    launches that ended `ok`.
    """
    found = []
    for planned in record.points:
        point = planned.point
        if point.model is None or point.head is None or point.dtype is None or point.batch is None or point.seq is None:
            continue
        rows = [each.row for each in record.by_point[point.key] if each.row.status == "ok"]
        clock = "device" if any(row.device is not None for row in rows) else "host"
        summaries = [each for row in rows if (each := getattr(row, clock)) is not None]
        found.append(
            MeasuredPoint(
                model=point.model,
                head=point.head,
                engine=f"{point.backend}:{point.variant}",
                dtype=point.dtype,
                batch=point.batch,
                seq=point.seq,
                hardware=_hardware(record.run.environment.details),
                avg_ms=mean_of_known(each.mean_ms for each in summaries),
                p50_ms=mean_of_known(each.p50_ms for each in summaries),
                p95_ms=mean_of_known(each.p95_ms for each in summaries),
                p99_ms=mean_of_known(each.p99_ms for each in summaries),
                throughput_seq_s=mean_of_known(row.throughput_seq_s for row in rows),
                status=record.status(planned),
                scenario=scenario_of(point.workload),
                conditions=_conditions(record, planned, rows, clock, [each.n for each in summaries]),
            )
        )
    return found


def _conditions(
    record: RunRecord, planned: PlannedPoint, rows: Sequence[MeasurementRow], clock: str, counts: Sequence[int | None]
) -> Conditions:
    point = planned.point
    settings: dict[str, str] = dict(_SETTING.findall(point.protocol))
    facts: Mapping[str, Any] = rows[0].facts if rows else {}
    warmups = [row.warmup_n for row in rows if row.warmup_n is not None]
    known = [count for count in counts if count is not None]
    accumulation = facts.get("accumulate_dtype")
    percentile = settings.get("percentiles", settings.get("pct"))
    return Conditions(
        graph=_graph(facts.get("cuda_graph"), settings),
        transfers=_TRANSFERS.get(settings.get("transfers", settings.get("xfer", "?"))),
        workload=point.workload,
        accumulation=accumulation if isinstance(accumulation, str) else None,
        timing=_timing(record.run.origin, clock, settings) if rows else None,
        percentile=percentile if percentile != "?" else None,
        warmup=f"{min(warmups)} iterations or more" if warmups else None,
        samples=str(sum(known)) if known else None,
        inputs="random token ids" if settings.get("inputs", "").startswith("uniform") else None,
        software=_software(record.run.environment.details, point.backend),
    )


def _graph(fact: object, settings: Mapping[str, str]) -> str | None:
    if isinstance(fact, bool):
        return "on" if fact else "off"
    return settings["graph"] if settings.get("graph") in ("on", "off") else None


def _timing(origin: str, clock: str, settings: Mapping[str, str]) -> str | None:
    if origin == "benchrun":
        return f"{'device events' if clock == 'device' else 'host clock'}, each iteration synchronised"
    return f"{settings['clock']} ({origin})" if settings.get("clock", "?") != "?" else None


def _hardware(details: Mapping[str, Any]) -> str | None:
    """The device's name, or the processor's where there is none."""
    hardware = details.get("hardware")
    if not isinstance(hardware, Mapping):
        return None
    gpu = hardware.get("gpu")
    names = (gpu.get("name") if isinstance(gpu, Mapping) else None, hardware.get("device"), hardware.get("cpu"))
    return next((name for name in names if isinstance(name, str)), None)


def _software(details: Mapping[str, Any], backend: str) -> str | None:
    """The engine's version in words."""
    libraries = details.get("libraries") or details.get("software")
    if not isinstance(libraries, Mapping):
        return None
    wanted = _ENGINE_LIBRARIES.get(backend, (backend,))
    found = [f"{name} {libraries[name]}" for name in wanted if isinstance(libraries.get(name), str)]
    return ", ".join(found) or None
