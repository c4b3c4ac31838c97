"""Imported files in a real database: what is stored, once, and nothing of what fails."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from benchrun.results import Store, open_store
from benchrun.results.importers import ForeignResult, ImportFailed, Source, import_files, parse_sidecar
from benchrun.results.importers.mapping import run_id, to_point, to_rows
from benchrun.results.importers.writing import write_rows
from benchrun.results.statistics import ReportedSummary, Summary, summarise

Read = Callable[..., ForeignResult]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "runs.db") as opened:
        yield opened


def test_samples_and_what_is_not_known(store: Store, data: Path, read: Read) -> None:
    times = data / "trtexec/times_v11.json"
    report = import_files(store, "trtexec", [times], data / "trtexec/sidecar_v11.toml")
    (file,) = report.files
    assert (report.added, report.known, report.failed, file.measurements, file.error) == (1, 0, 0, 1, None)
    assert file.run_id is not None and file.format == "trtexec"
    record = store.run(file.run_id, samples=True)
    assert record.run.origin == "import:trtexec" and record.run.state == "finished"
    assert record.run.label == "times_v11.json"
    told = record.run.request["import"]
    source = Source(times.name, times.read_bytes())
    assert told["sha256"] == source.sha256 and told["trust"] == "samples" and told["started_known"] is False
    assert record.run.started == datetime.fromtimestamp(times.stat().st_mtime, UTC)
    (planned,) = record.points
    assert (planned.point.model, planned.point.weights, planned.point.batch) == ("bert-large", None, 8)
    (row,) = (each.row for each in record.measurements)
    samples = read("trtexec/times_v11.json").measurements[0].device_ns
    assert row.device_samples is not None and tuple(row.device_samples.tolist()) == samples
    assert row.device == summarise(np.array(samples)) and isinstance(row.device, Summary)
    assert row.host is None and row.parity is None and row.settled is None
    assert row.flags[:2] == ("imported", "trust:samples")
    assert row.facts["import"] == {"format": "trtexec", "trust": "samples", "place": "all records"}


def test_unknown_columns_are_null(store: Store, data: Path, tmp_path: Path) -> None:
    import_files(store, "auto", [data / "trtexec/times_v11.json"])
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        columns = "model, weights, head, dtype, batch, seq, workload"
        assert connection.execute(f"SELECT {columns} FROM points").fetchall() == [(None,) * 7]


def test_reported_summaries_come_back_as_such(store: Store, data: Path) -> None:
    (file,) = import_files(store, "auto", [data / "mlperf/server_detail.txt"]).files
    assert file.run_id is not None
    (row,) = (each.row for each in store.run(file.run_id).measurements)
    assert isinstance(row.host, ReportedSummary)
    assert row.host.n == 700 and row.host.mad_ms is None and row.host.p99_ms is not None
    (mean,) = import_files(store, "auto", [data / "aitemplate/bert_encoders_pt_benchmark.txt"]).files
    assert mean.run_id is not None
    rows = [each.row for each in store.run(mean.run_id).measurements]
    assert [row.device and (row.device.n, row.device.mean_ms) for row in rows] == [(None, 7.958), (None, 8.382)]


def test_every_fixture_twice_adds_nothing(store: Store, data: Path) -> None:
    paths = [
        path
        for path in sorted(data.glob("*/*"))
        if path.suffix != ".toml"
        and path.parent.name != "csv"
        and path.name not in ("benchmark_config.json", "old.txt")
    ]
    first = import_files(store, "auto", paths)
    assert (first.added, first.known, first.failed) == (len(paths), 0, 0), [each.error for each in first.files]
    for sidecar in ("summary", "samples"):
        assert import_files(store, "csv", [data / f"csv/{sidecar}.csv"], data / f"csv/{sidecar}.toml").added == 1
    before = [(each.id, each.ok, each.failed) for each in store.runs()]
    assert len(before) == len(paths) + 2
    again = import_files(store, "auto", paths)
    assert (again.added, again.known, again.failed) == (0, len(paths), 0)
    assert [(each.id, each.ok, each.failed) for each in store.runs()] == before
    for file in again.files:
        assert file.run_id is not None and store.missing(file.run_id) == []


def test_another_sidecar_is_not_a_second_run(store: Store, data: Path) -> None:
    times = data / "trtexec/times_v11.json"
    import_files(store, "trtexec", [times])
    (file,) = import_files(store, "trtexec", [times], data / "trtexec/sidecar_v11.toml").files
    assert not file.added and file.error is None
    assert file.warnings == (f"it was imported with another sidecar; to import it again, remove {file.run_id} first",)
    assert file.run_id is not None
    store.remove_run(file.run_id)
    assert import_files(store, "trtexec", [times], data / "trtexec/sidecar_v11.toml").added == 1


def test_a_damaged_file_leaves_no_trace_and_stops_nobody(store: Store, data: Path, tmp_path: Path) -> None:
    text = (data / "ort_benchmark/detail.csv").read_text().splitlines()
    damaged = tmp_path / "damaged.csv"
    damaged.write_text("\n".join([*text[:-1], text[-1].replace("0.03", "-0.03")]))
    report = import_files(store, "auto", [damaged, tmp_path / "none.json", data / "migraphx/perf.txt"])
    assert [each.error and each.error.partition(":")[0] for each in report.files] == [
        "damaged.csv, line 6, average_latency_ms",
        "none.json",
        None,
    ]
    assert (report.added, report.failed) == (1, 2)
    assert len(store.runs()) == 1


def test_writing_is_all_or_nothing(store: Store, read: Read) -> None:
    rows = to_rows(read("ort_benchmark/detail.csv"), "detail.csv", datetime.now(UTC))
    broken = replace(
        rows, measurements=(*rows.measurements[:-1], replace(rows.measurements[-1], status="no such status"))
    )
    with pytest.raises(Exception, match="status"):
        write_rows(store, broken)
    assert store.runs() == [] and store.environments() == []
    assert write_rows(store, rows) is True
    assert write_rows(store, rows) is False
    assert len(store.run(rows.run.id).measurements) == 4


def test_unknown_formats_and_sidecars_write_nothing(store: Store, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="there is no format 'excel'"):
        import_files(store, "excel", [data / "migraphx/perf.txt"])
    (tmp_path / "side.toml").write_text("modle = 'x'")
    with pytest.raises(ImportFailed, match="'modle' is not known"):
        import_files(store, "auto", [data / "migraphx/perf.txt"], tmp_path / "side.toml")
    assert store.runs() == []


def test_repeated_points_are_replicates(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_text("batch_size: 1, seq_length: 64, latency: 0.7\nbatch_size: 1, seq_length: 64, latency: 0.8\n")
    (file,) = import_files(store, "auto", [path]).files
    assert file.run_id is not None
    record = store.run(file.run_id)
    assert [(planned.replicates, planned.ordinal) for planned in record.points] == [(2, 0)]
    assert [each.row.replicate for each in record.measurements] == [0, 1]


def test_series_are_never_shared(read: Read) -> None:
    """Neither with our own runs nor, where the hardware is unknown, with another file."""
    now = datetime.now(UTC)
    known = parse_sidecar(Source("s.toml", b'[hardware]\ndevice = "A"'))
    one, two = (to_rows(read(f"trtexec/times_v{n}.json"), "x", now) for n in (8, 11))
    assert one.run.environment.fingerprint != two.run.environment.fingerprint
    three, four = (to_rows(read(f"trtexec/times_v{n}.json"), "x", now, known) for n in (8, 11))
    assert three.run.environment.fingerprint == four.run.environment.fingerprint
    assert three.run.environment.details["hardware"] == {"device": "A"}
    assert all(rows.run.environment.details["imported"] is True for rows in (one, three))
    keys = {to_point(read(f"trtexec/{name}").measurements[0].point).key for name in ("times_v11.json", "log_v11.txt")}
    assert len(keys) == 2  # linear percentiles of samples, exclusion percentiles of the log


def test_keys_are_made_as_those_of_our_own_points(read: Read) -> None:
    from benchrun.backends.contract import Point

    row = to_point(read("trtexec/times_v11.json", "trtexec/sidecar_v11.toml").measurements[0].point)
    ours = Point("bert-large", "w", "qa", row.backend, row.variant, "cuda", "fp16", 8, 128, "padded", row.protocol)
    foreign = read("trtexec/times_v11.json", "trtexec/sidecar_v11.toml").measurements[0].point
    assert to_point(replace(foreign, weights="w")).key == ours.key != row.key


def test_times_of_day(read: Read) -> None:
    modified = datetime(2026, 1, 1, tzinfo=UTC)
    unknown = to_rows(read("migraphx/perf.txt"), "x", modified)
    assert unknown.run.started == modified and unknown.run.request["import"]["started_known"] is False
    inside = to_rows(read("ort_benchmark/detail.csv"), "x", modified)
    assert inside.run.started.year == 2026 and inside.run.started != modified
    assert inside.run.request["import"]["started_known"] is True
    side = parse_sidecar(Source("s.toml", b'started = 2025-05-05T00:00:00Z\nlabel = "mine"'))
    told = to_rows(read("migraphx/perf.txt"), "x", modified, side)
    assert told.run.started == datetime(2025, 5, 5, tzinfo=UTC) and told.run.label == "mine"


def _import_once(database: str, path: str) -> int:
    with open_store(database) as store:
        return import_files(store, "auto", [Path(path)]).added


def test_two_processes_import_the_same_file(store: Store, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "perf.txt"
    shutil.copy(data / "migraphx/perf.txt", path)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        added = pool.starmap(_import_once, [(str(tmp_path / "runs.db"), str(path))] * 2)
    assert sorted(added) == [0, 1]
    assert len(store.runs()) == 1


def test_bulk(store: Store, tmp_path: Path) -> None:
    """10,000 measurements: at 5,000 a second two seconds; ten are allowed, on a machine that others use too."""
    lines = (f"m{n % 50},{n % 64 + 1},{n // 64 + 1},{1 + n % 97 / 100:.2f},{n}" for n in range(10_000))
    path = tmp_path / "bulk.csv"
    path.write_text("model,batch,seq,lat,rate\n" + "\n".join(lines))
    columns = "\n".join(
        f'{a} = "{b}"' for a, b in (("model", "model"), ("batch", "batch"), ("seq", "seq"), ("mean_ms", "lat"))
    )
    (tmp_path / "s.toml").write_text(f"[columns]\n{columns}\nthroughput_seq_s = 'rate'\n")
    started = time.perf_counter()
    report = import_files(store, "csv", [path], tmp_path / "s.toml")
    assert time.perf_counter() - started < 10
    assert report.files[0].measurements == 10_000 and store.runs()[0].ok == 10_000


def test_the_id_is_the_content(data: Path) -> None:
    source = Source("x", (data / "migraphx/perf.txt").read_bytes())
    assert run_id(source.sha256) == f"import-{source.sha256[:16]}"
