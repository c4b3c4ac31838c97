from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.acceptance import Acceptance
from benchrun.runner.gate.launches import PlannedPoint, Reading
from benchrun.runner.gate.limits import Evidence, Limit, judge_limit, parse_limit
from benchrun.runner.gate.schedule import LaunchOrder
from benchrun.runner.gate.settings import GateSettings
from tests.gate.builders import judge, make_plan, noisy, point_of

SETTINGS = GateSettings()


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("p95_ms=10", Limit("p95_ms", 10.0), "p95_ms <= 10"),
        (" p50_ms = 2.5 ", Limit("p50_ms", 2.5), "p50_ms <= 2.5"),
        ("throughput_seq_s=500", Limit("throughput_seq_s", 500.0), "throughput_seq_s >= 500"),
    ],
)
def test_limits_are_read(text: str, limit: Limit, shown: str) -> None:
    assert parse_limit(text) == limit
    assert limit.text == shown


@pytest.mark.parametrize("text", ["p95_ms", "p95=10", "p95_ms=ten", "p95_ms=-1", "p95_ms=inf", "p95_ms=nan", "=10", ""])
def test_wrong_limits_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="p95_ms"):
        parse_limit(text)


def evidence(level: float, sd: float = 0.01, count: int = 3, samples: int = 600, seed: int = 0) -> Evidence:
    noise = np.random.default_rng(seed).normal(0, sd, count)
    return Evidence(tuple((level * np.exp(noise - noise.mean())).tolist()), samples, "cpu")


@pytest.mark.parametrize(
    ("level", "verdict"), [(9.0, "PASS"), (9.99, "INCONCLUSIVE"), (10.01, "INCONCLUSIVE"), (11.0, "FAIL")]
)
def test_a_limit_is_failed_and_passed_beyond_doubt(level: float, verdict: str) -> None:
    others = [evidence(5.0, seed=seed) for seed in range(1, 8)]
    found = judge_limit(Limit("p95_ms", 10.0), [evidence(level), *others], SETTINGS)
    assert found[0].verdict == verdict
    assert found[0].value == pytest.approx(level)
    assert found[0].low < level < found[0].high
    assert {each.verdict for each in found[1:]} == {"PASS"}


@pytest.mark.parametrize(("level", "verdict"), [(600.0, "PASS"), (500.5, "INCONCLUSIVE"), (400.0, "FAIL")])
def test_a_rate_has_a_lower_limit(level: float, verdict: str) -> None:
    found = judge_limit(Limit("throughput_seq_s", 500.0), [evidence(level, seed=s) for s in range(4)], SETTINGS)
    assert {each.verdict for each in found} == {verdict}
    assert found[0].low < found[0].value < found[0].high


def test_false_fails_at_the_limit_itself_are_rare() -> None:
    rng = np.random.default_rng(11)
    failed = 0
    for _ in range(300):
        points = [Evidence(tuple(np.exp(rng.normal(math.log(10), 0.02, 3)).tolist()), 600, "cpu") for _ in range(16)]
        failed += any(each.verdict == "FAIL" for each in judge_limit(Limit("p50_ms", 10.0), points, SETTINGS))
    assert failed <= 9  # 1 % of 300 is 3; 10 or more has a chance of 0.1 %


def test_evidence_that_cannot_be_judged() -> None:
    limit = Limit("p99_ms", 10.0)
    one, gap, few = Evidence((5.0,), 900, "cpu"), Evidence((5.0, math.nan), 900, "cpu"), evidence(5.0, samples=661)
    verdicts = judge_limit(limit, [one, gap, few, evidence(5.0, samples=662)], SETTINGS)
    assert [each.verdict for each in verdicts] == ["MISSING", "MISSING", "INCONCLUSIVE", "PASS"]
    assert "at least 2" in verdicts[0].reason
    assert "1 of 2 launches" in verdicts[1].reason
    assert "662" in verdicts[2].reason
    assert judge_limit(limit, [], SETTINGS) == []


def test_limits_make_a_gate_fail_beside_the_relative_rule() -> None:
    limits = [parse_limit("p95_ms=10"), parse_limit("throughput_seq_s=50")]
    verdict = judge(make_plan(), noisy(), limits=limits)
    assert verdict.exit_code == 1
    point = point_of(verdict, "p0")
    assert [each.verdict for each in point.metrics] == ["PASS", "PASS"]
    assert [each.verdict for each in point.limits] == ["FAIL", "PASS"]
    assert point.verdict == "FAIL"
    assert point.reason.startswith("p95_ms is 11.99")
    accepted = judge(make_plan(), noisy(), limits=limits, acceptances=[Acceptance(f"p{j}", "known") for j in range(4)])
    assert accepted.exit_code == 0


def test_limits_hold_for_new_points_and_follow_missing_ones() -> None:
    plan = make_plan(2)
    plan = replace(plan, points=(*plan.points, PlannedPoint(key="p9", in_base=False)))
    verdict = judge(plan, noisy(), limits=[parse_limit("p50_ms=8")])
    assert point_of(verdict, "p9").verdict == "FAIL"
    assert judge(plan, noisy(), limits=[parse_limit("p50_ms=12")]).exit_code == 0

    def crashing(order: LaunchOrder, key: str) -> Reading:
        return replace(noisy()(order, key), status="crashed" if key in ("p1", "p9") else "ok")

    broken = judge(plan, crashing, limits=[parse_limit("p50_ms=12")])
    assert [each.limits[0].verdict for each in broken.points] == ["PASS", "MISSING", "MISSING"]
    assert broken.exit_code == 3


@pytest.mark.parametrize("bound", [8.0, 12.0])
def test_limits_of_a_run_that_ended_early_are_open(bound: float) -> None:
    """Two of three launches a side: far beyond the limit and far within, and no verdict, for new points neither."""
    plan = make_plan(1)
    plan = replace(plan, points=(*plan.points, PlannedPoint(key="p9", in_base=False)))
    limits = [parse_limit(f"p50_ms={bound}")]
    cut = judge(plan, noisy(), GateSettings(max_launches=6), limits=limits)
    assert [each.limits[0].verdict for each in cut.points] == ["INCONCLUSIVE"] * 2
    assert [each.limits[0].reason for each in cut.points] == [
        "2 of 3 launches a side, ended by max_launches",
        "2 of 3 launches, ended by max_launches",
    ]
    assert cut.exit_code == 4
    # stage 1 is whole, only what it leaves open lacks launches: the limits are judged
    slow = judge(plan, noisy(slower={"p0": 1.2}), GateSettings(max_launches=10), limits=[parse_limit("p50_ms=20")])
    assert slow.stopped == "max_launches" and {each.limits[0].verdict for each in slow.points} == {"PASS"}


def test_limits_of_an_invalid_run_are_invalid() -> None:
    plan = make_plan(1)
    plan = replace(plan, points=(*plan.points, PlannedPoint(key="p9", in_base=False)))
    launches = []

    def keep(order: LaunchOrder, key: str) -> Reading:
        launches.append(order)
        return noisy(resolution_ns=1.0)(order, key)

    from benchrun.runner.gate.decision import decide
    from tests.gate.builders import run_gate

    taken, _ = run_gate(plan, keep)
    verdict = decide(plan, [replace(each, control_ms=None) for each in taken], limits=[parse_limit("p50_ms=8")])
    assert {each.limits[0].verdict for each in verdict.points} == {"INVALID"}
    assert verdict.exit_code == 3
    assert launches


def test_an_acceptance_needs_a_reason() -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        Acceptance("p1", "  ")
