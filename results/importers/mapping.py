"""A foreign result as rows of the store.

The run's id is made of the file's SHA-256, so that the same file is the same run. The hardware fingerprint hashes
what is known of the hardware under a prefix of its own: an imported run never shares a series with one of ours, nor,
where the hardware is unknown, with another file.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from benchrun.results.importers.foreign import ForeignMeasurement, ForeignPoint, ForeignResult
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar
from benchrun.results.rows import EnvironmentRow, MeasurementRow, PointRow, RunRow

if TYPE_CHECKING:
    from benchrun.results.rows import Samples
    from benchrun.results.statistics import ReportedSummary, Summary


_POINT_FIELDS = (
    *("model", "weights", "head", "backend", "variant", "device", "dtype", "batch", "seq", "workload", "protocol"),
)


@dataclass(frozen=True, slots=True)
class ForeignRows:
    """The rows of one imported file."""

    run: RunRow
    points: tuple[PointRow, ...]
    measurements: tuple[MeasurementRow, ...]


def run_id(sha256: str) -> str:
    """The id of the run that a file becomes."""
    return f"import-{sha256[:16]}"


def to_rows(
    result: ForeignResult, file_name: str, otherwise_started: datetime, sidecar: Sidecar = NO_SIDECAR, version: str = ""
) -> ForeignRows:
    """The rows of a file.

    `otherwise_started`, its modification time, stands in where neither file nor sidecar has a time of day; the run's
    request then says so. `version` is benchrun's.
    """
    started = sidecar.started or result.started or otherwise_started
    environment = _environment(result, sidecar)
    request: dict[str, Any] = {
        "import": {
            "format": result.format,
            "tool": result.tool,
            "tool_version": result.tool_version,
            "file": file_name,
            "sha256": result.sha256,
            "trust": result.trust,
            "warnings": list(result.warnings),
            "started_known": (sidecar.started or result.started) is not None,
            "sidecar_sha256": sidecar.source.sha256 if sidecar.source is not None else None,
            "companions": {role: each.sha256 for role, each in sidecar.companions.items()},
            "facts": dict(result.facts),
        }
    }
    run = RunRow(
        id=run_id(result.sha256),
        label=sidecar.label or file_name,
        started=started,
        finished=started,
        state="finished",
        environment=environment,
        request=request,
        origin=f"import:{result.format}",
        version=version,
    )
    points: dict[str, PointRow] = {}
    seen: Counter[str] = Counter()
    measurements = []
    for ordinal, each in enumerate(result.measurements):
        point = to_point(each.point)
        points.setdefault(point.key, point)
        measurements.append(_to_measurement(each, point.key, seen[point.key], ordinal, started, result))
        seen[point.key] += 1
    return ForeignRows(run, tuple(points.values()), tuple(measurements))


def to_point(point: ForeignPoint) -> PointRow:
    """A foreign point as a row; its key is made as that of our own points is, from all of its columns."""
    fields = {name: getattr(point, name) for name in _POINT_FIELDS}
    options = {name: point.options[name] for name in sorted(point.options)}
    hashed = fields | {"overrides": [], "options": [list(pair) for pair in options.items()]}
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return PointRow(key=hashlib.sha256(text.encode()).hexdigest()[:16], options=options, **fields)


def _environment(result: ForeignResult, sidecar: Sidecar) -> EnvironmentRow:
    hardware = {**result.hardware, **sidecar.hardware}
    software = {**result.software, **sidecar.software}
    core = hardware or {"file": result.sha256}  # unknown hardware is like no other
    text = json.dumps(["import", core], sort_keys=True, separators=(",", ":"), default=str)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    return EnvironmentRow(fingerprint, {"imported": True, "hardware": hardware, "software": software})


def _to_measurement(
    each: ForeignMeasurement, key: str, replicate: int, ordinal: int, started: datetime, result: ForeignResult
) -> MeasurementRow:
    host_samples, device_samples = _to_samples(each.host_ns), _to_samples(each.device_ns)
    origin: Mapping[str, Any] = {"format": result.format, "trust": each.trust, "place": each.place}
    return MeasurementRow(
        point_key=key,
        replicate=replicate,
        ordinal=ordinal,
        status=each.status,
        started=each.started or started,
        phase="measure" if each.status not in ("ok", "skipped") else None,
        error=each.error,
        host=_summarised(host_samples, each.host),
        device=_summarised(device_samples, each.device),
        throughput_seq_s=each.throughput_seq_s,
        throughput_isolated=each.throughput_isolated,
        throughput_window_s=each.throughput_window_s,
        load_s=each.load_s,
        first_run_s=each.first_run_s,
        warmup_n=each.warmup_n,
        peak_device_bytes=each.peak_device_bytes,
        peak_allocator_bytes=each.peak_allocator_bytes,
        peak_host_bytes=each.peak_host_bytes,
        flags=("imported", f"trust:{each.trust}", *each.flags),
        facts={"import": origin, **each.facts},
        settings=each.settings,
        host_samples=host_samples,
        device_samples=device_samples,
    )


def _to_samples(samples_ns: tuple[int, ...] | None) -> Samples | None:
    if samples_ns is None:
        return None
    import numpy as np

    return np.array(samples_ns, dtype=np.int64)


def _summarised(samples: Samples | None, reported: ReportedSummary | None) -> Summary | ReportedSummary | None:
    if samples is None:
        return reported
    from benchrun.results.statistics import summarise

    return summarise(samples)
