"""From the rows of the store to what the rule decides on: the same path for a gate that runs and for one that is read
back, so that the two give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchrun.runner.gate.launches import SIDES, GatePlan, Launch, Reading, Side

if TYPE_CHECKING:
    from benchrun.results.gate_rows import GateLaunchRow
    from benchrun.results.rows import MeasurementRow, Samples
    from benchrun.results.statistics import ReportedSummary, Summary

HOST_STEP_NS = 1.0
DEVICE_STEP_NS = 500.0  # of CUDA's and HIP's event timers, by their manuals
THROTTLED, FOREIGN, NOISY = "throttled", "shared_device", "noisy_host"  # flags of a measurement


@dataclass(frozen=True, slots=True)
class Taken:
    """A launch as it was booked, and the rows it left on its side's run: (gate's point key, row)."""

    booked: GateLaunchRow
    rows: tuple[tuple[str, MeasurementRow], ...]


def to_launches(plan: GatePlan, session: str, taken: Iterable[Taken]) -> tuple[Launch, ...]:
    """All launches of a gate as the rule takes them, in the order given."""
    every = tuple(taken)
    clocks = choose_clocks(every)
    return tuple(_launch(plan, session, each, clocks) for each in every)


def choose_clocks(taken: Sequence[Taken]) -> Mapping[str, str]:
    """Point → the clock that its medians are of: the device's where every timed launch of it has one, else the host's.

    One clock for both sides, whatever the engines offer.
    """
    clocks: dict[str, str] = {}
    for each in taken:
        for key, row in each.rows:
            if row.device is None and row.host is not None:
                clocks[key] = "host"
            elif row.device is not None:
                clocks.setdefault(key, "device")
    return clocks


def _launch(plan: GatePlan, session: str, taken: Taken, clocks: Mapping[str, str]) -> Launch:
    booked = taken.booked
    side = _side(booked.side)
    asked = set(booked.points)
    return Launch(
        session=session,
        order=booked.place,
        side=side,
        stage=booked.stage,
        pair=booked.pair,
        subject=plan.subject(side),
        fingerprint=booked.fingerprint,
        points=tuple(booked.points),
        readings=tuple(to_reading(key, row, clocks.get(key, "host")) for key, row in taken.rows if key in asked),
        control_ms=booked.control_ms,
    )


def to_reading(key: str, row: MeasurementRow, clock: str) -> Reading:
    """A measurement as a reading of the gate's point `key`, by the host's or the device's clock."""
    summary: Summary | ReportedSummary | None = row.device if clock == "device" else row.host
    samples = row.device_samples if clock == "device" else row.host_samples
    mhz = row.facts.get("clock_mhz", ((row.telemetry or {}).get("after", {}).get("device") or {}).get("clock_mhz"))
    return Reading(
        point=key,
        status=row.status,
        error=row.error or "",
        n=(summary.n or 0) if summary is not None else 0,
        throughput_seq_s=row.throughput_seq_s,
        p50_ms=summary.p50_ms if summary is not None else None,
        p90_ms=summary.p90_ms if summary is not None else None,
        p95_ms=summary.p95_ms if summary is not None else None,
        p99_ms=summary.p99_ms if summary is not None else None,
        throttled=THROTTLED in row.flags,
        foreign=FOREIGN in row.flags,
        noisy=NOISY in row.flags,
        parity_ok=row.parity is None or row.parity.ok,
        steady=summary.steady if summary is not None else None,
        clock_mhz=float(mhz) if isinstance(mhz, int | float) else None,
        resolution_ns=DEVICE_STEP_NS if clock == "device" else HOST_STEP_NS / _calls_a_sample(row),
        digest=_digest(samples),
    )


def _calls_a_sample(row: MeasurementRow) -> int:
    """Calls that one sample is the mean of; more than 1 in rounds of pytest-benchmark."""
    calls = row.facts.get("iterations")
    return calls if isinstance(calls, int) and calls > 0 else 1


def _digest(samples: Samples | None) -> str:
    return "" if samples is None else hashlib.sha256(samples.astype("<i8").tobytes()).hexdigest()[:32]


def _side(name: str) -> Side:
    return next(side for side in SIDES if side == name)
