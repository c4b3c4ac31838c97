"""What is asked of LoadGen, in words and numbers: workloads, minima, the search for a rate. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from benchrun.runner.errors import UsageError
from benchrun.runner.estimate import estimate_seconds
from benchrun.runner.loadgen.minima import (
    MOST_TESTS,
    OFFICIAL_LIMIT_MS,
    OFFICIAL_QUERIES,
    OFFICIAL_S,
    OFFICIAL_SAMPLES,
    Minima,
    choose_minima,
    describe_minima,
    guess_seconds,
    longest_seconds,
    read_minima,
)
from benchrun.runner.loadgen.search import PRECISION, Probe, find_rate
from benchrun.runner.loadgen.traffic import NAMES, SCENARIOS, Traffic, parse_rate, parse_traffic
from benchrun.runner.loadgen.trial import BUILT_IN, MODEL, Demand, import_loadgen, make_settings
from benchrun.runner.plan import SweepRequest, make_plan
from benchrun.runner.presets import BUILT_IN as PRESETS
from benchrun.runner.workloads import canonical, with_layout, workload_settings

# --- workloads ---


@pytest.mark.parametrize(
    ("text", "traffic"),
    [
        ("loadgen:offline:fixed:padded", Traffic("offline")),
        (
            "loadgen:single-stream:uniform:4-32:bucketed",
            Traffic("single-stream", lengths="uniform:4-32", layout="bucketed"),
        ),
        ("loadgen:server:auto:130ms:fixed:padded", Traffic("server")),
        ("loadgen:server:250qps:10ms:wait2.5ms:fixed:padded", Traffic("server", rate=250, limit_ms=10, wait_ms=2.5)),
        (
            "loadgen:server:auto:130ms:lognormal:177:32-384:packed",
            Traffic("server", lengths="lognormal:177:32-384", layout="packed"),
        ),
        ("loadgen:multi-stream:accuracy:fixed:padded", Traffic("multi-stream", mode="accuracy")),
        ("loadgen:server:accuracy:fixed:padded", Traffic("server", mode="accuracy")),
    ],
)
def test_a_workload_says_what_is_asked(text: str, traffic: Traffic) -> None:
    assert parse_traffic(text) == traffic and traffic.text == text and canonical(text) == text


def test_short_spellings_mean_the_same() -> None:
    assert canonical("loadgen:offline") == "loadgen:offline:fixed:padded"
    assert canonical("loadgen:server:5.0e1qps") == "loadgen:server:50qps:130ms:fixed:padded"
    assert canonical("loadgen:offline:lognormal:177.0:32-384") == "loadgen:offline:lognormal:177:32-384:padded"
    assert with_layout("loadgen:offline:uniform:4-32", "packed") == "loadgen:offline:uniform:4-32:packed"
    with pytest.raises(UsageError, match="names its layout already"):
        with_layout("loadgen:offline:uniform:4-32:packed", "packed")


def test_lengths_in_a_file_are_named_by_its_content(tmp_path: Any) -> None:
    path = tmp_path / "lengths.txt"
    path.write_text("5\n9\n")
    text = f"loadgen:offline:{path}:bucketed"
    name = canonical(text)
    assert name.startswith("loadgen:offline:file@") and name.endswith(":bucketed") and canonical(name) == name
    (source,) = workload_settings(text)["files"]
    assert workload_settings(text)["files"][source] == str(path) and source in name
    assert workload_settings("loadgen:offline") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("loadgen", "write it as loadgen:offline"),
        ("loadgen:sometimes", "unknown scenario 'sometimes': choose from single-stream"),
        ("loadgen:offline:130ms", "are for the server scenario"),
        ("loadgen:server:-5qps", "unknown|--target-qps"),
        (
            "loadgen:server:1e9qps",
            "--target-qps 1,000,000,000 is no number of queries a second from 0.001 to 1,000,000",
        ),
        ("loadgen:server:1e1e1qps", "is no number"),
        ("loadgen:server:0ms", "--latency-limit 0 is no number"),
        ("loadgen:server:nanms", "nan|lengths"),
        ("loadgen:server:waitinfms", "lengths|wait"),
        ("loadgen:offline:fixed:packed", "--layout packed is for sequences of different lengths"),
        ("loadgen:offline:uniform:9-3", "is impossible"),
    ],
)
def test_bad_workloads_are_refused_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        canonical(text)
    assert "\n" not in str(refused.value)


def test_rates_on_the_command_line() -> None:
    assert parse_rate("auto") is None and parse_rate("12.5") == 12.5
    for text in ("fast", "0", "-1", "nan", "inf", "1e7"):
        with pytest.raises(UsageError, match="--target-qps"):
            parse_rate(text)


def test_the_engine_is_prepared_for_what_comes() -> None:
    assert Traffic("offline").engine_workload == "padded"
    assert parse_traffic("loadgen:offline:uniform:4-32:packed").engine_workload == "lengths:uniform:4-32:packed"


def test_the_protocol_names_loadgens_percentiles() -> None:
    request = SweepRequest(models=("tiny",), heads=("qa",), device="cpu", workloads=("loadgen:offline", "padded"))
    ours, plain = make_plan(request).points
    assert ours.point.protocol == "v1;clock=loadgen;transfers=include;inputs=library/seed0;percentiles=loadgen"
    assert plain.point.protocol.endswith("percentiles=linear") and ours.point.key != plain.point.key


# --- minima ---


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_official_minima_are_those_of_loadgens_own_configuration(scenario: str) -> None:
    settings = import_loadgen().TestSettings()
    assert settings.FromConfig("", MODEL, NAMES[scenario], BUILT_IN) == 0
    assert settings.min_duration_ms == OFFICIAL_S * 1000
    assert settings.performance_sample_count_override == OFFICIAL_SAMPLES
    assert settings.server_target_latency_ns == OFFICIAL_LIMIT_MS * 1e6
    # its rules ask SingleStream for 1024 since v5.0, which the configuration leaves at LoadGen's 100
    assert settings.min_query_count == {"single-stream": 100}.get(scenario, OFFICIAL_QUERIES[scenario])
    assert settings.multi_stream_samples_per_query == 8


@pytest.mark.parametrize("name", ["offline", "server", "singlestream"])
def test_the_presets_are_official(name: str) -> None:
    preset = PRESETS[f"mlperf-bert-{name}"]
    given = preset.settings
    minima = choose_minima(
        given["scenario"], duration_s=given["min-duration"], queries=given["min-queries"], samples=given["samples"]
    )
    assert preset.command == "loadgen" and minima.origin == "official"
    assert given.get("latency-limit", OFFICIAL_LIMIT_MS) == OFFICIAL_LIMIT_MS
    assert (given["model"], given["head"], given["seq"]) == ("bert-large", "qa", "384")


def test_minima_know_where_they_come_from() -> None:
    assert choose_minima("server").origin == "usual" and choose_minima("server", quick=True).origin == "quick"
    own = choose_minima("server", quick=True, duration_s=2.5)
    assert (own.origin, own.duration_s, own.queries) == ("own", 2.5, 1000)
    assert choose_minima("offline", expected_qps=7.0).origin == "usual"
    again = read_minima("server", own.to_settings())
    assert again == own and read_minima("server", {}) == choose_minima("server")
    assert describe_minima(own.to_settings()) == "own minima: 2.5 s and 1,000 queries, out of 256 samples"
    assert describe_minima({}) == "usual minima"


def test_probes_outlast_the_backlog_that_the_limit_allows() -> None:
    """20 limits, a sixth of the run up to 20 s, and never longer than the run itself."""
    assert [Minima(each, 1, 1).probe_s(100) for each in (600, 30, 6, 1)] == [20, 5, 2, 1]
    assert Minima(600, 1, 1).probe_s(5000) == 100 and Minima(1, 1000, 1).probe_s(130, 500) == 2
    assert Minima(1, 1, 1).probe_s(1) == 0.5 and Minima(60, 600, 1).full_s(5) == 120 == Minima(120, 600, 1).full_s()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"duration_s": 0.0}, "--min-duration 0 is no number of seconds"),
        ({"duration_s": math.nan}, "--min-duration nan"),
        ({"queries": 0}, "--min-queries 0 is not between"),
        ({"samples": 20_000_000}, "--samples 20000000 is not between"),
    ],
)
def test_minima_out_of_range_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        choose_minima("offline", **changes)


def test_the_estimate_counts_the_search() -> None:
    settings = Minima(60, 100, 100).to_settings()
    assert guess_seconds("loadgen:offline", settings) == pytest.approx(83)
    assert guess_seconds("loadgen:server:5qps", settings) == pytest.approx(83)
    assert guess_seconds("loadgen:server:auto", settings) == pytest.approx(153)
    slow = Minima(10, 1000, 300).to_settings()  # a call with 8 samples takes 2 s
    assert guess_seconds("loadgen:offline", slow, 2.0, 8) == pytest.approx(5 + 1.3 * 250)
    assert guess_seconds("loadgen:single-stream", slow, 2.0) == pytest.approx(5 + 1.3 * 2000)
    assert guess_seconds("loadgen:multi-stream", slow, 2.0, 8) == pytest.approx(5 + 1.3 * 2000)
    assert guess_seconds("loadgen:server:2qps", slow, 2.0, 8) == pytest.approx(5 + 1.3 * 500)
    assert guess_seconds("loadgen:server:auto", slow, 2.0, 8) == pytest.approx(5 + 1.3 * 250 + 7 * 2.6)
    assert guess_seconds("loadgen:offline:accuracy", slow, 2.0, 8) == pytest.approx(5 + 1.3 * 75)
    assert guess_seconds("loadgen:server:accuracy", slow, 2.0, 8) == pytest.approx(5 + 1.3 * 150)
    assert longest_seconds("loadgen:offline", slow, 2.0, 8) == MOST_TESTS * 1000
    assert longest_seconds("loadgen:offline", slow) == MOST_TESTS * 10
    request = SweepRequest(models=("tiny",), device="cpu", workloads=("loadgen:offline",), settings=settings)
    assert estimate_seconds(make_plan(request), None) > 83


# --- LoadGen's settings ---


def test_loadgen_is_told_what_was_asked() -> None:
    loadgen = import_loadgen()
    demand = Demand("server", False, 2.5, 300, 40.0, 120.5, bounded=True)
    settings = make_settings(loadgen, demand)
    assert (settings.scenario, settings.mode) == (loadgen.TestScenario.Server, loadgen.TestMode.PerformanceOnly)
    assert (settings.min_duration_ms, settings.min_query_count, settings.server_target_qps) == (2500, 300, 40.0)
    assert settings.server_target_latency_ns == 120_500_000 and settings.server_target_latency_percentile == 0.99
    assert settings.server_coalesce_queries and settings.server_max_async_queries == 1096
    assert settings.performance_sample_count_override == 0 and settings.qsl_rng_seed > 0
    asked = make_settings(loadgen, Demand("multi-stream", True, 1, 5, 100.0, 130, samples_per_query=3))
    assert asked.mode == loadgen.TestMode.AccuracyOnly and asked.multi_stream_samples_per_query == 3
    assert asked.multi_stream_expected_latency_ns == 10_000_000 and asked.server_max_async_queries == 0


# --- the search ---


def probing(highest: float, tried: list[float]) -> Callable[[float], Probe]:
    def probe(qps: float) -> Probe:
        tried.append(qps)
        return Probe(qps, 10.0 if qps <= highest else 500.0, qps <= highest, 100, 1.0)

    return probe


@pytest.mark.parametrize("highest", [33.0, 500.0, 970.0, 1000.0, 3000.0])
def test_the_highest_rate_is_found_within_the_precision(highest: float) -> None:
    tried: list[float] = []
    rate, probes = find_rate(1000.0, 20.0, probing(highest, tried))
    assert rate is not None and highest * (1 - 2 * PRECISION) <= rate <= highest
    assert [each.qps for each in probes] == tried and len(tried) <= 12


def test_where_no_rate_keeps_the_limit_there_is_none() -> None:
    rate, probes = find_rate(1000.0, 20.0, probing(0.0, []))
    assert rate is None and probes[-1].qps == 20.0 and len(probes) <= 8
    assert probes[0].to_json() == {"qps": 1000.0, "p99_ms": 500.0, "met": False, "queries": 100, "seconds": 1.0}


def test_a_rate_without_end_ends_the_search() -> None:
    tried: list[float] = []
    rate, _ = find_rate(10.0, 1.0, probing(math.inf, tried))
    assert rate == tried[-1] and len(tried) == 6
