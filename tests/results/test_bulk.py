"""Large amounts, by hand: import, export and merge of 100,000 measurements, each three times, with the limits asserted.

    pytest -m long tests/results/test_bulk.py -s

A measurement of the exported and merged databases has 200 samples on the host clock, in runs of 1,000.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchrun.results import open_store
from benchrun.results.exporters import export_runs
from benchrun.results.importers import import_files
from benchrun.results.importers.mapping import ForeignRows
from benchrun.results.importers.writing import write_rows
from benchrun.results.merge import merge_database
from benchrun.results.rows import EnvironmentRow, MeasurementRow, PointRow, RunRow
from benchrun.results.statistics import summarise

ROWS, RUNS, SAMPLES, REPEATS = 100_000, 100, 200, 3
NOW = datetime(2026, 1, 1, tzinfo=UTC)
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def timed(capsys: pytest.CaptureFixture[str], what: str, act: Callable[[int], Any]) -> list[float]:
    """Seconds of each repetition: of the wall clock, or, where others keep the machine busy, of this process on a processor."""
    wall, processor, load = [], [], os.getloadavg()[0]
    for number in range(REPEATS):
        started, used = time.perf_counter(), time.process_time()
        act(number)
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    with capsys.disabled():
        shown, spent = (", ".join(f"{each:.1f}" for each in taken) for taken in (wall, processor))
        print(
            f"\n{what}: {shown} s, on a processor {spent} s (peak {peak:.0f} MiB, load {load:.1f} on {os.cpu_count()} cores)"
        )
    return wall if load < 1.5 else processor


def fill(path: Path, prefix: str) -> None:
    """A database of `RUNS` runs with `ROWS` measurements in all."""
    each = ROWS // RUNS
    dice = np.random.default_rng(len(prefix))
    base = dice.normal(5e6, 5e4, SAMPLES).astype(np.int64)
    with open_store(path) as store:
        for number in range(RUNS):
            points = tuple(
                PointRow(f"{prefix}{at:015x}", "bert-base", "random:0", "encoder", "torch", "eager", "cpu", "fp32", at + 1, 128,
                         "padded", "v1;p", {}, {"attention": "sdpa"})
                for at in range(each)
            )  # fmt: skip
            started = NOW + timedelta(hours=number)
            samples = base + number
            summary = summarise(samples)
            rows = tuple(
                MeasurementRow(point.key, 0, at, "ok", started + timedelta(seconds=at), host=summary, host_samples=samples,
                               throughput_seq_s=200.0 + at, facts={"gelu": "erf"}, settings={"threads": 2})
                for at, point in enumerate(points)
            )  # fmt: skip
            run = RunRow(
                f"{prefix}-{number:03d}",
                "",
                started,
                "finished",
                EnvironmentRow(prefix * 4, {"hardware": {"cpu": prefix}}),
            )
            assert write_rows(store, ForeignRows(run, points, rows))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bulk")
    for name in ("a", "b"):
        fill(folder / f"{name}.db", name)
    return folder / "a.db", folder / "b.db"


def test_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    side = tmp_path / "side.toml"
    side.write_text('[columns]\nbatch = "b"\nseq = "s"\nmean_ms = "m"\np99_ms = "p"\nthroughput_seq_s = "t"\n')

    def act(number: int) -> None:
        file = tmp_path / f"{number}.csv"
        lines = (
            f"{at % 500 + 1},{at // 500 + 1},{5 + at / ROWS + number},{9 + at / ROWS + number},{200 + at}"
            for at in range(ROWS)
        )
        file.write_text("b,s,m,p,t\n" + "\n".join(lines) + "\n")
        with open_store(tmp_path / f"{number}.db") as store:
            report = import_files(store, "csv", [file], side)
        assert report.files[0].measurements == ROWS, report.files[0].error

    assert max(timed(capsys, "import of a CSV", act)) <= ROWS / 5000


@pytest.mark.parametrize(("samples", "limit"), [(False, 10), (True, 15)])
def test_export(two: tuple[Path, Path], samples: bool, limit: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Reading the database is counted; with samples, 20 million of them are in the file."""

    def act(_: int) -> None:
        with open_store(two[0], read_only=True) as store:
            data = export_runs((store.run(run.id, samples=samples) for run in store.runs()), "parquet")
        assert isinstance(data, bytes) and len(data) > ROWS

    assert max(timed(capsys, f"export to Parquet, {'with' if samples else 'without'} samples", act)) <= limit


def test_merge(two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def act(number: int) -> None:
        with open_store(tmp_path / f"{number}.db") as store:
            assert sum(merge_database(store, path).measurements for path in two) == 2 * ROWS

    assert max(timed(capsys, "merge of two databases into a third", act)) <= 60

    def again(number: int) -> None:
        with open_store(tmp_path / f"{number}.db") as store:
            assert {each.outcome for path in two for each in merge_database(store, path).merged} == {"known"}

    assert max(timed(capsys, "the same merge again", again)) <= 60
