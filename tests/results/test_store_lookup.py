"""Finding stored runs: the overview, what may be typed for an id, what ran on some hardware, the indexes that make it quick."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchrun.results.errors import StoreError
from benchrun.results.records import RunRecord
from benchrun.results.rows import STATUSES, EnvironmentRow
from benchrun.results.store import Store, new_run_id
from tests.results.conftest import MOMENT, NewMeasurement, NewPoint, NewRun


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    outcomes=st.lists(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(STATUSES)), max_size=4), max_size=5),
    replicates=st.integers(1, 3),
)
def test_the_overview_counts_what_the_record_says(
    store: Store,
    new_run: NewRun,
    new_point: NewPoint,
    new_measurement: NewMeasurement,
    outcomes: list[list[tuple[int, str]]],
    replicates: int,
) -> None:
    run = new_run(new_run_id(MOMENT))
    store.add_run(run, [new_point(str(i)) for i in range(len(outcomes))], replicates)
    rows = [new_measurement(str(i), status, replicate) for i, rows in enumerate(outcomes) for replicate, status in rows]
    store.add_measurements(run.id, [(None, row) for row in rows])
    record: RunRecord = store.run(run.id)
    statuses = [record.status(each) for each in record.points]
    overview = next(each for each in store.runs() if each.id == run.id)
    assert (overview.points, overview.ok) == (len(outcomes), statuses.count("ok"))
    assert overview.failed == sum(status not in ("ok", "interrupted") for status in statuses)
    assert len(store.missing(run.id)) == sum(
        not any(
            each.row.replicate == replicate and each.row.status != "interrupted"
            for each in record.by_point[planned.point.key]
        )
        for planned in record.points
        for replicate in range(replicates)
    )
    store.remove_run(run.id)


def test_runs_are_listed_latest_first(store: Store, new_run: NewRun) -> None:
    for day in (2, 1, 3):
        store.add_run(new_run(f"2026030{day}-000000-aaaa", started=datetime(2026, 3, day, tzinfo=UTC)), [], 1)
    assert [each.id[7] for each in store.runs()] == ["3", "2", "1"]
    assert [each.id[7] for each in store.runs(limit=2)] == ["3", "2"]


def test_a_run_is_found_by_what_is_pleasant_to_type(store: Store, new_run: NewRun) -> None:
    for day, tail in ((1, "abcd"), (2, "bcde"), (3, "abce")):
        store.add_run(new_run(f"2026030{day}-000000-{tail}", started=datetime(2026, 3, day, tzinfo=UTC)), [], 1)
    store.add_run(new_run("imported", origin="import:trtexec", started=datetime(2027, 1, 1, tzinfo=UTC)), [], 1)
    assert store.resolve_run("20260301-000000-abcd") == "20260301-000000-abcd"
    assert store.resolve_run("20260302") == "20260302-000000-bcde"
    assert store.resolve_run(" BCDE ") == "20260302-000000-bcde"
    assert store.resolve_run("last") == store.resolve_run("last~0") == "20260303-000000-abce"
    assert store.resolve_run(" Last~1 ") == "20260302-000000-bcde"
    assert store.resolve_run("last~2") == "20260301-000000-abcd"
    assert store.resolve_run("imp") == "imported"


def test_last_where_no_sweep_is_stored_says_what_is_there(store: Store, new_run: NewRun) -> None:
    for side in ("base", "new"):
        store.add_run(new_run(f"20260301-000000-abcd-{side}", origin="gate"), [], 1)
    said = "no run of a sweep is stored in .*'last' means one; the latest .* are 20260301-000000-abcd-new, .*-base: give one"
    with pytest.raises(StoreError, match=said):
        store.resolve_run("last")


def test_a_run_that_is_not_found_is_answered_with_choices(store: Store, new_run: NewRun) -> None:
    with pytest.raises(StoreError, match="holds no runs yet"):
        store.resolve_run("last")
    for i in range(7):
        store.add_run(new_run(f"20260301-00000{i}-abc{i}", started=datetime(2026, 3, 1, 0, 0, i, tzinfo=UTC)), [], 1)
    with pytest.raises(
        StoreError, match=r"there is no run 'last~7': .* fewer runs of sweeps than that; 'benchrun runs'"
    ):
        store.resolve_run("last~7")
    with pytest.raises(StoreError, match=r"'2026' fits 7 runs: 20260301-000006-abc6, .* and 2 more; type more"):
        store.resolve_run("2026")
    for odd in ("%", "_", "", "last~", "last~-1", "last~x", "20260302", "x' OR 1=1 --"):
        with pytest.raises(
            StoreError, match=re.escape(f"there is no run '{odd}' in ") + ".*the latest are 20260301-000006-abc6"
        ):
            store.resolve_run(odd)


def test_run_ids_sort_by_time_and_are_short() -> None:
    ids = [new_run_id(MOMENT + timedelta(seconds=i)) for i in range(50)]
    assert ids == sorted(ids) and len(set(ids)) == 50
    assert all(re.fullmatch(r"\d{8}-\d{6}-[a-z2-9]{4}", each) for each in ids)
    assert new_run_id(datetime(2026, 3, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))).startswith("20260228-230000-")


def test_what_gave_a_right_answer_on_some_hardware(
    store: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    points = [
        new_point("a"),
        new_point("b", variant="compile", device="cuda:0"),
        new_point("c", backend="ort", variant="cpu"),
        new_point("d", workload="train:qa:adamw:1"),
        new_point("e", workload="lengths:uniform:8-16:packed"),
        new_point("f", workload="loadgen:server:100:lengths:uniform:8-16:bucketed", variant="compile"),
    ]
    outcomes = (
        ("one", "f1", ("ok", "oom", "ok", "ok", "ok", "error")),
        ("two", "f2", ("invalid", "ok", "error", "invalid", "skipped", "ok")),
    )
    for run, fingerprint, statuses in outcomes:
        store.add_run(new_run(run, environment=EnvironmentRow(fingerprint, {})), points, 1)
        rows = [new_measurement(point.key, status) for point, status in zip(points, statuses, strict=True)]
        store.add_measurements(run, [(None, row) for row in rows])
    eager, ort = ("torch", "eager", "cpu"), ("ort", "cpu", "cpu")
    assert store.executed(["f1"]) == {eager: ("padded", "packed", "training"), ort: ("padded",)}
    second = {("torch", "compile", "cuda"): ("padded",), ("torch", "compile", "cpu"): ("padded",)}
    assert store.executed(["f2"]) == second
    assert store.executed(["f1", "f2"]) == store.executed(["f1"]) | second
    assert store.executed([]) == store.executed(["f3"]) == {}


def test_queries_of_a_run_and_of_a_series_use_their_indexes(store: Store) -> None:
    if not store.shown.startswith("/"):
        pytest.skip("PostgreSQL plans by table size: an empty table is scanned whatever indexes it has")
    queries = {
        "UPDATE measurements SET superseded = 1 WHERE run_id = 'x' AND point_key = 'k' AND replicate = 0 "
        "AND NOT measurements.superseded": "INDEX uq_measurements_current",
        "SELECT host_p50_ms FROM measurements WHERE run_id = 'x' AND NOT measurements.superseded": "(run_id=?",
        "SELECT count(*) FROM measurements WHERE run_id = 'x' AND superseded = 0 AND point_key = 'k' AND status = 'ok'": (
            "COVERING INDEX ix_measurements_outcome"
        ),
        "SELECT host_p50_ms FROM measurements WHERE point_key = 'k' AND fingerprint = 'f' ORDER BY started": (
            "INDEX ix_measurements_series"
        ),
        "SELECT id FROM measurements ORDER BY started DESC LIMIT 10": "INDEX ix_measurements_started",
    }
    with store.reading() as connection:
        for query, index in queries.items():
            plan = " ".join(str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}"))
            assert index in plan and "TEMP B-TREE" not in plan, plan
