"""The rule once more, as slowly and plainly as it is written down, with scipy's own tests: both must say the same."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from scipy import stats

from benchrun.runner.gate.launches import Launch
from benchrun.runner.gate.verdict import GateVerdict
from tests.gate.simulation import SHAPES, Machine, Shape, play

Values = dict[tuple[str, str, int, str], list[float]]  # point, metric, stage, side → y


def collect(launches: tuple[Launch, ...]) -> Values:
    values: Values = defaultdict(list)
    for launch in launches:
        for each in launch.readings:
            assert each.p50_ms is not None
            assert each.throughput_seq_s is not None
            values[each.point, "p50", launch.stage, launch.side].append(math.log(each.p50_ms))
            values[each.point, "throughput", launch.stage, launch.side].append(-math.log(each.throughput_seq_s))
    return values


def decide_by_the_book(values: Values, points: list[str]) -> dict[tuple[str, str], tuple[str, int]]:
    verdicts: dict[tuple[str, str], tuple[str, int]] = {}
    escalated: list[tuple[str, str]] = []
    k2: dict[tuple[str, str], int] = {}
    for metric in ("p50", "throughput"):
        first = {point: (values[point, metric, 1, "base"], values[point, metric, 1, "new"]) for point in points}
        own = {point: math.sqrt((np.var(b, ddof=1) + np.var(n, ddof=1)) / 2) for point, (b, n) in first.items()}
        pool = math.sqrt(sum(s**2 for s in own.values()) / len(points))
        for point, (b, n) in first.items():
            s = max(own[point], pool, 1e-4)
            d = float(np.mean(n) - np.mean(b))
            u = d + float(stats.t.ppf(0.975, len(points) * 2)) * s * math.sqrt(1 / 3 + 1 / 3)
            if d < math.log(1.02) and u < math.log(1.05):
                verdicts[point, metric] = ("PASS", 0)
            else:
                escalated.append((point, metric))
                k2[point, metric] = min(32, max(8, math.ceil(5 * ((2.326 + 1.645) * s / math.log(1.05)) ** 2)))
    p = {}
    for point, metric in escalated:
        fresh_b, fresh_n = (values[point, metric, 2, side] for side in ("base", "new"))
        most = max(k for (other, _), k in k2.items() if other == point)
        assert len(fresh_b) == len(fresh_n) == most
        p[point, metric] = float(stats.ttest_ind(fresh_n, fresh_b, equal_var=False, alternative="greater").pvalue)
    adjusted, largest = {}, 0.0
    for rank, pair in enumerate(sorted(p, key=lambda pair: p[pair])):
        largest = max(largest, min(1.0, p[pair] * (len(p) - rank)))
        adjusted[pair] = largest
    for pair in escalated:
        fresh = {side: values[(*pair, 2, side)] for side in ("base", "new")}
        every = {side: values[(*pair, 1, side)] + fresh[side] for side in ("base", "new")}
        d = float(np.mean(fresh["new"]) - np.mean(fresh["base"]))
        upper = stats.ttest_ind(every["new"], every["base"], equal_var=False).confidence_interval(0.95).high
        if adjusted[pair] <= 0.01 and d >= math.log(1.03):
            verdicts[pair] = ("FAIL", len(fresh["new"]))
        elif upper < math.log(1.05):
            verdicts[pair] = ("PASS", len(fresh["new"]))
        else:
            verdicts[pair] = ("INCONCLUSIVE", len(fresh["new"]))
    return verdicts


def show(verdict: GateVerdict) -> dict[tuple[str, str], tuple[str, int]]:
    return {
        (point.point, each.metric): (each.verdict, each.fresh_launches)
        for point in verdict.points
        for each in point.metrics
    }


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_core_follows_the_book(shape: Shape) -> None:
    seen = set()
    for seed in range(6):
        played = play(Machine(shape, np.random.default_rng([7, seed]), {seed: 1.05, seed + 10: 1.035}), seed=seed)
        if played.verdict.control.verdict == "INVALID":
            continue
        expected = decide_by_the_book(collect(played.launches), [each.point for each in played.verdict.points])
        assert show(played.verdict) == expected
        seen |= {verdict for verdict, _ in expected.values()}
    assert {"PASS", "FAIL"} <= seen
