"""Engines that misbehave: each point ends as its own status, and the sweep goes on. Real workers, real database.

The misdeeds are in tests/plugins/benchrun-hostile; a sweep goes through several of them, since each worker takes seconds to start.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchrun_hostile import FACTS, WRONG

from benchrun.results.records import RunRecord
from benchrun.results.store import open_store
from benchrun.runner import cli, launcher
from tests.conftest import Bench, Outcome

QUICK = ("--model", "tiny", "--seq", "16", "--warmup", "0", "--threads", "1", "--timeout", "10", "--repeats", "0")
Rows = dict[tuple[str, str, int], dict[str, Any]]


def points(outcome: Outcome) -> Rows:
    """The document's points by variant, dtype and batch."""
    return {(each["variant"], each["dtype"], each["batch"]): each for each in outcome.document["points"]}


def stored(bench: Bench) -> RunRecord:
    with open_store(bench.db, read_only=True) as store:
        return store.run(store.resolve_run("last"))


def engines(*variants: str) -> str:
    return ",".join(f"hostile:{variant}" for variant in variants)


# --- misdeeds that end a worker ---

ENDS = {
    "segfault": ("crashed", "verify", "the worker was ended by SIGSEGV"),
    "killed": ("crashed", "measure", "the worker was ended by SIGKILL"),
    "exits": ("crashed", "verify", "the worker exited with status 7; its last words: licence expired: �"),
    "hangs": ("timeout", "verify", "took longer than --timeout 10 s"),
    "raises": ("error", "verify", "RuntimeError: [31mred and broken, long long"),
    "unbuildable": ("build_failed", "build", "ValueError: no kernel for on this device"),
    "closes": ("crashed", "verify", "the worker exited with status 1"),
}
FINE = ("untidy", "leaks", "behaved")


@pytest.fixture(scope="module")
def bench_of_ends(make_bench: Callable[[], Bench]) -> Bench:
    return make_bench()


@pytest.fixture(scope="module")
def ends(bench_of_ends: Bench) -> Outcome:
    return bench_of_ends("--backend", engines(*ENDS, *FINE), *QUICK, "--iterations", "100", "--json")


@pytest.mark.parametrize("variant", ENDS)
def test_a_misdeed_that_ends_a_worker(ends: Outcome, variant: str) -> None:
    status, phase, error = ENDS[variant]
    point = points(ends)[variant, "fp32", 1]
    assert (point["status"], point["phase"]) == (status, phase)
    assert point["error"].startswith(error) and point["error"].isprintable() and len(point["error"]) < 600
    assert point["n"] == 0 and point["host_ms"] is None


def test_the_sweep_goes_on_and_says_that_some_failed(ends: Outcome) -> None:
    assert ends.status == 1
    found = points(ends)
    assert {variant: found[variant, "fp32", 1]["status"] for variant in FINE} == dict.fromkeys(FINE, "ok")
    assert all(found[variant, "fp32", 1]["n"] == 100 for variant in FINE)


def test_noise_of_an_engine_reaches_nobody(ends: Outcome) -> None:
    assert ends.document["schema"] == 1  # standard output is the document and nothing else
    assert "noise" not in ends.out + ends.err and "\x1b" not in ends.err
    assert "Traceback" not in ends.err


def test_children_do_not_outlive_their_worker(ends: Outcome) -> None:
    child = points(ends)["untidy", "fp32", 1]["facts"]["child"]
    deadline = time.monotonic() + 10
    while (state := process_state(child)) not in (None, "Z") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert state in (None, "Z")


def process_state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def test_only_what_leaks_is_flagged_as_leaking(ends: Outcome) -> None:
    found = points(ends)
    leaking = {variant for variant in FINE if "leaks_memory" in found[variant, "fp32", 1]["flags"]}
    assert leaking == {"leaks"}


def test_every_launch_says_how_it_ended(ends: Outcome, bench_of_ends: Bench) -> None:
    record = stored(bench_of_ends)
    assert record.run.state == "finished" and len(record.launches) == len(ENDS) + len(FINE)
    exits = [launch.row.exit for launch in record.launches]
    assert exits == ["SIGSEGV", "SIGKILL", "7", "SIGKILL", "0", "0", "1", "0", "0", "0"]


# --- wrong answers and wrong precisions ---

INVALID = {
    "nan": r"of last_hidden_state is not a finite number",
    "scaled": r"gain 1.010",
    "rounded": r"more exact than {dtype} can be",
    "original": r"more exact than {dtype} can be",
    "claims": r"asked for {dtype}, but the engine computes its matrix products in {other}",
    "shape": r"last_hidden_state has shape (1, 16, 128), not ({batch}, 16, 128)",
    "missing": r"the engine gave no output last_hidden_state",
    "stale": r"wrong answer: 100.0% of last_hidden_state is not a finite number",
    "decays": r"wrong answer: last_hidden_state: relative L2 error 2.0",
}


@pytest.fixture(scope="module")
def wrong(make_bench: Callable[[], Bench]) -> Outcome:
    batches = ",".join(map(str, WRONG))
    sweep = ("--backend", engines("wrong"), "--batch", batches, "--dtype", "fp32,fp16,bf16")
    return make_bench()(*sweep, *QUICK, "--iterations", "12", "--json")


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("batch", WRONG, ids=WRONG.values())
def test_a_wrong_answer_is_invalid_and_an_honest_one_is_not(wrong: Outcome, dtype: str, batch: int) -> None:
    misdeed = WRONG[batch]
    point = points(wrong)["wrong", dtype, batch]
    honest = misdeed == "nothing" or (dtype == "fp32" and misdeed in ("rounded", "original"))
    assert point["status"] == ("ok" if honest else "invalid"), point["error"]
    assert point["n"] == 12 and point["host_ms"] is not None  # its time is kept, too
    if honest:
        assert point["error"] is None and point["parity"]["ok"]
    else:
        other = "fp16" if dtype == "fp32" else "fp32"
        expected = INVALID[misdeed].format(dtype=dtype, other=other, batch=batch)
        if misdeed == "scaled" and dtype != "bf16":  # exact enough for the coarser check to find it first
            expected = "relative L2 error 1.0"
        assert expected in point["error"] and point["phase"] == "verify"
    assert wrong.status == 1


def test_real_arithmetic_of_low_precision_lies_between_the_limits(wrong: Outcome) -> None:
    found = points(wrong)
    fp16, bf16 = (found["wrong", dtype, 1]["parity"]["rel_l2"] for dtype in ("fp16", "bf16"))
    assert 1e-4 < fp16 < 5e-3 < bf16 < 2e-2


# --- memory, odd facts, a crash when all is done ---


@pytest.fixture(scope="module")
def bench_of_batches(make_bench: Callable[[], Bench]) -> Bench:
    return make_bench()


@pytest.fixture(scope="module")
def batches(bench_of_batches: Bench) -> Outcome:
    sweep = ("--backend", engines("memory", "closing", "facts"), "--batch", "1,2,3,4")
    return bench_of_batches(*sweep, *QUICK, "--iterations", "12", "--json")


def test_out_of_memory_is_oom_and_larger_batches_are_not_tried(batches: Outcome) -> None:
    found = [points(batches)["memory", "fp32", batch] for batch in (1, 2, 3, 4)]
    assert [each["status"] for each in found] == ["ok", "oom", "skipped", "skipped"]
    assert "allocate memory" in found[1]["error"] and found[1]["peak_host_bytes"] > 1 << 28
    assert {each["error"] for each in found[2:]} == {"oom at b2: larger batches are not tried without --try-all"}
    assert {each["launches"] for each in found[2:]} == {0}


def test_larger_batches_are_tried_with_try_all(batches: Outcome, bench_of_batches: Bench) -> None:
    more = ("--backend", engines("memory"), "--batch", "5")
    again = bench_of_batches("--resume", "last", *more, "--try-all", "--json")
    point = points(again)["memory", "fp32", 5]
    assert (point["status"], point["error"]) == ("oom", "MemoryError") and again.status == 1


def test_a_crash_after_a_point_is_neither_its_fault_nor_the_next_ones(
    batches: Outcome, bench_of_batches: Bench
) -> None:
    found = points(batches)
    assert {found["closing", "fp32", batch]["status"] for batch in (1, 2, 3, 4)} == {"ok"}
    assert [launch.row.exit for launch in stored(bench_of_batches).launches].count("SIGSEGV") == 1


def test_odd_facts_are_stored_as_plain_values_or_refused(batches: Outcome) -> None:
    found = {what: points(batches)["facts", "fp32", batch] for batch, what in enumerate(FACTS.values(), 1)}
    odd = [each["facts"].get("odd") for each in found.values()]
    assert odd == [None, "\\udcff\ufffd", 2.5, None]
    assert [each["status"] for each in found.values()] == ["ok", "ok", "ok", "error"]
    assert list(found.values())[-1]["error"] == "TypeError: a object cannot be stored as JSON"


def test_the_database_is_sound_after_all_that(
    batches: Outcome, ends: Outcome, bench_of_batches: Bench, bench_of_ends: Bench
) -> None:
    for each in (bench_of_batches, bench_of_ends):
        with sqlite3.connect(each.db) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()


# --- a worker that does not end ---


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_worker_whose_interpreter_does_not_end_is_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launcher, "EXIT_S", 1.0)  # so that nobody waits 20 s; hence in this process
    for name in ("BENCHRUN_DB", "BENCHRUN_CACHE"):
        monkeypatch.setenv(name, bench.environment[name])
    monkeypatch.chdir(bench.folder)
    before = open_files()
    status = cli.run(["--backend", engines("stays"), *QUICK, "--iterations", "12"])
    assert status == 0 and "✓" in capfd.readouterr().out
    assert [launch.row.exit for launch in stored(bench).launches] == ["SIGKILL"]
    assert open_files() == before  # nothing of the worker is left open here


# --- an engine for a range of shapes: the same sweep has the same artefact, whoever was killed meanwhile ---


@pytest.mark.parametrize("victim", ["worker", "command"])
def test_a_kill_does_not_change_what_an_engine_is_built_for(make_bench: Callable[[], Bench], victim: str) -> None:
    bench = make_bench()
    sweep = ("--backend", engines("ranged"), "--batch", "1,2,3,4", *QUICK, "--iterations", "12", "--json")
    first = replace(bench, settings={"HOSTILE_KILLS": f"{victim}:3"})(*sweep)
    if victim == "worker":  # its successor has batch 4 only
        last, hits = first, {1: False, 2: True, 3: None, 4: True}
    else:  # and so has the resumed run but for batch 3
        assert first.status == -signal.SIGKILL
        last, hits = bench("--resume", "last", "--json"), {1: False, 2: True, 3: True, 4: True}
    found = points(last)
    assert {batch: found["ranged", "fp32", batch]["cache_hit"] for batch in hits} == hits
    keys = {found["ranged", "fp32", batch]["facts"]["artefact"] for batch, hit in hits.items() if hit is not None}
    assert len(keys) == 1
    if victim == "worker":
        return
    # each request has an engine of its own, also for those of its points that are left to it when a later one names the others
    assert bench("--resume", "last", "--batch", "3,4,5", "--iterations", "10", "--json").status == 0
    assert bench("--resume", "last", "--launches", "2", "--json").status == 0
    record = stored(bench)
    built = {
        (planned.point.batch, each.row.replicate): each.row.facts["artefact"]
        for planned in record.points
        for each in record.by_point[planned.point.key]
    }
    (whole,) = keys
    other = built[5, 0]
    assert other != whole
    assert built == {(batch, launch): whole if batch < 5 else other for batch in (1, 2, 3, 4, 5) for launch in (0, 1)}
