"""One test by LoadGen: its settings, the run, and its logs, read back by our own importer."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchrun.results.importers import Source
from benchrun.results.importers.mlperf import parse
from benchrun.runner.loadgen.traffic import NAMES

if TYPE_CHECKING:
    from benchrun.results.importers.foreign import ForeignMeasurement

DISTRIBUTION = "mlcommons-loadgen"
INSTALL = "pip install 'benchrun-inference[loadgen]'"
MODEL = "bert"  # whose seeds and percentiles LoadGen's built-in mlperf.conf gives
BUILT_IN = 0  # FromConfig's word for that file
SUMMARY, DETAIL, ACCURACY = "mlperf_log_summary.txt", "mlperf_log_detail.txt", "mlperf_log_accuracy.json"
OVERLOADED = 20.0  # a probe gives up when as many deadlines' worth of queries wait


class System(Protocol):
    """The system under test, as `runner.loadgen.systems` has them."""

    failure: BaseException | None

    def issue(self, ids: list[int], places: list[int]) -> None: ...

    def flush(self) -> None: ...

    def run(self, start: Callable[[], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Demand:
    """What one test asks for. `qps` is the rate of Server, and in the other scenarios what LoadGen should expect of the system, in queries
    a second (Offline: samples). `bounded`: give up where the system falls hopelessly behind."""

    scenario: str
    accuracy: bool
    duration_s: float
    queries: int
    qps: float
    limit_ms: float
    samples_per_query: int = 1
    bounded: bool = False


@dataclass(frozen=True, slots=True)
class Logs:
    """What LoadGen wrote, and the wall seconds of the test with LoadGen's own preparation."""

    summary: str
    detail: str
    accuracy: str
    seconds: float

    def read(self) -> ForeignMeasurement:
        """The figures of a performance test. Raises ImportFailed where the test did not finish."""
        (found,) = parse(Source(DETAIL, self.detail.encode())).measurements
        return found


def missing_loadgen() -> str | None:
    """Why LoadGen cannot be used here, in one sentence; None where it is installed."""
    try:
        version(DISTRIBUTION)
    except PackageNotFoundError:
        return f"LoadGen scenarios need {DISTRIBUTION}, which is not installed: {INSTALL}"
    return None


def import_loadgen() -> Any:
    """LoadGen's Python module."""
    import mlperf_loadgen

    return mlperf_loadgen


def make_settings(loadgen: Any, demand: Demand) -> Any:
    """LoadGen's TestSettings: seeds and percentiles of its built-in mlperf.conf, the rest from `demand`."""
    settings = loadgen.TestSettings()
    name = NAMES[demand.scenario]
    settings.FromConfig("", MODEL, name, BUILT_IN)
    settings.scenario = getattr(loadgen.TestScenario, name)
    settings.mode = loadgen.TestMode.AccuracyOnly if demand.accuracy else loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = max(1, round(demand.duration_s * 1000))
    settings.min_query_count = demand.queries
    settings.performance_sample_count_override = 0  # as many as the library holds
    expected_ns = max(1, int(1e9 / demand.qps))
    settings.single_stream_expected_latency_ns = settings.multi_stream_expected_latency_ns = expected_ns
    settings.multi_stream_samples_per_query = demand.samples_per_query
    settings.server_target_qps = settings.offline_expected_qps = demand.qps
    settings.server_target_latency_ns = round(demand.limit_ms * 1e6)
    settings.server_coalesce_queries = True
    if demand.bounded:
        settings.server_max_async_queries = 1000 + int(OVERLOADED * demand.qps * demand.limit_ms / 1000)
    return settings


def run_test(demand: Demand, samples: int, system: System, load: Callable[[Sequence[int]], None]) -> Logs:
    """Run one test against `system` with a library of `samples`; `load` is told which of them LoadGen wants in memory.

    Raises what went wrong in the system.
    """
    loadgen = import_loadgen()
    with tempfile.TemporaryDirectory(prefix="benchrun-loadgen-") as folder:
        log = loadgen.LogSettings()
        log.log_output.outdir = folder
        log.log_output.copy_summary_to_stdout = False
        log.enable_trace = False
        sut = loadgen.ConstructFastSUT(system.issue, system.flush)
        library = loadgen.ConstructQSL(samples, samples, load, _forget)
        settings = make_settings(loadgen, demand)
        started = time.perf_counter()
        try:
            # the null device: no audit.config that lies about is read
            system.run(lambda: loadgen.StartTestWithLogSettings(sut, library, settings, log, os.devnull))
        finally:
            seconds = time.perf_counter() - started
            loadgen.DestroyQSL(library)
            loadgen.DestroyFastSUT(sut)
        if system.failure is not None:
            raise system.failure
        texts = [_read(Path(folder) / name) for name in (SUMMARY, DETAIL, ACCURACY)]
    return Logs(texts[0], texts[1], texts[2], seconds)


def _forget(_: Sequence[int]) -> None:
    """LoadGen lets samples go: they stay, the next test wants them again."""


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
