"""What the pages make of workloads that have one shape, no samples, or several layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchrun.results.statistics import ReportedSummary
from benchrun.results.store import open_store
from tests.dashboard.conftest import Databases
from tests.dashboard.stores import cost, environment, measurement, point, run, store_run, sweep
from tests.dashboard.test_dashboard_pages import charts, open_page, query_of, said


def test_one_batch_and_length_gets_bars(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """LoadGen and training have one shape: no lines over nothing."""
    db = str(databases("workloads"))
    test = open_page("explore", db, monkeypatch, head="qa", workload="loadgen:single-stream")
    assert charts(test) == 1 and "One bar a series at batch 1, the best first" in said(test)
    assert "Logarithmic" not in [each.label for each in test.toggle]
    assert "thin line" not in said(test)  # statistics of one test have no interval
    test = open_page("explore", db, monkeypatch, head="qa", workload="loadgen:single-stream", log="0")
    assert query_of(test)["log"] == ["0"]  # for the next view, which has a use for it
    test = open_page("explore", db, monkeypatch, head="qa", workload="padded")
    assert "One line a series" in said(test) and "thick: from p50 to p95, with a cap: to p99" in said(test)
    assert "Logarithmic" in [each.label for each in test.toggle]


def test_loadgen_says_why_it_has_no_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, about = point(workload="loadgen:single-stream"), run(1)
    reported = ReportedSummary(n=1024, mean_ms=2.0, p50_ms=1.9, p99_ms=5.0)
    with open_store(tmp_path / "a.db") as store:
        store.add_run(about, [asked], 1)
        row = measurement(asked.key, about.started, host=reported, host_samples=None)
        store.add_measurements(about.id, [(None, row)])
    text = said(open_page("distribution", str(tmp_path / "a.db"), monkeypatch))
    assert "Only statistics are kept of this point, as of LoadGen" in text and ": ok." not in text


def test_layouts_are_compared_with_padding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [point(workload=f"lengths:uniform:4-64:{layout}") for layout in ("bucketed", "packed", "padded")]
    with open_store(tmp_path / "a.db") as store:
        store_run(store, run(1), points, {each.key: [cost(each)] for each in points})
    test = open_page("explore", str(tmp_path / "a.db"), monkeypatch, view="table")
    assert test.selectbox(key="explore.reference").value == "torch:eager · padded"


def test_loadgens_verdicts_stand_under_the_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mix = "loadgen:server:auto:130ms:uniform:4-64"
    points = {layout: point(workload=f"{mix}:{layout}") for layout in ("bucketed", "packed", "padded")}
    told = {
        "scenario": "server",
        "setting": "own",
        "limit_ms": 130.0,
        "qps": 1683.0,
        "validity": "VALID",
        "p97_ms": 4.25,
    }
    told |= {"bracket": {"valid_qps": 1683.0, "invalid_qps": 1700.2, "by": "full run"}}
    reported = ReportedSummary(n=1024, mean_ms=2.0, p50_ms=1.9, p99_ms=5.0)
    about = run(1)
    figures: dict[str, Any] = {"host": reported, "host_samples": None, "throughput_seq_s": 1690.0}
    refused: dict[str, Any] = {
        "status": "invalid",
        "flags": ["loadgen_invalid"],
        "facts": {"loadgen": told | {"validity": "INVALID"}},
    }
    wrong: dict[str, Any] = {"status": "invalid", "facts": {"loadgen": told}}
    good: dict[str, Any] = {"facts": {"loadgen": told}}
    with open_store(tmp_path / "a.db") as store:
        store.add_run(about, list(points.values()), 1)
        for layout, more in (("padded", good), ("packed", refused), ("bucketed", wrong)):
            row = measurement(points[layout].key, about.started, **figures, **more)
            store.add_measurements(about.id, [(None, row)])
    text = said(open_page("explore", str(tmp_path / "a.db"), monkeypatch))
    assert "server, p99 at most 130 ms" in text
    for word in ("VALID", "INVALID", "wrong answer", "own", "1683", "1700", "1690", "4.250"):
        assert word in text, word
    assert "1 point that LoadGen called INVALID" in text and "1 point with a wrong answer" in text


def test_the_default_group_is_the_newest_with_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the group with the most points nor the newest one, of which nothing could be measured."""
    many, newer = [point(head="qa", batch=size) for size in (1, 2, 4)], point(head="encoder")
    failed = [point(head="pooler", batch=size) for size in (1, 2)]
    with open_store(tmp_path / "a.db") as store:
        store_run(store, run(1), many, {each.key: [cost(each)] for each in many})
        store_run(store, run(2), [newer], {newer.key: [cost(newer)]})
        last = run(3)
        store.add_run(last, failed, 1)
        for each in failed:
            row = measurement(each.key, last.started, status="unsupported", host=None, host_samples=None)
            store.add_measurements(last.id, [(None, row)])
    test = open_page("explore", str(tmp_path / "a.db"), monkeypatch)
    assert test.selectbox(key="explore.head").value == "encoder"


@pytest.mark.parametrize(
    "stale", [{"head": "gone"}, {"workload": "gone"}, {"hardware": "gone/cpu"}, {"protocol": "gone"}]
)
def test_a_stale_part_of_a_link_takes_nothing_from_its_model(
    stale: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is on the machine with fewer points, which nothing else in the link names."""
    many, one = sweep(), [point(model="bert-base")]
    with open_store(tmp_path / "a.db") as store:
        store_run(store, run(1), many, {each.key: [cost(each)] for each in many})
        store_run(store, run(2, environment=environment(2)), one, {each.key: [cost(each)] for each in one})
    test = open_page("explore", str(tmp_path / "a.db"), monkeypatch, model="bert-base", **stale)
    assert test.selectbox(key="explore.model").value == "bert-base"
    assert said(test).count("The link asks for something that is not here") == 1 and "gone" in said(test)


def test_only_views_with_something_to_show_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LoadGen's Offline has a rate and no latency, its MultiStream latencies and no rate."""
    multi, offline = (point(workload=f"loadgen:{name}") for name in ("multi-stream", "offline"))
    broken = point(workload="padded")
    about = run(1)
    with open_store(tmp_path / "a.db") as store:
        store.add_run(about, [multi, offline, broken], 1)
        kept: dict[str, dict[str, Any]] = {
            multi.key: {"host": ReportedSummary(n=1024, mean_ms=2.0, p50_ms=1.9, p99_ms=5.0)},
            offline.key: {"host": None, "throughput_seq_s": 900.0},
            broken.key: {"status": "oom", "host": None},
        }
        for key, found in kept.items():
            row = measurement(
                key, about.started, **{"throughput_seq_s": None, "tokens_s": None, "host_samples": None, **found}
            )
            store.add_measurements(about.id, [(None, row)])
    offered = {}
    for workload in ("loadgen:multi-stream", "loadgen:offline", "padded"):
        test = open_page("explore", str(tmp_path / "a.db"), monkeypatch, workload=workload)
        assert not test.exception
        offered[workload] = [each.options for each in test.button_group if each.key == "explore.view"]
    assert offered == {
        "loadgen:multi-stream": [["Latency", "Heat map", "Table"]],
        "loadgen:offline": [["Throughput", "Heat map", "Table"]],
        "padded": [["Latency", "Throughput", "Frontier", "Heat map", "Table"]],
    }


@pytest.mark.parametrize(("median", "limit"), [(101.4, 200), (100, 100), (0.96, 1), (0.0041, 0.005), (7, 7)])
def test_a_limit_of_one_digit_lies_above_the_median(median: float, limit: float) -> None:
    from benchrun.dashboard.pages.explore import round_up

    assert round_up(median) == limit
