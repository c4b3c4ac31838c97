"""How fast benchrun itself is. `tox -e speed` measures it; in the other test runs each benchmark is called once, on
little data, to see that it works. CI gates it against the merge base with benchrun's own gate (.ci/speed).
"""

from __future__ import annotations

import hashlib
import inspect
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchrun.backends.contract import Inputs, Session
from benchrun.results import schema
from benchrun.results.rows import LaunchRow
from benchrun.results.series import measured_points, point_launches
from benchrun.results.store import Store, open_store
from benchrun.runner.gate.decision import decide
from benchrun.runner.gate.launches import Launch
from benchrun.runner.gate.schedule import next_batch
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.loops import Timer, measure_latency
from benchrun.runner.plan import SweepRequest, make_plan
from benchrun.runner.protocol import Protocol
from tests.dashboard import generated
from tests.dashboard.stores import measurement, point, run
from tests.gate.simulation import BY_NAME, PLAN, POINTS, Machine

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray

ROWS, FEW_ROWS = 100_000, 2_000
SAMPLES = 1000
LAUNCHES = 50  # of a gate that is decided, both sides together


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "speed.db") as found:
        yield found


@pytest.fixture(scope="session")
def full_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of 100,000 launches, made once a machine: launches of a gate find it again. A small one where nothing
    is measured.
    """
    if not request.config.getoption("benchmark_enable"):
        small = tmp_path_factory.mktemp("speed") / "small.db"
        generated.generate(small, FEW_ROWS, sampled=0)
        return small
    made_of = hashlib.sha256((inspect.getsource(schema) + inspect.getsource(generated)).encode()).hexdigest()[:12]
    kept = Path(os.environ.get("BENCHRUN_SPEED_DATA", tempfile.gettempdir())) / f"benchrun-speed-{ROWS}-{made_of}.db"
    if not kept.exists():
        fresh = tmp_path_factory.mktemp("speed") / "large.db"
        generated.generate(fresh, ROWS, sampled=0)
        fresh.replace(kept)
    return kept


class IdleSession(Session):
    """Calls that do nothing."""

    def bind(self, inputs: Inputs) -> None:
        pass

    def enqueue(self) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def outputs(self) -> Mapping[str, FloatArray]:
        return {}

    def facts(self) -> Mapping[str, object]:
        return {}

    def close(self) -> None:
        pass


def test_protocol_overhead_per_sample(benchmark: BenchmarkFixture) -> None:
    """1000 isolated samples of a call that does nothing: what the protocol adds around each."""
    protocol = Protocol(iterations=SAMPLES, max_time_s=60)
    timer = Timer(IdleSession(), [Inputs(i, {}, ()) for i in range(4)], None)
    found = benchmark(measure_latency, timer, protocol, lambda n, ns: None)
    assert found.host.size == SAMPLES


def test_storing_a_measurement(benchmark: BenchmarkFixture, store: Store) -> None:
    """One measurement with 200 samples, in its own transaction."""
    about, planned = run(0), point()
    store.add_run(about, [planned], 1)
    launch = store.add_launch(about.id, LaunchRow(0, 1, about.started))
    row = measurement(planned.key, about.started, n=200)
    assert benchmark(store.add_measurement, about.id, launch, row) >= 1


def test_planning_a_sweep(benchmark: BenchmarkFixture) -> None:
    """160 points: 2 models, 10 batches, 4 lengths, 2 dtypes."""
    request = SweepRequest(
        backends=("torch",),
        models=("bert-base", "bert-large"),
        batches=tuple(range(1, 11)),
        seqs=(64, 128, 256, 384),
        dtypes=("fp32", "bf16"),
        device="cpu",
        threads=1,
    )
    assert len(benchmark(make_plan, request).points) == 160


def test_loading_launches(benchmark: BenchmarkFixture, full_database: Path) -> None:
    """All launches of the machine that has most of them, out of 100,000 rows."""
    with open_store(full_database, read_only=True) as found, found.reading() as connection:
        points = measured_points(connection)
        launches: dict[str, int] = {}
        for each in points:
            launches[each.fingerprint] = launches.get(each.fingerprint, 0) + each.launches
        machine = max(launches, key=lambda name: launches[name])
        keys = [each.point.key for each in points if each.fingerprint == machine]
        loaded = benchmark(point_launches, connection, keys, machine)
    assert len(loaded) == launches[machine]


def finished_gate() -> tuple[list[Launch], GateSettings]:
    """All points slower, so that all are confirmed: 25 launches a side of 32 points."""
    settings = GateSettings(confirm_launches_min=22, confirm_launches_max=22)
    machine = Machine(BY_NAME["gaussian 1 %"], np.random.default_rng(4), dict.fromkeys(range(POINTS), 1.10))
    launches: list[Launch] = []
    while batch := next_batch(PLAN, launches, settings, seed=4).launches:
        launches += machine.take(batch, PLAN)
    return launches, settings


def test_deciding_a_gate(benchmark: BenchmarkFixture) -> None:
    """32 points, 50 launches, two metrics."""
    launches, settings = finished_gate()
    assert sum(each.stage > 0 for each in launches) == LAUNCHES
    verdict = benchmark(decide, PLAN, launches, settings)
    assert verdict.counts()["FAIL"] == POINTS


def test_scheduling_a_gate(benchmark: BenchmarkFixture) -> None:
    """What to take next, asked in the middle of stage 2."""
    launches, settings = finished_gate()
    assert benchmark(next_batch, PLAN, launches[:30], settings, seed=4).launches
