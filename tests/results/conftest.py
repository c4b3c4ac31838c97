"""Rows to store, and a store of each kind. PostgreSQL is tested where BENCHRUN_TEST_POSTGRES gives the URL of a database to use
(temporary_postgres.py makes one)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchrun.results.rows import EnvironmentRow, MeasurementRow, Parity, PointRow, RunRow
from benchrun.results.statistics import summarise
from benchrun.results.store import Store, open_store

POSTGRES = os.environ.get("BENCHRUN_TEST_POSTGRES")
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
# of the run and the point that `new_run()` and `new_point()` give
RUN = "20260301-123015-abcd"
KEY = "00000000000000aa"

NewRun = Callable[..., RunRow]
NewPoint = Callable[..., PointRow]
NewMeasurement = Callable[..., MeasurementRow]


@pytest.fixture
def new_run() -> NewRun:
    def build(id: str = RUN, **changes: Any) -> RunRow:
        environment = EnvironmentRow("0123456789abcdef", {"cpu": "Xeon", "versions": {"torch": "2.13.0"}})
        given: dict[str, Any] = {"label": "a run", "started": MOMENT, "state": "running", "environment": environment}
        return RunRow(id, **(given | changes))

    return build


@pytest.fixture
def new_point() -> NewPoint:
    def build(key: str = KEY, **changes: Any) -> PointRow:
        given: dict[str, Any] = {
            "model": "bert-base",
            "weights": "random:0",
            "head": "encoder",
            "backend": "torch",
            "variant": "eager",
            "device": "cpu",
            "dtype": "fp32",
            "batch": 1,
            "seq": 128,
            "workload": "padded",
            "protocol": "p1",
        }
        return PointRow(key, **(given | changes))

    return build


@pytest.fixture
def new_measurement() -> NewMeasurement:
    """A measurement; with `samples=[ns, …]` on the host clock, `device=[ns, …]` on the device's."""

    def build(
        key: str = KEY,
        status: str = "ok",
        replicate: int = 0,
        samples: Any = None,
        device: Any = None,
        **changes: Any,
    ) -> MeasurementRow:
        given: dict[str, Any] = {"ordinal": 0, "started": MOMENT}
        for clock, values in (("host", samples), ("device", device)):
            if values is not None:
                taken = np.asarray(values, dtype=np.int64)
                given |= {clock: summarise(taken), f"{clock}_samples": taken}
        if samples is not None:
            given["parity"] = Parity(1e-6, 1e-5, 1.0, 1.0, 0.0, status != "invalid")
        return MeasurementRow(key, replicate, status=status, **(given | changes))

    return build


def _postgres_database() -> Iterator[str]:
    """A schema of its own in the test database."""
    import psycopg
    from psycopg import sql

    assert POSTGRES is not None
    name = f"benchrun_{os.getpid()}_{os.urandom(4).hex()}"
    schema = sql.Identifier(name)
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        try:
            yield f"{POSTGRES}{'&' if '?' in POSTGRES else '?'}options=-csearch_path%3D{name}"
        finally:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRES else [])])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where to keep a new database, of each kind that can be tested here."""
    if request.param == "sqlite":
        yield str(tmp_path / "results.db")
    else:
        yield from _postgres_database()


@pytest.fixture
def store(location: str) -> Iterator[Store]:
    with open_store(location) as opened:
        yield opened


@pytest.fixture
def planned(store: Store, new_run: NewRun, new_point: NewPoint) -> Store:
    """A store with a run of one point."""
    store.add_run(new_run(), [new_point()], 1)
    return store


def same(one: MeasurementRow, other: MeasurementRow) -> bool:
    """Whether two measurements are equal, samples included; attachments aside, which a record only names."""
    for clock in ("host_samples", "device_samples"):
        mine, theirs = getattr(one, clock), getattr(other, clock)
        assert (mine is None) == (theirs is None)
        assert mine is None or np.array_equal(mine, theirs)
    bare, others = (replace(each, host_samples=None, device_samples=None, attachments=()) for each in (one, other))
    return bare == others
