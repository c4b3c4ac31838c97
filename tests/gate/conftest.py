"""Fixtures of the gate's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchrun.results import Store, open_store
from tests.gate.suites import SuiteGate


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty database."""
    with open_store(tmp_path / "gates.db") as opened:
        yield opened


@pytest.fixture
def suites(store: Store, tmp_path: Path) -> SuiteGate:
    """Gates whose sides are commands."""
    return SuiteGate(store, tmp_path)
