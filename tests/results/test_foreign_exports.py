"""Exports that other tools read: read by those tools where they can be installed, else checked against their documented fields."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from pytest_benchmark.stats import Stats

from benchrun.results import Store, open_store
from benchrun.results.exporters import FORMATS, export_run, export_runs
from benchrun.results.exporters.pytest_benchmark import statistics
from benchrun.results.exporters.selection import Selection, select_points
from benchrun.results.importers import Source, import_files, parse
from benchrun.results.records import RunRecord
from benchrun.results.rows import EnvironmentRow
from benchrun.runner.cli import run as command
from tests.results.conftest import NewMeasurement, NewPoint, NewRun

Capture = pytest.CaptureFixture[str]
# The schema that Bencher publishes of its format, as it describes it: objects of objects of numbers, `value` required.
METRIC = {
    "type": "object",
    "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")},
    "required": ["value"],
    "additionalProperties": False,
}
BMF = {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": METRIC}}


@pytest.fixture
def fill(new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement) -> Callable[..., None]:
    """Two engines at two batches in two launches, an oom, a wrong answer, and an engine with an option."""

    def put(store: Store, run_id: str = "run-1") -> None:
        points = [new_point(f"{v}{b}", variant=v, batch=b) for v in ("eager", "compile") for b in (1, 8)]
        points += [
            new_point("option", options={"attention": "sdpa"}),
            new_point("oom", batch=64),
            new_point("wrong", dtype="fp16"),
        ]
        environment = EnvironmentRow(
            "f" * 16, {"hardware": {"cpu": "Xeon", "cores": 2}, "libraries": {"python": "3.11.7"}}
        )
        store.add_run(new_run(run_id, environment=environment, commit="abc"), points, 1)
        dice = np.random.default_rng(1)
        for number, point in enumerate(points):
            status = {"oom": "oom", "wrong": "invalid"}.get(point.key, "ok")
            given: dict[str, Any] = (
                {"error": "=cmd()"} if status != "ok" else {"build_s": 1.5, "throughput_seq_s": 100.0 + number}
            )
            samples = None if status == "oom" else dice.integers(10**6, 2 * 10**6, 101)
            store.add_measurement(run_id, None, new_measurement(point.key, status, samples=samples, **given))
        store.finish_run(run_id, "finished")

    return put


@pytest.fixture
def record(tmp_path: Path, fill: Callable[..., None]) -> RunRecord:
    with open_store(tmp_path / "runs.db") as store:
        fill(store)
        return store.run("run-1", samples=True)


def document(record: RunRecord, format: str) -> Any:
    return json.loads(export_run(record, format))


def test_bencher_metric_format(record: RunRecord) -> None:
    found = document(record, "bencher")
    Draft7Validator(BMF).validate(found)
    assert len(found) == 5 and all(len(name) <= 1024 for name in found)
    row = record.by_point["eager8"][0].row
    assert row.host is not None and row.host.p50_low_ms is not None and row.host.p50_ms is not None
    measures = found["bert-base/encoder/torch:eager/fp32/cpu/b8/s128"]
    assert set(measures) == {"latency", "latency-mean", "latency-p95", "latency-p99", "throughput", "build-time"}
    assert measures["latency"]["value"] == pytest.approx(row.host.p50_ms * 1e6)  # nanoseconds
    assert measures["latency"]["lower_value"] == pytest.approx(row.host.p50_low_ms * 1e6)
    assert measures["latency-p95"].keys() == {"value", "upper_value"}  # 101 samples bound p95, not p99
    assert measures["latency-p99"].keys() == {"value"}
    assert measures["throughput"] == {"value": 101.0} and measures["build-time"] == {"value": 1.5}
    assert "bert-base/encoder/torch:eager(attention=sdpa)/fp32/cpu/b1/s128" in found


def test_github_action_benchmark(record: RunRecord) -> None:
    latencies, throughput = (document(record, f"github-action-benchmark{each}") for each in ("", "-throughput"))
    for entries, units in ((latencies, {"ms"}), (throughput, {"seq/s"})):
        assert {each["unit"] for each in entries} == units
        assert len({each["name"] for each in entries}) == len(entries)
        for each in entries:
            assert set(each) <= {"name", "unit", "value", "range", "extra"} and isinstance(each["value"], float)
            assert all(isinstance(each[name], str) for name in ("name", "unit", "extra"))
    assert len(latencies) == 10 and len(throughput) == 5
    median = next(each for each in latencies if each["name"].endswith("p50"))
    assert float(median["range"].removeprefix("± ")) > 0 and "samples: 101 in 1 launches" in median["extra"]


def test_pytest_benchmark_compares_our_file(record: RunRecord, tmp_path: Path) -> None:
    """The real reader: `pytest-benchmark compare`, its table and its CSV."""
    file = tmp_path / "0001_run.json"
    file.write_bytes(str(export_run(record, "pytest-benchmark")).encode())
    program = str(Path(sys.executable).with_name("pytest-benchmark"))
    arguments = [
        "compare",
        str(file),
        "--csv=out.csv",
        "--columns=min,max,mean,stddev,median,iqr,outliers,ops,rounds,iterations",
    ]
    done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Failed to load" not in done.stdout + done.stderr
    assert (
        "torch:eager/fp32/cpu/b8/s128" in done.stdout and "'bert-base/encoder/fp32/cpu/8/128': 2 tests" in done.stdout
    )
    with (tmp_path / "out.csv").open() as lines:
        rows = {row["name"]: row for row in csv.DictReader(lines)}
    assert len(rows) == 5
    host = record.by_point["compile1"][0].row.host
    assert host is not None and host.p50_ms is not None
    row = rows["benchrun::bert-base/encoder/torch:compile/fp32/cpu/b1/s128"]
    assert float(row["median"]) == pytest.approx(host.p50_ms / 1e3) and row["rounds"] == "101"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=60))
def test_statistics_are_those_of_pytest_benchmark(samples: list[int]) -> None:
    seconds = np.array(samples) / 1e9
    theirs: Any = Stats()  # type: ignore[no-untyped-call]
    for each in seconds:
        theirs.update(float(each))
    ours = statistics(seconds)
    for name in ("min", "max", "mean", "stddev", "rounds", "median", "iqr", "q1", "q3", "ops", "total"):
        assert ours[name] == pytest.approx(getattr(theirs, name), rel=1e-9, abs=1e-12), name
    assert set(Stats.fields) <= set(ours)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 10**13), min_size=1, max_size=30),
    st.integers(1, 4096),
    st.sampled_from(["fp32", "fp16", "int8"]),
)
def test_our_pytest_benchmark_file_comes_back_whole(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement, samples: list[int], batch: int, dtype: str
) -> None:
    from benchrun.results.records import MeasurementRecord, PlannedPoint

    point = new_point(batch=batch, dtype=dtype)
    row = new_measurement(samples=samples)
    record = RunRecord(new_run(), (PlannedPoint(0, 1, point),), (), (MeasurementRecord(1, 1, row),))
    (found,) = parse(Source("f.json", str(export_run(record, "pytest-benchmark")).encode())).measurements
    assert found.host_ns == tuple(samples)
    for name in ("model", "weights", "head", "backend", "variant", "device", "dtype", "batch", "seq", "workload"):
        assert getattr(found.point, name) == getattr(point, name)


def test_our_csv_comes_back_through_the_generic_importer(record: RunRecord, tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text(str(export_run(select_points(record, Selection(statuses=("ok",))), "csv")))
    side = tmp_path / "side.toml"
    same = ("model", "weights", "head", "backend", "variant", "device", "dtype", "workload", "batch", "seq", "status")
    figures = {"n": "n", **{name: f"{name}" for name in ("mean_ms", "p50_ms", "p95_ms", "p99_ms")}}
    lines = [f'{name} = "{name}"' for name in (*same, "throughput_seq_s")] + [
        f'{ours} = "host_{theirs}"' for ours, theirs in figures.items()
    ]
    side.write_text(
        "[columns]\n" + "\n".join(lines) + '\n[protocol]\nname = "benchrun-csv"\nclock = "host"\npct = "linear"\n'
    )
    with open_store(tmp_path / "back.db") as store:
        (file,) = import_files(store, "csv", [tmp_path / "run.csv"], side).files
        assert file.error is None and file.run_id is not None
        back = store.run(file.run_id)
    assert [planned.point.variant for planned in back.points] == ["eager", "eager", "compile", "compile", "eager"][
        : len(back.points)
    ]
    before = {
        (p.point.variant, p.point.batch): record.by_point[p.point.key][0].row
        for p in record.points
        if not p.point.options
    }
    for planned in back.points:
        for each in back.by_point[planned.point.key]:
            theirs = before[(planned.point.variant, planned.point.batch)]
            assert each.row.host is not None and theirs.host is not None
            if each.row.throughput_seq_s == theirs.throughput_seq_s:
                assert each.row.host.p99_ms == theirs.host.p99_ms and each.row.host.n == theirs.host.n


def test_the_same_point_of_two_runs_keeps_two_names(
    record: RunRecord, tmp_path: Path, fill: Callable[..., None]
) -> None:
    with open_store(tmp_path / "runs.db") as store:
        fill(store, "run-2")
        other = store.run("run-2", samples=True)
    found = json.loads(export_runs([record, other], "bencher"))
    assert len(found) == 10 and any(name.endswith("@run-1") for name in found)
    assert len(json.loads(export_runs([record, other], "json"))["documents"]) == 2
    assert str(export_runs([record, other], "csv")).count("\n") == 15
    assert str(export_runs([record, other], "markdown")).count("# a run") == 2


@pytest.mark.parametrize(
    ("selection", "keys"),
    [
        (Selection(), 7),
        (Selection(backends=("torch:compile",)), 2),
        (Selection(backends=("torch",), batches=(8,)), 2),
        (Selection(statuses=("oom", "invalid")), 2),
        (Selection(dtypes=("fp16",)), 1),
        (Selection(models=("bert-large",)), 0),
        (Selection(seqs=(128,), batches=(1, 64)), 5),
    ],
)
def test_selections(record: RunRecord, selection: Selection, keys: int) -> None:
    found = select_points(record, selection)
    assert len(found.points) == keys
    assert {each.row.point_key for each in found.measurements} == {each.point.key for each in found.points}


class TestCommand:
    @pytest.fixture(autouse=True)
    def db(self, tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BENCHRUN_DB", str(tmp_path / "runs.db"))

    @pytest.mark.parametrize("format", FORMATS)
    def test_every_format(self, format: str, tmp_path: Path) -> None:
        assert command(["export", "run-1", "--format", format, "-o", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out").stat().st_size > 100

    def test_what_is_left_out_is_said(self, tmp_path: Path, capsys: Capture) -> None:
        assert command(["export", "run-1", "--format", "bencher", "-o", str(tmp_path / "out")]) == 0
        assert (
            capsys.readouterr().err
            == "benchrun: note: 2 of 7 points are not ok, which this format has no place for: left out\n"
        )

    def test_a_selection_of_two_runs(self, tmp_path: Path, fill: Callable[..., None]) -> None:
        with open_store(tmp_path / "runs.db") as store:
            fill(store, "run-2")
        arguments = [
            "export",
            "run-1",
            "run-2",
            "--format",
            "csv",
            "-b",
            "torch:eager",
            "--batch",
            "8..64*2",
            "--status",
            "ok,oom",
        ]
        assert command([*arguments, "-o", str(tmp_path / "out.csv")]) == 0
        with (tmp_path / "out.csv").open() as lines:
            rows = list(csv.DictReader(lines))
        assert [(row["run_id"], row["batch"], row["status"]) for row in rows] == [
            (run_id, batch, status) for run_id in ("run-1", "run-2") for batch, status in (("8", "ok"), ("64", "oom"))
        ]
        assert rows[1]["error"] == "'=cmd()"  # no spreadsheet runs it

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["run-1", "-f", "xml"], "unknown format 'xml': choose from markdown, csv, "),
            (["run-1", "--status", "fine"], "there is no status 'fine'; there are ok, oom, "),
            (["run-1", "--model", "gpt"], "no point of run-1 fits what was asked for"),
            (["run-1", "run-1", "-f", "html"], "the HTML report is of one run"),
            (["run-1", "-o", "/nonexistent/out"], "cannot write /nonexistent/out: No such file or directory"),
        ],
    )
    def test_wrong_usage(self, arguments: list[str], message: str, capsys: Capture) -> None:
        assert command(["export", *arguments]) == 2
        text = capsys.readouterr().err
        assert message in text and text.count("\n") == 1

    def test_the_html_report_is_the_dashboards(self, tmp_path: Path) -> None:
        assert command(["export", "run-1", "-f", "html", "-b", "torch:compile", "-o", str(tmp_path / "out.html")]) == 0
        text = (tmp_path / "out.html").read_text()
        assert text.lower().startswith("<!doctype html") and "torch:compile" in text
