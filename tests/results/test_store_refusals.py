"""What the store refuses, and how it says so: rows that no plan has, mistakes of the caller, writing where it only reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchrun.results.errors import StoreError
from benchrun.results.rows import LaunchRow
from benchrun.results.store import Store, open_store
from tests.results.conftest import MOMENT, RUN, NewMeasurement, NewPoint, NewRun


def test_mistakes_of_the_caller_are_shown_as_they_are(
    planned: Store, new_run: NewRun, new_measurement: NewMeasurement
) -> None:
    with pytest.raises(ValueError, match="needs its timezone"):
        planned.add_run(new_run("other", started=MOMENT.replace(tzinfo=None)), [], 1)
    with pytest.raises(TypeError, match="cannot be stored as JSON"):
        planned.add_measurement(RUN, None, new_measurement(facts={"what": object()}))
    with pytest.raises(ValueError, match="state is one of running, finished, interrupted"):
        planned.finish_run(RUN, "done")
    assert len(planned.runs()) == 1 and planned.run(RUN).measurements == ()


@pytest.mark.parametrize("status", ["fine", ""])
def test_an_unknown_status_is_refused_by_the_database(
    planned: Store, new_measurement: NewMeasurement, status: str
) -> None:
    with pytest.raises(StoreError, match="ck_measurements_status"):
        planned.add_measurement(RUN, None, new_measurement(status=status))


def test_a_point_outside_the_plan_is_refused(planned: Store, new_measurement: NewMeasurement) -> None:
    with pytest.raises(StoreError, match=r"(?i)foreign key"):
        planned.add_measurement(RUN, None, new_measurement("unplanned"))


def test_a_run_id_is_given_once(planned: Store, new_run: NewRun, new_point: NewPoint) -> None:
    with pytest.raises(StoreError, match=r"(?i)unique"):
        planned.add_run(new_run(), [new_point()], 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda store, row: store.run("nope"),
        lambda store, row: store.missing("nope"),
        lambda store, row: store.finish_run("nope", "finished"),
        lambda store, row: store.extend_run("nope", [], 1),
        lambda store, row: store.remove_run("nope"),
        lambda store, row: store.add_launch("nope", LaunchRow(0, 1, MOMENT)),
        lambda store, row: store.add_measurement("nope", None, row),
    ],
)
def test_a_run_that_does_not_exist_is_named(
    store: Store, new_measurement: NewMeasurement, call: Callable[..., Any]
) -> None:
    with pytest.raises(StoreError, match="there is no run nope in "):
        call(store, new_measurement())


def test_a_launch_that_does_not_exist_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match="there is no launch 7 in "):
        store.finish_launch(7, "0")


def test_a_reading_store_refuses_to_write(location: str, new_run: NewRun) -> None:
    with open_store(location) as store:
        store.add_run(new_run(), [], 1)
    with open_store(location, read_only=True) as store:
        assert [each.id for each in store.runs()] == [RUN]
        with pytest.raises(StoreError, match=r"read-only|cannot be"):
            store.remove_run(RUN)
        assert [each.id for each in store.runs()] == [RUN]
