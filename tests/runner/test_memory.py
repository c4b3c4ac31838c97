from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from benchrun.runner import memory
from benchrun.runner.memory import leaks, peak_bytes, reset_peak, resident_bytes

MIB = 1 << 20
SIZE = 500 * MIB


@pytest.mark.parametrize(
    ("growth", "iterations", "leaking"),
    [
        (0, 200, False),
        (-50 * MIB, 200, False),
        (5 * MIB, 100, False),  # exactly 1 % a 100 iterations
        (5 * MIB + 1, 100, True),
        (9 * MIB, 200, False),
        (11 * MIB, 200, True),
        (MIB // 2, 2, False),  # over 1 %, but below what an allocator does by itself
        (5 * MIB, 10, False),  # a few calls after warm-up the allocator is still settling
        (5 * MIB + 1, 10, True),
    ],
)
def test_growth_over_one_percent_a_hundred_iterations(growth: int, iterations: int, leaking: bool) -> None:
    assert leaks(SIZE, SIZE + growth, iterations) is leaking


@pytest.mark.parametrize(("before", "after", "iterations"), [(None, SIZE, 9), (SIZE, None, 9), (SIZE, 2 * SIZE, 0)])
def test_what_is_not_known_is_no_leak(before: int | None, after: int | None, iterations: int) -> None:
    assert not leaks(before, after, iterations)


def test_figures_are_this_processes_own() -> None:
    blocks: list[mmap.mmap] = []
    grown: list[int] = []
    for _ in range(3):  # the least of three: other threads of the tests may take or give back memory meanwhile
        before = resident_bytes()
        blocks.append(mmap.mmap(-1, 64 * MIB))  # fresh from the kernel, whatever the allocator still holds
        for start in range(0, 64 * MIB, MIB):
            blocks[-1][start : start + MIB] = b"\1" * MIB
        after, peak = resident_bytes(), peak_bytes()
        assert before is not None and after is not None and peak is not None and peak >= after - MIB
        grown.append(after - before)
    assert 60 * MIB < min(grown) < 80 * MIB
    for block in blocks:
        block.close()
    reset_peak()
    lower = peak_bytes()
    assert lower is not None and lower < peak - 50 * MIB


def test_where_proc_cannot_be_read_the_answer_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "Path", lambda name: tmp_path / "nosuch" / name.lstrip("/"))
    assert peak_bytes() is None and resident_bytes() is None
    reset_peak()
    monkeypatch.setattr(memory, "Path", lambda name: tmp_path / "empty")
    (tmp_path / "empty").write_text("")
    assert peak_bytes() is None and resident_bytes() is None
