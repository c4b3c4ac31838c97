from __future__ import annotations

import numpy as np
import pytest

from benchrun.runner.gate.tails import POOLING_NOTE, SMALL_NOTE, pool_tails


def test_tails_pool_launches_and_say_so() -> None:
    rng = np.random.default_rng(1)
    launches = [rng.lognormal(2, 0.1, 200) for _ in range(3)]
    tails = pool_tails(launches)
    every = np.concatenate(launches)
    assert [each.name for each in tails] == ["p90", "p95", "p99"]
    for each, q in zip(tails, (90, 95, 99), strict=True):
        assert each.value_ms == pytest.approx(float(np.percentile(every, q)))
        assert (each.n, each.launches) == (600, 3)
        assert each.upper_ms is not None
        assert each.upper_ms > each.value_ms
        assert each.note == POOLING_NOTE


@pytest.mark.parametrize(("n", "bounded"), [(43, 0), (44, 1), (89, 1), (90, 2), (458, 2), (459, 3)])
def test_bounds_begin_at_the_counts_of_early_stopping(n: int, bounded: int) -> None:
    tails = pool_tails([np.random.default_rng(n).normal(10, 1, n)])
    assert sum(each.upper_ms is not None for each in tails) == bounded
    assert {each.note for each in tails[bounded:]} <= {SMALL_NOTE}
    assert {each.note for each in tails[:bounded]} <= {""}


def test_no_samples_no_tails() -> None:
    assert pool_tails([]) == ()
    assert pool_tails([np.array([])]) == ()
