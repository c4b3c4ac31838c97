"""How close a measurement comes to what its machine can do: three lower bounds on its time, from measured ceilings. Pure.

A call that needs F operations, B bytes and K kernel launches cannot be quicker than F ÷ the matrix-product rate, B ÷ the copy bandwidth,
or K × the time of one launch. The largest of the three binds; its share of the measured time is the share of the ceiling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchrun.results.rows import CeilingRow, MeasurementRow, PointRow

BINDINGS = ("compute", "bandwidth", "launch")


@dataclass(frozen=True, slots=True)
class Roof:
    """The ceilings that hold for a point: operations a second in its dtype, bytes a second, seconds a launch; None where not measured."""

    flops_s: float | None = None
    bytes_s: float | None = None
    launch_s: float | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a point is under its roof. Rates are achieved ones, of the p50 (device time where there is some)."""

    tflop_s: float | None = None
    gbyte_s: float | None = None
    flops_per_byte: float | None = None
    compute_share: float | None = None
    bandwidth_share: float | None = None
    launch_share: float | None = None
    ceiling_share: float | None = None
    ceiling: str | None = None  # which one binds: `compute`, `bandwidth` or `launch`


NOWHERE = Position()
SPOILING = (
    "throttled",
    "shared_device",
    "noisy_host",
)  # flags under which a figure is not the engine's, nor a ceiling the machine's, own
ARITHMETIC = {"fp16-amp": "fp16"}  # of a dtype that names a way to train: whose ceiling and whose checks it has


def spoilt(row: CeilingRow) -> str:
    """The flag under which a ceiling was measured that makes it too low; empty where there is none."""
    return next((flag for flag in row.conditions.get("flags", ()) if flag in SPOILING), "")


def best_ceilings(
    ceilings: Iterable[CeilingRow], device: str | None = None, at: datetime | None = None
) -> list[CeilingRow]:
    """The one of each (hardware, quantity, dtype, threads) that counts: an unspoilt one before a spoilt one, then one of this very
    `device` (others of the same hardware differ a little), then the nearest in time to `at`; without it the latest.
    """

    def rank(row: CeilingRow) -> tuple[bool, bool, float]:
        away = abs((row.measured - at).total_seconds()) if at is not None else -row.measured.timestamp()
        return bool(spoilt(row)), device is not None and row.device != device, away

    found: dict[tuple[object, ...], CeilingRow] = {}
    for row in sorted(ceilings, key=rank):
        found.setdefault((row.fingerprint, row.quantity, row.dtype, row.threads), row)
    return list(found.values())


def fitting_ceilings(
    ceilings: Iterable[CeilingRow], point: PointRow, at: datetime | None = None
) -> dict[str, CeilingRow]:
    """Quantity → the ceiling that holds for a point measured at `at`, of its dtype, and on a CPU of its number of threads; `ceilings`
    are those of its hardware.
    """
    threads = threads_of(point)
    dtype = ARITHMETIC.get(point.dtype or "", point.dtype)
    fitting = [each for each in ceilings if each.threads == threads and each.dtype in (None, dtype)]
    return {each.quantity: each for each in best_ceilings(fitting, point.device, at)}


def pick_roof(ceilings: Iterable[CeilingRow], point: PointRow, at: datetime | None = None) -> Roof:
    """The values of `fitting_ceilings`."""
    found = fitting_ceilings(ceilings, point, at)
    flops, copied, launch = (found[name].value if name in found else None for name in ("matmul", "copy", "launch"))
    return Roof(flops, copied, launch)


def place(row: MeasurementRow, roof: Roof) -> Position:
    """A measurement's rates and shares; what the roof or the row lacks is None."""
    summary = row.device or row.host
    milliseconds = summary.p50_ms if summary is not None else None
    if not milliseconds or row.flops is None or row.least_bytes is None:
        return NOWHERE
    seconds = milliseconds / 1000
    bounds = {
        "compute": row.flops / roof.flops_s if roof.flops_s else None,
        "bandwidth": row.least_bytes / roof.bytes_s if roof.bytes_s else None,
        "launch": row.least_launches * roof.launch_s if roof.launch_s and row.least_launches else None,
    }
    shares = {name: bound / seconds for name, bound in bounds.items() if bound is not None}
    # without the rate of its dtype a point cannot be said to be bound by anything else
    binding = max(shares, key=lambda name: shares[name]) if "compute" in shares and "bandwidth" in shares else None
    return Position(
        tflop_s=row.flops / seconds / 1e12,
        gbyte_s=row.least_bytes / seconds / 1e9,
        flops_per_byte=row.flops / row.least_bytes if row.least_bytes else None,
        compute_share=shares.get("compute"),
        bandwidth_share=shares.get("bandwidth"),
        launch_share=shares.get("launch"),
        ceiling_share=shares[binding] if binding else None,
        ceiling=binding,
    )


def threads_of(point: PointRow) -> int | None:
    """Threads of a point on a CPU; None elsewhere and where they are not known."""
    options: Mapping[str, Any] = point.options
    value = options.get("threads") if (point.device or "").partition(":")[0] == "cpu" else None
    return value if isinstance(value, int) else None
