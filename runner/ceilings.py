"""Measuring what a machine can do at most, to compare measurements with: seconds, once for an environment.

A kernel is warmed up until the device's clocks have settled under load, then timed in groups of calls; the median group counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from benchrun.results.rows import CeilingRow
from benchrun.runner.clocks import now_ns, open_device_clock
from benchrun.runner.errors import UsageError
from benchrun.runner.telemetry.interface import open_telemetry
from benchrun.runner.telemetry.judgement import SPOILING, judge

if TYPE_CHECKING:
    from benchrun.backends.ceilings import Kernel
    from benchrun.runner.clocks import DeviceClock

GROUP_S = 0.02  # a group of calls lasts at least this long, so that clocks and launches weigh little
LEAST_GROUPS = 5


@dataclass(frozen=True, slots=True)
class Effort:
    """Seconds for one kernel."""

    warm_s: float
    measure_s: float


EFFORTS = {
    "cpu": Effort(0.3, 1.0),
    "gpu": Effort(2.0, 2.0),
}  # a GPU's clocks take a second to settle under its power cap


@dataclass(frozen=True, slots=True)
class Rate:
    """Seconds of one call: the median over groups, of launches the least; `spread` is their median absolute deviation over their median."""

    seconds: float
    spread: float
    n: int


def measure_ceilings(
    device: str,
    threads: int | None,
    fingerprint: str,
    software: Mapping[str, str],
    say: Callable[[str], None],
) -> list[CeilingRow]:
    """All ceilings of a device: a product for each dtype, a copy, a launch. `threads` is for CPUs. A kernel that PyTorch cannot run here
    is left out, and said; there may be none left. Raises `UsageError` where PyTorch is missing or does not see the device."""
    try:
        from benchrun.backends.ceilings import open_copy, open_launch, open_product, supported_dtypes, unseen
    except ModuleNotFoundError as error:
        raise UsageError(
            f"ceilings are measured with PyTorch, and {error.name or 'a part of it'} is not installed here: install torch, then try again"
        ) from error
    if reason := unseen(device):
        raise UsageError(reason)

    on_cpu = device.partition(":")[0] == "cpu"
    threads = threads if on_cpu else None
    telemetry = open_telemetry(device)  # before our own context: what is on the device already is others'
    clock = open_device_clock(device)
    kernels: list[tuple[str, Callable[[], AbstractContextManager[Kernel]]]] = [
        (f"matrix product, {dtype}", lambda dtype=dtype: open_product(device, dtype, threads))  # type: ignore[misc]
        for dtype in supported_dtypes(device)
    ]
    kernels += [("copy", lambda: open_copy(device, threads)), ("launch", lambda: open_launch(device, threads))]
    rows = []
    for name, opened in kernels:
        say(name)
        try:
            with opened() as kernel:
                before = telemetry.read()
                rate = time_kernel(kernel, clock, EFFORTS["cpu" if on_cpu else "gpu"])
                flags = judge(before, telemetry.read()).flags
        except (RuntimeError, NotImplementedError, MemoryError) as error:
            say(f"{name}: not measured ({type(error).__name__})")
            continue
        conditions: dict[str, Any] = {"size": kernel.size, "software": dict(software), "flags": list(flags)}
        rows.append(
            CeilingRow(
                fingerprint=fingerprint,
                device=device,
                quantity=kernel.quantity,
                dtype=kernel.dtype,
                threads=threads,
                value=rate.seconds if kernel.quantity == "launch" else kernel.work / rate.seconds,
                n=rate.n,
                measured=datetime.now(UTC),
                spread=rate.spread,
                conditions=conditions,
            )
        )
    return rows


def time_kernel(kernel: Kernel, clock: DeviceClock | None, effort: Effort) -> Rate:
    """Seconds of a call, by device events where there are some (but for launches, which the host pays for), else by the host's clock."""
    import numpy as np

    events = clock if kernel.quantity != "launch" else None
    calls = 1
    taken = 0.0
    ends = time.perf_counter() + effort.warm_s
    while time.perf_counter() < ends or taken == 0.0:
        taken = _group(kernel, events, calls)
        if taken < GROUP_S:
            calls = max(calls + 1, int(calls * min(10.0, 1.5 * GROUP_S / max(taken, 1e-7))))
    groups: list[float] = []
    ends = time.perf_counter() + effort.measure_s
    while time.perf_counter() < ends or len(groups) < LEAST_GROUPS:
        groups.append(_group(kernel, events, calls) / calls)
    each = np.array(groups)
    median = float(np.median(each))
    # what else the host does adds to a launch and never takes away: the ceiling is the least
    seconds = float(each.min()) if kernel.quantity == "launch" else median
    return Rate(seconds, float(np.median(np.abs(each - median))) / median, len(groups))


def _group(kernel: Kernel, clock: DeviceClock | None, calls: int) -> float:
    """Seconds that some calls take together."""
    enqueue, stream = kernel.enqueue, kernel.stream or 0
    kernel.synchronize()
    started = now_ns()
    if clock is not None:
        clock.start(stream)
    for _ in range(calls):
        enqueue()
    if clock is not None:
        clock.stop(stream)
    kernel.synchronize()
    return (clock.elapsed_ns() if clock is not None else now_ns() - started) / 1e9


def stale(rows: Sequence[CeilingRow], software: Mapping[str, str]) -> str:
    """Why stored ceilings no longer hold for this environment; empty where they do. Hardware is in their fingerprint already."""
    if not rows:
        return "none are stored for this machine"
    for row in rows:
        before = row.conditions.get("software", {})
        if spoilt := [flag for flag in row.conditions.get("flags", ()) if flag in SPOILING]:
            return f"they were measured under {spoilt[0]}"
        changed = [name for name in {*before, *software} if before.get(name) != software.get(name)]
        if changed:
            name = sorted(changed)[0]
            return f"{name} was {before.get(name, 'absent')} and is {software.get(name, 'absent')}"
    return ""


def describe(row: CeilingRow) -> tuple[str, str]:
    """Name and figure for a person: `matrix product fp16` and `702 TFLOP/s`."""
    if row.quantity == "matmul":
        tera = row.value / 1e12
        return f"matrix product {row.dtype}", f"{tera:.0f} TFLOP/s" if tera >= 10 else f"{tera * 1000:.3g} GFLOP/s"
    if row.quantity == "copy":
        return "copy", f"{row.value / 1e12:.2f} TB/s" if row.value >= 1e12 else f"{row.value / 1e9:.1f} GB/s"
    return "PyTorch launch", f"{row.value * 1e6:.2f} µs"


def to_json(rows: Sequence[CeilingRow]) -> Iterator[dict[str, Any]]:
    """Plain JSON values, the unit in the name of the figure."""
    units = {"matmul": "flop_s", "copy": "bytes_s", "launch": "launch_s"}
    for row in rows:
        yield {
            "quantity": row.quantity,
            "dtype": row.dtype,
            "threads": row.threads,
            units[row.quantity]: row.value,
            "spread": row.spread,
            "n": row.n,
            "measured": row.measured.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "conditions": dict(row.conditions),
        }
