from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from benchrun.runner.gate.welch import (
    adjust_holm,
    detectable_log_ratio,
    moments,
    round_significant,
    t_quantile,
    welch,
)


@pytest.mark.parametrize(("n_base", "n_new"), [(2, 2), (3, 3), (8, 8), (32, 32), (3, 11), (35, 5)])
def test_welch_equals_scipy(n_base: int, n_new: int) -> None:
    rng = np.random.default_rng(n_base * 100 + n_new)
    points = 40
    scale = np.exp(rng.normal(-4, 1, points))
    values = rng.normal(0, 1, (2, n_base + n_new, points)) * scale + rng.normal(0, 0.05, points)
    base = np.zeros((n_base + n_new, points), dtype=bool)
    base[rng.permutation(n_base + n_new)[:n_base]] = True
    contrast = welch(moments(values, base), moments(values, ~base))
    p, margin = contrast.p_greater(), contrast.margin(0.95)
    for m, j in itertools.product(range(2), range(points)):
        a, b = values[m, base[:, j], j], values[m, ~base[:, j], j]
        expected = stats.ttest_ind(b, a, equal_var=False, alternative="greater")
        interval = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
        assert p[m, j] == pytest.approx(expected.pvalue, rel=1e-12, abs=1e-15)
        assert contrast.df[m, j] == pytest.approx(expected.df, rel=1e-12)
        assert contrast.difference[m, j] - margin[m, j] == pytest.approx(interval.low, rel=1e-11, abs=1e-15)
        assert contrast.difference[m, j] + margin[m, j] == pytest.approx(interval.high, rel=1e-11, abs=1e-15)


def test_moments_use_marked_values_only() -> None:
    values = np.array([[[1.0, 5.0], [3.0, np.nan], [np.nan, 6.0]]])
    found = moments(values, np.array([[True, True], [True, False], [False, False]]))
    assert found.n.tolist() == [[2, 1]]
    assert found.mean.tolist() == [[2.0, 5.0]]
    assert found.var[0, 0] == 2.0
    assert math.isnan(found.var[0, 1])


def test_no_variance_gives_no_p_and_no_interval() -> None:
    values = np.array([[[1.0], [1.0], [2.0], [2.0]]])
    base = np.array([[True], [True], [False], [False]])
    contrast = welch(moments(values, base), moments(values, ~base))
    assert math.isnan(contrast.p_greater()[0, 0])
    assert math.isnan(contrast.margin(0.95)[0, 0])


def test_holm_by_hand() -> None:
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([0.5, 0.9]) == [1.0, 1.0]
    assert adjust_holm([0.004]) == [0.004]
    assert adjust_holm([]) == []


def test_holm_is_the_closed_bonferroni_test() -> None:
    # closed testing: a hypothesis falls if every set that holds it falls by Bonferroni
    rng = np.random.default_rng(5)
    for size in (1, 2, 3, 5, 7):
        p = rng.beta(0.3, 2, size).tolist()
        sets = [s for k in range(1, size + 1) for s in itertools.combinations(range(size), k)]
        expected = [max(min(1.0, len(s) * min(p[i] for i in s)) for s in sets if j in s) for j in range(size)]
        assert adjust_holm(p) == pytest.approx(expected)


def test_small_formulas() -> None:
    assert t_quantile(4, 0.975) == pytest.approx(2.7764451)
    assert round_significant(0.123456789) == 0.123457
    assert detectable_log_ratio(0.01, 8, 5.07) == pytest.approx(5.07 * 0.01 * 0.5)
    assert math.isnan(detectable_log_ratio(0.01, 0, 5.07))
