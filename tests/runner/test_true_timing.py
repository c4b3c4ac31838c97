"""The harness of tests/benchmarks/true_timing.py works: a short smoke on the tiny model. Its verdicts are taken by hand."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path

import pytest

from tests.benchmarks import true_timing


def test_the_timed_path_against_a_bare_loop(capsys: pytest.CaptureFixture[str]) -> None:
    assert true_timing.main(["loop", "--model", "tiny", "--blocks", "8", "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["blocks_each"] == 8 and found["ratio"] == pytest.approx(found["ours_p50_ms"] / found["bare_p50_ms"])
    assert 0.5 < found["ratio"] < 2  # far off only if the two do not time the same call


def test_a_launch_and_a_plain_script_measure_the_same_call() -> None:
    ratios = []
    for _ in range(4):  # launches of milliseconds on a busy machine: one undisturbed pair will do
        ratios.append(true_timing.launch("tiny", 20, 1) / true_timing.plain("tiny", 20, 1))
        if 1 / 2 < ratios[-1] < 2:
            break
    assert 1 / 2 < ratios[-1] < 2, ratios


def test_pairs_are_taken_in_both_orders() -> None:
    order: list[str] = []

    def measure(name: str, value: float) -> float:
        order.append(name)
        return value

    def one(model: str, iterations: int, threads: int) -> float:
        return measure("one", 2.0)

    def other(model: str, iterations: int, threads: int) -> float:
        return measure("other", 1.0)

    pairs = [true_timing.take_pair(one, other, pair % 2 == 0, "tiny", 1, 1) for pair in range(2)]
    assert order == ["one", "other", "other", "one"] and pairs == [(2.0, 1.0)] * 2


def test_the_interval_is_students() -> None:
    logs = [0.01, 0.03, -0.01, 0.02]
    found = true_timing.interval(logs)
    mean = sum(logs) / 4
    half = 3.182446 * math.sqrt(sum((each - mean) ** 2 for each in logs) / 3) / 2
    assert found == pytest.approx(
        {"ratio": math.exp(mean), "low": math.exp(mean - half), "high": math.exp(mean + half)}
    )


def test_a_warm_up_counts_once_however_often_its_point_was_measured_again(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "some.db") as database:
        database.execute("CREATE TABLE measurements (status, superseded, host_n, host_mean_ms, warmup_s)")
        rows = [
            ("ok", 1, 10, 100.0, 3.0),
            ("ok", 0, 10, 90.0, 3.0),
            ("ok", 0, 10, 10.0, 2.0),
            ("crashed", 0, None, None, 9),
        ]
        database.executemany("INSERT INTO measurements VALUES (?, ?, ?, ?, ?)", rows)
    assert true_timing.read_seconds(tmp_path / "some.db") == pytest.approx((2.0, 5.0))


def test_the_cost_of_a_small_sweep() -> None:
    found = true_timing.cheap("tiny")
    assert 0 < found["timed_s"] < found["wall_s"] and 0 < found["warmup_s"] < found["wall_s"]
    assert found["limit_s"] == pytest.approx(1.25 * (found["timed_s"] + found["warmup_s"]) + 15)
