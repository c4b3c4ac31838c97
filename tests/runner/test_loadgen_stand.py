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
from benchrun.runner.loadgen.stand import Impossible, Stand, Story, run_traffic
from benchrun.runner.loadgen.traffic import Traffic
from tests.benchmarks.loadgen_overhead import NullSession

POINT = Point("tiny", "random:0", "qa", "torch", "eager", "cpu", "fp32", 4, 8, "loadgen:offline:fixed:padded", "p")
PACE = Pace(10, 0.001, 0.0015, 800.0), Pace(10, 0.002, 0.003, 1000.0)
NO_ENERGY: Any = SimpleNamespace(energy=lambda: None)


class ScriptedStand(Stand):
    """Its tests say what `verdict` makes of their rate; `asked` are (rate, seconds, bounded)."""

    def test(self, qps: float, duration_s: float, queries: int, *, bounded: bool = False) -> Any:
        self.asked.append((qps, duration_s, bounded))  # type: ignore[attr-defined]
        return SimpleNamespace(read=lambda: self.verdict(qps), seconds=duration_s, accuracy="")  # type: ignore[attr-defined]


def stand_of(traffic: Traffic, verdict: Callable[[float], ForeignMeasurement], expected: float | None = None) -> Any:
    from benchrun.runner.loadgen.executors import Ladder, Shape

    samples = Library.of(Inputs(0, {"input_ids": np.ones((4, 8), np.int64)}, (8,) * 4))
    executor = Ladder(samples, {Shape(4, 8): NullSession()}, answers=False)
    stand = ScriptedStand(traffic, POINT, executor, samples, Minima(60, 100, 4, expected_qps=expected), answers=False)
    object.__setattr__(stand, "verdict", verdict)
    object.__setattr__(stand, "asked", [])
    return stand


def read(
    p99_ms: float = 10.0, *, valid: bool = True, long: bool = True, rate: float | None = 900.0
) -> ForeignMeasurement:
    facts = {"validity": "VALID" if valid else "INVALID", "constraints_met": p99_ms < 130, "min_duration_met": long}
    host = ReportedSummary(n=100, mean_ms=2.0, p99_ms=p99_ms)
    status = "ok" if valid else "invalid"
    return ForeignMeasurement(
        ForeignPoint("mlperf", "sut", "p"), "summary", "results", status, host=host, throughput_seq_s=rate, facts=facts
    )


def test_auto_searches_and_backs_off_until_a_full_run_is_valid() -> None:
    full: list[float] = []

    def verdict(qps: float) -> ForeignMeasurement:
        if qps > 500:
            return read(400.0, valid=False)
        valid = qps < 450
        if stand.asked[-1][1] == 60:
            full.append(qps)
        return read(100.0, valid=valid)

    stand, story = stand_of(Traffic("server"), verdict), Story()
    outcome = run_traffic(stand, PACE, NO_ENERGY, story)
    assert outcome.read is not None and outcome.read.status == "ok" and outcome.qps == full[-1] < 450
    assert [each["validity"] for each in story.runs] == ["INVALID"] * (len(full) - 1) + ["VALID"] and len(full) >= 2
    assert story.probes[0]["qps"] == 1100 and not story.probes[0]["met"]
    assert all(seconds == 10 and bounded for _, seconds, bounded in stand.asked[: len(story.probes)])


def test_a_run_that_stays_invalid_is_the_last_one() -> None:
    stand = stand_of(Traffic("server"), lambda qps: read(100.0, valid=False))
    outcome = run_traffic(stand, PACE, NO_ENERGY, story := Story())
    assert outcome.read is not None and outcome.read.status == "invalid" and len(story.runs) == 4


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        (
            Traffic("server", limit_ms=0.5),
            "no rate keeps a latency limit of 0.5 ms: a single sample alone takes 1 ms here",
        ),
        (Traffic("server"), "queries a second the 99th percentile is 400 ms already"),
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
