"""Joules of a window from two readings of a counter. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from benchrun.runner.telemetry.state import EnergyCount

MOST_ERROR = 0.05  # a counter that steps every r seconds is off by up to r over the window: the share that is allowed


@dataclass(frozen=True, slots=True)
class Energy:
    """What a window took. `reason` says why `joules` is None."""

    joules: float | None
    reason: str = ""

    def per_sequence(self, sequences: int) -> float | None:
        """Joules a sequence."""
        return None if self.joules is None or sequences < 1 else self.joules / sequences


def least_window_s(resolution_s: float) -> float:
    """Seconds that a window must last at least for its energy to be known within `MOST_ERROR`."""
    return resolution_s / MOST_ERROR


def window_energy(before: EnergyCount | None, after: EnergyCount | None, seconds: float, missing: str = "") -> Energy:
    """The energy between two readings that enclose a window of `seconds`; None where it was too short for the counter's step. `missing`
    says why there is no counter, where that is known.
    """
    if before is None or after is None:
        return Energy(None, missing or "no energy counter")
    if seconds < least_window_s(after.resolution_s) * (1 - 1e-9):
        return Energy(None, f"{seconds:.2g} s is too short for a counter that steps every {after.resolution_s:g} s")
    joules = after.joules - before.joules
    if joules < 0 and after.wraps_j is not None:
        joules += after.wraps_j
    if joules <= 0:
        return Energy(None, "the counter did not move forward")
    return Energy(joules)
