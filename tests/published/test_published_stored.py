"""Runs out of a real database, laid beside the tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from benchrun.results import open_store
from benchrun.results.importers import import_files
from benchrun.results.published import compare, load, run_points
from benchrun.results.rows import EnvironmentRow, MeasurementRow, PointRow, RunRow
from benchrun.results.statistics import summarise

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROTOCOL = "v1;sync=iteration;streams=1;transfers=exclude;cache=warm;inputs=uniform/4/seed0;percentiles=linear"
POINT = PointRow(
    key="a", model="bert-base", weights="random:0", head="layers", backend="torch", variant="eager", device="cuda:0",
    dtype="fp16", batch=1, seq=64, workload="padded", protocol=PROTOCOL,
)  # fmt: skip


def test_a_run_of_ours(tmp_path: Path) -> None:
    hardware = {"cpu": "x", "gpu": {"kind": "cuda", "name": "NVIDIA H200"}}
    environment = EnvironmentRow("f" * 16, {"hardware": hardware, "libraries": {"torch": "2.13.0", "numpy": "2"}})
    points = [POINT, replace(POINT, key="b", batch=256, seq=384), replace(POINT, key="c", batch=None)]
    samples = np.arange(1_000_000, 1_000_200)
    with open_store(tmp_path / "runs.db") as store:
        store.add_run(RunRow("r", "", NOW, "running", environment), points, 2)
        rows = [
            MeasurementRow(
                point_key="a", replicate=n, ordinal=0, status="ok", started=NOW, host=summarise(samples * 9),
                device=summarise(samples * (n + 1)), throughput_seq_s=500.0 + n, warmup_n=20 + n,
                facts={"cuda_graph": False, "accumulate_dtype": "fp32"},
            )
            for n in range(2)
        ]  # fmt: skip
        oom = [
            MeasurementRow(point_key="b", replicate=n, ordinal=1, status="oom", started=NOW, error="x")
            for n in range(2)
        ]
        store.add_measurements("r", [(None, row) for row in (*rows, *oom)])
        found = run_points(store.run("r"))
    one, two = found
    assert (one.engine, one.hardware, one.status, two.status) == ("torch:eager", "NVIDIA H200", "ok", "oom")
    assert one.avg_ms == pytest.approx(1.5 * float(samples.mean()) / 1e6)  # device time, the mean of two launches
    assert one.throughput_seq_s == 500.5 and two.avg_ms is None
    conditions = one.conditions
    assert (conditions.graph, conditions.transfers, conditions.workload) == ("off", "excluded", "padded")
    assert (conditions.percentile, conditions.accumulation, conditions.samples) == ("linear", "fp32", "400")
    assert conditions.timing == "device events, each iteration synchronised"
    assert (conditions.warmup, conditions.software) == ("20 iterations or more", "torch 2.13.0")
    rows_beside = compare(found, load("aitemplate_a100"))
    assert [(each.published.engine, each.published.batch) for each in rows_beside] == [
        ("torch:eager", 1), ("ait", 1), ("torch:eager", 256), ("ait", 256),
    ]  # fmt: skip
    assert not any(each.startswith(("engine", "CUDA graph", "head")) for each in rows_beside[0].differs)
    assert "software: published PyTorch 1.12 eager, here torch 2.13.0" in rows_beside[0].differs
    assert not any(each.startswith("status") for each in rows_beside[2].differs)  # out of memory on both sides


def test_an_imported_run(tmp_path: Path) -> None:
    data = Path(__file__).parents[1] / "importers/data/trtexec"
    with open_store(tmp_path / "runs.db") as store:
        (file,) = import_files(store, "auto", [data / "times_v11.json"], data / "sidecar_v11.toml").files
        assert file.run_id is not None
        (point,) = run_points(store.run(file.run_id))
        (bare,) = import_files(store, "auto", [data / "times_v7.json"]).files
        assert bare.run_id is not None
        assert run_points(store.run(bare.run_id)) == []  # model and shape are not known
    assert (point.model, point.batch, point.engine) == ("bert-large", 8, "trt:trtexec")
    assert point.hardware == "NVIDIA H200" and point.throughput_seq_s == pytest.approx(4085.28)
    conditions = point.conditions
    assert (conditions.graph, conditions.transfers, conditions.percentile) == ("on", "excluded", "linear")
    assert conditions.timing == "device-compute (import:trtexec)" and conditions.software == "tensorrt 11.1.0"
    (beside,) = (each for each in compare([point], load("demobert_trt7_t4")) if each.published.dtype == "fp16")
    assert beside.avg_ratio is not None and beside.avg_ratio < 1
    assert "CUDA graph: published off, here on" in beside.differs


def test_an_environment_that_says_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path / "runs.db") as store:
        store.add_run(RunRow("r", "", NOW, "running", EnvironmentRow("f" * 16, {})), [POINT], 1)
        (point,) = run_points(store.run("r"))
    assert (point.hardware, point.conditions.software, point.conditions.timing) == (None, None, None)
    assert point.status == "interrupted"
