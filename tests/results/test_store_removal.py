"""What runs share is stored once and goes with the last of them; numbers of removed rows do not come back."""

from __future__ import annotations

from sqlalchemy import func, select

from benchrun.results.rows import EnvironmentRow, LaunchRow
from benchrun.results.schema import Base
from benchrun.results.store import Store
from tests.results.conftest import MOMENT, RUN, NewMeasurement, NewPoint, NewRun, same


def test_equal_environments_are_one(store: Store, new_run: NewRun) -> None:
    same = {"cpu": "Xeon", "clocks": {"a": 1, "b": [1, 2]}}
    store.add_run(new_run("one", environment=EnvironmentRow("f1", same)), [], 1)
    store.add_run(new_run("two", environment=EnvironmentRow("f1", dict(reversed(same.items())))), [], 1)
    store.add_run(new_run("three", environment=EnvironmentRow("f1", same | {"driver": "999"})), [], 1)
    found = store.environments()
    assert [(each.fingerprint, each.runs) for each in found] == [("f1", 2), ("f1", 1)]
    assert found[0].details == same


def test_removing_a_run_takes_all_that_only_it_used(
    store: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    for run, extra in (("one", "x"), ("two", "y")):
        store.add_run(new_run(run, environment=EnvironmentRow(run, {})), [new_point("shared"), new_point(extra)], 1)
        launch = store.add_launch(run, LaunchRow(0, 1, MOMENT))
        store.add_measurement(run, launch, new_measurement("shared", samples=[1000, 2000]))
    kept = store.run("two", samples=True)
    store.remove_run("one")
    assert [each.id for each in store.runs()] == ["two"]
    assert [each.fingerprint for each in store.environments()] == ["two"]
    with store.reading() as connection:
        rows = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar()
            for table in Base.metadata.sorted_tables
        }
    assert {name: count for name, count in rows.items() if count} == {
        "environments": 1,
        "runs": 1,
        "points": 2,
        "run_points": 2,
        "launches": 1,
        "measurements": 1,
        "samples": 1,
    }
    again = store.run("two", samples=True)
    assert (again.run, again.points, again.launches) == (kept.run, kept.points, kept.launches)
    assert all(same(one.row, other.row) for one, other in zip(again.measurements, kept.measurements, strict=True))
    store.remove_run("two")
    with store.reading() as connection:
        assert all(
            connection.execute(select(func.count()).select_from(table)).scalar() == 0
            for table in Base.metadata.sorted_tables
        )


def test_removed_numbers_do_not_come_back(
    planned: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    number = planned.add_measurement(RUN, None, new_measurement())
    planned.remove_run(RUN)
    planned.add_run(new_run(), [new_point()], 1)
    assert planned.add_measurement(RUN, None, new_measurement()) > number
