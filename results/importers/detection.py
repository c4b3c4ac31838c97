"""Which format a file is of, and the importer of a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchrun.results.importers import (
    aitemplate,
    generic_csv,
    google_benchmark,
    migraphx,
    mlperf,
    nvbench,
    optimum,
    ort_benchmark,
    ort_perf_test,
    pytest_benchmark,
    trtexec,
)
from benchrun.results.importers.foreign import ForeignResult, ImportFailed, Source
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what it is called, whether a file looks like one, and how it is read."""

    name: str
    summary: str
    recognise: Callable[[Source], bool]
    parse: Callable[[Source, Sidecar], ForeignResult]


_ALL = (
    Format("trtexec", "trtexec --exportTimes JSON, or its log", trtexec.recognise, trtexec.parse),
    Format("pytest-benchmark", "pytest-benchmark JSON", pytest_benchmark.recognise, pytest_benchmark.parse),
    Format("optimum-benchmark", "optimum-benchmark report JSON", optimum.recognise, optimum.parse),
    Format("mlperf", "MLPerf LoadGen summary or detail log", mlperf.recognise, mlperf.parse),
    Format("onnxruntime-benchmark", "onnxruntime benchmark.py CSV", ort_benchmark.recognise, ort_benchmark.parse),
    Format("onnxruntime-perf-test", "onnxruntime_perf_test output", ort_perf_test.recognise, ort_perf_test.parse),
    Format("migraphx", "migraphx-driver perf output", migraphx.recognise, migraphx.parse),
    Format("aitemplate", "AITemplate examples/03_bert text", aitemplate.recognise, aitemplate.parse),
    Format("google-benchmark", "Google Benchmark JSON", google_benchmark.recognise, google_benchmark.parse),
    Format("nvbench", "nvbench JSON", nvbench.recognise, nvbench.parse),
    Format("csv", "any CSV, with a column mapping in a sidecar", generic_csv.recognise, generic_csv.parse),
)
FORMATS: Mapping[str, Format] = {each.name: each for each in _ALL}


def detect(source: Source) -> str | None:
    """The name of the format that a file looks like; None where none or several fit."""
    found = [each.name for each in _ALL if each.recognise(source)]
    return found[0] if len(found) == 1 else None


def find_format(name: str) -> Format:
    """The format of that name; `auto` is none. `ImportFailed` names those there are."""
    if name not in FORMATS:
        raise ImportFailed(f"there is no format '{name}'; there are {', '.join(FORMATS)}, and auto", file="import")
    return FORMATS[name]


def parse(source: Source, sidecar: Sidecar = NO_SIDECAR, format_name: str = "auto") -> ForeignResult:
    """Read a file as the given format, or as the one it looks like."""
    if format_name == "auto":
        name = detect(source)
        if name is None:
            known = "; ".join(f"{each.name}: {each.summary}" for each in _ALL)
            raise source.failed(f"looks like none of the formats, so name one ({known})")
        format_name = name
    return find_format(format_name).parse(source, sidecar)
