"""Figures of docs/gating-statistics.md beside its table: `python -m tests.gate.figures` prints them in some minutes."""

from __future__ import annotations

import math

import numpy as np

from benchrun.results.changepoints import find_changes
from tests.gate.simulation import BY_NAME, SEED, Shape, Tally, gaussian, level, make_plan, simulate

DRIFTING = Shape("1 %, drift of 10 % over 24 launches", gaussian, level(0.01), drift=lambda place: 0.1 * place / 24)
SERIES = (("1 %", 0.01, 0.0), ("2 %", 0.02, 0.0), ("1 %, 3 % of the values +10 %", 0.01, 0.03))
LENGTH, STEP_AT = 60, 40


def negative_controls() -> list[tuple[str, Tally]]:
    """What blocked order and one process a side would do, and the product's own order on the same machine."""
    noisy = BY_NAME["gaussian 2 %"]
    return [
        ("blocked order", simulate(DRIFTING, 40, blocked=True, control_drifts=False)),
        ("blocked order, the control drifts too", simulate(DRIFTING, 40, blocked=True)),
        ("A B B A", simulate(DRIFTING, 40)),
        ("one process a side", simulate(noisy, 40, one_process=True)),
    ]


def small_sweeps(gates: int = 150) -> list[tuple[str, int, float]]:
    """Shape, points, launches a point in A/A."""
    return [
        (name, count, simulate(BY_NAME[name], gates, plan=make_plan(count)).cost / gates)
        for name in ("gaussian 1 %", "gaussian 2 %")
        for count in (1, 4, 8, 16, 32)
    ]


def changes_in_history(flat: int = 2000, stepped: int = 500) -> list[str]:
    """For each kind of series: how many flat ones show a change, and how soon a step of 5 % is found at its place."""
    rng = np.random.default_rng([SEED, 5])
    found = []
    for name, sd, spikes in SERIES:

        def draw(sd: float = sd, spikes: float = spikes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            return rng.normal(0, sd, LENGTH) + (rng.random(LENGTH) < spikes) * 0.10

        false = sum(bool(find_changes(draw().tolist())) for _ in range(flat))
        waits: list[int] = []
        for _ in range(stepped):
            y = draw()
            y[STEP_AT:] += math.log(1.05)
            for length in range(STEP_AT + 3, LENGTH + 1):
                if any(abs(each.index - STEP_AT) <= 2 for each in find_changes(y[:length].tolist())):
                    waits.append(length - STEP_AT)
                    break
        middle, late = np.percentile(waits, [50, 90])
        found.append(
            f"{name}: {false} of {flat} flat; step found in {len(waits)} of {stepped}, after {middle:g}, 90 %: {late:g}"
        )
    return found


def main() -> None:
    """Print everything."""
    for name, tally in negative_controls():
        print(f"{name}: {tally.failed} FAIL, {tally.invalid} INVALID of {tally.gates}", flush=True)
    for name, count, cost in small_sweeps():
        print(f"{name}, {count} points: {cost:.1f} launches a point", flush=True)
    for line in changes_in_history():
        print(line, flush=True)


if __name__ == "__main__":
    main()
