"""The test stand: LoadGen's tests on an executor. What it is told to expect, the search for the highest rate, the run that counts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from benchrun.results.statistics import BOUND_SAMPLES
from benchrun.runner.loadgen.calls import Pace, measure_pace
from benchrun.runner.loadgen.executors import Tally
from benchrun.runner.loadgen.search import FullRun, Probe, bracket_of, find_rate, keeps_up, next_rate
from benchrun.runner.loadgen.systems import Batching, Direct, Reply, quick_switches
from benchrun.runner.loadgen.trial import Demand, Logs, import_loadgen, run_test
from benchrun.runner.loops import quiet
from benchrun.runner.telemetry.energy import Energy, window_energy

if TYPE_CHECKING:
    from benchrun.backends.contract import Point
    from benchrun.results.importers.foreign import ForeignMeasurement
    from benchrun.runner.loadgen.executors import Executor
    from benchrun.runner.loadgen.library import Library
    from benchrun.runner.loadgen.minima import Minima
    from benchrun.runner.loadgen.traffic import Traffic
    from benchrun.runner.telemetry.interface import Telemetry

IMPOSSIBLE = "impossible"  # the flag of a point whose rate or deadline nothing can meet
# LoadGen makes its queries beforehand, for so many times the pace that was seen: a system that turns out quicker must not run out of them
EXPECTED = {"single-stream": 1.5, "multi-stream": 1.5, "offline": 1.25}
MORE = 1.3  # of what a test showed, where it ended before its time
ROOM = 1.1  # the search for a rate begins with so many times what full batches gave
LEAST_QUERIES = BOUND_SAMPLES["p99"]  # that early stopping needs, all of them within the limit
LEAST_LOAD = 0.1  # of what single samples would allow: at that the engine idles, and a query hardly ever meets another
HOPELESS = 2.0  # a rate of so many times that is not tried
MOST_RUNS = 4
PROBE_QUERIES = 100
PACE_S = 2.0  # seconds of calls before the first test, at most; also the device's warm-up


class Impossible(Exception):
    """A rate or a deadline that nothing can meet, in one sentence."""


@dataclass(slots=True)
class Story:
    """What happened on the way to the test that counts, as plain JSON."""

    probes: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    bracket: dict[str, Any] = field(default_factory=dict)  # of the highest rate, where one was looked for


@dataclass(frozen=True, slots=True)
class Outcome:
    """The test that counts. `read` is None in accuracy mode; `qps` is what LoadGen was told."""

    logs: Logs
    read: ForeignMeasurement | None
    tally: Tally
    energy: Energy
    qps: float


@dataclass(frozen=True, slots=True)
class Stand:
    """An executor with its library, and what LoadGen shall do with them. `answers`: they are copied back to the host."""

    traffic: Traffic
    point: Point
    executor: Executor
    library: Library
    minima: Minima
    answers: bool

    @property
    def query_samples(self) -> int:
        """Samples of a query (Offline has one query; its rate counts samples)."""
        return self.point.batch if self.traffic.scenario == "multi-stream" else 1

    def pace(self) -> tuple[Pace, Pace]:
        """The pace of the smallest and of the largest query that the scenario has, measured now."""
        window = min(PACE_S, self.minima.duration_s / 4)
        full = self.executor.most if not self.traffic.streams else self.query_samples
        least = 1 if self.traffic.server else full
        one = measure_pace(self.executor, self.library, least, window)
        return one, one if full == least else measure_pace(self.executor, self.library, full, window)

    def test(self, qps: float, duration_s: float, queries: int, *, bounded: bool = False) -> Logs:
        """One test by LoadGen; the executor's tally is of this test afterwards."""
        traffic, accuracy = self.traffic, self.traffic.mode == "accuracy"
        demand = Demand(
            scenario=traffic.scenario,
            accuracy=accuracy,
            duration_s=duration_s,
            queries=queries,
            qps=qps,
            limit_ms=traffic.limit_ms,
            samples_per_query=self.query_samples,
            bounded=bounded,
        )
        self.executor.tally = Tally()
        reply = Reply(import_loadgen(), self.library, log_answers=accuracy)
        if traffic.streams:
            system: Direct | Batching = Direct(self.executor, reply)
        else:
            ahead = traffic.scenario == "offline"
            system = Batching(self.executor, reply, wait_s=traffic.wait_ms / 1000, ahead=ahead)
        with quick_switches(), quiet():
            return run_test(demand, self.library.count, system, self.executor.load)


def run_traffic(stand: Stand, pace: tuple[Pace, Pace], telemetry: Telemetry, story: Story) -> Outcome:
    """The test that counts, after whatever had to be found out before. Raises Impossible."""
    one, full = pace
    traffic, minima = stand.traffic, stand.minima
    if traffic.mode == "accuracy":
        # every sample once, at half the pace where LoadGen sets it
        return _run(stand, full.samples_s / 2, telemetry, story)
    if traffic.server:
        return _serve(stand, one, full, telemetry, story)
    if traffic.scenario == "offline":
        qps = minima.expected_qps or EXPECTED["offline"] * full.samples_s
    else:
        qps = EXPECTED[traffic.scenario] / full.median_s
    outcome = _run(stand, qps, telemetry, story)
    while _too_short(outcome) and minima.expected_qps is None and len(story.runs) < MOST_RUNS:
        outcome = _run(stand, MORE * max(qps, _pace_of(outcome)), telemetry, story)
        qps = outcome.qps
    return outcome


def _serve(stand: Stand, one: Pace, full: Pace, telemetry: Telemetry, story: Story) -> Outcome:
    """Server: the rate that was asked for, or the highest that keeps the deadline."""
    traffic = stand.traffic

    def refusal() -> str | None:
        if one.least_s * 1000 > traffic.limit_ms:
            return (
                f"no rate keeps a latency limit of {traffic.limit_ms:g} ms: a single sample alone takes {one.least_s * 1000:.3g} ms here, "
                "so allow more with --latency-limit"
            )
        most = max(full.samples_s, one.samples_s)
        if traffic.rate is not None and traffic.rate > HOPELESS * most:
            return (
                f"--target-qps {traffic.rate:g} is out of reach: {stand.point.engine} does about {most:.4g} samples a second here, in "
                f"batches of up to {stand.point.batch}, so ask for less, or for auto"
            )
        return None

    if refusal():  # a short look at a busy machine is not enough to refuse a demand
        one, full = stand.pace()
        if sentence := refusal():
            raise Impossible(sentence)
    if traffic.rate is not None:
        return _run(stand, traffic.rate, telemetry, story)
    most = max(full.samples_s, one.samples_s)
    return _search(stand, most, min(most, LEAST_LOAD / one.median_s), telemetry, story)


def _search(stand: Stand, most: float, least: float, telemetry: Telemetry, story: Story) -> Outcome:
    """The highest rate that keeps the deadline, `most` being the samples a second that full batches gave: the run that shows it."""
    limit_ms = stand.traffic.limit_ms

    def probe(qps: float) -> Probe:
        started = time.perf_counter()
        read = stand.test(qps, stand.minima.probe_s(limit_ms, qps), PROBE_QUERIES, bounded=True).read()
        p99 = read.host.p99_ms if read.host is not None and read.host.p99_ms is not None else float("inf")
        met = read.facts.get("constraints_met") is True and _keeps_up(read)
        found = Probe(qps, p99, met, stand.executor.tally.samples, time.perf_counter() - started)
        story.probes.append(found.to_json())
        return found

    rate, probes = find_rate(ROOM * most, least, probe)
    if rate is None:
        last = probes[-1]
        raise Impossible(
            f"no rate keeps a latency limit of {limit_ms:g} ms: at {last.qps:.3g} queries a second, the lightest load that is "
            f"tried, the 99th percentile is {last.p99_ms:.4g} ms already, so allow more with --latency-limit"
        )
    best = outcome = _run(stand, rate, telemetry, story)
    runs = [_full_run(outcome)]
    while not _too_few(outcome) and (asked := next_rate(runs)) is not None:
        outcome = _run(stand, asked, telemetry, story)
        runs.append(_full_run(outcome))
        if runs[-1].valid:  # a run that follows a VALID one has a higher rate
            best = outcome
    story.bracket |= bracket_of(runs, probes).to_json()
    return best if any(each.valid for each in runs) else outcome


def _full_run(outcome: Outcome) -> FullRun:
    read = outcome.read
    return FullRun(outcome.qps, read is not None and read.status == "ok", read.throughput_seq_s if read else None)


def _keeps_up(read: ForeignMeasurement) -> bool:
    host = read.host
    n, p50_ms = (host.n, host.p50_ms) if host is not None else (None, None)
    return keeps_up(n, read.facts.get("scheduled_samples_s"), read.throughput_seq_s, p50_ms)


def _run(stand: Stand, qps: float, telemetry: Telemetry, story: Story) -> Outcome:
    """One test of full length, with the energy that it took."""
    before, started = telemetry.energy(), time.perf_counter()
    logs = stand.test(qps, stand.minima.duration_s, stand.minima.queries)
    energy = window_energy(before, telemetry.energy(), time.perf_counter() - started, telemetry.energy_note())
    read = None if stand.traffic.mode == "accuracy" else logs.read()
    outcome = Outcome(logs, read, replace(stand.executor.tally), energy, qps)
    story.runs.append(_note(outcome))
    return outcome


def _note(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = {"qps": round(outcome.qps, 4), "samples": outcome.tally.samples}
    found["seconds"] = round(outcome.logs.seconds, 3)
    if (read := outcome.read) is not None:
        found |= {"validity": read.facts["validity"], "p99_ms": read.host.p99_ms if read.host else None}
        found |= {"samples_s": read.throughput_seq_s} if read.throughput_seq_s is not None else {}
    return found


def _too_short(outcome: Outcome) -> bool:
    facts: Mapping[str, Any] = outcome.read.facts if outcome.read is not None else {}
    return facts.get("min_duration_met") is False or facts.get("min_queries_met") is False


def _too_few(outcome: Outcome) -> bool:
    """Whether a run kept the limit, but with fewer queries than LoadGen's early stopping needs for a p99: no lower rate has more."""
    read = outcome.read
    if read is None or read.host is None or read.host.n is None:
        return False
    unsure = read.facts.get("constraints_met") is True and read.facts.get("early_stopping") is False
    return unsure and read.host.n < LEAST_QUERIES


def _pace_of(outcome: Outcome) -> float:
    """Queries a second (Offline: samples) that the system showed."""
    read = outcome.read
    if read is None:
        return 0.0
    if read.throughput_seq_s is not None:
        return read.throughput_seq_s
    mean = read.host.mean_ms if read.host is not None else None
    return 1000 / mean if mean else 0.0


def pace_to_json(pace: tuple[Pace, Pace]) -> dict[str, dict[str, float]]:
    """Plain JSON, rounded for reading."""
    return {
        name: {key: round(value, 7) for key, value in asdict(each).items()}
        for name, each in zip(("smallest", "largest"), pace, strict=True)
    }
