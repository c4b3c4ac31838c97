"""The main job from the command line to the database and back: real engine, real workers, real files."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from benchrun.results.migrations import VERSION_TABLE
from benchrun.results.records import RunRecord
from benchrun.results.rows import EnvironmentRow, RunRow
from benchrun.results.statistics import summarise
from benchrun.results.store import open_store
from tests.conftest import Bench, Outcome

# a busy machine would have points measured again, which these tests are not about
TINY = ("--model", "tiny", "--threads", "1", "--repeats", "0")
PATIENCE_S = 120.0


def record_of(bench: Bench, run: str = "last") -> RunRecord:
    with open_store(bench.db, read_only=True) as store:
        return store.run(store.resolve_run(run), samples=True)


def rows_of(bench: Bench) -> list[tuple[int, str, int, str, bool]]:
    """All rows that were ever stored: id, point, batch, status, superseded."""
    query = (
        "SELECT m.id, m.point_key, p.batch, m.status, m.superseded FROM measurements m JOIN points p ON p.key = m.point_key "
        "ORDER BY m.id"
    )
    with sqlite3.connect(f"{bench.db.as_uri()}?mode=ro", uri=True, timeout=30) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return [(*row[:4], bool(row[4])) for row in found]


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_rows(bench: Bench, count: int, process: subprocess.Popen[str]) -> None:
    def enough() -> bool:
        try:
            return len(rows_of(bench)) >= count
        except sqlite3.OperationalError:  # not created yet
            return False

    wait_for(enough, process)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- the main job ---


@pytest.fixture(scope="module")
def main_bench(make_bench: Callable[[], Bench]) -> Bench:
    return make_bench()


@pytest.fixture(scope="module")
def main_job(main_bench: Bench) -> Outcome:
    sweep = ("--backend", "torch", *TINY, "--batch", "1,2", "--seq", "16,32")
    return main_bench(*sweep, "--iterations", "60", "--warmup", "3", "--label", "first", "--json")


def test_the_document_is_all_of_standard_output(main_job: Outcome, main_bench: Bench) -> None:
    assert main_job.status == 0
    document = main_job.document
    assert document["run"]["label"] == "first" and document["run"]["db"] == str(main_bench.db)
    shapes = [(each["batch"], each["seq"]) for each in document["points"]]
    assert shapes == [(1, 16), (2, 16), (1, 32), (2, 32)]
    for point in document["points"]:
        assert (point["backend"], point["variant"], point["model"], point["head"]) == (
            "torch",
            "eager",
            "tiny",
            "encoder",
        )
        assert (point["status"], point["error"], point["n"], point["device_ms"]) == ("ok", None, 60, None)
        host = point["host_ms"]
        assert (
            0 < host["min"] <= host["p50"] <= host["p90"] <= host["p95"] <= host["p99"] <= host["p99_9"] <= host["max"]
        )
        assert host["intervals"]["p50"][0] <= host["p50"] <= host["intervals"]["p50"][1]
        assert host["intervals"]["p90"][1] is not None and host["intervals"]["p99"][1] is None  # 60 samples are too few
        assert point["throughput_isolated"] and point["throughput_seq_s"] == pytest.approx(
            1000 * point["batch"] / host["mean"]
        )
        assert point["tokens_s"] == pytest.approx(point["throughput_seq_s"] * point["seq"])
        assert point["parity"]["ok"] and point["parity"]["rel_l2"] < 1e-5
        assert point["facts"]["compute_dtypes"]["matmul"] == "fp32" and point["facts"]["threads"] == 1
        assert point["build_s"] > 0 and point["first_run_s"] > 0 and point["peak_host_bytes"] > 1 << 27
        assert point["options"] == {"threads": 1} and point["weights"] == "random:0"


def test_the_plan_is_said_before_and_the_progress_meanwhile(main_job: Outcome, main_bench: Bench) -> None:
    for words in (
        "torch:eager on cpu, 1 thread",
        "tiny; head encoder; weights random:0; fp32",
        "batch 1,2 × seq 16,32",
        "4 to measure",
    ):
        assert words in main_job.err
    assert (
        "up to 60 iterations or 20 s, warm-up at least 3, transfers excluded, time-out 300 s, launches 1"
        in main_job.err
    )
    assert str(main_bench.db) in main_job.err
    assert "[4/4] torch:eager tiny encoder fp32 b2 s32 cpu  ok" in main_job.err
    assert "\x1b" not in main_job.err


def test_every_sample_is_kept(main_job: Outcome, main_bench: Bench) -> None:
    record = record_of(main_bench)
    assert record.run.state == "finished" and record.run.label == "first" and record.run.finished is not None
    assert [launch.row.exit for launch in record.launches] == ["0"]
    for each in record.measurements:
        samples = each.row.host_samples
        assert samples is not None and samples.size == 60 and samples.dtype == np.int64
        assert each.row.host == summarise(samples)
        assert each.row.warmup_n is not None and each.row.warmup_n >= 3 and each.row.settled is not None


def test_neither_names_nor_paths_are_stored_with_it(main_job: Outcome) -> None:
    document = json.loads(main_job.out)
    del document["run"]["db"]
    text = json.dumps(document)
    for private in (str(Path.home()), str(Path.cwd()), os.uname().nodename):
        assert private not in text


def test_a_run_grows_by_what_is_missing_and_by_nothing_else(main_job: Outcome, main_bench: Bench) -> None:
    before = rows_of(main_bench)
    assert len(before) == 4

    again = main_bench("--resume", "last", "--json")
    assert again.status == 0 and rows_of(main_bench) == before
    assert again.document["points"] == main_job.document["points"]
    assert "0 to measure, 4 already measured" in again.err

    more = ("--resume", "last", "--batch", "2,3", "--iterations", "10", "--json")
    grown = main_bench(*more)
    assert grown.status == 0 and "2 to measure, 4 already measured" in grown.err
    added = rows_of(main_bench)[4:]
    assert [(batch, status) for _, _, batch, status, _ in added] == [(3, "ok"), (3, "ok")] and rows_of(main_bench)[
        :4
    ] == before
    assert grown.document["run"]["id"] == main_job.document["run"]["id"]
    assert [(each["batch"], each["seq"]) for each in grown.document["points"]] == [
        (1, 16),
        (2, 16),
        (1, 32),
        (2, 32),
        (3, 16),
        (3, 32),
    ]

    twice = main_bench(*more)
    assert twice.status == 0 and len(rows_of(main_bench)) == 6 and twice.document == grown.document

    settings = [each.row.settings["iterations"] for each in record_of(main_bench).measurements]
    assert settings == [60] * 4 + [10] * 2  # each under the request that named it

    launched = main_bench("--resume", main_job.document["run"]["id"], "--launches", "2", "--iterations", "10", "--json")
    assert launched.status == 0 and len(rows_of(main_bench)) == 12
    for point in launched.document["points"]:
        low, high = point["host_ms"]["between_launches"]
        assert point["launches"] == 2 and low < point["host_ms"]["p50"] < high
    assert sorted(launch.row.replicate for launch in record_of(main_bench).launches) == [0, 0, 1, 1]


def test_the_table_is_what_a_person_sees(main_job: Outcome, main_bench: Bench) -> None:
    shown = main_bench("show", "last")
    assert shown.status == 0
    for words in ("first", "tiny · encoder · fp32 · cpu", "torch:eager", "p99", "seq/s", "✓"):
        assert words in shown.out
    assert main_bench("show", "last", "--json").document["points"][0]["n"] >= 60
    listed = main_bench("runs", "--json")
    (run,) = listed.document["runs"]
    assert (run["label"], run["state"], run["failed"]) == ("first", "finished", 0)


# --- ends by force ---


def slow_points(count: int, seconds: float = 0.8) -> tuple[str, ...]:
    """A sweep whose points take their time."""
    limits = ("--iterations", "1000000000", "--max-time", str(seconds), "--warmup", "0")
    return ("--backend", "torch", *TINY, "--batch", f"1..{count}", "--seq", "16", *limits)


def test_killing_the_parent_loses_no_finished_point_and_measures_none_twice(bench: Bench) -> None:
    process = bench.start(*slow_points(5))
    wait_for_rows(bench, 2, process)
    process.kill()
    process.communicate()
    kept = rows_of(bench)
    assert 2 <= len(kept) < 5 and {status for *_, status, _ in kept} == {"ok"}
    record = record_of(bench)
    assert record.run.state == "running"
    worker = record.launches[0].row.pid
    deadline = time.monotonic() + 10
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(worker)  # it does not go on without its parent

    resumed = bench("--resume", "last", "--max-time", "0.1", "--json")
    assert resumed.status == 0
    rows = rows_of(bench)
    assert rows[: len(kept)] == kept
    assert sorted((batch, status, superseded) for _, _, batch, status, superseded in rows) == [
        (batch, "ok", False) for batch in range(1, 6)
    ]
    assert {each["status"] for each in resumed.document["points"]} == {"ok"}
    assert record_of(bench).run.state == "finished"


def test_a_killed_worker_is_a_row_and_ctrl_c_keeps_what_is_finished(bench: Bench) -> None:
    process = bench.start(*slow_points(4), "--json")
    wait_for_rows(bench, 1, process)
    os.kill(record_of(bench).launches[0].row.pid, signal.SIGKILL)
    wait_for_rows(bench, 3, process)
    assert [status for *_, status, _ in rows_of(bench)] == ["ok", "crashed", "ok"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    outcome = Outcome(process.returncode, out, err)
    assert outcome.status == 130 and "Traceback" not in err
    run = outcome.document["run"]["id"]
    assert f"all finished points are kept; go on with: benchrun --resume {run}" in err
    points = outcome.document["points"]
    assert [each["status"] for each in points] == ["ok", "crashed", "ok", "interrupted"]
    assert points[1]["error"] == "the worker was ended by SIGKILL"
    assert record_of(bench).run.state == "interrupted"

    resumed = bench("--resume", run, "--max-time", "0.1", "--json")
    assert resumed.status == 1  # the crash is a result: it stays
    assert [each["status"] for each in resumed.document["points"]] == ["ok", "crashed", "ok", "ok"]
    current = [(batch, status) for _, _, batch, status, superseded in rows_of(bench) if not superseded]
    assert sorted(current) == [(1, "ok"), (2, "crashed"), (3, "ok"), (4, "ok")]


# --- nothing is measured ---


def test_a_dry_run_says_what_it_would_do_and_touches_nothing(bench: Bench) -> None:
    (bench.folder / "benchrun.toml").write_text(
        'threads = 2\n[presets.mine]\nmodel = "tiny"\nbatch = "1..8*2"\nseq = [16, 32]\n'
    )
    outcome = bench("--preset", "mine", "--batch", "1,2", "--dry-run")
    assert outcome.status == 0 and outcome.out == "" and not bench.db.exists()
    assert (
        "batch 1,2 × seq 16,32" in outcome.err
        and "4 to measure; takes about" in outcome.err
        and "2 threads" in outcome.err
    )
    planned = bench("--preset", "mine", "--batch", "1,2", "--dry-run", "--json").document["plan"]
    assert [(each["batch"], each["seq"]) for each in planned["points"]] == [(1, 16), (2, 16), (1, 32), (2, 32)]
    assert planned["seconds"] > 0 and planned["request"]["threads"] == 2 and not bench.db.exists()
    published = bench("--preset", "nvidia-trt-bert", "--dry-run")
    assert "80 to measure" in published.err
    skipped = bench("--backend", "torch,torch:cudagraph", *TINY, "--dry-run")
    assert "skipped  1 points: torch:cudagraph runs on cuda, rocm, not on cpu" in skipped.err
    assert "1 to measure; takes about" in skipped.err  # what is skipped is not measured


# --- databases that cannot be used ---


def create(bench: Bench) -> bytes:
    """A database with a run in it; its bytes."""
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    run = RunRow("20260301-000000-kept", "kept", moment, "finished", EnvironmentRow("0" * 16, {}))
    with open_store(bench.db) as store:
        store.add_run(run, [], 1)
    with sqlite3.connect(bench.db) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return bench.db.read_bytes()


def without_rights_of_root() -> None:
    """Root may write what is read-only: drop the right to, for the program that is about to start."""
    import ctypes

    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(
            24, capability, 0, 0, 0
        )  # PR_CAPBSET_DROP; fails for those who have no such right anyway


def assert_refused(outcome: Outcome, *words: str) -> None:
    """Exit status 2, nothing on standard output, and one clear line."""
    assert outcome.status == 2 and outcome.out == ""
    assert outcome.err.startswith("benchrun: ") and outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err


def test_a_read_only_database_is_refused(bench: Bench) -> None:
    before = create(bench)
    bench.db.chmod(0o444)
    outcome = bench("--backend", "torch", *TINY, preexec_fn=without_rights_of_root)
    assert_refused(outcome, str(bench.db), "read-only", "give another database")
    assert bench.db.read_bytes() == before
    assert bench("runs", preexec_fn=without_rights_of_root).status == 0  # but it can be read


def test_a_database_in_a_folder_that_is_not_there_is_refused(bench: Bench) -> None:
    outcome = bench("--backend", "torch", *TINY, "--db", "nosuch/runs.db")
    assert_refused(outcome, "nosuch/runs.db cannot be created: there is no folder")


def test_a_newer_database_is_refused(bench: Bench) -> None:
    create(bench)
    with sqlite3.connect(bench.db) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    connection.close()
    before = bench.db.read_bytes()
    for command in (("--backend", "torch", *TINY), ("runs",), ("show", "last"), ("--resume", "last")):
        assert_refused(
            bench(*command), str(bench.db), "was written by a newer benchrun (schema 9999", "upgrade benchrun"
        )
    assert bench.db.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(bench: Bench, content: bytes) -> None:
    bench.db.write_bytes(content)
    assert_refused(bench("--backend", "torch", *TINY), str(bench.db))
    assert bench.db.read_bytes() == content


def test_a_full_disk_ends_the_sweep_and_damages_nothing(bench: Bench) -> None:
    create(bench)
    limit = 300_000  # no file may grow beyond: what a full disk looks like to a process

    def fill_the_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    sweep = ("--backend", "torch", *TINY, "--batch", "1..25", "--seq", "8", "--iterations", "10", "--warmup", "0")
    outcome = bench(*sweep, preexec_fn=fill_the_disk)
    last = outcome.err.strip().splitlines()[-1]
    assert outcome.status == 2 and outcome.out == "" and "Traceback" not in outcome.err
    assert last.startswith(f"benchrun: {bench.db} ") and "full" in last
    kept = rows_of(bench)
    assert 0 < len(kept) < 25 and outcome.err.count("  ok  ") == len(kept)
    with sqlite3.connect(bench.db) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    connection.close()
    resumed = bench("--resume", "last", "--json")
    assert resumed.status == 0 and len(rows_of(bench)) == 25 and rows_of(bench)[: len(kept)] == kept
