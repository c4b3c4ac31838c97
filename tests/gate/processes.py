"""Waiting for a process of another one, and looking whether it still runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def wait_until(told: Callable[[], bool], patience_s: float = 60.0) -> None:
    """Raises TimeoutError."""
    end = time.monotonic() + patience_s
    while not told():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def is_running(argument: str) -> bool:
    """Whether any process has this argument."""
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may end meanwhile
            if argument.encode() in each.read_bytes().split(b"\0"):
                return True
    return False
