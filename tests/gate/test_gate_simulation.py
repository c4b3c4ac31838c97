"""What the issue asks of the gate, by simulation: the product's scheduler and decision core on simulated machines.

With few gates a bound on a share can only be checked roughly: the count must be one that the bound would exceed in fewer
than one of a thousand such simulations. The long run (`-m long`) checks the same with ten times the gates; its figures are
in docs/gating-statistics.md. Seeds are fixed (simulation.SEED) and were not chosen by what they give.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchrun.runner.gate.decision import decide
from benchrun.runner.gate.launches import Launch, Reading
from benchrun.runner.gate.schedule import next_batch
from benchrun.runner.gate.settings import GateSettings
from tests.gate.simulation import (
    ALL,
    BY_NAME,
    PLAN,
    POINTS,
    SEED,
    SHAPES,
    Crowd,
    Machine,
    Shape,
    Tally,
    crowd,
    gaussian,
    iterations,
    level,
    make_plan,
    play,
    simulate,
)

GATES = [300, pytest.param(3000, marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def workers() -> Iterator[Crowd]:
    """Processes that share the gates. Coverage is not measured in them: it would take three times as long, and the
    tests that play their gates here reach the same lines.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_START", raising=False)
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        with crowd() as found:
            yield found


def most(gates: int, share: float) -> int:
    """The largest count that an event of that share gives in all but one of a thousand simulations."""
    return int(stats.binom.ppf(0.999, gates, share))


@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("shape", ALL, ids=lambda shape: shape.name)
def test_false_alarms_and_cost(workers: Crowd, shape: Shape, gates: int) -> None:
    tally = workers.simulate(shape, gates)
    assert tally.false_alarms <= most(tally.gates, 0.01)
    if shape.calm:
        assert tally.inconclusive <= most(tally.gates, 0.05)
    if shape.cost is not None:
        assert tally.cost / tally.gates <= shape.cost


@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("shape", ALL, ids=lambda shape: shape.name)
def test_power_and_false_passes(workers: Crowd, shape: Shape, gates: int) -> None:
    tally = workers.simulate(shape, gates, 1.05)
    assert tally.false_passes <= most(tally.gates, 0.05)
    if shape.power is not None:
        assert tally.gates - tally.hits <= most(tally.gates, 1 - shape.power)
    assert tally.hits + tally.false_passes + tally.undecided >= tally.gates - most(
        tally.gates, 0.01
    )  # the rest: exit 3


def test_a_slowdown_of_ten_percent_is_hardly_ever_missed(workers: Crowd) -> None:
    tally = workers.simulate(BY_NAME["gaussian 2 %"], 300, 1.10)
    assert tally.hits >= 299
    assert tally.false_passes == 0


DRIFTING = Shape("1 %, drift of 10 % over 24 launches", gaussian, level(0.01), drift=lambda place: 0.1 * place / 24)


def test_blocked_order_would_alarm_under_drift() -> None:
    blocked = simulate(DRIFTING, 40, blocked=True, control_drifts=False)
    assert blocked.failed >= 38
    assert simulate(DRIFTING, 40, blocked=True).false_alarms >= 38  # the control drifts too, and sees some of it
    assert simulate(DRIFTING, 40).false_alarms == 0  # the same machine, A B B A


def test_iterations_of_one_process_as_units_would_alarm() -> None:
    noisy = BY_NAME["gaussian 2 %"]
    assert simulate(noisy, 40, one_process=True).failed >= 36
    assert simulate(noisy, 40).false_alarms <= 1


def test_pooled_iterations_would_alarm_in_the_usual_tests() -> None:
    """Mann-Whitney over all iterations of three launches a side, Bonferroni over 32 points, at launch sd 1 %."""
    rng = np.random.default_rng([SEED, 1])
    alarms = 0
    for _ in range(8):
        p_values = []
        for _point in range(POINTS):
            base, new = (
                (np.exp(rng.normal(0, 0.01, 3))[:, None] * iterations(rng, 3)).ravel() for _side in ("base", "new")
            )
            p_values.append(stats.mannwhitneyu(new, base, alternative="greater").pvalue)
        alarms += bool(min(p_values) * POINTS <= 0.01)
    assert alarms == 8


def test_small_sweeps_cost_more() -> None:
    shape = BY_NAME["gaussian 2 %"]
    costs = [simulate(shape, 60, plan=make_plan(count)).cost / 60 for count in (1, 8, 32)]
    assert costs[0] > costs[1] > 10
    assert costs[1] > costs[2] - 4


def test_throttled_launches_are_replaced_without_alarm() -> None:
    """One reading in a hundred is throttled, and then 20 % slower: each side of each of 32 points."""
    tally, replaced = Tally(), 0
    for seed in range(60):
        rng = np.random.default_rng([SEED, 2, seed])
        machine = Machine(BY_NAME["gaussian 1 %"], rng)

        def throttle(reading: Reading) -> Reading:
            if rng.random() > 0.01:  # noqa: B023  # called in this turn of the loop only
                return reading
            assert reading.p50_ms is not None
            return replace(reading, throttled=True, p50_ms=1.2 * reading.p50_ms)

        launches: list[Launch] = []
        while batch := next_batch(PLAN, launches, GateSettings(), seed=seed).launches:
            taken = machine.take(batch, PLAN)
            launches += [replace(each, readings=tuple(map(throttle, each.readings))) for each in taken]
        verdict = decide(PLAN, launches)
        tally.failed += verdict.exit_code == 1
        tally.invalid += verdict.exit_code == 3
        replaced += sum("invalid" in note for point in verdict.points for note in point.notes)
    assert replaced > 20
    assert tally.failed == 0
    assert tally.invalid <= 1


def test_the_number_of_workers_changes_nothing(workers: Crowd) -> None:
    assert workers.simulate(SHAPES[3], 12, 1.05) == simulate(SHAPES[3], 12, 1.05)


def test_seeds_settle_a_simulation() -> None:
    one, other = (play(Machine(SHAPES[3], np.random.default_rng(9), {3: 1.05}), seed=9) for _ in range(2))
    assert one.launches == other.launches
    assert one.cost == other.cost
