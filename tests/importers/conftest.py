"""Files of other tools, and how tests read them.

From the real tools: pytest_benchmark/, optimum/, mlperf/ (except offline_overflowed, whose figures are those of a published log),
ort_benchmark/, google_benchmark/. Written from the tools' own source and documentation: the rest. Host names are taken out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchrun.results.importers import NO_SIDECAR, ForeignResult, Source, parse, parse_sidecar, read_sidecar

DATA = Path(__file__).parent / "data"


@pytest.fixture
def data() -> Path:
    return DATA


@pytest.fixture
def load() -> Callable[[str], Source]:
    """A fixture file."""
    return lambda name: Source(Path(name).name, (DATA / name).read_bytes())


@pytest.fixture
def read(load: Callable[[str], Source]) -> Callable[..., ForeignResult]:
    """Read a fixture file, or given text, as the format it looks like, with a sidecar file or a sidecar's text."""

    def read(
        name: str, sidecar: str | None = None, *, side: str | None = None, text: str | None = None, as_: str = "auto"
    ) -> ForeignResult:
        source = load(name) if text is None else Source(Path(name).name, text.encode())
        known = NO_SIDECAR
        if sidecar is not None:
            known = read_sidecar(DATA / sidecar)
        elif side is not None:
            known = parse_sidecar(Source("side.toml", side.encode()))
        return parse(source, known, as_)

    return read
