"""The `--json` documents, version 1. `document.schema.json` is their JSON Schema, docs/schema.md their description.

Over several launches of a point each figure is the mean of the launches' figures; min and max are overall, n is the total, bytes are
the largest. A percentile's interval is [lower, upper]: two-sided 95 % for p50, a one-sided 99 % upper bound for the others, None
where there are too few samples for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any

from benchrun.results.layouts import LayoutGain, layout_gains
from benchrun.results.plain import plain_json
from benchrun.results.records import MeasurementRecord, PlannedPoint, RunOverview, RunRecord
from benchrun.results.rows import MeasurementRow, Parity, Score
from benchrun.results.statistics import ReportedSummary, Summary, mean_of_known

VERSION = 1


def run_document(record: RunRecord, db: str) -> dict[str, Any]:
    """A run with one entry for each planned point, in order. `db` is shown as it is: give it without a password."""
    run, gains = record.run, layout_gains(record)
    return {
        "schema": VERSION,
        "run": {
            "id": run.id,
            "label": run.label,
            "started": _time(run.started),
            "db": db,
            "environment": {"fingerprint": run.environment.fingerprint} | plain_json(run.environment.details),
        },
        "points": [_point(record, planned, gains.get(planned.point.key)) for planned in record.points],
    }


def runs_document(runs: Iterable[RunOverview]) -> dict[str, Any]:
    """The list of runs."""
    return {
        "schema": VERSION,
        "runs": [
            {
                "id": run.id,
                "label": run.label,
                "started": _time(run.started),
                "state": run.state,
                "points": run.points,
                "ok": run.ok,
                "failed": run.failed,
                "unsupported": run.unsupported,
            }
            for run in runs
        ],
    }


def document_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of both documents."""
    schema: dict[str, Any] = json.loads(files("benchrun.results").joinpath("document.schema.json").read_text("utf-8"))
    return schema


def _point(record: RunRecord, planned: PlannedPoint, gain: LayoutGain | None) -> dict[str, Any]:
    point = planned.point
    records = record.by_point[point.key]
    rows = [each.row for each in records]
    status = record.status(planned)
    decisive = next((row for row in rows if row.status == status), None)
    return {
        "backend": point.backend,
        "variant": point.variant,
        "model": point.model,
        "head": point.head,
        "device": point.device,
        "dtype": point.dtype,
        "batch": point.batch,
        "seq": point.seq,
        "workload": point.workload,
        "protocol": point.protocol,
        "status": status,
        "error": _error(record, planned, status, decisive),
        "phase": decisive.phase if decisive is not None and status != "ok" else None,
        "n": sum(row.host.n or 0 for row in rows if row.host is not None),
        "device_ms": _clock([row.device for row in rows if row.device is not None]),
        "host_ms": _clock([row.host for row in rows if row.host is not None]),
        "throughput_seq_s": mean_of_known(row.throughput_seq_s for row in rows),
        "throughput_isolated": _any(row.throughput_isolated for row in rows),
        "tokens_s": mean_of_known(row.tokens_s for row in rows),
        "padding_fraction": mean_of_known(row.padding_fraction for row in rows),
        "layout_gain": None if gain is None else {"speedup": gain.speedup, "ideal": gain.ideal, "share": gain.share},
        "scores": _scores(rows),
        "attachments": [
            {"replicate": each.row.replicate, "name": one.name, "size_bytes": one.size_bytes}
            for each in records
            for one in each.attachments
        ],
        "parity": _parity([row.parity for row in rows if row.parity is not None]),
        "build_s": mean_of_known(row.build_s for row in rows),
        "export_s": mean_of_known(row.export_s for row in rows),
        "compile_s": mean_of_known(row.compile_s for row in rows),
        "load_s": mean_of_known(row.load_s for row in rows),
        "first_run_s": mean_of_known(row.first_run_s for row in rows),
        "artefact_bytes": _most(row.artefact_bytes for row in rows),
        "cache_hit": _all(row.cache_hit for row in rows),
        "peak_device_bytes": _most(row.peak_device_bytes for row in rows),
        "peak_allocator_bytes": _most(row.peak_allocator_bytes for row in rows),
        "peak_host_bytes": _most(row.peak_host_bytes for row in rows),
        **_machine(record, planned, rows),
        "key": point.key,
        "launches": sum(_launched(each) for each in records),
        "options": plain_json(point.options),
        "overrides": plain_json(point.overrides),
        "weights": point.weights,
        "flags": list(dict.fromkeys(flag for row in rows for flag in row.flags)),
        "settled": _all(row.settled for row in rows),
        "timed_out": _any(row.timed_out for row in rows),
        "facts": plain_json(next((row.facts for row in rows if row.facts), {})),
    }


def _machine(record: RunRecord, planned: PlannedPoint, rows: Sequence[MeasurementRow]) -> dict[str, Any]:
    """Work, rates, share of the ceilings, energy; `telemetry` and `ceiling` are of the first launch that has them."""
    places = [record.position(planned, row) for row in rows]
    joules = mean_of_known(row.joules_per_seq for row in rows)
    return {
        "flops": mean_of_known(row.flops for row in rows),
        "least_bytes": _most(row.least_bytes for row in rows),
        "tflop_s": mean_of_known(each.tflop_s for each in places),
        "gbyte_s": mean_of_known(each.gbyte_s for each in places),
        "ceiling": next((each.ceiling for each in places if each.ceiling), None),
        "ceiling_share": mean_of_known(each.ceiling_share for each in places),
        "energy_joules": mean_of_known(row.energy_joules for row in rows),
        "joules_per_seq": joules,
        "seq_per_joule": 1 / joules if joules else None,
        "telemetry": plain_json(next((row.telemetry for row in rows if row.telemetry), None)),
    }


def _launched(record: MeasurementRecord) -> bool:
    """Whether a worker took the point up: not so where it was skipped before any launch. Imported rows tell by their figures."""
    figures = (record.row.host, record.row.device, record.row.throughput_seq_s)
    return record.launch_id is not None or any(each is not None for each in figures)


def _error(record: RunRecord, planned: PlannedPoint, status: str, decisive: MeasurementRow | None) -> str | None:
    if status == "ok":
        return None
    if decisive is not None:
        return decisive.error
    done = len(record.by_point[planned.point.key])
    what = "not measured" if done == 0 else f"{done} of {planned.replicates} launches measured"
    return f"{what}: the run is {'still marked running' if record.run.state == 'running' else record.run.state}"


def _clock(summaries: Sequence[Summary | ReportedSummary]) -> dict[str, Any] | None:
    """One clock's figures over its launches; None where it took no sample. A figure that a foreign tool left out is None."""
    if not summaries:
        return None
    medians = [each.p50_ms for each in summaries if each.p50_ms is not None]
    return {
        "mean": mean_of_known(each.mean_ms for each in summaries),
        "p50": mean_of_known(medians),
        "p90": mean_of_known(each.p90_ms for each in summaries),
        "p95": mean_of_known(each.p95_ms for each in summaries),
        "p99": mean_of_known(each.p99_ms for each in summaries),
        "p99_9": mean_of_known(each.p99_9_ms for each in summaries),
        "min": min((each.min_ms for each in summaries if each.min_ms is not None), default=None),
        "max": max((each.max_ms for each in summaries if each.max_ms is not None), default=None),
        "std": _mean_of_all(each.std_ms for each in summaries),
        "mad": mean_of_known(each.mad_ms for each in summaries),
        "intervals": {
            "p50": [
                _mean_of_all(each.p50_low_ms for each in summaries),
                _mean_of_all(each.p50_high_ms for each in summaries),
            ],
            "p90": [None, _mean_of_all(each.p90_upper_ms for each in summaries)],
            "p95": [None, _mean_of_all(each.p95_upper_ms for each in summaries)],
            "p99": [None, _mean_of_all(each.p99_upper_ms for each in summaries)],
            "p99_9": [None, _mean_of_all(each.p99_9_upper_ms for each in summaries)],
        },
        "autocorrelation": _mean_of_all(each.autocorrelation for each in summaries),
        "drift": _mean_of_all(each.drift for each in summaries),
        "steady": _all(each.steady for each in summaries),
        "launch_p50_ms": medians,
        "between_launches": between_launches(medians),
    }


def between_launches(medians: Sequence[float], confidence: float = 0.95) -> list[float] | None:
    """Two-sided Student t interval of the mean of the launches' medians, [lower, upper]; None for one launch."""
    n = len(medians)
    if n < 2:
        return None
    from scipy.special import stdtrit

    mean = math.fsum(medians) / n
    deviation = math.sqrt(math.fsum((each - mean) ** 2 for each in medians) / (n - 1))
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * deviation / math.sqrt(n)
    return [mean - half, mean + half]


def _parity(found: Sequence[Parity]) -> dict[str, Any] | None:
    """The worst comparison of all launches: one that failed, else the one with the largest error."""
    if not found:
        return None
    worst = max(found, key=lambda each: (not each.ok, math.inf if each.rel_l2 is None else each.rel_l2))
    names = ("rel_l2", "max_abs", "cosine", "ok", "gain", "nan_share", "reason")
    return {name: plain_json(getattr(worst, name)) for name in names}


def _scores(rows: Sequence[MeasurementRow]) -> list[dict[str, Any]]:
    """Each task and metric once: the mean of its launches' values; `n` and the reference are those of the first launch."""
    found: dict[tuple[str, str], list[Score]] = {}
    for row in rows:
        for score in row.scores:
            found.setdefault((score.task, score.metric), []).append(score)
    return [
        {
            "task": task,
            "metric": metric,
            "value": mean_of_known(each.value for each in scores),
            "n": scores[0].n,
            "reference": plain_json(scores[0].reference),
        }
        for (task, metric), scores in sorted(found.items())
    ]


def _mean_of_all(values: Iterable[float | None]) -> float | None:
    """Mean, None where one is missing: a bound that one launch could not give must not look as if all had."""
    every = list(values)
    return None if None in every else mean_of_known(every)


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _all(values: Iterable[bool | None]) -> bool | None:
    there = [value for value in values if value is not None]
    return all(there) if there else None


def _any(values: Iterable[bool | None]) -> bool | None:
    there = [value for value in values if value is not None]
    return any(there) if there else None


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
