from __future__ import annotations

from dataclasses import replace

import pytest

from benchrun.results.published import Conditions, MeasuredPoint, compare, load, ratio, spell_differences
from benchrun.results.published.comparison import TRAINING, scenario_of

OURS = MeasuredPoint(
    model="bert-base",
    head="layers",
    engine="ait:default",
    dtype="fp16",
    batch=1,
    seq=64,
    hardware="NVIDIA H200",
    avg_ms=0.355,
    p95_ms=0.4,
    p99_ms=0.5,
    throughput_seq_s=2799.28,
    conditions=Conditions(
        graph="off", transfers="excluded", workload="padded", percentile="linear", clocks="not locked"
    ),
)


def test_points_meet_rows_of_the_same_shape_and_dtype_only() -> None:
    rows = compare([OURS, replace(OURS, batch=3), replace(OURS, dtype="fp32")], load("aitemplate_a100"))
    assert [(row.published.engine, row.published.batch, row.published.seq) for row in rows] == [
        ("torch:eager", 1, 64),
        ("ait", 1, 64),
    ]
    eager, ait = rows
    assert ait.avg_ratio == pytest.approx(0.5)
    assert ait.throughput_ratio == pytest.approx(2.0)
    assert ait.p95_ratio is None and ait.p99_ratio is None
    assert "CUDA graph: published on, here off" in ait.differs
    assert not any(each.startswith("CUDA graph") for each in eager.differs)
    assert "hardware: published NVIDIA A100-40GB, here NVIDIA H200" in ait.differs
    assert "engine: published ait, here ait:default" in ait.differs
    assert "accumulation dtype: published fp16, not recorded here" in ait.unknown
    assert "percentile definition: not stated by the source, here linear" in ait.unknown


def test_a_table_that_prints_medians_is_laid_beside_our_median() -> None:
    ours = replace(OURS, head="encoder", engine="torch:eager", batch=1, seq=128, p50_ms=2.96)
    eager = next(row for row in compare([ours], load("benchrun_h200")) if row.published.engine == "torch:eager")
    assert eager.published.p50_ms == 5.92 and eager.p50_ratio == pytest.approx(0.5) and eager.avg_ratio is None


def test_scenarios_are_named_and_training_meets_training_only() -> None:
    names = [
        scenario_of(each)
        for each in ("loadgen:single-stream:fixed:padded", "train:adamw", "padded", None, "loadgen:odd")
    ]
    assert names == ["SingleStream", TRAINING, None, None, None]
    steps = load("benchrun_h200_training")
    trained = replace(OURS, head="qa", dtype="bf16", batch=32, seq=128, scenario=TRAINING)
    assert [row.published.model for row in compare([trained], steps)] == ["bert-base"]
    assert not compare([replace(trained, scenario=None)], steps)
    ours = replace(trained, model="bert-large", batch=64, seq=384, scenario="Server")
    found = compare([ours], load("benchrun_h200_loadgen"))
    assert {row.published.scenario for row in found} == {"Server", "Offline"}
    for row in found:
        said = [each for each in row.differs if each.startswith("scenario")]
        assert said == ([] if row.published.scenario == "Server" else ["scenario: published Offline, here Server"])


def test_head_differs_in_words_not_in_silence() -> None:
    rows = compare([replace(OURS, head="encoder")], load("aitemplate_a100"))
    (row,) = (each for each in rows if each.published.engine == "ait")
    assert "head: published layers, here encoder" in row.differs


def test_out_of_memory_is_laid_beside_blank_is_not() -> None:
    point = replace(OURS, batch=256, seq=384)
    eager = compare([point], load("aitemplate_a100"))[0]
    assert eager.published.status == "oom" and eager.avg_ratio is None
    assert "status: published oom, here ok" in eager.differs
    assert compare([replace(OURS, batch=256, seq=4096)], load("aitemplate_a100")) == []


def test_scenarios_without_a_batch_say_so() -> None:
    point = MeasuredPoint("bert-large", "qa", "trt", "int8", 128, 384, "NVIDIA A100-SXM-80GB", throughput_seq_s=1767.0,
                          conditions=Conditions(workload="padded"))  # fmt: skip
    rows = compare([point], load("mlperf_closed_nvidia"))
    assert len(rows) == 6
    last = next(row for row in rows if row.published.hardware == "NVIDIA A100-SXM-80GB")
    assert set(last.differs) == {
        "devices: published 8, here 1",
        "scenario: published Offline, here a fixed batch",
        "batch: published not stated, here 128",
        "workload: published lengths:squad, here padded",
    }


def test_derived_throughput_is_called_derived() -> None:
    point = MeasuredPoint("bert-base", "qa", "trt", "fp16", 128, 128)
    assert all(
        "throughput: published is batch / average latency, not a measurement of its own" in row.differs
        for row in compare([point], load("demobert_trt10"))
    )


def test_pruned_model_is_not_bert_large() -> None:
    assert compare([MeasuredPoint("bert-large", "qa", "trt", "int8", 1, 384)], load("mlperf_open_nvidia")) == []


def test_ratio() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(None, 2.0) is None and ratio(3.0, None) is None and ratio(3.0, 0.0) is None


def test_equal_conditions_are_not_spelled() -> None:
    assert spell_differences(OURS.conditions, OURS.conditions) == []
