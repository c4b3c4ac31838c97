"""Several processes on one database: nothing is lost, whoever is first, and whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from benchrun.results.store import open_store
from tests.results.conftest import NewMeasurement, NewPoint, NewRun

WRITER = """
import sys
import numpy as np
from datetime import UTC, datetime
from benchrun.results.rows import EnvironmentRow, LaunchRow, MeasurementRow, PointRow, RunRow
from benchrun.results.statistics import summarise
from benchrun.results.store import open_store
location, run, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
samples = np.arange(1000, 1200, dtype=np.int64)
summary = summarise(samples)
sys.stdin.read(1)  # all start at once
now = datetime.now(UTC)
with open_store(location) as store:
    points = [PointRow(key, "m", "w", "encoder", "torch", "eager", "cpu", "fp32", 1, 1, "padded", "p1") for key in ("a", "b", run)]
    store.add_run(RunRow(run, "", now, "running", EnvironmentRow("f", {"same": True})), points, count)
    launch = store.add_launch(run, LaunchRow(0, 1, now))
    for replicate in range(count):
        for point in points:
            store.add_measurement(run, launch, MeasurementRow(
                point.key, replicate, 0, "ok", now, host=summary, host_samples=samples))
            print(point.key, replicate, flush=True)
"""


def _start(location: str, run: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, location, run, str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_writers_that_create_and_fill_a_database_at_once_lose_nothing(location: str) -> None:
    writers = [_start(location, f"run{i}", 10) for i in range(3)]
    for each in writers:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    for each in writers:
        each.communicate(timeout=120)
    assert [each.returncode for each in writers] == [0] * 3
    with open_store(location) as store:
        for i in range(3):
            record = store.run(f"run{i}", samples=True)
            assert len(record.measurements) == 30 and store.missing(f"run{i}") == []
            assert all(each.row.host_samples is not None for each in record.measurements)
        assert len(store.environments()) == 1
        assert [each.ok for each in store.runs()] == [3] * 3


def test_a_killed_writer_leaves_every_finished_point(
    location: str, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    writer = _start(location, "killed", 10_000)
    assert writer.stdin is not None and writer.stdout is not None
    writer.stdin.write("\n")
    writer.stdin.flush()
    acknowledged = [tuple(writer.stdout.readline().split()) for _ in range(25)]
    os.kill(writer.pid, signal.SIGKILL)
    rest, _ = writer.communicate(timeout=60)
    acknowledged += [tuple(line.split()) for line in rest.splitlines() if len(line.split()) == 2]
    with open_store(location) as store:
        record = store.run("killed", samples=True)
        stored = {(each.row.point_key, str(each.row.replicate)) for each in record.measurements}
        assert stored >= set(acknowledged[:-1]) and len(stored) - len(acknowledged) in (-1, 0, 1)
        assert record.run.state == "running" and record.launches[0].row.exit is None
        # The run stays usable: it is resumed, filled, and finished.
        point, replicate = store.missing("killed")[0]
        store.extend_run("killed", [new_point("new")], 1)
        store.add_measurement("killed", None, new_measurement(point, replicate=replicate, samples=[1000]))
        assert (point, replicate) not in store.missing("killed") and ("new", 0) in store.missing("killed")
        store.finish_run("killed", "interrupted")
        store.add_run(new_run(), [new_point("a")], 1)
        store.remove_run("killed")
        assert [each.id for each in store.runs()] == [new_run().id]


def test_a_reader_sees_a_run_in_progress(
    tmp_path: Path, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    with open_store(tmp_path / "a.db") as writing:
        writing.add_run(new_run(), [new_point()], 2)
        with open_store(tmp_path / "a.db", read_only=True) as reading:
            assert reading.runs()[0].ok == 0
            writing.add_measurement(new_run().id, None, new_measurement(samples=[1000]))
            assert len(reading.run(new_run().id).measurements) == 1
            writing.add_measurement(new_run().id, None, new_measurement(samples=[1000], replicate=1))
            assert reading.runs()[0].ok == 1
        writing.finish_run(new_run().id, "finished")
        assert writing.runs()[0].state == "finished"
