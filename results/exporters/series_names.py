"""Names of points for tools that know a result by one text: the same point has the same name in every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchrun.results.document import run_document
from benchrun.results.records import PlannedPoint, RunRecord


@dataclass(frozen=True, slots=True)
class Series:
    """A point of a run that went well, under its name; `point` is its entry of the JSON document."""

    name: str
    record: RunRecord
    planned: PlannedPoint
    point: Mapping[str, Any]

    @property
    def clock(self) -> str:
        """The clock whose figures are exported: the device's where it was read."""
        return "device" if self.point["device_ms"] is not None else "host"

    @property
    def figures(self) -> Mapping[str, Any] | None:
        """That clock's figures in milliseconds, see `document`; None where there are none."""
        found: Mapping[str, Any] | None = self.point[f"{self.clock}_ms"]
        return found


def named_series(records: Sequence[RunRecord]) -> Iterator[Series]:
    """The `ok` points of all runs. A name that several of them share gets the point's key, then the run's id, at its end."""
    found = [
        (record, planned, point)
        for record in records
        for planned, point in zip(record.points, run_document(record, "")["points"], strict=True)
        if point["status"] == "ok"
    ]
    names = [series_name(point) for _, _, point in found]
    counts = Counter(names)
    names = [
        f"{name}#{point['key'][:8]}" if counts[name] > 1 else name
        for name, (_, _, point) in zip(names, found, strict=True)
    ]
    counts = Counter(names)
    for name, (record, planned, point) in zip(names, found, strict=True):
        yield Series(f"{name}@{record.run.id}" if counts[name] > 1 else name, record, planned, point)


def series_name(point: Mapping[str, Any]) -> str:
    """`bert-base/encoder/torch:eager/fp32/cpu/b1/s128`, with overrides, options and a workload other than `padded` where there are."""
    known = {
        name: "?" if point[name] is None else str(point[name])
        for name in ("model", "head", "dtype", "device", "batch", "seq")
    }
    engine = f"{point['backend']}:{point['variant']}{_settings(point['options'])}"
    parts = [known["model"] + _settings(point["overrides"]), known["head"], engine, known["dtype"], known["device"]]
    parts += [f"b{known['batch']}", f"s{known['seq']}"]
    if point["workload"] not in (None, "padded"):
        parts.append(str(point["workload"]))
    return "/".join(parts)


def _settings(values: Mapping[str, Any]) -> str:
    return f"({','.join(f'{name}={value}' for name, value in sorted(values.items()))})" if values else ""
