"""Memory of this process, from /proc. Where /proc cannot be read the answer is None."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

LEAK_SHARE_PER_100 = 0.01  # growth of the process over the timed loop that earns the flag `leaks_memory`
LEAK_LEAST_BYTES = 1 << 20  # below a mebibyte it is the allocator's noise


def reset_peak() -> None:
    """Start a new measurement of `peak_bytes` (Linux: writes 5 to /proc/self/clear_refs)."""
    with suppress(OSError):  # then the peak is the process's so far
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int | None:
    """Largest resident set of this process since `reset_peak`."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def resident_bytes() -> int | None:
    """Resident set of this process now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def leaks(before: int | None, after: int | None, iterations: int) -> bool:
    """Whether memory grew by more than 1 % a 100 iterations. Fewer than 100 count as 100: an allocator that settles is no leak."""
    if before is None or after is None or iterations < 1 or after - before < LEAK_LEAST_BYTES:
        return False
    return (after - before) / before > LEAK_SHARE_PER_100 * max(1.0, iterations / 100)
