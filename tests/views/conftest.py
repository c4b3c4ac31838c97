"""The stores of tests/results: SQLite, and PostgreSQL where BENCHRUN_TEST_POSTGRES names a database."""

from __future__ import annotations

from tests.results.conftest import location, store

__all__ = ["location", "store"]
