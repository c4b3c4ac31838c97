"""What is run on the way to the test that counts, with LoadGen's verdicts made up: searches, repetitions, demands that nothing can meet."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchrun.backends.contract import Inputs, Point
from benchrun.results.importers.foreign import ForeignMeasurement, ForeignPoint
from benchrun.results.statistics import ReportedSummary
from benchrun.runner.loadgen.calls import Pace
from benchrun.runner.loadgen.library import Library
from benchrun.runner.loadgen.minima import Minima
from benchrun.runner.loadgen.search import MOST_FULL_RUNS, PRECISION, keeps_up
from benchrun.runner.loadgen.stand import LEAST_LOAD, Impossible, Stand, Story, run_traffic
from benchrun.runner.loadgen.traffic import Traffic
from tests.benchmarks.loadgen_overhead import NullSession

POINT = Point("tiny", "random:0", "qa", "torch", "eager", "cpu", "fp32", 4, 8, "loadgen:offline:fixed:padded", "p")
PACE = Pace(10, 0.001, 0.0015, 800.0), Pace(10, 0.002, 0.003, 1000.0)
NO_ENERGY: Any = SimpleNamespace(energy=lambda: None, energy_note=lambda: "")


class ScriptedStand(Stand):
    """Its tests say what `verdict` makes of their rate; `asked` are (rate, seconds, bounded). A second look finds the `again` pace."""

    def pace(self) -> tuple[Pace, Pace]:
        return self.again  # type: ignore[attr-defined,no-any-return]

    def test(self, qps: float, duration_s: float, queries: int, *, bounded: bool = False) -> Any:
        self.asked.append((qps, duration_s, bounded))  # type: ignore[attr-defined]
        return SimpleNamespace(read=lambda: self.verdict(qps), seconds=duration_s, accuracy="")  # type: ignore[attr-defined]


def stand_of(
    traffic: Traffic,
    verdict: Callable[[float], ForeignMeasurement],
    expected: float | None = None,
    again: tuple[Pace, Pace] = PACE,
) -> Any:
    from benchrun.runner.loadgen.executors import Ladder, Shape

    samples = Library.of(Inputs(0, {"input_ids": np.ones((4, 8), np.int64)}, (8,) * 4))
    executor = Ladder(samples, {Shape(4, 8): NullSession()}, answers=False)
    stand = ScriptedStand(traffic, POINT, executor, samples, Minima(60, 100, 4, expected_qps=expected), answers=False)
    object.__setattr__(stand, "verdict", verdict)
    object.__setattr__(stand, "asked", [])
    object.__setattr__(stand, "again", again)
    return stand


def read(
    p99_ms: float = 10.0, *, valid: bool = True, long: bool = True, rate: float | None = 900.0, sure: bool = True
) -> ForeignMeasurement:
    facts = {"validity": "VALID" if valid else "INVALID", "constraints_met": p99_ms < 130, "min_duration_met": long}
    facts["early_stopping"] = sure
    host = ReportedSummary(n=100, mean_ms=2.0, p99_ms=p99_ms)
    status = "ok" if valid else "invalid"
    return ForeignMeasurement(
        ForeignPoint("mlperf", "sut", "p"), "summary", "results", status, host=host, throughput_seq_s=rate, facts=facts
    )


def test_auto_searches_and_bisects_full_runs_between_valid_and_invalid() -> None:
    full: list[float] = []

    def verdict(qps: float) -> ForeignMeasurement:
        if qps > 500:
            return read(400.0, valid=False)
        if stand.asked[-1][1] == 60:
            full.append(qps)
        return read(100.0, valid=qps < 450, rate=qps)

    stand, story = stand_of(Traffic("server"), verdict), Story()
    outcome = run_traffic(stand, PACE, NO_ENERGY, story)
    assert outcome.read is not None and outcome.read.status == "ok"
    assert 450 * (1 - PRECISION) <= outcome.qps < 450 and outcome.qps in full and 3 <= len(full) <= MOST_FULL_RUNS
    valid, invalid = story.bracket["valid_qps"], story.bracket["invalid_qps"]
    assert valid == pytest.approx(outcome.qps) and 450 <= invalid <= valid / (1 - PRECISION) + 1e-3
    assert story.bracket["by"] == "full run" and story.runs[0]["validity"] == "INVALID"
    assert story.probes[0]["qps"] == 1100 and not story.probes[0]["met"]
    assert all(seconds == 10 and bounded for _, seconds, bounded in stand.asked[: len(story.probes)])


def test_a_valid_first_run_is_bracketed_by_the_probes() -> None:
    stand = stand_of(Traffic("server"), lambda qps: read(100.0 if qps <= 500 else 400.0, valid=qps <= 500))
    outcome = run_traffic(stand, PACE, NO_ENERGY, story := Story())
    assert len(story.runs) == 1 and story.bracket["valid_qps"] == pytest.approx(outcome.qps)
    assert story.bracket["by"] == "probe" and 500 < story.bracket["invalid_qps"] <= outcome.qps * 1.03


def test_runs_that_stay_invalid_are_bounded_and_the_last_one_counts() -> None:
    stand = stand_of(Traffic("server"), lambda qps: read(100.0, valid=False))
    outcome = run_traffic(stand, PACE, NO_ENERGY, story := Story())
    assert outcome.read is not None and outcome.read.status == "invalid" and len(story.runs) == MOST_FULL_RUNS
    rates = [each["qps"] for each in story.runs]
    assert rates == sorted(rates, reverse=True) and outcome.qps == pytest.approx(rates[-1]) and rates[-1] < rates[0] / 2
    assert story.bracket["valid_qps"] is None and story.bracket["invalid_qps"] == pytest.approx(rates[-1])
    assert rates[-1] > 0  # LoadGen would run 1 a second for a rate below 0


def test_too_few_queries_for_loadgen_to_be_sure_are_not_tried_at_lower_rates() -> None:
    stand = stand_of(Traffic("server"), lambda qps: read(100.0, valid=False, sure=False))
    outcome = run_traffic(stand, PACE, NO_ENERGY, story := Story())
    assert outcome.read is not None and outcome.read.status == "invalid" and len(story.runs) == 1


# --- the search on a simulated queue ---


class Queue:
    """Poisson queries on one server that takes up to 32 at a time, in 4 ms and its share of 1000 a second."""

    capacity, batch, call_s = 1000.0, 32, 0.004

    def run(self, qps: float, duration_s: float, queries: int) -> ForeignMeasurement:
        """As LoadGen would report it: the same schedule for every rate, longer for longer runs."""
        n = int(max(queries, qps * duration_s))
        came = np.cumsum(np.random.default_rng(1).exponential(1 / qps, n))
        each_s = (self.batch / self.capacity - self.call_s) / self.batch
        latency, free, i = np.empty(n), 0.0, 0
        while i < n:
            start = max(free, came[i])
            j = max(i + 1, min(int(np.searchsorted(came, start, side="right")), i + self.batch))
            free = start + self.call_s + each_s * (j - i)
            latency[i:j] = free - came[i:j]
            i = j
        p50, p99 = (float(np.sort(latency)[int(share * n)]) * 1000 for share in (0.5, 0.99))
        met = p99 < 130
        facts = {"validity": "VALID" if met else "INVALID", "constraints_met": met, "scheduled_samples_s": n / came[-1]}
        host = ReportedSummary(n=n, p50_ms=p50, p99_ms=p99)
        return ForeignMeasurement(
            ForeignPoint("mlperf", "sut", "p"), "summary", "results", "ok" if met else "invalid",
            host=host, throughput_seq_s=n / free, facts=facts,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("duration_s", "queries", "longest_probe_s"),
    [(1.0, 1000, 2.0), (6.0, 1000, 2.6), (10.0, 2000, 2.6), (600.0, 100, 20.0)],
)
def test_the_rate_that_is_found_is_near_the_highest_that_is_valid(
    duration_s: float, queries: int, longest_probe_s: float
) -> None:
    """Quick, short, usual and official: 2 % below at most what a full run of that length still does within the limit."""
    queue = Queue()

    class QueueStand(ScriptedStand):
        def test(self, qps: float, duration_s: float, queries: int, *, bounded: bool = False) -> Any:
            self.asked.append((qps, duration_s, bounded))  # type: ignore[attr-defined]
            return SimpleNamespace(read=lambda: queue.run(qps, duration_s, queries), seconds=duration_s, accuracy="")

    plain = stand_of(Traffic("server"), lambda qps: read())
    stand: Any = QueueStand(
        plain.traffic, POINT, plain.executor, plain.library, Minima(duration_s, queries, 4), answers=False
    )
    object.__setattr__(stand, "asked", [])
    outcome = run_traffic(stand, PACE, NO_ENERGY, story := Story())
    assert outcome.read is not None and outcome.read.status == "ok"

    low, high = 0.9 * outcome.qps, 1.2 * Queue.capacity  # the true limit of a full run, by bisection to 0.1 %
    assert queue.run(low, duration_s, queries).status == "ok" and queue.run(high, duration_s, queries).status != "ok"
    while high - low > 0.001 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if queue.run(middle, duration_s, queries).status == "ok" else (low, middle)
    assert low * (1 - 1.5 * PRECISION) <= outcome.qps <= high, (outcome.qps, low, story)
    assert len(story.runs) <= MOST_FULL_RUNS and story.bracket["valid_qps"] == pytest.approx(outcome.qps, abs=1e-3)
    assert max(seconds for _, seconds, bounded in stand.asked if bounded) == pytest.approx(longest_probe_s, rel=0.1)


def test_a_backlog_that_grows_is_not_kept_up_with() -> None:
    assert keeps_up(1000, 100.0, 99.0, 5.0) and not keeps_up(1000, 100.0, 97.0, 5.0)
    assert keeps_up(1000, 100.0, 97.0, 200.0)  # the last answers' own latency is no backlog
    assert keeps_up(None, 100.0, 90.0, 5.0) and keeps_up(1000, None, 90.0, 5.0) and keeps_up(1000, 100.0, 90.0, None)


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        (
            Traffic("server", limit_ms=0.5),
            "no rate keeps a latency limit of 0.5 ms: a single sample alone takes 1 ms here",
        ),
        (
            Traffic("server"),
            "queries a second, the lightest load that is tried, the 99th percentile is 400 ms already",
        ),
        (
            Traffic("server", rate=5000),
            "--target-qps 5000 is out of reach: torch:eager does about 1000 samples a second",
        ),
    ],
)
def test_what_nothing_can_meet_is_said(traffic: Traffic, words: str) -> None:
    stand = stand_of(traffic, lambda qps: read(400.0, valid=False))
    with pytest.raises(Impossible, match=words):
        run_traffic(stand, PACE, NO_ENERGY, Story())
    # a probe has 100 queries: the search ends before they take minutes
    assert all(qps >= LEAST_LOAD / PACE[0].median_s for qps, _, _ in stand.asked)


def test_a_demand_is_refused_only_where_a_second_look_agrees() -> None:
    """A busy machine made the first one slow."""
    slow = Pace(5, 0.2, 0.3, 80.0), Pace(5, 0.2, 0.3, 100.0)
    for traffic in (Traffic("server", rate=1500), Traffic("server", rate=500, limit_ms=130)):
        stand = stand_of(traffic, lambda qps: read())
        run_traffic(stand, slow, NO_ENERGY, story := Story())
        assert len(story.runs) == 1
        with pytest.raises(Impossible):
            run_traffic(stand_of(traffic, lambda qps: read(), again=slow), slow, NO_ENERGY, Story())


def test_a_rate_that_was_asked_for_is_run_once() -> None:
    stand = stand_of(Traffic("server", rate=1500), lambda qps: read(400.0, valid=False))
    run_traffic(stand, PACE, NO_ENERGY, story := Story())
    assert stand.asked == [(1500, 60, False)] and len(story.runs) == 1


@pytest.mark.parametrize(
    ("scenario", "first"), [("offline", 1250.0), ("single-stream", 500.0), ("multi-stream", 500.0)]
)
def test_a_test_that_ended_early_is_repeated_with_more_queries(scenario: str, first: float) -> None:
    def verdict(qps: float) -> ForeignMeasurement:
        return read(long=qps > 2 * first, valid=qps > 2 * first, rate=900.0 if scenario == "offline" else None)

    stand = stand_of(Traffic(scenario), verdict)
    outcome = run_traffic(stand, PACE, NO_ENERGY, story := Story())
    assert stand.asked[0][0] == pytest.approx(first) and outcome.qps > 2 * first
    assert [each["validity"] for each in story.runs][-1] == "VALID" and 2 <= len(story.runs) <= 4


def test_what_loadgen_is_told_to_expect_is_kept() -> None:
    stand = stand_of(Traffic("offline"), lambda qps: read(long=False, valid=False), expected=77.0)
    run_traffic(stand, PACE, NO_ENERGY, Story())
    assert stand.asked == [(77.0, 60, False)]


def test_accuracy_mode_is_run_once_and_has_no_figures() -> None:
    stand = stand_of(Traffic("server", mode="accuracy"), lambda qps: read())
    outcome = run_traffic(stand, PACE, NO_ENERGY, story := Story())
    assert outcome.read is None and stand.asked == [(500.0, 60, False)] and "validity" not in story.runs[0]
