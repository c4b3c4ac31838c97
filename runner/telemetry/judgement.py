"""What two readings around a measurement mean. Pure: readings in, flags with their reasons out.

All thresholds are in `LIMITS`. docs/machine-state.md explains each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Flags under which a number is not the engine's own: the point is measured again. A gate's launch is INVALID by the first two alone: what
# a busy host adds falls on both of its interleaved sides (docs/decisions.md).
from benchrun.results.roofline import SPOILING as SPOILING
from benchrun.runner.telemetry.state import DeviceState, HostState, MachineState

# Flags that say under which conditions a number holds.
TELLING = ("unlocked_clocks", "power_capped", "unsteady")
THROTTLES = ("hardware_slowdown", "software_thermal", "hardware_thermal", "power_brake", "board_limit", "reliability")


@dataclass(frozen=True, slots=True)
class Limits:
    """The one table of thresholds. Shares are of the time between the two readings."""

    others_cores: float = 0.10  # noisy_host: cores that other processes kept busy …
    others_share: float = 0.05  # … or this share of all cores, whichever is more
    stolen_share: float = 0.02  # noisy_host: time that the hypervisor gave to others, of all cores' time
    quota_share: float = 0.01  # noisy_host: time for which the cgroup's quota stopped us
    tick_s: float = 0.01  # the kernel counts a processor's time in steps: see `tick_allowance_s`
    shortest_s: float = 0.05  # below this span those counts say nothing
    overheated_share: float = 0.01  # throttled: time with clocks lowered by heat or protection
    capped_share: float = 0.05  # power_capped: time with clocks lowered by the power cap
    clock_share: float = 0.02  # unlocked_clocks: difference between the clocks of two readings
    repeats: int = 2  # how often a spoilt point is measured again


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Judgement:
    """Flags in the order of the table, each with its reason in one clause."""

    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the flags."""
        return tuple(self.reasons)

    @property
    def spoilt(self) -> bool:
        """Whether the number is not the engine's own."""
        return spoils(self.flags)


def spoils(flags: Sequence[str]) -> bool:
    """Whether one of `flags` means that the measurement has to be repeated."""
    return any(flag in SPOILING for flag in flags)


def judge(before: MachineState, after: MachineState, limits: Limits = LIMITS) -> Judgement:
    """The flags of a measurement between two readings. `unsteady` comes from its samples: `results.statistics`."""
    found = {
        "throttled": throttled(before, after, limits),
        "shared_device": shared(before.device, after.device),
        "noisy_host": noisy(before.host, after.host, limits),
        "power_capped": capped(before.device, after.device, limits),
        "unlocked_clocks": unlocked(before, after, limits),
    }
    return Judgement({flag: reason for flag, reason in found.items() if reason})


def noisy(before: HostState, after: HostState, limits: Limits = LIMITS) -> str:
    """Why the host was busy with something else; empty where it was not, or where that cannot be known."""
    span, cores = after.at_s - before.at_s, after.cores
    if span < limits.shortest_s or not cores:
        return ""
    busy, own = _growth(before.busy_s, after.busy_s), _growth(before.own_s, after.own_s)
    if busy is not None and own is not None:
        others = (busy - own - tick_allowance_s(cores, limits)) / span
        if others > max(limits.others_cores, limits.others_share * cores):
            return f"other processes kept {others:.2f} of {cores} cores busy"
    stolen = _growth(before.stolen_s, after.stolen_s)
    if stolen is not None and stolen - tick_allowance_s(cores, limits) > limits.stolen_share * span * cores:
        return f"the hypervisor gave {stolen / span / cores:.0%} of the cores' time to others"
    stopped = _growth(before.throttled_s, after.throttled_s)
    if stopped is not None and stopped > limits.quota_share * span:
        return f"the cgroup's CPU quota stopped us for {stopped:.2f} s of {span:.2f} s"
    return ""


def tick_allowance_s(cores: int, limits: Limits = LIMITS) -> float:
    """Seconds that may be the counters' steps alone: two steps a processor on one or two of them. A processor's count is off by up to
    a step either way, independently of the others', so that the error of their sum grows with the root of their number.
    """
    return 2 * limits.tick_s * min(cores, math.sqrt(2 * cores))


def throttled(before: MachineState, after: MachineState, limits: Limits = LIMITS) -> str:
    """Why clocks were lowered by heat or protection; empty where they were not."""
    events = _growth(before.host.overheated_n, after.host.overheated_n)
    if events:
        return f"the processor lowered its clock because of heat ({events:.0f} times)"
    one, two = before.device, after.device
    if one is None or two is None:
        return ""
    now = [name for name in THROTTLES if name in {*(one.reasons or ()), *(two.reasons or ())}]
    if now:
        return f"the device lowered its clocks: {', '.join(now)}"
    share = max(
        _share(one, two, one.overheated_s, two.overheated_s),
        _sampled(one, two, one.overheated_samples, two.overheated_samples),
    )
    return (
        f"the device's clocks were lowered by heat for {share:.0%} of the time"
        if share > limits.overheated_share
        else ""
    )


def capped(one: DeviceState | None, two: DeviceState | None, limits: Limits = LIMITS) -> str:
    """Whether the power cap lowered the clocks. The cap is part of the hardware fingerprint and a large product runs into it at every
    repetition, so that this tells a condition and spoils nothing."""
    if one is None or two is None:
        return ""
    share = max(
        _share(one, two, one.capped_s, two.capped_s), _sampled(one, two, one.capped_samples, two.capped_samples)
    )
    cap = f" of {two.power_cap_w:.0f} W" if two.power_cap_w else ""
    if share > limits.capped_share:
        return f"the power cap{cap} lowered the clocks for {min(share, 1):.0%} of the time"
    return f"the power cap{cap} lowered the clocks" if "power_cap" in (two.reasons or ()) else ""


def shared(one: DeviceState | None, two: DeviceState | None) -> str:
    """Whether others were on the device before or after."""
    most = max((state.foreign or 0 for state in (one, two) if state), default=0)
    return f"{most} other process{'es' if most > 1 else ''} on the device" if most else ""


def unlocked(before: MachineState, after: MachineState, limits: Limits = LIMITS) -> str:
    """Whether clocks were free to move, as far as that can be seen."""
    one, two = before.device, after.device
    if one is None or two is None:
        governor = after.host.governor
        return f"the frequency governor is {governor}" if governor not in (None, "performance") else ""
    if two.locked is not None:
        return "" if two.locked else "the device's clocks are not locked"
    clocks = [state.clock_mhz for state in (one, two) if state.clock_mhz]
    if len(clocks) == 2 and abs(clocks[0] - clocks[1]) > limits.clock_share * max(clocks):
        return f"the device's clock moved from {clocks[0]:.0f} to {clocks[1]:.0f} MHz"
    return ""


def _growth(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


def _share(one: DeviceState, two: DeviceState, first: float | None, last: float | None) -> float:
    span, growth = two.at_s - one.at_s, _growth(first, last)
    return growth / span if growth is not None and span > 0 else 0.0


def _sampled(one: DeviceState, two: DeviceState, first: float | None, last: float | None) -> float:
    """Share of the firmware's samples between two readings; 0 where it tells none, or took none."""
    taken, growth = _growth(one.limit_samples, two.limit_samples), _growth(first, last)
    return growth / taken if growth is not None and taken is not None and taken > 0 else 0.0
