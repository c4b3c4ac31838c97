"""What our adapter adds to LoadGen: the bound of tests/benchmarks/loadgen_overhead.py, kept by the best of several short rounds."""

from __future__ import annotations

from tests.benchmarks.loadgen_overhead import MOST_TIMES, MOST_US, measure_overhead


def test_single_stream_through_our_adapter_costs_microseconds() -> None:
    found = measure_overhead(rounds=6, queries=3000)
    assert 0 < found.bare_us < found.ours_us <= MOST_US and found.times <= MOST_TIMES, found
    assert found.ours_us < found.ladder_us and found.ours_us < found.packed_us, found
