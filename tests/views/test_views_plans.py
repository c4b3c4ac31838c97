"""The views on a large database look rows up in indexes: no statement reads all measurements."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Connection, event

from benchrun.results.store import Store, open_store
from benchrun.results.views.catalogue import groups, machines
from benchrun.results.views.changes import latest_changes
from benchrun.results.views.environments import engine_evidence, environment_uses
from benchrun.results.views.failures import latest_failures
from benchrun.results.views.freshness import freshness
from benchrun.results.views.gates import gate_marks, latest_gates, open_verdicts
from benchrun.results.views.history import series_results
from benchrun.results.views.latest import latest_results, run_results
from benchrun.results.views.loadgen import loadgen_facts
from benchrun.results.views.measured import facts_of
from benchrun.results.views.roofline import placed_points
from benchrun.results.views.runs import latest_outcomes, run_before, run_list, totals
from benchrun.results.views.sampling import samples_ms
from tests.dashboard.generated import generate


@pytest.fixture(scope="module", params=["no statistics", "analysed"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("plans") / "large.db"
    generate(path, 20_000, sampled=10)
    if request.param == "analysed":  # SQLite plans otherwise where somebody ran ANALYZE
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("ANALYZE")
    with open_store(path, read_only=True) as store:
        yield store


QUESTIONS: dict[str, Callable[[Connection], Any]] = {
    "freshness": freshness,
    "groups": groups,
    "machines": machines,
    "latest outcomes": latest_outcomes,
    "run list": run_list,
    "latest changes": latest_changes,
    "latest failures": latest_failures,
    "latest results": lambda connection: latest_results(connection, groups(connection)[0].group),
    "run results": lambda connection: run_results(connection, run_list(connection)[0].id),
    "run before": lambda connection: run_before(connection, run_list(connection)[0].id),
    "series": lambda connection: series_results(
        connection,
        groups(connection)[0].group.fingerprint,
        latest_results(connection, groups(connection)[0].group)["point_key"].unique()[:3].tolist(),
    ),
    "engine evidence": lambda connection: engine_evidence(connection, machines(connection)[0].fingerprint),
    "environments": environment_uses,
    "loadgen": lambda connection: loadgen_facts(connection, [1, 2, 3]),
    "facts": lambda connection: facts_of(connection, *_last_runs_points(connection)),
    "samples": lambda connection: samples_ms(connection, [1, 2, 3], "host"),
    "places under the roof": lambda connection: placed_points(
        connection, machines(connection)[0].fingerprint, run_list(connection)[0].id
    ),
    "latest gates": latest_gates,
    "open verdicts": open_verdicts,
    "gate marks": lambda connection: gate_marks(
        connection, machines(connection)[0].fingerprint, _last_runs_points(connection)[1]
    ),
}
BIG = (
    "measurements",
    "newest",
    "earlier",
    "samples",
    "run_points",
    "gate_points",
    "gate_verdicts",
    "gate_sides",
    "gate_launches",
)


def _last_runs_points(connection: Connection) -> tuple[list[str], list[str]]:
    run_id = run_list(connection)[0].id
    return [run_id], run_results(connection, run_id)["point_key"].unique().tolist()


def plans(connection: Connection, question: Callable[[Connection], Any]) -> list[str]:
    """The plan of every statement that a question sends."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    question(connection)
    event.remove(connection, "before_cursor_execute", note)
    raw: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return [
        str(row[3])
        for statement, parameters in statements
        for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
    ]


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_statement_reads_all_measurements(name: str, large: Store) -> None:
    with large.reading() as connection:
        found = plans(connection, QUESTIONS[name])
    assert found
    for step in found:
        about = step.split(" USING ")[0].split()
        assert not (about[0] == "SCAN" and about[1] in BIG), step
        assert "AUTOMATIC" not in step or "measurements" not in step, step


def test_only_the_total_counts_all_rows_and_it_reads_an_index(large: Store) -> None:
    with large.reading() as connection:
        found = plans(connection, totals)
        assert totals(connection).measurements > 19_000
    assert any(step.startswith("SCAN measurements USING COVERING INDEX") for step in found)


def test_the_latest_run_of_a_point_is_one_seek(large: Store) -> None:
    with large.reading() as connection:
        found = plans(connection, QUESTIONS["latest results"])
        assert any("ix_measurements_series (point_key=? AND fingerprint=?)" in step for step in found)
        assert any("uq_measurements_current (run_id=? AND point_key=?)" in step for step in found)
        assert any(
            "ix_measurements_series (point_key=? AND fingerprint=? AND started<?)" in step
            for step in plans(connection, latest_changes)
        )
