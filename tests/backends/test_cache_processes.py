"""The artefact cache between real processes: one maker at a time, and nothing believed of a maker that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchrun.backends.cache import ArtefactCache, CacheError

MAKER = """
import os, sys, time
from pathlib import Path
from benchrun.backends.cache import ArtefactCache

root, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

def make(folder):
    (folder / "part").write_bytes(bytes(1000))
    with log.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(seconds)
    (folder / "model.onnx").write_bytes(str(os.getpid()).encode())

print(int(ArtefactCache(root).obtain("onnx", {"weights": "abc"}, make).hit))
"""

HOLDER = """
import sys
from filelock import FileLock

with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def write_one_file(folder: Path) -> None:
    (folder / "x").write_text("x")


def start(root: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(root), str(log), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def wait_for_lines(log: Path, n_lines: int) -> None:
    deadline = time.monotonic() + 60
    while not log.exists() or len(log.read_text().splitlines()) < n_lines:
        assert time.monotonic() < deadline, "the maker never started"
        time.sleep(0.01)


def test_many_processes_make_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    makers = [start(tmp_path / "cache", log, 0.3) for _ in range(4)]
    hits = sorted(maker.communicate(timeout=120)[0].strip() for maker in makers)
    assert hits == ["0", "1", "1", "1"]
    assert len(log.read_text().splitlines()) == 1
    (entry,) = ArtefactCache(tmp_path / "cache").entries()
    assert (entry.path / "model.onnx").read_text() == log.read_text().strip()


def test_a_killed_maker_leaves_nothing_that_is_believed(tmp_path: Path) -> None:
    cache = ArtefactCache(tmp_path / "cache")
    log = tmp_path / "log"
    maker = start(cache.root, log, 600)
    wait_for_lines(log, 1)
    os.kill(maker.pid, signal.SIGKILL)
    maker.communicate()
    assert list((cache.root / "building").iterdir()) != []
    assert cache.entries() == ()

    second = start(cache.root, log, 0)
    assert second.communicate(timeout=120)[0].strip() == "0"
    (entry,) = cache.entries()
    assert (entry.path / "model.onnx").read_text() == str(second.pid)
    assert list((cache.root / "building").iterdir()) == []


def test_another_entry_sweeps_up_after_a_killed_maker(tmp_path: Path) -> None:
    cache = ArtefactCache(tmp_path / "cache")
    log = tmp_path / "log"
    maker = start(cache.root, log, 600)
    wait_for_lines(log, 1)
    other = cache.obtain("engine", {"n": 1}, write_one_file)
    assert list((cache.root / "building").iterdir()) != [], "a live maker's work must not be swept"
    os.kill(maker.pid, signal.SIGKILL)
    maker.communicate()
    assert cache.verify() == ()
    assert list((cache.root / "building").iterdir()) == []
    assert [entry.key for entry in cache.entries()] == [other.key]


def test_an_entry_in_use_is_neither_removed_nor_evicted(tmp_path: Path) -> None:
    cache = ArtefactCache(tmp_path / "cache", limit_bytes=1, grace_seconds=0)
    log = tmp_path / "log"
    assert start(cache.root, log, 0).communicate(timeout=120)[0].strip() == "0"
    (entry,) = cache.entries()
    (cache.root / "entries" / entry.key / "artefact" / "part").unlink()  # so that the next process makes it again
    maker = start(cache.root, log, 600)
    try:
        wait_for_lines(log, 2)
        cache.obtain("engine", {"n": 1}, write_one_file)
        assert cache.remove("all") != ()
        assert list((cache.root / "building").iterdir()) != []
    finally:
        maker.kill()
        maker.communicate()


def test_removing_an_entry_that_another_process_holds(tmp_path: Path) -> None:
    cache = ArtefactCache(tmp_path / "cache", limit_bytes=1, grace_seconds=0)
    key = cache.obtain("onnx", {"n": 1}, write_one_file).key
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER,
            str(cache.root / "locks" / f"{key}.lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(CacheError, match="in use by another process"):
            cache.remove(key)
        assert cache.remove("all") == ()
        cache.obtain("onnx", {"n": 2}, write_one_file)
        assert len(cache.entries()) == 2
    finally:
        holder.communicate("")
    assert cache.remove(key) == (key,)
