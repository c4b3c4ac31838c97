"""`benchrun cache ls`: what an entry is, read from its ingredients. A real cache, and entries that real sweeps and builds left."""

from __future__ import annotations

import json
from pathlib import Path

from benchrun.backends.cache import ArtefactCache, Entry
from benchrun.runner.cli.cache_command import About, describe_entry
from tests.conftest import Bench


def test_entries_of_real_work_say_what_they_are(bench: Bench) -> None:
    measured = ("--model", "tiny", "--seq", "8", "--iterations", "10", "--warmup", "0")
    assert bench("--backend", "ort", *measured).status == 0
    target = ("--target", "SM86", "--model", "tiny", "--seq", "8", "--dtype", "bf16")
    assert bench("build", "--backend", "trt:rtx", *target).status == 0
    found = {each["kind"]: each for each in json.loads(bench("cache", "ls", "--json").out)["entries"]}
    assert {each["model"] for each in found.values()} == {"2 × 128"}  # a trace and an engine know it from their graph
    assert {kind: found[kind]["dtype"] for kind in ("ort_graph", "ort_trace", "trt_engine")} == {
        "ort_graph": "fp32",
        "ort_trace": "fp32",
        "trt_engine": "bf16",
    }
    assert (found["trt_engine"]["made_for"], found["onnx"]["made_for"]) == ("SM86", "any")
    wide = bench("cache", "ls").out
    assert all(each in wide.splitlines()[0] for each in ("kind", "model", "dtype", "made for", "used (UTC)"))
    (line,) = [line for line in wide.splitlines() if line.startswith("trt_engine-")]
    assert line.split()[1:7] == ["trt_engine", "2", "×", "128", "bf16", "SM86"]
    used = [line[-16:] for line in wide.splitlines() if "× 128" in line]
    assert used == sorted(used)  # the last used last
    narrow = Bench(bench.folder, {"COLUMNS": "80"})("cache", "ls").out
    assert found["trt_engine"]["key"] in narrow and "bf16" in narrow and "SM86" in narrow and "kind" not in narrow
    assert max(map(len, narrow.splitlines()[:-1])) <= 80  # the last line is the folder


def stored(cache: ArtefactCache, kind: str, ingredients: dict[str, object]) -> Entry:
    def make(folder: Path) -> None:
        (folder / "file").write_text("x")

    key = cache.obtain(kind, ingredients, make).key
    return next(each for each in cache.entries() if each.key == key)


def test_what_is_quantised_or_compiled_for_a_gpu_says_so(tmp_path: Path) -> None:
    cache = ArtefactCache(tmp_path / "cache", 1 << 20)
    export = {"config": {"n_layers": 6, "dim": 768}, "dtype": "fp32", "head": "qa"}
    whole = stored(cache, "onnx", export)
    dynamic = stored(cache, "ort_graph", {"export": export, "quantisation": "dynamic"})
    tf32 = stored(cache, "trt_engine", {"graph": whole.key, "target": "SM90", "gpu": "NVIDIA H200", "tf32": True})
    kernels = stored(cache, "trt_kernels", {"engine": tf32.key, "gpu": "NVIDIA H200"})
    compiled = stored(
        cache, "aitemplate", {"plan": {"layers": 12, "hidden": 768}, "arch": "90", "device": "NVIDIA H200"}
    )
    orphan = stored(cache, "ort_trace", {"graph": "gone", "machine": "x86_64"})
    entries = cache.entries()
    told = {entry.kind: describe_entry(entry, entries) for entry in (whole, dynamic, tf32, compiled, orphan)}
    assert told == {
        "onnx": About("6 × 768", "fp32", "any"),
        "ort_graph": About("6 × 768", "int8", "any"),
        "trt_engine": About("6 × 768", "tf32", "SM90, NVIDIA H200"),
        "aitemplate": About("12 × 768", "–", "90, NVIDIA H200"),
        "ort_trace": About("–", "–", "x86_64"),
    }
    assert describe_entry(kernels, entries) == About("6 × 768", "tf32", "NVIDIA H200, SM90")
