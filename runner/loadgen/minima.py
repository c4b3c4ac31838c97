"""How long and how much a LoadGen run measures: the quick, the usual and the official minima. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchrun.runner.errors import UsageError
from benchrun.runner.loadgen.traffic import parse_traffic

OFFICIAL_SAMPLES = 10_833  # the windows of SQuAD v1.1's dev set, MLPerf's performance_sample_count for BERT
# What early stopping asks for at least: of p90 in SingleStream, of p99 in MultiStream and Server. Offline counts samples.
QUICK_QUERIES = {"single-stream": 200, "multi-stream": 662, "server": 1000, "offline": 256}
USUAL_QUERIES = {"single-stream": 1024, "multi-stream": 662, "server": 2000, "offline": 2048}
# MLPerf's rules and LoadGen's built-in mlperf.conf (a test compares)
OFFICIAL_QUERIES = {"single-stream": 1024, "multi-stream": 662, "server": 100, "offline": OFFICIAL_SAMPLES}
OFFICIAL_S = 600.0
OFFICIAL_LIMIT_MS = 130.0
MOST_S = 86_400.0
MOST_COUNT = 10_000_000
PROBE_SHARE, LEAST_PROBE_S, MOST_PROBE_S = 1 / 6, 0.5, 20.0
PROBE_LIMITS = 20  # that a probe lasts at least: in fewer an overload's backlog still fits under the limit
USUAL_PROBES, MOST_PROBES = 7, 20
MOST_TESTS = 10  # runs of full length, generously
SLOWER = 4.0  # than guessed an engine may be before its time is out


@dataclass(frozen=True, slots=True)
class Minima:
    """Seconds and queries that a run lasts at least (Offline: samples), samples in the library, and where they come from."""

    duration_s: float
    queries: int
    samples: int
    origin: str = "own"
    expected_qps: float | None = (
        None  # Offline: samples a second that LoadGen shall expect; None: as was seen before the test
    )

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration_s) and 0.01 <= self.duration_s <= MOST_S):
            raise UsageError(f"--min-duration {self.duration_s:g} is no number of seconds from 0.01 to {MOST_S:g}")
        for option, count in (("--min-queries", self.queries), ("--samples", self.samples)):
            if not 1 <= count <= MOST_COUNT:
                raise UsageError(f"{option} {count} is not between 1 and {MOST_COUNT:,}")

    def probe_s(self, limit_ms: float, qps: float | None = None) -> float:
        """Seconds of a short run at `qps` in the search for the highest rate: never longer than the run that counts."""
        share = min(MOST_PROBE_S, max(LEAST_PROBE_S, self.duration_s * PROBE_SHARE))
        return min(self.full_s(qps), max(share, PROBE_LIMITS * limit_ms / 1000))

    def full_s(self, queries_s: float | None = None) -> float:
        """Seconds of a run with so many queries a second (Offline: samples); None: as many as are needed."""
        return max(self.duration_s, self.queries / queries_s if queries_s else 0.0)

    def to_settings(self) -> dict[str, Any]:
        """As settings of a sweep's request, plain JSON."""
        return {KEY: asdict(self)}


KEY = "loadgen"


def choose_minima(
    scenario: str,
    *,
    quick: bool = False,
    duration_s: float | None = None,
    queries: int | None = None,
    samples: int | None = None,
    expected_qps: float | None = None,
) -> Minima:
    """The minima of a scenario: usual or quick ones, changed by those that were given.

    `origin` is `quick`, `usual`, `official` (no less than MLPerf asks for) or `own`.
    """
    base = (
        Minima(1.0, QUICK_QUERIES[scenario], 256, "quick")
        if quick
        else Minima(10.0, USUAL_QUERIES[scenario], 1024, "usual")
    )
    chosen = Minima(
        base.duration_s if duration_s is None else duration_s,
        base.queries if queries is None else queries,
        base.samples if samples is None else samples,
        base.origin,
        expected_qps,
    )
    if is_official(scenario, chosen):
        return replace(chosen, origin="official")
    changed = any(each is not None for each in (duration_s, queries, samples))
    return replace(chosen, origin="own") if changed else chosen


def is_official(scenario: str, minima: Minima) -> bool:
    """Whether a run is at least as long and large as MLPerf's rules ask for."""
    return (
        minima.duration_s >= OFFICIAL_S
        and minima.queries >= OFFICIAL_QUERIES[scenario]
        and minima.samples >= OFFICIAL_SAMPLES
    )


def read_minima(scenario: str, settings: Mapping[str, Any]) -> Minima:
    """The minima of a request's settings; the usual ones where it has none."""
    stored = settings.get(KEY)
    return Minima(**stored) if stored else choose_minima(scenario)


def guess_seconds(workload: str, settings: Mapping[str, Any], call_s: float = 0.0, batch: int = 1) -> float:
    """Guessed seconds of a point: the test with what LoadGen generates beyond its minimum, the warm-up, and for `auto` the search.

    `call_s`: guessed seconds of one call with `batch` samples, 0 where nothing is known.
    """
    test, probe = _test_seconds(workload, settings, call_s, batch)
    return 5.0 + 1.3 * test + USUAL_PROBES * probe


def longest_seconds(workload: str, settings: Mapping[str, Any], call_s: float = 0.0, batch: int = 1) -> float:
    """What LoadGen's tests of a point may take together, generously; see `guess_seconds`."""
    test, probe = _test_seconds(workload, settings, SLOWER * call_s, batch)
    return MOST_TESTS * test + MOST_PROBES * probe


def _test_seconds(workload: str, settings: Mapping[str, Any], call_s: float, batch: int) -> tuple[float, float]:
    """Seconds of the test that counts, and of one probe (0 where no rate is looked for)."""
    traffic = parse_traffic(workload)
    minima = read_minima(traffic.scenario, settings)
    guessed = (1 if traffic.streams else batch) / call_s if call_s else None  # queries a second, in Offline samples
    if traffic.mode == "accuracy":  # every sample once, in Server at half the pace
        samples_s = batch / call_s / (2 if traffic.server else 1) if call_s else None
        return max(1.0, minima.samples / samples_s) if samples_s else minima.duration_s, 0.0
    if not traffic.server:
        return minima.full_s(guessed), 0.0
    if traffic.rate is not None:
        return minima.full_s(traffic.rate), 0.0
    return minima.full_s(guessed), minima.probe_s(traffic.limit_ms, guessed)


def describe_minima(settings: Mapping[str, Any]) -> str:
    """The minima of a request in words."""
    stored = settings.get(KEY)
    if not stored:
        return "usual minima"
    found = Minima(**stored)
    return (
        f"{found.origin} minima: {found.duration_s:g} s and {found.queries:,} queries, out of {found.samples:,} samples"
    )
