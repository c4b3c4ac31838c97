from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.baseline import StoredSession, judge_stored


def session(name: str, level: float, *, sd: float = 0.005, count: int = 6, fingerprint: str = "f") -> StoredSession:
    rng = np.random.default_rng(sum(name.encode()))
    return StoredSession(name, fingerprint, tuple((level * np.exp(rng.normal(0, sd, count))).tolist()))


STORED = [session("s1", 10.0), session("s2", 10.08), session("s3", 9.95), session("s4", 10.03)]


@pytest.mark.parametrize(("level", "verdict"), [(10.0, "PASS"), (9.0, "PASS"), (10.4, "INCONCLUSIVE"), (11.5, "FAIL")])
def test_verdicts_across_sessions(level: float, verdict: str) -> None:
    found = judge_stored("p50", STORED, "s1", session("now", level))
    assert found.verdict == verdict
    assert not found.advisory
    assert (found.sessions, found.launches_base, found.launches_new) == (4, 6, 6)
    assert found.ratio_low < found.ratio < found.ratio_high
    assert bool(found.reason) == (verdict != "PASS")


def test_the_formula_by_hand() -> None:
    new = session("now", 10.6)
    found = judge_stored("p50", STORED, "s2", new)
    logs = [np.log(each.values) for each in STORED]
    s_sess = float(np.std([each.mean() for each in logs], ddof=1))
    every = [*logs, np.log(new.values)]
    s = math.sqrt(
        sum(float(((each - each.mean()) ** 2).sum()) for each in every) / sum(len(each) - 1 for each in every)
    )
    d = float(np.log(new.values).mean() - logs[1].mean())
    error = math.sqrt(2 * s_sess**2 + s**2 * (1 / 6 + 1 / 6))
    assert found.session_sd == pytest.approx(s_sess)
    assert found.launch_sd == pytest.approx(s)
    assert math.log(found.ratio_low) == pytest.approx(d - float(stats.t.ppf(0.99, 3)) * error)
    assert math.log(found.ratio_high) == pytest.approx(d + float(stats.t.ppf(0.975, 3)) * error)


def test_fewer_than_three_sessions_are_advice() -> None:
    for level in (5.0, 10.0, 20.0):
        found = judge_stored("p50", STORED[:2], "s1", session("now", level))
        assert (found.verdict, found.advisory) == ("INCONCLUSIVE", True)
        assert found.ratio == pytest.approx(level / 10, rel=0.01)
        assert "3 are needed" in found.reason


def test_sessions_on_other_hardware_do_not_count() -> None:
    other = [*STORED[:2], session("s3", 10.0, fingerprint="g")]
    assert judge_stored("p50", other, "s1", session("now", 10.0)).advisory
    moved = judge_stored("p50", STORED, "s1", session("now", 10.0, fingerprint="g"))
    assert moved.verdict == "MISSING"
    unknown = [session(each.session, 10.0, fingerprint="") for each in STORED]
    assert judge_stored("p50", unknown, "s1", session("now", 10.0, fingerprint="")).verdict == "MISSING"


def test_rates_count_the_other_way() -> None:
    assert judge_stored("throughput", STORED, "s1", session("now", 8.0)).verdict == "FAIL"
    assert judge_stored("throughput", STORED, "s1", session("now", 12.0)).verdict == "PASS"


@pytest.mark.parametrize("values", [(10.0,), (10.0, math.nan), (10.0, -1.0), ()])
def test_launches_that_say_nothing_are_missing(values: tuple[float, ...]) -> None:
    assert judge_stored("p50", STORED, "s1", StoredSession("now", "f", values)).verdict == "MISSING"
    broken = [*STORED[1:], StoredSession("s1", "f", values)]
    assert judge_stored("p50", broken, "s1", session("now", 10.0)).verdict == "MISSING"


def test_a_stored_session_that_says_nothing_is_passed_over() -> None:
    found = judge_stored("p50", [*STORED, StoredSession("s9", "f", (math.nan, 10.0))], "s1", session("now", 10.0))
    assert found.sessions == 4


def test_identical_launches_are_invalid() -> None:
    found = judge_stored("p50", STORED, "s1", StoredSession("now", "f", (10.0, 10.0, 10.0)))
    assert found.verdict == "INVALID"


def test_an_unknown_baseline_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="s1, s2, s3, s4"):
        judge_stored("p50", STORED, "s7", session("now", 10.0))
    with pytest.raises(UsageError, match="none is stored"):
        judge_stored("p50", [], "s7", session("now", 10.0))


def test_sessions_that_differ_do_not_alarm() -> None:
    # with the rule for one session this machine would alarm in about half of all runs (gate.md: session sd 1 %, 52 %)
    rng = np.random.default_rng(3)
    failed = 0
    for _ in range(400):
        runs = [10 * np.exp(rng.normal(0, 0.01) + rng.normal(0, 0.005, 6)) for _ in range(6)]
        stored = [StoredSession(f"s{i}", "f", tuple(each.tolist())) for i, each in enumerate(runs[:5])]
        new = StoredSession("now", "f", tuple(runs[5].tolist()))
        failed += judge_stored("p50", stored, "s4", new).verdict == "FAIL"
    assert failed <= 4
