"""`benchrun loadgen` for real: LoadGen, engines on the CPU, workers, the database, and what a person sees of it."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from benchrun.results import open_store
from benchrun.results.records import MeasurementRecord, RunRecord
from benchrun.runner.cli import run
from benchrun.runner.cli.loadgen_command import TIMEOUT_S, plan_loadgen
from benchrun.runner.estimate import call_seconds, estimate_seconds
from benchrun.runner.loadgen.minima import MOST_TESTS, OFFICIAL_S, OFFICIAL_SAMPLES, SLOWER
from benchrun.runner.presets import BUILT_IN as PRESETS
from tests.conftest import Bench, Outcome
from tests.runner.conftest import Inside

# a limit that a busy machine keeps: how quick it is does not matter here
TINY = ("--model", "tiny", "--seq", "16", "--threads", "1")
QUICK = (*TINY, "--quick")
SERVER = ("--latency-limit", "5000", "--max-batch", "8")
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def bench(make_bench: Callable[[], Bench]) -> Bench:
    return make_bench()


def run_of(outcome: Outcome) -> str:
    """The id in the first line of what was shown."""
    return outcome.out.split()[1]


def record_of(bench: Bench, run: str = "last") -> RunRecord:
    with open_store(bench.db, read_only=True) as store:
        return store.run(store.resolve_run(run))


def log_of(bench: Bench, measurement: MeasurementRecord, name: str) -> str:
    with open_store(bench.db, read_only=True) as store:
        return store.attachment(measurement.id, name)


def logged_ns(detail: str) -> dict[str, Any]:
    """LoadGen's own entries, straight from its detail log."""
    entries = (json.loads(line.removeprefix(":::MLLOG ")) for line in detail.splitlines() if line.strip())
    return {each["key"]: each["value"] for each in entries}


def assert_valid(bench: Bench, outcome: Outcome, engines: int, run: str = "last") -> list[MeasurementRecord]:
    """All VALID by LoadGen's own word, with its own percentiles to the nanosecond."""
    assert outcome.status == 0, outcome.err + outcome.out
    record = record_of(bench, run)
    found = [each for planned in record.points for each in record.by_point[planned.point.key]]
    assert len(found) == engines
    for planned in record.points:
        assert planned.point.protocol == "v1;clock=loadgen;transfers=include;inputs=library/seed0;percentiles=loadgen"
    for each in found:
        row, told = each.row, each.row.facts["loadgen"]
        assert row.status == "ok" and told["validity"] == "VALID" and told["setting"] in ("quick", "own")
        assert row.parity is not None and row.parity.ok and row.host_samples is None and row.flops is None
        assert row.settings["percentiles"] == "loadgen" and row.settings["loadgen"]["origin"] == told["setting"]
        summary, detail = (log_of(bench, each, f"mlperf_log_{name}.txt") for name in ("summary", "detail"))
        assert re.search(r"^Result is : VALID$", summary, re.MULTILINE)
        if row.host is None:
            continue
        logged = logged_ns(detail)
        for quantile, ms in (
            ("50.00", row.host.p50_ms), ("90.00", row.host.p90_ms), ("95.00", row.host.p95_ms), ("97.00", told["p97_ms"]),
            ("99.00", row.host.p99_ms), ("99.90", row.host.p99_9_ms),
        ):  # fmt: skip
            (stated,) = re.findall(
                rf"^{re.escape(quantile)} percentile latency \(ns\) +: (\d+)$", summary, re.MULTILINE
            )
            assert ms is not None and round(ms * 1e6) == int(stated)
            query = f"result_{quantile}_percentile_per_query_latency_ns"
            assert logged.get(query, logged[f"result_{quantile}_percentile_latency_ns"]) == int(stated)
        assert (row.host.std_ms, row.host.mad_ms, row.host.p50_low_ms, row.host.p99_upper_ms) == (None,) * 4
        assert row.host.n == logged["result_query_count"]
    return found


@pytest.mark.parametrize(
    ("scenario", "engines"), [("single-stream", "torch,ort"), ("multi-stream", "torch"), ("offline", "ort")]
)
def test_a_scenario_is_valid(scenario: str, engines: str, bench: Bench) -> None:
    """Offline with torch is below, in every layout."""
    outcome = bench("loadgen", "--scenario", scenario, "--backend", engines, *QUICK)
    found = assert_valid(bench, outcome, len(engines.split(",")))
    for each in found:
        told = each.row.facts["loadgen"]
        assert (told["scenario"], told["version"]) == (scenario, "6.0.17")
        assert "answers back" in told["inside_latency"] and told["outside_latency"] == "tokenisation"
        rate = each.row.throughput_seq_s
        assert (rate is None) == (scenario == "multi-stream") and each.row.padding_fraction is not None
        if scenario == "multi-stream":  # LoadGen tells no rate: 8 samples by the mean latency of their query
            assert each.row.host is not None and each.row.host.mean_ms is not None
            shown_rate = outcome.out.partition("torch:eager")[2].split()[2]
            assert float(shown_rate) == pytest.approx(8000 / each.row.host.mean_ms, rel=1e-3)
        if rate is not None:
            assert each.row.tokens_s == pytest.approx(rate * 16)
        assert (each.row.host is None) == (scenario == "offline")
        estimate = {"single-stream": ("p90", "ss"), "multi-stream": ("p99", "ms")}.get(scenario)
        if estimate is not None:  # what MLPerf takes as the result
            logged = logged_ns(log_of(bench, each, "mlperf_log_detail.txt"))
            assert (
                round(told[f"early_stopping_{estimate[0]}_ms"] * 1e6)
                == logged[f"early_stopping_latency_{estimate[1]}"]
                > 0
            )
            assert logged["early_stopping_result"].strip().startswith(told["early_stopping_result"][:40])
            assert f"early stopping's {estimate[0]}: " in outcome.out
    assert scenario in outcome.out and outcome.out.count("VALID") == len(found)


@pytest.fixture(scope="module")
def served(bench: Bench) -> Outcome:
    """Server with both engines, in a terminal of 80 columns."""
    narrow = Bench(bench.folder, {"COLUMNS": "80"})
    rate = ("--scenario", "server", "--target-qps", "150", "--min-queries", "500")
    return narrow("loadgen", *rate, "--backend", "torch,ort", *QUICK, *SERVER)


def test_server_is_valid_with_both_engines(bench: Bench, served: Outcome) -> None:
    for each in assert_valid(bench, served, 2, run_of(served)):
        told = each.row.facts["loadgen"]
        assert told["early_stopping"] is True and told["min_duration_met"] is True and told["probes"] == []
        assert each.row.throughput_seq_s == pytest.approx(150, rel=0.3) and told["qps"] == 150


def test_the_highest_rate_of_server_is_looked_for(bench: Bench) -> None:
    small = ("--override", "num_hidden_layers=1", "--max-batch", "4")  # so that few queries are quickly done
    outcome = bench("loadgen", "--scenario", "server", "--backend", "torch", *QUICK, "--latency-limit", "1000", *small)
    (each,) = assert_valid(bench, outcome, 1)
    told = each.row.facts["loadgen"]
    assert len(told["probes"]) >= 2 and told["runs"][-1]["validity"] == "VALID" and told["limit_ms"] == 1000
    met = [probe["qps"] for probe in told["probes"] if probe["met"]]
    assert told["qps"] <= max(met) + 1 and told["bracket"]["valid_qps"] == pytest.approx(told["qps"], abs=1e-3)
    assert "under 1000 ms" in outcome.out and "probes" in outcome.out
    refused = f"{told['bracket']['invalid_qps']:.4g} refused by a {told['bracket']['by']}"
    assert refused in " ".join(outcome.out.split())


def test_what_is_shown_fits_a_terminal_and_is_shown_again(bench: Bench, served: Outcome, inside: Inside) -> None:
    narrow = Bench(bench.folder, {"COLUMNS": "80"})
    assert all(len(line) <= 80 for line in served.out.splitlines()[3:])
    assert re.search(r"^torch:eager +8 +16 ", served.out, re.MULTILINE)  # batch and length: a run may have several
    for words in (
        "seq",
        "p50",
        "p97",
        "p99.9",
        "VALID",
        "own minima",
        "torch:eager b8 s16: 150 queries/s under 5000 ms",
    ):
        assert words in served.out
    assert "own minima: 1 s and 500 queries, out of 256 samples" in served.err and "iterations" not in served.err
    run = run_of(served)
    assert inside(narrow, "show", run).out == served.out
    refused = inside(narrow, "gate", "--baseline", run)
    assert_refused(refused, "workload loadgen:server", "'benchrun gate' judges samples")
    point, other = inside(narrow, "show", run, "--json").document["points"]
    assert point["host_ms"]["p99"] > 0 and point["facts"]["loadgen"]["validity"] == "VALID" and point["tflop_s"] is None
    assert point["workload"] == other["workload"] == "loadgen:server:150qps:5000ms:fixed:padded"


def test_accuracy_mode_logs_every_answer_and_they_are_right(bench: Bench) -> None:
    """Batching, buckets and packing between LoadGen and the engine must not change an answer."""
    given = (
        "--lengths",
        "uniform:4-16",
        "--layout",
        "padded,bucketed,packed",
        "--max-batch",
        "4",
        "--mode",
        "accuracy",
    )
    outcome = bench("loadgen", "--scenario", "offline", "--backend", "torch", *QUICK, *given, "--samples", "40")
    assert outcome.status == 0, outcome.err
    record = record_of(bench)
    assert [planned.point.workload.split(":")[-1] for planned in record.points if planned.point.workload] == [
        "padded",
        "bucketed",
        "packed",
    ]
    for planned in record.points:
        (each,) = record.by_point[planned.point.key]
        told = each.row.facts["loadgen"]
        assert (told["answers"], told["compared"]) == (40, 40) and each.row.host is None
        assert each.row.parity is not None and each.row.parity.ok and each.row.throughput_seq_s is None
        answers = json.loads(log_of(bench, each, "mlperf_log_accuracy.json"))
        assert sorted(answer["qsl_idx"] for answer in answers) == list(range(40))
    assert outcome.out.count("done") == 3


def test_real_lengths_in_every_layout(bench: Bench) -> None:
    given = ("--lengths", "uniform:4-16", "--layout", "padded,bucketed,packed", "--max-batch", "8", "--head", "encoder")
    outcome = bench("loadgen", "--scenario", "offline", "--backend", "torch", *QUICK, *given)
    padded, bucketed, packed = (each.row.padding_fraction for each in assert_valid(bench, outcome, 3))
    assert padded is not None and bucketed is not None and packed is not None
    assert packed < 0.05 < bucketed < padded == pytest.approx(1 - 10 / 16, abs=0.05)
    told = record_of(bench).measurements[0].row.facts["loadgen"]
    assert told["outside_latency"] == "tokenisation, answers back"
    assert re.findall(r"^(\w+) .* VALID", outcome.out, re.MULTILINE) == ["padded", "bucketed", "packed"]  # one table
    assert outcome.out.count("loadgen:offline:uniform:4-16") == outcome.out.count("samples/s") == 1


# --- what cannot be, and what goes wrong ---


def assert_refused(outcome: Outcome, *words: str) -> None:
    assert outcome.status == 2 and outcome.out == "", outcome
    last = outcome.err.splitlines()[-1]
    assert last.startswith("benchrun: ") and "Traceback" not in outcome.err
    for word in words:
        assert word in last


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), ("--scenario is missing: choose from single-stream, multi-stream, server, offline",)),
        (("--scenario", "online"), ("unknown scenario 'online'",)),
        (("--scenario", "server", "--target-qps", "0"), ("--target-qps 0 is no number of queries a second",)),
        (("--scenario", "server", "--target-qps", "1e9"), ("1,000,000,000 is no number", "from 0.001 to 1,000,000")),
        (("--scenario", "server", "--target-qps", "much"), ("--target-qps much: give a number",)),
        (("--scenario", "server", "--latency-limit", "-1"), ("--latency-limit -1 is no number of milliseconds",)),
        (("--scenario", "single-stream", "--target-qps", "5"), ("--target-qps is for --scenario server or offline",)),
        (("--scenario", "offline", "--max-wait", "5"), ("--max-wait is for --scenario server, not offline",)),
        (("--scenario", "offline", "--layout", "packed"), ("give --lengths too",)),
        (("--scenario", "offline", "--layout", "upright"), ("unknown layout 'upright'",)),
        (("--scenario", "offline", "--lengths", "uniform:4-32", *TINY), ("pass --seq 32",)),
        (("--scenario", "offline", "--min-duration", "nan"), ("--min-duration nan",)),
        (("--scenario", "offline", "--min-queries", "0"), ("--min-queries takes a whole number of at least 1",)),
        (("--scenario", "offline", "--mode", "fast"), ("unknown mode 'fast': choose from performance, accuracy",)),
        (("--scenario", "offline", "--max-batch", "none"), ("max-batch",)),
        (("--preset", "quick"), ("preset quick is for 'benchrun run'",)),
        (("--scenario", "offline", "--resume", "last"), ("leave the other options out",)),
    ],
)
def test_what_makes_no_sense_is_refused(
    given: tuple[str, ...],
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCHRUN_DB", str(tmp_path / "runs.db"))
    status = run(["loadgen", *given])
    said = capsys.readouterr()
    assert_refused(Outcome(status, said.out, said.err), *words)
    assert not (tmp_path / "runs.db").exists()


@pytest.mark.parametrize(
    "given", [("--workload", "padded,loadgen:offline:fixed:padded"), ("--new-opt", "workload=loadgen:offline")]
)
def test_a_gate_of_loadgen_points_is_refused_before_anything_is_set_up(
    given: tuple[str, ...], tmp_path: Path, inside: Inside
) -> None:
    fresh = Bench(tmp_path)
    outcome = inside(fresh, "gate", "--base-ref", "nowhere", "--backend", "torch", "--model", "tiny", *given)
    assert_refused(outcome, "workload loadgen:offline", "'benchrun gate' judges samples", "LoadGen's own summary")
    assert not fresh.db.exists()


def test_a_preset_may_be_planned_and_changed(tmp_path: Path, inside: Inside) -> None:
    fresh = Bench(tmp_path)

    def planned(*given: str) -> Outcome:
        return inside(fresh, "loadgen", "--preset", *given, "--device", "cpu", "--dry-run")

    (point,) = planned("mlperf-bert-server", "--json").document["plan"]["points"]
    assert (point["model"], point["head"], point["seq"]) == ("bert-large", "qa", 384)
    assert point["workload"] == "loadgen:server:auto:130ms:fixed:padded"
    changed = planned("mlperf-bert-offline", "--min-duration", "60")
    assert "own minima: 60 s and 10,833 queries, out of 10,833 samples" in changed.err and not fresh.db.exists()
    official = planned("mlperf-bert-singlestream")
    assert "official minima: 600 s and 1,024 queries" in official.err


def test_what_is_given_overrules_a_presets_minima(tmp_path: Path, inside: Inside) -> None:
    fresh = Bench(tmp_path)
    asked = (fresh, "loadgen", "--preset", "mlperf-bert-server", "--quick", "--device", "cpu", "--dry-run")
    assert "quick minima: 1 s and 1,000 queries, out of 256 samples" in inside(*asked).err
    assert "own minima: 1 s and 50 queries, out of 256 samples" in inside(*asked, "--min-queries", "50").err


def test_the_time_out_and_the_estimate_count_slow_queries(tmp_path: Path) -> None:
    """BERT-large on a CPU core takes seconds a sample: its 10,833 take longer than the 600 s that are asked for."""
    given = {"backend": "torch", "device": "cpu", "threads": 1, "scenario": "offline"}
    tiny, official = {"model": "tiny", "seq": "16", "quick": True}, dict(PRESETS["mlperf-bert-offline"].settings)
    quick, long = plan_loadgen({}, {**given, **tiny}), plan_loadgen({}, {**official, **given})
    (point,) = long.points
    test_s = OFFICIAL_SAMPLES * call_seconds(point, 1) / point.point.batch
    assert test_s > OFFICIAL_S
    assert long.request.timeout_s == pytest.approx(TIMEOUT_S + MOST_TESTS * SLOWER * test_s, abs=1)
    assert estimate_seconds(long, None) == pytest.approx(1.3 * test_s, rel=0.01)
    assert long.request.timeout_s == int(long.request.timeout_s)
    assert quick.request.timeout_s == TIMEOUT_S + MOST_TESTS * 1.0 and estimate_seconds(quick, None) < 20
    assert plan_loadgen({}, {**official, **given, "timeout": 77}).request.timeout_s == 77


def test_a_demand_that_nothing_can_meet_leaves_no_run(bench: Bench) -> None:
    before = bench("runs", "--json").document["runs"]
    deadline = ("--scenario", "server", "--latency-limit", "0.01", "--backend", "torch", *QUICK)
    refused = bench("loadgen", *deadline)
    assert_refused(refused, "no rate keeps a latency limit of 0.01 ms: a single sample alone takes")
    assert " ".join(refused.err.split()).count("no rate keeps") == 1
    rate = ("--scenario", "server", "--target-qps", "900000", "--backend", "torch", *QUICK)
    assert_refused(
        bench("loadgen", *rate), "--target-qps 900000 is out of reach: torch:eager does about", "no run was kept"
    )
    assert bench("runs", "--json").document["runs"] == before


def test_an_invalid_run_is_kept_shown_and_exits_1(bench: Bench) -> None:
    """100 queries are too few for LoadGen's early stopping to be sure of a 99th percentile."""
    given = ("--scenario", "server", "--target-qps", "100", "--min-queries", "100", "--min-duration", "0.5")
    outcome = bench("loadgen", *given, *SERVER, *TINY)
    (row,) = (each.row for each in record_of(bench).measurements)
    assert outcome.status == 1 and "INVALID" in outcome.out
    assert row.status == "invalid" and "loadgen_invalid" in row.flags and row.phase == "measure"
    assert (
        row.error is not None
        and row.error.startswith("LoadGen calls the run INVALID: ")
        and "early_stopping" in row.error
    )
    assert row.host is not None and row.host.n is not None and row.facts["loadgen"]["early_stopping"] is False
    assert (
        "LoadGen: Run unsuccessful. Processed 100 queries. Would need to run at least 359 more queries" in outcome.out
    )


def test_without_loadgen_one_sentence_says_how_to_get_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchrun.runner.loadgen import trial

    monkeypatch.setattr(trial, "DISTRIBUTION", "no-such-distribution")
    assert trial.missing_loadgen() == (
        "LoadGen scenarios need no-such-distribution, which is not installed: pip install 'benchrun-inference[loadgen]'"
    )
    assert run(["loadgen", "--scenario", "offline", *TINY]) == 2


def test_a_killed_worker_is_a_row_and_the_rest_is_measured_by_resume(tmp_path: Path, inside: Inside) -> None:
    fresh = Bench(tmp_path)
    process = fresh.start(
        "loadgen", "--scenario", "offline", "--backend", "torch", "--max-batch", "4,8", *TINY, "--min-duration", "60"
    )
    worker = wait_for_worker(fresh, process)
    os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while "crashed" not in statuses(fresh):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.communicate()
    resumed = inside(fresh, "--resume", "last", "--dry-run")
    assert resumed.status == 0 and "1 to measure, 1 already measured" in resumed.err
    with sqlite3.connect(fresh.db) as connection:  # the same points, quicker
        (text,) = connection.execute("SELECT request FROM runs").fetchone()
        request = json.loads(text)
        request["sweeps"][0]["settings"]["loadgen"] |= {"duration_s": 1.0, "queries": 100, "samples": 64}
        connection.execute("UPDATE runs SET request = ?", (json.dumps(request),))
    connection.close()
    resumed = fresh("loadgen", "--resume", "last", "--json")
    assert [each["status"] for each in resumed.document["points"]] == ["crashed", "ok"] and resumed.status == 1
    assert resumed.document["points"][0]["error"] == "the worker was ended by SIGKILL"


def wait_for_worker(bench: Bench, process: Any) -> int:
    """The worker's process id, once it is amid its first point."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(bench.db)) as connection:  # it is being made
            if launches := connection.execute("SELECT pid FROM launches").fetchall():
                time.sleep(4)
                return int(launches[0][0])
        time.sleep(0.2)
    raise AssertionError("no worker was started")


def statuses(bench: Bench) -> list[str]:
    record = record_of(bench)
    return [each.row.status for planned in record.points for each in record.by_point[planned.point.key]]
