"""`benchrun build` and what a second sweep finds in the cache: the real command, real engines, a real cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Bench, Outcome

TINY = ("--model", "tiny", "--batch", "1,4", "--seq", "16,32")
RTX = ("build", "--backend", "trt:rtx", "--target", "SM86")
# a busy machine would have points measured again, which these tests are not about
QUICK = ("--iterations", "10", "--warmup", "1", "--threads", "1", "--repeats", "0")


def rows(outcome: Outcome) -> list[dict[str, Any]]:
    found = json.loads(outcome.out)
    assert found["schema"] == 1
    return list(found["points"])


def test_rtx_engines_are_built_once_for_a_named_target(bench: Bench) -> None:
    first = bench(*RTX, *TINY, "--dtype", "fp16,bf16", "--json")
    assert first.status == 0 and "[8/8]" in first.err
    found = rows(first)
    assert len(found) == 8 and {each["target"] for each in found} == {"SM86"}
    for dtype in ("fp16", "bf16"):  # one engine for the sweep: its first point builds it
        same = [each for each in found if each["dtype"] == dtype]
        assert [each["status"] for each in same] == ["built", "cached", "cached", "cached"]
        assert same[0]["export_s"] > 0 and same[0]["compile_s"] > 0
        assert len({each["bytes"] for each in same}) == 1 and same[0]["bytes"] > 1_000_000
    again = rows(bench(*RTX, *TINY, "--dtype", "fp16,bf16", "--json"))
    assert {each["status"] for each in again} == {"cached"}
    assert {each["export_s"] + each["compile_s"] for each in again} == {0.0}
    assert {each["bytes"] for each in again} == {each["bytes"] for each in found}

    apart = rows(bench(*RTX, *TINY, "--dtype", "fp16", "--engine-per-point", "--json"))
    assert [each["status"] for each in apart] == ["built"] * 4
    assert {each["export_s"] for each in apart} == {0.0}  # the same export serves all
    kinds = [each["kind"] for each in json.loads(bench("cache", "ls", "--json").out)["entries"]]
    assert kinds.count("onnx") == 2 and kinds.count("trt_engine") == 2 + 4


def test_what_cannot_be_built_says_why_in_the_engines_words(bench: Bench) -> None:
    sweep = ("--model", "tiny", "--seq", "16", "--dtype", "fp32,fp16,fp8", "--target", "SM75")
    outcome = bench("build", "--backend", "trt:rtx", *sweep)
    assert outcome.status == 1
    lines = outcome.out.splitlines()
    assert [line.split()[6] for line in lines[1:4]] == ["unsupported", "built", "unsupported"]
    assert "TensorRT-RTX cannot build this for the target: " in outcome.out  # fp32, in the builder's own words
    assert "fp8 needs compute capability 8.9, and SM75 has 7.5" in outcome.out
    assert "Traceback" not in outcome.out + outcome.err

    mixed = rows(bench("build", "--backend", "ort,torch:compile", "--model", "tiny", "--seq", "16", "--json"))
    assert [(each["engine"], each["status"]) for each in mixed] == [
        ("ort:cpu", "built"),
        ("torch:compile", "unsupported"),
    ]
    assert mixed[1]["error"] == (
        "torch:compile builds nothing ahead of time: what it needs is made on the device that runs it"
    )
    swept = bench("--backend", "ort", "--model", "tiny", "--seq", "16", *QUICK, "--json").document["points"]
    assert [each["cache_hit"] for each in swept] == [True]  # a sweep finds what was built ahead
    assert not swept[0]["export_s"] and not swept[0]["compile_s"] and swept[0]["load_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("build", "--backend", "trt:rtx"),
            "trt:rtx runs on cuda, not on cpu (--target SM86, or another, builds for a GPU",
        ),
        (("build", "--backend", "trt", "--target", "SM86"), "TensorRT is not installed: pip install tensorrt"),
        (("build", "--backend", "ort", "--device", "tpu"), "there is no device 'tpu'"),
        (
            ("--backend", "torch", "--engine-per-point"),
            "--engine-per-point is for the engine trt, which is not in --backend",
        ),
    ],
)
def test_a_build_that_makes_no_sense_is_a_usage_error(bench: Bench, arguments: tuple[str, ...], message: str) -> None:
    outcome = bench(*arguments)
    assert outcome.status == 2 and message in outcome.err and outcome.out == ""


def test_an_unknown_target_is_refused_with_the_known_ones(bench: Bench) -> None:
    (row,) = rows(bench("build", "--backend", "trt:rtx", "--target", "SM90", "--model", "tiny", "--json"))
    assert row["status"] == "unsupported"
    assert "cannot build for SM90: choose one of SM75, SM80, SM86, SM89, SM120, SM121" in row["error"]


# --- the second run of the same sweep ---


@pytest.fixture(scope="module")
def twice(make_bench: Callable[[], Bench]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same sweep of ort and torch:compile, two runs into one database."""
    bench = make_bench()
    sweep = ("--backend", "ort,torch:compile", "--model", "tiny", "--batch", "1,2", "--seq", "16", *QUICK, "--json")
    first, second = (bench(*sweep).document for _ in range(2))
    return first, second


def by_engine(document: dict[str, Any], backend: str) -> list[dict[str, Any]]:
    return [each for each in document["points"] if each["backend"] == backend]


def test_a_second_sweep_exports_and_compiles_nothing(twice: tuple[dict[str, Any], dict[str, Any]]) -> None:
    first, second = (by_engine(document, "ort") for document in twice)
    assert first[0]["export_s"] > 0 and first[0]["compile_s"] > 0
    assert first[0]["cache_hit"] is False
    for point in second:
        assert point["status"] == "ok" and point["cache_hit"] is True
        assert not point["export_s"] and not point["compile_s"]
    assert second[0]["load_s"] > 0
    assert second[0]["artefact_bytes"] == first[0]["artefact_bytes"]


def test_warm_compile_seconds_are_reported(twice: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """torch.compile has a cache of its own: a second run compiles again, in less time, and says that kernels were found."""
    for document in twice:
        for point in by_engine(document, "torch"):
            assert point["compile_s"] > 0
    assert all(each["facts"]["kernel_cache_hits"] >= 1 for each in by_engine(twice[1], "torch"))
