"""`benchrun backends` as a user meets it, and what a sweep says of an engine that is not there. The real command, this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchrun.backends.cache import ArtefactCache
from benchrun.backends.registry import load_backend
from benchrun.results.store import open_store
from benchrun.runner.cli import backends_command
from benchrun.runner.environment import installed_version
from tests.conftest import Bench

BUILT_IN = ("ait:cuda", "ait:rocm", "ort:cpu", "ort:cuda", "torch:eager", "torch:compile", "trt:tensorrt", "trt:rtx")
ROOT = Path(__file__).parents[2]
LEVELS = {"executed", "built", "compiled", "never run"}
# a busy machine would have points measured again, which these tests are not about
QUICK = ("--iterations", "10", "--warmup", "0", "--threads", "1", "--repeats", "0")
TRT = "TensorRT is not installed: pip install tensorrt"
tensorrt_is_absent = pytest.mark.skipif(
    installed_version("tensorrt") is not None, reason="TensorRT is installed here: nothing to refuse"
)


def lines(bench: Bench, *arguments: str) -> dict[str, dict[str, Any]]:
    outcome = bench("backends", "--json", *arguments)
    assert outcome.status == 0 and outcome.err == ""
    return {each["engine"]: each for each in json.loads(outcome.out)["backends"]}


def test_every_engine_is_told_with_versions_and_commands(bench: Bench) -> None:
    found = lines(bench)
    assert set(BUILT_IN) <= found.keys()
    for each in found.values():
        assert each["verified"] in LEVELS and (each["available"] or each["reason"])
        assert set(each["project"].values()) <= LEVELS
    cpu = found["ort:cpu"]
    assert cpu["available"] and cpu["devices"] == ["cpu"] and cpu["dtypes"] == ["fp32", "int8"]
    assert cpu["versions"] == {"onnxruntime": installed_version("onnxruntime")}
    for engine, package in (("ort:openvino", "onnxruntime-openvino"), ("ort:migraphx", "ort-migraphx")):
        assert not found[engine]["available"] and package in found[engine]["install"]
        assert found[engine]["versions"] == {}  # another build's version is not its own
    assert ("tf32" in found["torch:eager"]["dtypes"]) is any("cuda" in each for each in found["torch:eager"]["devices"])
    rtx = found["trt:rtx"]
    assert set(rtx["versions"]) == {"tensorrt-rtx-cu13-bindings"} and "tensorrt-rtx-cu13-libs" in rtx["install"]


@tensorrt_is_absent
def test_the_table_fits_80_columns_and_says_why_not(bench: Bench) -> None:
    narrow = Bench(bench.folder, {"COLUMNS": "80"})
    outcome = narrow("backends")
    assert outcome.status == 0 and max(map(len, outcome.out.splitlines())) <= 80
    flowing = " ".join(outcome.out.split())
    assert TRT in flowing and "NVIDIA's own package index" in flowing
    assert "ait:cuda, ait:rocm: AITemplate is not installed" in flowing  # said once for both
    wide = bench("backends").out
    assert "fp32 int8" in wide and "devices" in wide


def test_what_has_run_or_was_built_here_is_told(bench: Bench) -> None:
    assert lines(bench)["torch:eager"]["verified"] == lines(bench)["trt:rtx"]["verified"] == "never run"
    measured = bench("--backend", "torch", "--model", "tiny", "--seq", "8", *QUICK)
    assert measured.status == 0
    assert bench("build", "--backend", "trt:rtx", "--target", "SM86", "--model", "tiny", "--seq", "8").status == 0
    found = lines(bench)
    assert (found["torch:eager"]["verified"], found["trt:rtx"]["verified"]) == ("executed", "built")
    assert found["torch:eager"]["verified_on"]["cpu"] == "executed"
    assert (found["torch:eager"]["executed"], found["trt:rtx"]["executed"]) == ({"cpu": ["padded"]}, {})
    assert found["torch:eager"]["verified_on"]["rocm"] == "never run"
    elsewhere = Bench(bench.folder, {"BENCHRUN_DB": str(bench.folder / "none.db")})
    assert lines(elsewhere)["torch:eager"]["verified"] == "never run"
    assert lines(elsewhere, "--db", str(bench.db))["torch:eager"]["verified"] == "executed"
    assert "executed (padded)" in (table := " ".join(bench("backends").out.split()))
    assert "in brackets, what ran: padded calls" in table and "in brackets" not in elsewhere("backends").out
    lost = elsewhere("backends", "--db", "lost.db")
    assert lost.status == 2 and len(lost.err.splitlines()) == 1
    assert found["torch:compile"]["verified"] == found["trt:tensorrt"]["verified"] == "never run"


def test_check_asks_each_engine_in_a_process_of_its_own(bench: Bench) -> None:
    found = lines(bench, "--check")
    assert found["torch:eager"]["checked"] and found["torch:eager"]["available"]
    assert "onnx" in found["ort:cpu"]["versions"]
    hostile = found["hostile:behaved"]  # its probe raises
    assert not hostile["available"] and "asking it failed: RuntimeError: a probe must not raise" in hostile["reason"]


def test_an_engine_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends_command.CHECK_S == 60
    monkeypatch.setattr(backends_command, "CHECK_S", 0.01)
    found = backends_command.probe("torch", ["eager", "compile"])
    assert {each["reason"] for each in found.values()} == {"it did not answer within 0.01 s"}


def test_each_variant_is_asked_for_itself() -> None:
    """trt:tensorrt must not be told what TensorRT-RTX lacks, nor the other way round."""
    found = backends_command.probe("trt", ["tensorrt", "rtx"])
    assert found["rtx"]["versions"].keys() <= {"TensorRT-RTX"}
    assert found["tensorrt"]["versions"].keys() <= {"TensorRT"}
    for variant, library in (("tensorrt", "TensorRT "), ("rtx", "TensorRT-RTX ")):
        assert found[variant]["ok"] or found[variant]["reason"].startswith(library)


def test_an_interpreter_that_cannot_start_the_engine_says_its_last_words() -> None:
    found = backends_command.probe("nosuch", ["eager"])["eager"]
    assert not found["ok"] and "asking it failed" in found["reason"] and "unknown backend 'nosuch'" in found["reason"]


def test_one_faulty_engine_stops_no_table(bench: Bench) -> None:
    outcome = bench("backends")
    flowing = " ".join(outcome.out.split())
    assert outcome.status == 0 and outcome.err == "" and "torch:eager" in flowing
    assert "has no description" in flowing and "its own check failed (RuntimeError: no licence" in flowing


def test_one_faulty_engine_stops_no_sweep(bench: Bench) -> None:
    outcome = bench("--backend", "torch,hostile-unsure", "--model", "tiny", "--seq", "8", *QUICK, "--json")
    assert outcome.status == 1 and "report it" not in outcome.err
    found = {each["backend"]: each for each in outcome.document["points"]}
    assert (found["torch"]["status"], found["hostile-unsure"]["status"]) == ("ok", "skipped")
    assert "its own check failed" in found["hostile-unsure"]["error"]


def test_a_build_without_the_device_that_is_here_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends_command, "list_devices", lambda: ("cuda:0", "cpu"))
    about = load_backend("torch").description
    found = {"ok": True, "reason": "", "versions": {}, "devices": ["cpu"], "dtypes": {"cpu": ["fp32"]}}
    by_name = {each.name: each for each in about.variants}
    graph = backends_command._line(about, by_name["cudagraph"], None, found, {"cuda": "never run"})
    assert graph.reason == "it runs on cuda, rocm; cuda:0 is here, but the installed build can use cpu only"
    assert not graph.available and graph.here.plain == "no"
    levels = {"cpu": "executed", "cuda": "never run", "rocm": "built"}
    eager = backends_command._line(about, by_name["eager"], None, found, levels)
    assert (eager.here.plain, eager.verified) == ("yes", "executed")
    assert eager.verified_here == "executed on cpu; never run on cuda"
    untried = backends_command._line(about, by_name["cudagraph"], None, None, {"cuda": "never run"})
    assert untried.available and untried.here.plain == "installed"
    ran = replace(eager, executed={"cpu": ("padded", "training")})
    assert ran.verified_here == "executed (padded, training) on cpu; never run on cuda"
    monkeypatch.setattr(backends_command, "list_devices", lambda: ("cpu",))
    assert ran.verified_here == "executed (padded, training)"


def test_options_are_listed(bench: Bench) -> None:
    text = " ".join(bench("backends", "--options").out.split())
    assert "ort.quantisation = dynamic (default) | static how int8 is reached" in text
    options = json.loads(bench("backends", "--json").out)["options"]
    names = {
        f"{name}.{each.name}"
        for name in ("torch", "ort", "trt", "ait")
        for each in load_backend(name).description.options
    }
    assert names <= {each["name"] for each in options}
    (found,) = [each for each in options if each["name"] == "trt.cuda_graph"]
    assert (found["default"], found["choices"], found["backend"]) == ("on", ["on", "off"], "trt") and found["summary"]


def test_the_page_of_engines_says_what_the_variants_say() -> None:
    page = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    told = {row[0].strip("`"): row for row in rows if ":" in row[0]}
    about = {name: load_backend(name).description for name in ("torch", "ort", "trt", "ait")}
    variants = {f"{name}:{each.name}": each for name, one in about.items() for each in one.variants}
    assert told.keys() == variants.keys()
    for engine, variant in variants.items():
        for kind, cell in zip(("cpu", "cuda", "rocm"), told[engine][1:4], strict=True):
            level = variant.verified[kind] if kind in variant.devices else "–"
            assert cell == level or cell.startswith(f"{level} ("), (engine, kind)
    listed = {
        name.strip(" `") for row in told.values() for name in row[4].split(",") if name.strip(" ").startswith("`")
    }
    options = {f"{name}.{option.name}" for name, one in about.items() for option in one.options}
    assert listed and listed <= options


def test_a_cache_that_cannot_be_used_is_no_obstacle(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchrun.backends.tensorrt import TensorRtBackend

    def refuse(self: ArtefactCache) -> None:
        raise PermissionError(13, "not yours")

    monkeypatch.setattr(ArtefactCache, "entries", refuse)
    assert backends_command._built(TensorRtBackend) == {}


@tensorrt_is_absent
def test_a_sweep_of_an_absent_engine_alone_is_one_sentence(bench: Bench) -> None:
    outcome = bench("--backend", "trt", "--seq", "128,384")
    assert outcome.status == 2 and outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"benchrun: {TRT}") and "NVIDIA's own package index" in line
    assert not bench.db.exists()  # no row, not even a database


@tensorrt_is_absent
def test_in_a_list_its_points_are_skipped_and_the_rest_is_measured(bench: Bench) -> None:
    outcome = bench("--backend", "torch,trt", "--model", "tiny", "--seq", "8,16", *QUICK, "--json")
    assert outcome.status == 1
    found = [(each["backend"], each["status"]) for each in outcome.document["points"]]
    assert sorted(found) == [("torch", "ok"), ("torch", "ok"), ("trt", "skipped"), ("trt", "skipped")]
    for each in outcome.document["points"]:
        assert each["backend"] == "torch" or each["error"].startswith(TRT)
    assert outcome.err.count(TRT) == 1 and "2 to measure" in outcome.err  # the plan says why, the progress not again
    with open_store(bench.db, read_only=True) as store:
        assert store.run(store.resolve_run("last")).run.state == "finished"
