from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchrun.runner import launcher
from benchrun.runner.launcher import (
    THREAD_VARIABLES,
    WorkerProcess,
    WorkerTimeout,
    exit_text,
    oom_kills,
    worker_environment,
)
from benchrun.runner.messages import Assignment, Task
from benchrun.runner.plan import SweepRequest, make_plan
from benchrun.runner.protocol import Protocol
from tests.runner.conftest import Stage

PLAN = make_plan(SweepRequest(models=("tiny",), device="cpu", batches=(1, 2), threads=1))
TASKS = tuple(Task(planned.point, ordinal) for ordinal, planned in enumerate(PLAN.points))


def launch() -> WorkerProcess:
    return WorkerProcess(Assignment(PLAN.points[0].spec, 128, TASKS, Protocol()), threads=1)


def follow(worker: WorkerProcess, timeout_s: float = 30.0) -> list[Mapping[str, Any]]:
    found = []
    for event in worker.events(timeout_s):
        found.append(event)
        worker.answer()
    return found


def processes_of(group: int) -> list[int]:
    """Living processes of a process group, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(pgrp) == group and state != "Z":
                found.append(int(entry.name))
    return found


def test_events_come_in_order_until_the_worker_is_done(stage: Stage) -> None:
    stage()
    with launch() as worker:
        events = follow(worker)
        assert not worker.ended
        outcome = worker.wait()
        assert worker.ended and worker.wait() == outcome  # asking again changes nothing
    assert [(each["event"], each["ordinal"]) for each in events] == [
        (event, ordinal) for ordinal in (0, 1) for event in ("started", "progress", "progress", "measured")
    ]
    assert outcome.text == "0" and not outcome.oom_killed


def test_a_worker_runs_in_a_session_of_its_own(stage: Stage) -> None:
    stage({"1": "hang"})
    with launch() as worker:
        for event in worker.events(30):
            worker.answer()
            if event["event"] == "progress":
                break
        assert os.getsid(worker.pid) == worker.pid != os.getsid(0)
    assert processes_of(worker.pid) == []  # leaving the block ends it


def test_an_engine_that_takes_too_long(stage: Stage) -> None:
    stage({"1": "hang"})
    with launch() as worker:
        started = time.monotonic()
        with pytest.raises(WorkerTimeout):
            follow(worker, timeout_s=0.4)
        assert time.monotonic() - started > 0.4
        worker.kill()
        assert worker.wait().text == "SIGKILL"
    worker.kill()  # its process id may be somebody else's by now: nothing happens


def test_a_child_that_holds_the_pipe_neither_blocks_nor_survives(stage: Stage) -> None:
    stage({"1": "child"})
    with launch() as worker:
        started = time.monotonic()
        events = follow(worker)
        assert [each["event"] for each in events] == ["started", "progress"]
        assert processes_of(worker.pid) != []
        assert worker.wait().text == "3"
        assert time.monotonic() - started < 10
    deadline = time.monotonic() + 5
    while processes_of(worker.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_of(worker.pid) == []


def test_the_parent_sleeps_while_the_worker_works(stage: Stage) -> None:
    stage({"1": "hang"})
    with launch() as worker:
        before = time.process_time()
        with pytest.raises(WorkerTimeout):
            follow(worker, timeout_s=1.5)
        assert time.process_time() - before < 0.3


def test_what_a_worker_printed_is_kept_to_its_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    talker = tmp_path / "talker"
    talker.write_text(
        "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x\nprintf '\\377 last words\\n' >&2\nread line\nexit 9\n"
    )
    talker.chmod(0o755)
    stage()
    monkeypatch.setattr(launcher.sys, "executable", str(talker))
    with launch() as worker:
        assert follow(worker) == []
        outcome = worker.wait()
    assert outcome.text == "9"
    assert outcome.log.endswith("x\ufffd last words\n") and len(outcome.log) == launcher.LOG_TAIL


def test_answering_a_worker_that_died_is_no_error(stage: Stage) -> None:
    stage(start="silent")
    with launch() as worker:
        worker.wait()
        worker.answer()
        assert follow(worker) == []


def test_ends_have_names() -> None:
    assert [exit_text(code) for code in (0, 7, -signal.SIGSEGV, -signal.SIGKILL)] == ["0", "7", "SIGSEGV", "SIGKILL"]
    assert exit_text(-63) == "signal 63"


def test_the_kernels_own_kills_are_counted(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert oom_kills(events) == 3
    events.write_text("low 0\n")
    assert oom_kills(events) == 0
    events.write_text("oom_kill many\n")
    assert oom_kills(events) == 0
    assert oom_kills(tmp_path / "nosuch") == 0


def test_a_kill_by_the_kernel_is_told_from_other_kills(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([3, 4])
    monkeypatch.setattr(launcher, "oom_kills", lambda: next(counts))
    stage({"1": "die"})
    with launch() as worker:
        follow(worker)
        assert worker.wait().oom_killed


def test_threads_are_set_before_any_library_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("KEPT", "yes")
    environment = worker_environment(3)
    assert {name: environment[name] for name in THREAD_VARIABLES} == dict.fromkeys(THREAD_VARIABLES, "3")
    assert environment["KEPT"] == "yes" and environment["HF_HUB_OFFLINE"] == "1"
