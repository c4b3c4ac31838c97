"""The page Accuracy: scores beside the speed of the same artefact, and what the other pages make of workloads without percentiles."""

from __future__ import annotations

import pandas as pd
import pytest

from benchrun.dashboard.charts.accuracy import accuracy_chart, gate_lines
from benchrun.dashboard.charts.figures import LATENCIES, THROUGHPUT
from benchrun.dashboard.charts.look import LIGHT
from benchrun.dashboard.labels import add_series
from benchrun.results.store import open_store
from benchrun.results.views.accuracy import artefact_speeds, frontier, join_speed, scored_artefacts
from tests.dashboard.conftest import Databases
from tests.dashboard.test_dashboard_pages import charts, open_page, said

MACHINE = f"{1:016x}"


@pytest.fixture
def pairs(databases: Databases) -> pd.DataFrame:
    """Scores by F1 beside every speed of the same artefacts."""
    with open_store(databases("workloads"), read_only=True) as store, store.reading() as connection:
        scores = scored_artefacts(connection)
        return join_speed(scores[scores["metric"] == "f1"], artefact_speeds(connection, MACHINE))


def test_scores_are_joined_to_speeds_of_the_same_artefact_only(pairs: pd.DataFrame) -> None:
    at = pairs[(pairs["workload"] == "padded") & (pairs["batch"] == 16) & (pairs["seq"] == 128)]
    assert dict(zip(at["dtype"], at["value"], strict=True)) == {"fp32": 90.0, "bf16": 89.0}
    own = pairs[pairs["workload"] == "accuracy:squad"]
    assert list(own["value"]) == [90.0, 89.0, 87.0]  # int8 (88.0) failed the parity check
    assert list(own["p50_ms"]) == sorted(own["p50_ms"], reverse=True)
    # other weights are another artefact: their score has no speed but that of its own launch
    other = pairs[pairs["weights"] != "random:0"]
    assert set(other["workload"]) == {"accuracy:squad"} and other["reference"].isna().all()
    # LoadGen and training of a scored artefact are speeds too, each in a workload of its own
    assert set(pairs["workload"]) == {
        "padded",
        "accuracy:squad",
        "loadgen:single-stream",
        "loadgen:offline",
        "train:adamw",
    }


def test_the_latest_score_counts(databases: Databases) -> None:
    with open_store(databases("workloads"), read_only=True) as store, store.reading() as connection:
        scores = scored_artefacts(connection)
    assert len(scores) == 8 and set(scores["launches"]) == {1} and set(scores["n"]) == {1000}
    assert scores["valid"].tolist().count(False) == 2
    assert list(scores.columns[:3]) == ["fingerprint", "model", "overrides"]
    with open_store(databases("several"), read_only=True) as store, store.reading() as connection:
        assert scored_artefacts(connection).empty and artefact_speeds(connection, MACHINE).empty


def test_the_frontier_by_hand() -> None:
    scores, costs = [90.0, 89.0, 88.0, 90.0, 87.0], [4.0, 2.0, 3.0, 5.0, 1.0]
    assert frontier(scores, costs) == [True, True, False, False, True]
    assert frontier([], []) == [] and frontier([1.0, 1.0], [2.0, 2.0]) == [True, False]


def test_the_chart_rings_what_is_not_beaten_and_rules_the_gates(pairs: pd.DataFrame) -> None:
    at = add_series(pairs[(pairs["workload"] == "padded") & (pairs["batch"] == 16) & (pairs["seq"] == 128)])
    own = add_series(pairs[pairs["workload"] == "accuracy:squad"])  # the worse, the faster
    slower = own.assign(
        p50_ms=own["p50_ms"].iloc[::-1].to_numpy(), throughput_seq_s=own["throughput_seq_s"].iloc[::-1].to_numpy()
    )
    for speed in (LATENCIES["p50"], THROUGHPUT):
        for points, best in ((own, [True] * 3), (slower, [True, False, False])):
            drawn = accuracy_chart(points, speed, "squad f1", LIGHT).to_dict()
            rows = max(drawn["datasets"].values(), key=lambda each: len(each) if "tip_score" in each[0] else 0)
            assert [row["best"] for row in rows] == best
            assert rows[0]["tip_score"] == "90.00 over n = 1,000, 100.00% of fp32"
            assert rows[2]["tip_score"] == "87.00 over n = 1,000"
    lines = gate_lines(at)
    assert list(lines["score"]) == [pytest.approx(89.1), pytest.approx(89.91)]
    assert gate_lines(at.assign(reference=[90.0, 91.0])).empty


def test_the_page_draws_one_workload_at_a_time(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    test = open_page("accuracy", str(databases("workloads")), monkeypatch, task="squad/f1")
    assert not test.exception and not test.error and charts(test) == 1
    text = said(test)
    assert "99.9 % of the fp32 score" in text and "98.89%" in text
    options = next(each.options for each in test.selectbox if each.label == "Speed in")
    assert len(options) == 10  # six shapes of the sweep, the scored one, two of LoadGen, the training step
    chosen = next(each for each in test.selectbox if each.label == "Speed in")
    chosen.select(next(each for each in options if each.startswith("loadgen:offline"))).run()
    assert not test.exception and not test.error and charts(test) == 0 and "Nothing to draw" in said(test)
    speed = next(each for each in test.selectbox if each.label == "Against")
    speed.select("throughput, sequences/s").run()
    assert not test.exception and not test.error and charts(test) == 1
    assert "2 scored artefacts without this speed" in said(test)
    assert "1 scored artefact whose answers failed the parity check" in said(test)


def test_no_page_mixes_workloads(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    for workload, words in (
        ("loadgen:single-stream", "inputs never share an axis"),
        ("loadgen:offline", "inputs never share an axis"),
        ("train:adamw", "inputs never share an axis"),
    ):
        test = open_page("explore", str(databases("workloads")), monkeypatch, head="qa", workload=workload)
        assert (
            not test.exception
            and not test.error
            and f"workload {workload}" in said(test).replace("\\", "")
            and words in said(test)
        )
        assert charts(test) == 1, "Offline has a rate and no latency: the rate is drawn"
