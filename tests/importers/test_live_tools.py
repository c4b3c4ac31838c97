"""Files that the installed tools write right now, not only those that they wrote once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchrun.results.importers import Source, detect, parse

BENCHMARK = """
def test_it(benchmark):
    benchmark.extra_info.update(model="tiny", batch=2, seq=8, backend="torch")
    benchmark.pedantic(sum, args=(range(1000),), rounds=25, iterations=1)
"""


def test_pytest_benchmark(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(BENCHMARK)
    # not a part of the run that this test is in, which may be spread over processes
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--benchmark-json=out.json",
        "test_it.py",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=environment)
    source = Source("out.json", (tmp_path / "out.json").read_bytes())
    assert detect(source) == "pytest-benchmark"
    (found,) = parse(source).measurements
    stats = json.loads(source.data)["benchmarks"][0]["stats"]
    assert found.host_ns is not None and len(found.host_ns) == 25
    assert found.host_ns == tuple(round(each * 1e9) for each in stats["data"])
    assert (found.point.model, found.point.batch, found.point.seq) == ("tiny", 2, 8)


def test_loadgen(tmp_path: Path) -> None:
    pytest.importorskip("mlperf_loadgen", reason="the optional dependency 'loadgen' is not installed")
    script = tmp_path / "run.py"
    script.write_text(LOADGEN)
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    for name in ("summary", "detail"):
        source = Source(f"{name}.txt", (tmp_path / f"mlperf_log_{name}.txt").read_bytes())
        assert detect(source) == "mlperf"
        (found,) = parse(source).measurements
        assert found.host is not None and found.host.p50_ms is not None and found.host.p50_ms >= 0.5
        assert found.point.batch == 1 and found.status == "ok"


LOADGEN = """
import time
import mlperf_loadgen as lg

def issue(queries):
    time.sleep(0.0005)
    lg.QuerySamplesComplete([lg.QuerySampleResponse(each.id, 0, 0) for each in queries])

settings = lg.TestSettings()
settings.scenario, settings.mode = lg.TestScenario.SingleStream, lg.TestMode.PerformanceOnly
settings.min_query_count, settings.min_duration_ms = 100, 50
settings.single_stream_expected_latency_ns = 500_000
sut, qsl = lg.ConstructSUT(issue, lambda: None), lg.ConstructQSL(8, 8, lambda s: None, lambda s: None)
lg.StartTest(sut, qsl, settings, "")
lg.DestroyQSL(qsl)
lg.DestroySUT(sut)
"""


def test_onnxruntime_benchmark(tmp_path: Path) -> None:
    """Its own writer, on rows as its runner makes them (benchmark.py itself needs a model from the hub)."""
    script = tmp_path / "run.py"
    script.write_text(ORT)
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    source = Source("detail.csv", (tmp_path / "detail.csv").read_bytes())
    assert detect(source) == "onnxruntime-benchmark"
    found = parse(source).measurements
    assert [each.point.batch for each in found] == [2, 2]  # two runs, appended
    assert all(each.host is not None and each.host.n == 3 and each.host.mean_ms == 2.0 for each in found)


ORT = """
from onnxruntime.transformers.benchmark_helper import get_latency_result, output_details

row = {"engine": "onnxruntime", "version": "1", "providers": "CPUExecutionProvider", "device": "cpu", "optimizer": "",
       "precision": "fp32", "io_binding": False, "model_name": "bert", "inputs": 1, "threads": 2, "batch_size": 2,
       "sequence_length": 8, "custom_layer_num": None, "datetime": "2026-01-01 00:00:00.5"}
row |= get_latency_result([0.001, 0.002, 0.003], 2)
output_details([row], "detail.csv")
output_details([row], "detail.csv")
"""
