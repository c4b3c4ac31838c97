"""The parent's side: real processes and a real database, with a worker that costs nothing to start."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from benchrun.results.records import MeasurementRecord, RunRecord
from benchrun.results.rows import EnvironmentRow, RunRow
from benchrun.results.store import Store, open_store
from benchrun.runner import launcher
from benchrun.runner.launcher import Exit
from benchrun.runner.plan import Plan, SweepRequest, make_plan
from benchrun.runner.sweep import Sweep, Turn, Update, died, make_row, open_run, point_row
from tests.runner.conftest import Stage

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
RUN = "20260301-000000-abcd"
BATCHES = (1, 2, 4)


@dataclass
class Bed:
    """A planned run in a store of its own."""

    plan: Plan
    store: Store
    updates: list[Update] = field(default_factory=list)

    def measure(self) -> RunRecord:
        Sweep(self.plan, self.store, RUN, self.updates.append).measure(self.store.missing(RUN))
        return self.record()

    def record(self) -> RunRecord:
        return self.store.run(RUN, samples=True)

    def rows(self) -> list[MeasurementRecord]:
        """In the order they were stored, without those that were measured again."""
        return list(self.record().measurements)

    def statuses(self) -> dict[str, str]:
        record = self.record()
        return {f"{each.point.variant} b{each.point.batch}": record.status(each) for each in record.points}


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Callable[..., Bed]]:
    stores: list[Store] = []

    def make(timeout_s: float = 30.0, **settings: Any) -> Bed:
        given: dict[str, Any] = {"models": ("tiny",), "device": "cpu", "batches": BATCHES, "threads": 1, **settings}
        plan = make_plan(SweepRequest(**given))
        plan = replace(plan, request=replace(plan.request, timeout_s=timeout_s))
        store = open_store(tmp_path / f"{len(stores)}.db")
        stores.append(store)
        run = RunRow(RUN, "", MOMENT, "running", EnvironmentRow("0" * 16, {}))
        store.add_run(run, [point_row(planned.point) for planned in plan.points], plan.request.launches)
        return Bed(plan, store)

    yield make
    for store in stores:
        store.close()


def test_every_point_becomes_a_row_of_one_worker(bed: Callable[..., Bed], stage: Stage) -> None:
    stage()
    sweep = bed()
    record = sweep.measure()
    assert sweep.statuses() == {"eager b1": "ok", "eager b2": "ok", "eager b4": "ok"}
    (launch,) = record.launches
    assert launch.row.exit == "0" and launch.row.pid > 0 and launch.row.finished is not None
    for ordinal, each in enumerate(sweep.rows()):
        row = each.row
        assert (row.ordinal, row.replicate, each.launch_id) == (ordinal, 0, launch.id)
        assert row.host is not None and row.host.n == 12 and row.device is None
        assert row.host_samples is not None and row.host_samples.tolist() == [1_000_000 + i for i in range(12)]
        assert row.tokens_s == 128_000 and row.padding_fraction == 0 and row.phase is None and row.error is None
        assert row.settings["iterations"] == 200 and row.settings["threads"] == 1
    assert sweep.store.missing(RUN) == []
    phases = [(each.planned.point.batch, each.phase) for each in sweep.updates]
    assert phases[:4] == [(1, "build"), (1, "build"), (1, "measure"), (1, "done")]
    assert [each.row is not None for each in sweep.updates[:4]] == [False, False, False, True]


def test_a_spoilt_attempt_is_kept_beside_the_one_that_counts(bed: Callable[..., Bed], stage: Stage) -> None:
    stage({"2": "spoilt at first"})
    sweep = bed()
    sweep.measure()
    assert [each.row.host.n for each in sweep.rows() if each.row.host] == [12, 12, 12]  # the current ones
    with sweep.store.reading() as connection:
        kept = connection.execute(text("SELECT id, host_n, flags FROM measurements WHERE superseded ORDER BY id")).all()
    ((key, n, flags),) = kept
    assert n == 11 and "noisy_host" in flags
    samples = sweep.store.samples(key)
    assert samples is not None and samples.tolist() == [3_000_000 + i for i in range(11)]


@pytest.mark.parametrize(
    ("deed", "status", "error", "launches"),
    [
        ("die", "crashed", "the worker was ended by SIGKILL", 2),
        ("half", "crashed", "the worker was ended by SIGKILL", 2),
        ("child", "crashed", "the worker exited with status 3", 2),
        ("error", "error", "it is error", 2),
        ("unsupported", "unsupported", "it is unsupported", 1),
    ],
)
def test_a_failure_is_one_row_and_the_sweep_goes_on(
    bed: Callable[..., Bed], stage: Stage, deed: str, status: str, error: str, launches: int
) -> None:
    stage({"2": deed})
    sweep = bed()
    record = sweep.measure()
    assert sweep.statuses() == {"eager b1": "ok", "eager b2": status, "eager b4": "ok"}
    row = sweep.rows()[1].row
    assert row.error == error and row.phase == ("measure" if status == deed else "build") and row.host is None
    assert len(record.launches) == launches and sweep.store.missing(RUN) == []


def test_every_launch_is_told_the_whole_sweep(
    bed: Callable[..., Bed], stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever is left to measure after a crash, in a resumed run or in the second stage of a gate."""
    stage({"2": "die"})
    log = tmp_path / "assignments"
    monkeypatch.setenv("DOUBLE_LOG", str(log))
    sweep = bed(seqs=(16, 32))
    sweep.measure()
    Sweep(sweep.plan, sweep.store, RUN, sweep.updates.append).measure_launch(sweep.plan.points[5:], 1, discard=True)
    told = [json.loads(line) for line in log.read_text().splitlines()]
    batches = [[each["point"]["batch"] for each in assignment["tasks"]] for assignment in told]
    assert batches == [[1, 2, 4, 1, 2, 4], [4, 1, 2, 4], [4], [4]]
    shapes = [[(each["batch"], each["seq"]) for each in assignment["sweep"]] for assignment in told]
    assert shapes == [[(batch, seq) for seq in (16, 32) for batch in BATCHES]] * 4
    assert {assignment["max_seq"] for assignment in told} == {32}


def test_no_secret_reaches_a_row_by_the_label_or_an_engines_facts(bed: Callable[..., Bed]) -> None:
    sweep = bed()
    label = "nightly token=abc123 https://me:pw@host.example/x /home/me/models/minilm"
    run = open_run(sweep.store, sweep.plan, label)
    assert sweep.store.run(run).run.label == "nightly token=[hidden] https://[hidden]@host.example/x …/minilm"
    node = "/bert/encoder/layer.0/attention/self/MatMul"
    facts = {
        "engine": "/home/me/cache/plan.engine",
        "fallbacks": [node],
        "graph": {"nodes": 12, "url": "http://u:p@h/x"},
    }
    fields = {"status": "ok", "host_ns": [1_000_000] * 12, "facts": facts}
    row = make_row(Turn(sweep.plan.points[0], 0, MOMENT), 0, fields, sweep.plan)
    hidden = {"nodes": 12, "url": "http://[hidden]@h/x"}
    assert row.facts == {"engine": "…/plan.engine", "fallbacks": [node], "graph": hidden}


@pytest.mark.parametrize("drifting", ["host_ns", "device_ns"])
def test_either_clock_may_be_unsteady(drifting: str) -> None:
    plan = make_plan(SweepRequest(models=("tiny",), device="cpu", threads=1))
    steady, rising = [1_000_000] * 60, [1_000_000 + 10_000 * i for i in range(60)]
    fields = {"status": "ok", "host_ns": steady, "device_ns": steady}
    turn = Turn(plan.points[0], 0, MOMENT)
    assert make_row(turn, 0, fields, plan).flags == ()
    assert make_row(turn, 0, {**fields, drifting: rising}, plan).flags == ("unsteady",)


def test_a_hang_ends_with_its_time(bed: Callable[..., Bed], stage: Stage) -> None:
    stage({"2": "hang"})
    sweep = bed(timeout_s=0.5)
    sweep.measure()
    assert sweep.statuses() == {"eager b1": "ok", "eager b2": "timeout", "eager b4": "ok"}
    row = sweep.rows()[1].row
    assert row.error == "took longer than --timeout 0.5 s" and row.phase == "build"


def test_loading_is_not_the_engines_time(
    bed: Callable[..., Bed], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "STARTUP_S", 1.5)
    stage({"2": "load for ever"})
    sweep = bed(timeout_s=0.3)  # less than an interpreter takes to start
    started = datetime.now(UTC)
    sweep.measure()
    assert sweep.statuses() == {"eager b1": "ok", "eager b2": "timeout", "eager b4": "ok"}
    assert (datetime.now(UTC) - started).total_seconds() > 1.8


def test_what_happens_between_points_is_nobodys_fault(bed: Callable[..., Bed], stage: Stage) -> None:
    stage({"1": "die afterwards", "4": "die afterwards"})
    sweep = bed()
    record = sweep.measure()
    assert set(sweep.statuses().values()) == {"ok"}
    assert [each.row.exit for each in record.launches] == ["SIGKILL", "SIGKILL"]


def test_a_worker_that_hangs_between_points_is_replaced(bed: Callable[..., Bed], stage: Stage) -> None:
    stage({"1": "hang afterwards", "4": "hang afterwards"})
    sweep = bed(timeout_s=0.5)
    sweep.measure()
    assert set(sweep.statuses().values()) == {"ok"}


def test_a_worker_that_does_not_end_is_ended(
    bed: Callable[..., Bed], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "EXIT_S", 0.5)
    stage(end="hang")
    sweep = bed()
    assert [each.row.exit for each in sweep.measure().launches] == ["SIGKILL"]
    assert set(sweep.statuses().values()) == {"ok"}


@pytest.mark.parametrize(("start", "status"), [("silent", "crashed"), ("hang", "timeout")])
def test_workers_that_never_take_up_a_point_do_not_go_round_for_ever(
    bed: Callable[..., Bed], stage: Stage, monkeypatch: pytest.MonkeyPatch, start: str, status: str
) -> None:
    monkeypatch.setattr(launcher, "STARTUP_S", 0.1)
    stage(start=start)
    sweep = bed(timeout_s=0.3)
    record = sweep.measure()
    assert set(sweep.statuses().values()) == {status}
    assert len(record.launches) == 3 and [each.row.ordinal for each in sweep.rows()] == sorted(
        each.row.ordinal for each in sweep.rows()
    )


# --- out of memory ---


def test_larger_batches_are_skipped_after_oom(bed: Callable[..., Bed], stage: Stage) -> None:
    stage({"2": "oom"})
    sweep = bed(batches=(1, 2, 4, 8), seqs=(16, 32))
    sweep.measure()
    for row in (each.row for each in sweep.rows() if each.row.status == "skipped"):
        assert row.error == "oom at b2: larger batches are not tried without --try-all" and row.phase == "plan"
    statuses = [each.row.status for each in sorted(sweep.rows(), key=lambda each: each.row.ordinal)]
    assert sorted(statuses) == sorted(["ok", "oom", "skipped", "skipped"] * 2)  # each length has its own limit
    assert all(each.launch_id is None for each in sweep.rows() if each.row.status == "skipped")


def test_all_batches_are_tried_when_asked(bed: Callable[..., Bed], stage: Stage) -> None:
    stage({"2": "oom"})
    sweep = bed(try_all=True)
    sweep.measure()
    assert sweep.statuses() == {"eager b1": "ok", "eager b2": "oom", "eager b4": "ok"}


def test_a_resumed_sweep_remembers_what_ran_out_of_memory(bed: Callable[..., Bed], stage: Stage) -> None:
    stage({"2": "oom"})
    sweep = bed()
    queue = sweep.store.missing(RUN)
    Sweep(sweep.plan, sweep.store, RUN, sweep.updates.append).measure(queue[:2])
    assert sweep.statuses() == {"eager b1": "ok", "eager b2": "oom", "eager b4": "interrupted"}
    record = sweep.measure()
    assert sweep.statuses()["eager b4"] == "skipped" and len(record.launches) == 1


def test_each_launch_finds_out_for_itself(bed: Callable[..., Bed], stage: Stage) -> None:
    stage({"2": "oom"})
    sweep = bed(launches=2)
    sweep.measure()
    found = [(each.row.replicate, each.row.status) for each in sweep.rows()]
    assert sorted(found) == sorted((replicate, status) for replicate in (0, 1) for status in ("ok", "oom", "skipped"))


# --- order ---


def test_launches_are_interleaved_and_rotated(bed: Callable[..., Bed], stage: Stage) -> None:
    stage()
    sweep = bed(backends=("torch", "torch:compile", "example"), batches=(1, 2), launches=3)
    record = sweep.measure()
    by_launch: dict[int, set[str]] = {}
    variants = {each.point.key: each.point.variant for each in record.points}
    for each in sweep.rows():
        assert each.launch_id is not None
        by_launch.setdefault(each.launch_id, set()).add(variants[each.row.point_key])
    order = [by_launch[launch.id] for launch in record.launches]
    assert [next(iter(each)) for each in order if len(each) == 1] == [
        "eager", "compile", "export",
        "compile", "export", "eager",
        "export", "eager", "compile",
    ]  # fmt: skip
    assert [launch.row.replicate for launch in record.launches] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [each.row.ordinal for each in sweep.rows()] == list(range(18))


def test_refusals_of_the_plan_are_rows_without_a_launch(bed: Callable[..., Bed], stage: Stage) -> None:
    stage()
    sweep = bed(backends=("torch:cudagraph", "torch"), batches=(1,))
    record = sweep.measure()
    assert sweep.statuses() == {"cudagraph b1": "skipped", "eager b1": "ok"} and len(record.launches) == 1
    assert sweep.rows()[0].row.error == "torch:cudagraph runs on cuda, rocm, not on cpu"


# --- Ctrl-C ---


def test_an_interrupt_keeps_what_is_finished_and_marks_what_is_not(bed: Callable[..., Bed], stage: Stage) -> None:
    stage({"2": "interrupt"})
    sweep = bed()
    with pytest.raises(KeyboardInterrupt):
        sweep.measure()
    assert [(each.row.status, each.row.error) for each in sweep.rows()] == [
        ("ok", None),
        ("interrupted", "interrupted by Ctrl-C or SIGTERM"),
    ]
    assert [each.row.exit for each in sweep.record().launches] == ["SIGKILL"]
    stage()
    sweep.measure()
    assert set(sweep.statuses().values()) == {"ok"}
    first, *others = sweep.rows()
    assert first.launch_id == 1 and {each.launch_id for each in others} == {2}  # b1 was not measured again


def test_an_interrupt_right_after_a_point_was_stored_does_not_undo_it(
    bed: Callable[..., Bed], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage()
    sweep = bed()
    add = sweep.store.add_measurement

    def add_and_be_interrupted(*arguments: Any) -> int:
        add(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sweep.store, "add_measurement", add_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep.measure()
    assert [each.row.status for each in sweep.rows()] == ["ok"]
    sweep.measure()
    assert len(sweep.rows()) == 3 and set(sweep.statuses().values()) == {"ok"}


# --- rows ---


@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        (Exit("SIGSEGV", False, ""), "crashed", "the worker was ended by SIGSEGV"),
        (
            Exit("1", False, "\n a\nb \x1b[1mc\udcff \n \n"),
            "crashed",
            "the worker exited with status 1; its last words: b [1mc",
        ),
        (Exit("0", False, ""), "crashed", "the worker exited with status 0"),
        (Exit("SIGKILL", True, "x"), "oom", "the kernel killed the worker: host memory ran out"),
        (Exit("signal 64", False, ""), "crashed", "the worker was ended by signal 64"),
    ],
)
def test_how_a_worker_ended_is_said(outcome: Exit, status: str, error: str) -> None:
    assert died(outcome) == {"status": status, "error": error}
