"""MLPerf LoadGen (1.0 to 6.0): `mlperf_log_summary.txt` and `mlperf_log_detail.txt` of a performance run.

Nanoseconds. What a latency is depends on the scenario: SingleStream one query after the other, MultiStream a query of
several samples, Server with the time in the queue. Offline hands over everything at once: its per-sample "latency" is
the place in the queue, and its mean has overflowed 64 bits in published logs, so only the throughput is taken over.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from benchrun.results.importers import values
from benchrun.results.importers.documents import parse_json
from benchrun.results.importers.foreign import (
    ForeignMeasurement,
    ForeignPoint,
    ForeignResult,
    ImportFailed,
    Source,
    protocol_id,
    reported,
)
from benchrun.results.importers.limits import split_lines
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar
from benchrun.results.statistics import ReportedSummary

FORMAT = "mlperf"
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
_DETAIL = ":::MLLOG "
_SUMMARY = "MLPerf Results Summary"
_QUANTILES = {"50.00": "p50_ms", "90.00": "p90_ms", "95.00": "p95_ms", "99.00": "p99_ms", "99.90": "p99_9_ms"}
MAX_RECORDS = 200_000
# What MLPerf takes as the result of these scenarios: the percentile's upper bound by early stopping, ns. Detail log's key, percentile.
_ESTIMATES = {
    "SingleStream": ("early_stopping_latency_ss", "90.0"),
    "MultiStream": ("early_stopping_latency_ms", "99.0"),
}

Entry = tuple[int, Any]  # line, value


def recognise(source: Source) -> bool:
    """Is this one of LoadGen's logs?"""
    start = source.data[:4096]
    return _SUMMARY.encode() in start or _DETAIL.encode() in start


def parse(source: Source, sidecar: Sidecar = NO_SIDECAR) -> ForeignResult:
    """Read a summary or a detail log."""
    lines = split_lines(source)
    if any(line.startswith(_DETAIL) for line in lines[:20]):
        return _read(source, _Log(source, _detail_entries(source, lines), _detail_key), sidecar)
    if not any(_SUMMARY in line for line in lines[:20]):
        raise source.failed("is neither a summary nor a detail log of MLPerf LoadGen")
    return _read(source, _Log(source, _summary_entries(lines), _summary_key), sidecar)


class _Log:
    """The entries of either log under the names of the detail log; errors name line and field."""

    def __init__(self, source: Source, entries: dict[str, Entry], key: Callable[[str], str]) -> None:
        self.source, self._entries, self._key = source, entries, key

    def find(self, name: str) -> Any:
        entry = self._entries.get(self._key(name))
        return entry[1] if entry is not None else None

    def failing(self, name: str) -> values.Fail:
        key = self._key(name)
        line = self._entries.get(key, (None, None))[0]
        return self.source.failing(line, key)

    def failed(self, name: str, problem: str) -> ImportFailed:
        return self.failing(name)(problem)

    def ms(self, name: str) -> float | None:
        value = self.find(name)
        return None if value is None else values.to_ms(value, "ns", self.failing(name))

    def rate(self, name: str) -> float | None:
        value = self.find(name)
        return None if value is None else values.to_rate(value, self.failing(name))

    def count(self, name: str) -> int | None:
        value = self.find(name)
        return None if value is None else values.to_count(value, self.failing(name), most=2**53)

    def flag(self, name: str) -> bool | None:
        value = self.find(name)
        if value in (True, "Yes"):
            return True
        return False if value in (False, "NO", "No") else None


def _read(source: Source, log: _Log, sidecar: Sidecar) -> ForeignResult:
    scenario = log.find("effective_scenario")
    if scenario not in SCENARIOS:
        raise log.failed("effective_scenario", f"{values.show(scenario)} is not one of {', '.join(SCENARIOS)}")
    mode = log.find("effective_test_mode")
    if mode not in (None, "PerformanceOnly"):
        raise log.failed("effective_test_mode", f"{values.show(mode)} measures no speed; give a PerformanceOnly run")
    validity = log.find("result_validity")
    if validity not in ("VALID", "INVALID"):
        raise log.failed("result_validity", "there is no result: the run did not finish")
    version = log.find("loadgen_version")
    version = values.to_name(version, log.failing("loadgen_version")) if isinstance(version, str) else None
    samples = log.count("effective_samples_per_query")
    batch = {"SingleStream": 1, "MultiStream": samples}.get(scenario)
    point = sidecar.complete(
        ForeignPoint(
            backend="mlperf",
            variant="sut",
            protocol=protocol_id("mlperf", None, scenario=scenario.lower(), clock="loadgen", pct="floor"),
            batch=batch or None,
        ),
        source,
    )
    facts: dict[str, Any] = {
        "validity": validity,
        "scenario": scenario,
        "sut": _short(log.find("sut_name")),
        "early_stopping": log.flag("early_stopping_met"),
        "min_duration_met": log.flag("result_min_duration_met"),
        "min_queries_met": log.flag("result_min_queries_met"),
        "constraints_met": log.flag("result_perf_constraints_met"),
        "overlatency_queries": log.count("result_overlatency_query_count"),
        "scheduled_samples_s": log.rate("result_scheduled_samples_per_sec"),
        "target_latency_ms": log.ms("effective_target_latency_ns"),
    }
    warnings: list[str] = []
    host = None if scenario == "Offline" else _latencies(log, scenario)
    if scenario == "Offline":
        warnings.append("Offline latencies are places in a queue, and their mean may have overflowed: not imported")
        facts["mean_overflowed"] = _overflowed(log)
    else:
        facts["p97_ms"] = log.ms(_latency_key(log, scenario, "97.00"))
    facts |= _early_stopping(log, scenario)
    throughput = _throughput(log, scenario)
    started = _started(log)
    if started is not None:
        warnings.append("the log's time of day names no timezone and was read as UTC")
    if throughput is None and (host is None or host.p50_ms is None):
        raise source.failed("has no figures: the log is cut off")
    checks = ("min_duration_met", "min_queries_met", "constraints_met", "early_stopping")
    missed = [name for name in checks if facts[name] is False]
    error = f"LoadGen calls the run INVALID{': ' + ', '.join(missed) + ' failed' if missed else ''}"
    measurement = ForeignMeasurement(
        point=point,
        trust="mean" if host is None else "summary",
        place="results",
        status="ok" if validity == "VALID" else "invalid",
        error=None if validity == "VALID" else error,
        host=host,
        throughput_seq_s=throughput,
        throughput_isolated=None if throughput is None else scenario == "SingleStream",
        flags=("queueing",) if scenario == "Server" else (),
        facts={name: value for name, value in facts.items() if value is not None},
    )
    return ForeignResult(
        format=FORMAT,
        tool="mlperf-loadgen",
        tool_version=version.partition(" ")[0] if version else None,
        sha256=source.sha256,
        measurements=(measurement,),
        started=started,
        facts={"log": "summary" if version is None else "detail"},
        warnings=tuple(warnings),
    )


def _latencies(log: _Log, scenario: str) -> ReportedSummary:
    figures = {f"{name}_ms": log.ms(_latency_key(log, scenario, name)) for name in ("min", "max", "mean")}
    for quantile, ours in _QUANTILES.items():
        figures[ours] = log.ms(_latency_key(log, scenario, quantile))
    n = log.count("result_query_count")
    counted = n if n is not None and 0 < n <= values.MAX_COUNT else None
    return reported(counted, figures, log.failing("result_mean_latency_ns"))


def _latency_key(log: _Log, scenario: str, name: str) -> str:
    """The entry of a latency. A MultiStream query is answered when its last sample is: the summary tells only of queries, under the
    usual names, the detail log of both."""
    figure = f"{name}_percentile" if "." in name else name
    if scenario == "MultiStream":
        query = f"result_{figure}_per_query_latency_ns" if "." in name else f"result_{figure}_query_latency_ns"
        if log.find(query) is not None:
            return query
    return f"result_{figure}_latency_ns"


def _early_stopping(log: _Log, scenario: str) -> dict[str, Any]:
    """The estimate that MLPerf publishes, in ms under `early_stopping_p90_ms` or `early_stopping_p99_ms`, and LoadGen's own words.

    LoadGen writes 0 for an estimate where the queries were too few.
    """
    found: dict[str, Any] = {"early_stopping_result": _short(log.find("early_stopping_result"))}
    if scenario in _ESTIMATES:
        key, percentile = _ESTIMATES[scenario]
        found[f"early_stopping_p{percentile.partition('.')[0]}_ms"] = log.ms(key) or None
    return found


def _overflowed(log: _Log) -> bool | None:
    """An Offline mean below the minimum, or far from the median, has overflowed (the sum passes 2⁶⁴ ns)."""
    mean, least, median = (log.ms(f"result_{name}_latency_ns") for name in ("mean", "min", "50.00_percentile"))
    if mean is None or least is None:
        return None
    return mean < least or (median is not None and mean < median / 4)


def _throughput(log: _Log, scenario: str) -> float | None:
    if scenario == "Offline":
        return log.rate("result_samples_per_second")
    if scenario == "Server":
        return log.rate("result_completed_samples_per_sec")
    return log.rate("result_qps_with_loadgen_overhead") if scenario == "SingleStream" else None


def _started(log: _Log) -> datetime | None:
    value = log.find("power_begin")  # local time without a zone, in the American order
    if not isinstance(value, str):
        return None
    try:
        return datetime.strptime(value[:19], "%m-%d-%Y %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _short(value: Any) -> str | None:
    return value.strip()[:300] if isinstance(value, str) else None


# --- the detail log -------------------------------------------------------------------------------------------------


def _detail_key(name: str) -> str:
    return name


def _detail_entries(source: Source, lines: list[str]) -> dict[str, Entry]:
    if len(lines) > MAX_RECORDS:
        raise source.failed(f"has over {MAX_RECORDS:,} records: was a trace written into it?")
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if not line.startswith(_DETAIL):
            raise source.failed(f"does not start with '{_DETAIL.strip()}'", line=number)
        try:
            record = parse_json(Source(source.name, line[len(_DETAIL) :].encode("utf-8", "surrogatepass"))).value
        except ImportFailed as failure:
            raise source.failed(failure.problem, line=number) from None
        key = record.get("key") if isinstance(record, dict) else None
        if not isinstance(key, str):
            raise source.failed("'key' is missing", line=number)
        entries[key] = (number, record.get("value"))
    return entries


# --- the summary ----------------------------------------------------------------------------------------------------

_SUMMARY_KEYS = {
    "effective_scenario": "Scenario",
    "effective_test_mode": "Mode",
    "result_validity": "Result is",
    "sut_name": "SUT name",
    "early_stopping_met": "Early stopping satisfied",
    **{key: f"Early stopping {percentile}th percentile estimate" for key, percentile in _ESTIMATES.values()},
    "result_min_duration_met": "Min duration satisfied",
    "result_min_queries_met": "Min queries satisfied",
    "result_perf_constraints_met": "Performance constraints satisfied",
    "result_scheduled_samples_per_sec": "Scheduled samples per second",
    "result_completed_samples_per_sec": "Completed samples per second",
    "result_samples_per_second": "Samples per second",
    "result_qps_with_loadgen_overhead": "QPS w/ loadgen overhead",
    "effective_samples_per_query": "samples_per_query",
    "effective_target_latency_ns": "target_latency (ns)",
    "result_min_latency_ns": "Min latency (ns)",
    "result_max_latency_ns": "Max latency (ns)",
    "result_mean_latency_ns": "Mean latency (ns)",
    **{
        f"result_{quantile}_percentile_latency_ns": f"{quantile} percentile latency (ns)"
        for quantile in (*_QUANTILES, "97.00")
    },
}


def _summary_key(name: str) -> str:
    return _SUMMARY_KEYS.get(name, name)


def _summary_entries(lines: list[str]) -> dict[str, Entry]:
    """`key : value` lines; the spaces before the colon vary, and keys have none of their own, so the last one counts. Of the lines that
    start with an asterisk those with an estimate only: the others are LoadGen's advice.
    """
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        key, colon, value = line.rpartition(":")
        starred = line.lstrip().startswith("*")
        if starred:
            key = key.replace("*", " ", 1)
        if colon and (not starred or key.rstrip().endswith("percentile estimate")):
            entries.setdefault(" ".join(key.split()), (number, value.strip()))
    return entries
