"""A real control group, where one may be made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest


@pytest.fixture
def half_core() -> Iterator[Path]:
    """A real control group with a quota of half a core, of either version; with such a weight that it gets it on a busy machine too."""
    limits = {
        Path("/sys/fs/cgroup/cpu"): {
            "cpu.cfs_period_us": "100000",
            "cpu.cfs_quota_us": "50000",
            "cpu.shares": "262144",
        },
        Path("/sys/fs/cgroup"): {"cpu.max": "50000 100000", "cpu.weight": "10000"},
    }
    for mount, limit in limits.items():
        folder = mount / f"benchrun-test-{os.getpid()}"
        with suppress(OSError):
            folder.mkdir()
            try:
                for name, text in limit.items():
                    (folder / name).write_text(text)
                yield folder
            finally:
                folder.rmdir()
            return
    pytest.skip("no control group may be created here")
