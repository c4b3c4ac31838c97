"""Parts of the worker that need no engine; the whole of it is measured in test_sweep_command.py and test_hostile.py."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchrun.backends.cache import ArtefactCache
from benchrun.backends.contract import BuildFailed, Inputs, OutOfMemory, Unsupported, WrongVariant
from benchrun.runner import channel
from benchrun.runner.bench import Answers, WorkerBuild, first_rows
from benchrun.runner.channel import Channel, Progress
from benchrun.runner.plan import SweepRequest, make_plan
from benchrun.runner.worker import classify, one_line

POINTS = tuple(
    planned.point for planned in make_plan(SweepRequest(models=("tiny",), device="cpu", batches=(1, 2))).points
)


class OutOfMemoryError(RuntimeError):
    """As PyTorch calls its own."""


@pytest.mark.parametrize(
    ("error", "in_build", "afterwards"),
    [
        (Unsupported("no"), "unsupported", "unsupported"),
        (BuildFailed("no"), "build_failed", "build_failed"),
        (OutOfMemory("no"), "oom", "oom"),
        (WrongVariant("no"), "invalid", "invalid"),
        (MemoryError(), "oom", "oom"),
        (OutOfMemoryError("CUDA out of memory"), "oom", "oom"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
            "oom",
            "oom",
        ),
        (RuntimeError("std::bad_alloc"), "oom", "oom"),
        (OSError(12, "Cannot allocate memory"), "oom", "oom"),
        (RuntimeError("Failed to allocate memory for requested buffer of size 5"), "oom", "oom"),
        (ValueError("no kernel"), "build_failed", "error"),
        (NotImplementedError(), "build_failed", "error"),
    ],
)
def test_what_an_exception_means(error: Exception, in_build: str, afterwards: str) -> None:
    assert classify(error, "build") == in_build
    assert {classify(error, phase) for phase in ("verify", "warmup", "measure")} == {afterwards}


def test_messages_are_one_line_with_the_type_of_what_is_not_ours() -> None:
    assert one_line(Unsupported("it cannot\n do that")) == "it cannot do that"
    assert one_line(ValueError("two\nlines")) == "ValueError: two lines"
    assert one_line(ValueError("\udcff\x1b")) == one_line(ValueError()) == "ValueError"
    assert len(one_line(RuntimeError("long " * 1_000_000))) <= len("RuntimeError: ") + 500


def test_the_first_sequences_are_verified() -> None:
    ids = np.arange(6 * 16).reshape(6, 16)
    inputs = Inputs(0, {"input_ids": ids, "attention_mask": np.ones_like(ids)}, (16, 16, 9, 16, 16, 16))
    assert not inputs.full
    part = first_rows(inputs, tokens=40)
    assert part.arrays["input_ids"].tolist() == ids[:2].tolist() and part.arrays["attention_mask"].shape == (2, 16)
    assert part.lengths == (16, 16) and part.index == 0 and part.full
    assert len(first_rows(inputs, tokens=1).lengths) == 1  # at least one
    assert len(first_rows(inputs, tokens=10**6).lengths) == 6


def test_the_phases_of_a_build_are_timed_apart(tmp_path: Path) -> None:
    build = WorkerBuild(ArtefactCache(tmp_path), POINTS)
    assert build.sweep() == POINTS and build.cache.root == tmp_path
    with build.phase("export"):
        time.sleep(0.02)
    with pytest.raises(ZeroDivisionError), build.phase("compile"):
        raise ZeroDivisionError
    with build.phase("export"):
        time.sleep(0.02)
    assert build.seconds["export"] >= 0.04 and build.seconds["compile"] >= 0 and "load" not in build.seconds


@pytest.mark.parametrize(
    ("artefacts", "size", "hit"),
    [
        ([], None, None),
        ([(5, True)], 5, True),
        ([(5, False)], 5, False),
        ([(5, True), (7, False), (1, True)], 13, False),
    ],
)
def test_artefacts_add_up_and_one_miss_is_a_miss(
    tmp_path: Path, artefacts: list[tuple[int, bool]], size: int | None, hit: bool | None
) -> None:
    build = WorkerBuild(ArtefactCache(tmp_path), POINTS)
    for n_bytes, was_hit in artefacts:
        build.artefact(n_bytes, hit=was_hit)
    assert (build.artefact_bytes, build.cache_hit) == (size, hit)


class Reference:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def exact(self, inputs: Inputs) -> dict[str, Any]:
        self.asked.append("exact")
        return {"y": np.zeros(1)}

    def rounded(self, inputs: Inputs, dtype: str) -> dict[str, Any]:
        self.asked.append(dtype)
        return {"y": np.ones(1)}

    def release(self) -> None:
        self.asked.append("release")


def test_a_reference_is_computed_once_and_rounded_only_where_it_tells_something() -> None:
    reference = Reference()
    answers = Answers(reference)  # type: ignore[arg-type]
    inputs = Inputs(0, {"input_ids": np.ones((1, 8), np.int64)}, (8,))
    exact, rounded = answers.expected(inputs, "fp32")
    assert exact["y"] == 0 and rounded is None
    answers.expected(inputs, "fp32")
    assert reference.asked == ["exact", "release"]
    _, rounded = answers.expected(inputs, "bf16")
    assert rounded is not None and rounded["y"] == 1
    answers.expected(Inputs(0, {"input_ids": np.ones((2, 8), np.int64)}, (8, 8)), "int8")
    assert reference.asked == ["exact", "release", "exact", "bf16", "release", "exact", "release"]


def test_progress_waits_for_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [100.0]
    monkeypatch.setattr(channel, "time", type("time", (), {"monotonic": staticmethod(lambda: moment[0])}))
    events = io.StringIO()

    def sent() -> list[dict[str, Any]]:
        return [json.loads(line) for line in events.getvalue().splitlines()]

    progress = Progress(Channel(events, io.StringIO("\n" * 99)), ordinal=4, interval_s=1.0)
    progress.enter("measure")
    for n in range(1, 26):
        moment[0] += 0.125
        progress.tick(n, n * 1000)
    assert [each["n"] for each in sent()] == [0, 8, 16, 24]
    assert sent()[1] == {"event": "progress", "ordinal": 4, "phase": "measure", "n": 8, "last_ns": 8000}
    silent = Progress(Channel(events, io.StringIO()), ordinal=5, interval_s=0)
    moment[0] += 100
    silent.tick(1, 1)
    assert len(sent()) == 4


class Left(Exception):
    """Stands in for the end of the process."""


def leave(status: int) -> None:
    raise Left(status)


def test_a_worker_without_a_parent_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel.os, "_exit", leave)
    with pytest.raises(Left, match=str(channel.EXIT_ORPHANED)):
        Channel(io.StringIO(), io.StringIO()).ask("started", ordinal=0)  # nobody answers
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as broken:
        with pytest.raises(Left, match=str(channel.EXIT_ORPHANED)):
            Channel(broken, io.StringIO("\n")).send("done")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # what is still buffered may go somewhere
