"""A run's plan in the store: what is missing of it, what an extension adds, which row of a point counts."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from benchrun.results.errors import StoreError
from benchrun.results.records import point_status
from benchrun.results.schema import Measurement
from benchrun.results.store import Store
from tests.results.conftest import RUN, NewMeasurement, NewPoint, NewRun


def test_what_is_missing_shows_by_replicate_and_in_order(
    store: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    store.add_run(new_run(), [new_point("b"), new_point("a"), new_point("c")], 2)
    assert store.missing(RUN) == [("b", 0), ("a", 0), ("c", 0), ("b", 1), ("a", 1), ("c", 1)]
    store.add_measurement(RUN, None, new_measurement("a", samples=[1000]))
    store.add_measurement(RUN, None, new_measurement("c", "oom"))
    store.add_measurement(RUN, None, new_measurement("b", "interrupted", 1))
    assert store.missing(RUN) == [("b", 0), ("b", 1), ("a", 1), ("c", 1)]


def test_the_latest_row_of_a_replicate_counts(planned: Store, new_measurement: NewMeasurement) -> None:
    first = planned.add_measurement(RUN, None, new_measurement(status="interrupted"))
    second = planned.add_measurement(RUN, None, new_measurement(samples=[1000]))
    assert [each.id for each in planned.run(RUN).measurements] == [second]
    assert planned.missing(RUN) == []
    with planned.reading() as connection:
        rows = connection.execute(select(Measurement.id, Measurement.superseded).order_by(Measurement.id)).all()
    assert [tuple(row) for row in rows] == [(first, True), (second, False)]  # nothing is thrown away


def test_many_measurements_are_one_transaction(planned: Store, new_measurement: NewMeasurement) -> None:
    rows = [(None, new_measurement(samples=[1000 + i])) for i in range(3)]
    ids = planned.add_measurements(RUN, rows)
    assert ids == sorted(ids) and len(set(ids)) == 3
    assert [each.id for each in planned.run(RUN).measurements] == [ids[-1]]
    with pytest.raises(StoreError):
        planned.add_measurements(RUN, [(None, new_measurement(samples=[5])), (None, new_measurement(status="bad"))])
    assert [each.id for each in planned.run(RUN).measurements] == [ids[-1]]


def test_a_run_is_extended_and_reopened(
    store: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    store.add_run(new_run(), [new_point("a"), new_point("b")], 1)
    store.add_measurement(RUN, None, new_measurement("a", samples=[1000]))
    store.finish_run(RUN, "interrupted")
    assert store.run(RUN).run.finished is not None
    store.extend_run(RUN, [new_point("b"), new_point("c"), new_point("c")], 2, {"again": True})
    record = store.run(RUN)
    assert (record.run.state, record.run.finished, record.run.request) == ("running", None, {"again": True})
    assert [(each.ordinal, each.point.key, each.replicates) for each in record.points] == [
        (0, "a", 1),
        (1, "b", 2),
        (2, "c", 2),
    ]
    assert store.missing(RUN) == [("b", 0), ("c", 0), ("b", 1), ("c", 1)]
    store.extend_run(RUN, [new_point("b")], 1)
    assert store.run(RUN).points[1].replicates == 2
    store.finish_run(RUN, "finished")
    assert store.runs()[0].state == "finished"


def test_a_run_without_points_is_a_run(store: Store, new_run: NewRun) -> None:
    store.add_run(new_run(), [], 1)
    assert store.missing(RUN) == [] and store.run(RUN).points == ()
    assert (store.runs()[0].points, store.runs()[0].ok, store.runs()[0].failed) == (0, 0, 0)


@pytest.mark.parametrize(
    ("statuses", "replicates", "expected"),
    [
        (["ok"], 1, "ok"),
        (["ok", "ok"], 2, "ok"),
        (["ok"], 2, "interrupted"),
        ([], 1, "interrupted"),
        (["interrupted"], 1, "interrupted"),
        (["ok", "invalid"], 2, "invalid"),
        (["interrupted", "oom"], 2, "oom"),
        (["crashed", "oom"], 3, "crashed"),
        (["skipped"], 1, "skipped"),
    ],
)
def test_one_status_for_several_launches(statuses: list[str], replicates: int, expected: str) -> None:
    assert point_status(statuses, replicates) == expected
