"""pytest-benchmark's JSON, as `--benchmark-json` writes it, so that `pytest-benchmark compare` and its other readers read it.

One benchmark for each `ok` point whose samples are kept, its launches together; seconds of the host clock, one iteration a
round. `group` is everything but the engine, so that engines are compared. What the format has no place for is in
`extra_info`, from where our own importer takes it again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

from benchrun.results.exporters.series_names import Series, named_series
from benchrun.results.records import RunRecord

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Seconds = npt.NDArray[np.float64]

VERSION = "5.0.0"  # of pytest-benchmark, whose format this is
_INFO = ("model", "weights", "head", "backend", "variant", "device", "dtype", "batch", "seq", "workload", "protocol")


def export_pytest_benchmark(records: Sequence[RunRecord]) -> str:
    """One document of all points with samples; read the runs with `samples=True`. The machine is that of the first run."""
    benchmarks = [found for series in named_series(records) if (found := _benchmark(series)) is not None]
    first = records[0].run
    document = {
        "machine_info": _machine(records[0]),
        "commit_info": {
            "id": first.commit or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": False,
            "project": "benchrun",
            "branch": "(unknown)",
        },
        "benchmarks": benchmarks,
        "datetime": first.started.astimezone(UTC).isoformat(),
        "version": VERSION,
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _benchmark(series: Series) -> dict[str, Any] | None:
    import numpy as np

    rows = [each.row for each in series.record.by_point[series.planned.point.key]]
    kept = [row.host_samples for row in rows if row.host_samples is not None and row.host_samples.size]
    if not kept:
        return None
    seconds = np.concatenate(kept).astype(np.float64) / 1e9
    point = series.point
    info = {name: point[name] for name in _INFO if point[name] is not None}
    info |= {"run": series.record.run.id, "launches": len(kept), "flags": point["flags"]}
    info |= {name: point[name] for name in ("throughput_seq_s",) if point[name] is not None}
    if point["host_ms"] is not None:
        info |= {
            f"{name}_ms": point["host_ms"][name]
            for name in ("p90", "p95", "p99", "p99_9")
            if point["host_ms"][name] is not None
        }
    settings = rows[0].settings
    group = "/".join(str(point[name]) for name in ("model", "head", "dtype", "device", "batch", "seq"))
    return {
        "group": group,
        "name": series.name,
        "fullname": f"benchrun::{series.name}",
        "params": None,
        "param": None,
        "extra_info": info,
        "options": {
            "disable_gc": True,
            "timer": "perf_counter_ns",
            "min_rounds": settings.get("iterations", len(seconds)),
            "max_time": settings.get("max_time_s", 0.0),
            "min_time": 0.0,
            "warmup": True,
        },
        "stats": statistics(seconds),
    }


def statistics(seconds: Seconds) -> dict[str, Any]:
    """The statistics of samples [n] in seconds, n ≥ 1, by pytest-benchmark's definitions, with the samples in `data`."""
    import numpy as np

    ordered = np.sort(seconds)
    n = len(ordered)
    mean, std = float(ordered.mean()), float(ordered.std(ddof=1)) if n > 1 else 0.0
    q1, q3 = quartiles(ordered)
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    inside = ordered[(ordered >= low) & (ordered <= high)]
    far = int(((ordered < mean - std) | (ordered > mean + std)).sum())
    beyond = int(((ordered < low) | (ordered > high)).sum())
    total = float(ordered.sum())
    return {
        "min": float(ordered[0]),
        "max": float(ordered[-1]),
        "mean": mean,
        "stddev": std,
        "rounds": n,
        "median": float(np.median(ordered)),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": beyond,
        "stddev_outliers": far,
        "outliers": f"{far};{beyond}",
        "ld15iqr": float(inside[0]),
        "hd15iqr": float(inside[-1]),
        "ops": n / total if total else 0.0,
        "total": total,
        "data": [float(each) for each in seconds],
        "iterations": 1,
    }


def quartiles(ordered: Seconds) -> tuple[float, float]:
    """Quartiles of sorted samples [n]: medians of the halves for an even n; for an odd n the mean of the methods that count
    the middle sample to both halves and to none (method 3 of the usual list).
    """
    import numpy as np

    n = len(ordered)
    half = n // 2
    if n == 1:
        return float(ordered[0]), float(ordered[0])
    if n % 2 == 0:
        return float(np.median(ordered[:half])), float(np.median(ordered[half:]))
    without = np.median(ordered[:half]), np.median(ordered[half + 1 :])
    both = np.median(ordered[: half + 1]), np.median(ordered[half:])
    low, high = ((one + other) / 2 for one, other in zip(without, both, strict=True))
    return float(low), float(high)


def _machine(record: RunRecord) -> dict[str, Any]:
    hardware = record.run.environment.details.get("hardware")
    known: dict[str, Any] = dict(hardware) if isinstance(hardware, dict) else {}
    gpu = known.get("gpu")
    cpu: dict[str, Any] = {}
    if isinstance(known.get("cpu"), str):
        cpu["brand_raw"] = known["cpu"]
    if isinstance(known.get("cores"), int):
        cpu["count"] = known["cores"]
    python = record.run.environment.details.get("libraries", {})
    version = python.get("python") if isinstance(python, dict) else None
    return {
        "node": "",
        "processor": "",
        "machine": "",
        "python_compiler": "",
        "python_implementation": "CPython",
        "python_implementation_version": version or "unknown",
        "python_version": version or "unknown",
        "python_build": ["", ""],
        "release": "",
        "system": "Linux",
        "cpu": cpu,
        "gpu": gpu.get("name") if isinstance(gpu, dict) else None,
    }
