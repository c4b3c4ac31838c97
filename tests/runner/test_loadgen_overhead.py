"""What our adapter adds to LoadGen, with a bound that a busy machine keeps; the exact one is in tests/benchmarks/loadgen_overhead.py."""

from __future__ import annotations

from tests.benchmarks.loadgen_overhead import measure_overhead


def test_single_stream_through_our_adapter_costs_microseconds() -> None:
    found = measure_overhead(rounds=3, queries=5000)
    assert 0 < found.bare_us < found.ours_us < 60 and found.ours_us < 15 * found.bare_us
