"""Small databases with figures worked out by hand, what must never count, and what must never stand on one axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection

from benchrun.results.rows import MeasurementRow, Parity, PointRow
from benchrun.results.statistics import summarise as summary
from benchrun.results.store import Store
from benchrun.results.views import changes
from benchrun.results.views.catalogue import groups
from benchrun.results.views.changes import latest_changes
from benchrun.results.views.environments import engine_evidence
from benchrun.results.views.failures import latest_failures
from benchrun.results.views.frames import rows_of
from benchrun.results.views.history import series_results
from benchrun.results.views.latest import latest_results, run_results
from benchrun.results.views.measured import facts_of
from benchrun.results.views.pairing import SAME_SHAPE, pair
from benchrun.results.views.runs import latest_outcomes, totals
from benchrun.results.views.sampling import samples_ms
from benchrun.results.views.summaries import summarise
from tests.dashboard.stores import PROTOCOL, environment, failure, point, run

MACHINE = f"{1:016x}"
WRONG = Parity(0.5, 1.0, 0.5, 0.5, 0.0, False, "relative L2 error 0.5")


def exact(key: str, at: datetime, ms: float, replicate: int = 0, **changes: Any) -> MeasurementRow:
    """An `ok` launch all of whose samples took `ms`."""
    samples = np.full(60, round(ms * 1e6), dtype=np.int64)
    given: dict[str, Any] = {"status": "ok", "host": summary(samples), "host_samples": samples, "flags": ()} | changes
    return MeasurementRow(key, replicate, replicate, started=at, **given)


def store_launches(
    store: Store, number: int, *launches: tuple[PointRow, Sequence[float | str]], machine: int = 1, **changes: Any
) -> str:
    """A finished run, a day after the one before: of each point its launches' times in ms, or how they failed."""
    about = run(number, environment=environment(machine))
    store.add_run(about, [each for each, _ in launches], max(len(values) for _, values in launches))
    for each, values in launches:
        for replicate, value in enumerate(values):
            at = about.started + timedelta(minutes=replicate)
            row = (
                failure(each.key, at, value, replicate=replicate)
                if isinstance(value, str)
                else exact(each.key, at, value, replicate, **changes)
            )
            store.add_measurement(about.id, None, row)
    store.finish_run(about.id, "finished")
    return about.id


def test_a_ratio_and_its_interval(store: Store) -> None:
    """Medians 1, 2, 4 and 2, 4, 8 ms: logarithms k·ln 2 with variance (ln 2)², so the difference is ln 2, its standard error
    √(2/3)·ln 2, Welch's degrees of freedom 4 and t = 2.776445: ln 2 ± 1.571338."""
    each = point()
    store_launches(store, 1, (each, [1.0, 2.0, 4.0]))
    store_launches(store, 2, (each, [2.0, 4.0, 8.0]))
    with store.reading() as connection:
        (change,) = rows_of(latest_changes(connection))
        base, new = (summarise(run_results(connection, run(number).id)) for number in (1, 2))
    (paired,) = rows_of(pair(base, new).rows)
    for row in (change, paired):
        assert (row.ratio, row.ratio_low, row.ratio_high) == pytest.approx((2.0, 0.415533, 9.626185), rel=1e-5)
        assert row.word == "unclear" and (row.run_id_base, row.run_id_new) == (run(1).id, run(2).id)
    # mean 7/3 ms; the interval of one side: ln 2 ± 4.302653·ln 2/√3
    (side,) = rows_of(base)
    assert (side.p50_ms, side.p50_low_ms, side.p50_high_ms) == pytest.approx((7 / 3, 0.357462, 11.189997), rel=1e-5)
    assert (side.interval, side.launches, side.n) == ("launches", 3, 180)


def test_a_series_changes_between_its_own_last_two_runs(store: Store) -> None:
    """Run 3 leaves the second point out: its change is that of runs 1 and 2. Another machine is another series."""
    first, second = point(), point(batch=2)
    store_launches(store, 1, (first, [10.0, 10.1, 9.9]), (second, [4.0, 4.04, 3.96]))
    store_launches(store, 2, (first, [10.0, 10.1, 9.9]), (second, [2.0, 2.02, 1.98]))
    store_launches(store, 3, (first, [20.0, 20.2, 19.8]))
    store_launches(store, 4, (first, [1.0, 1.01, 0.99]), machine=2)
    with store.reading() as connection:
        found = {row.point_key: row for row in rows_of(latest_changes(connection))}
        course = summarise(series_results(connection, MACHINE, [first.key]))
    assert len(found) == 2
    assert (found[first.key].ratio, found[first.key].word) == (pytest.approx(2.0), "slower")
    assert (found[second.key].ratio, found[second.key].word) == (pytest.approx(0.5), "faster")
    assert (found[second.key].run_id_base, found[second.key].run_id_new) == (run(1).id, run(2).id)
    assert course["p50_ms"].tolist() == pytest.approx([10.0, 10.0, 20.0])


def test_very_large_runs_shorten_the_look_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = point(), point(batch=2)
    for number, each in enumerate((first, first, second, second), 1):
        store_launches(store, number, (each, [1.0]))
    with store.reading() as connection:
        assert len(latest_changes(connection)) == 2
        monkeypatch.setattr(changes, "MOST_SERIES", 1)
        assert latest_changes(connection)["point_key"].tolist() == [second.key]


VIEWS: dict[str, Callable[[Connection, str, str], float]] = {
    "latest": lambda c, key, run_id: only_p50(latest_results(c, groups(c)[0].group)),
    "run": lambda c, key, run_id: only_p50(run_results(c, run_id)),
    "series": lambda c, key, run_id: only_p50(series_results(c, MACHINE, [key])),
    "changes": lambda c, key, run_id: only(latest_changes(c)).p50_ms_new,
}


def only(frame: Any) -> Any:
    (row,) = rows_of(frame)
    return row


def only_p50(frame: Any) -> float:
    found: float = summarise(frame)["p50_ms"].iloc[-1]
    return found


@pytest.mark.parametrize("name", VIEWS)
def test_what_was_measured_again_does_not_count(name: str, store: Store) -> None:
    each = point()
    store_launches(store, 1, (each, [3.0]))
    run_id = store_launches(store, 2, (each, [5.0]))
    store.add_measurement(run_id, None, exact(each.key, run(2).started + timedelta(hours=1), 7.0))
    with store.reading() as connection:
        assert VIEWS[name](connection, each.key, run_id) == pytest.approx(7.0)


def test_a_failure_that_was_measured_again_is_none(store: Store) -> None:
    each = point()
    run_id = store_launches(store, 1, (each, ["oom"]))
    with store.reading() as connection:
        assert len(latest_failures(connection)) == 1 and latest_outcomes(connection)[0].failed == 1
        assert only(engine_evidence(connection, MACHINE)).other == 1
    later = exact(each.key, run(1).started + timedelta(hours=1), 7.0, facts={"attention": "sdpa"})
    store.add_measurement(run_id, None, later)
    with store.reading() as connection:
        assert latest_failures(connection).empty
        (outcome,) = latest_outcomes(connection)
        evidence = only(engine_evidence(connection, MACHINE))
        assert (outcome.ok, outcome.failed) == (1, 0) and (evidence.launches, evidence.ok, evidence.other) == (1, 1, 0)
        assert facts_of(connection, [run_id], [each.key]) == {(run_id, each.key): {"attention": "sdpa"}}
        assert totals(connection).measurements == 2  # rows of the table, as the page says
        (kept,) = samples_ms(
            connection, latest_results(connection, groups(connection)[0].group)["measurement_id"].tolist(), "host"
        ).values()
    assert kept is not None and kept.tolist() == [7.0] * 60


OTHERS: dict[str, dict[str, Any]] = {
    "protocol": {"protocol": PROTOCOL.replace("transfers=exclude", "transfers=include")},
    "packed": {"workload": "packed"},
    "head": {"head": "layers"},
    "settings": {"overrides": {"num_hidden_layers": 2}},
    "device": {"device": "cuda:0"},
    "not recorded": {"workload": None},
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_must_not_share_an_axis_is_another_group(name: str, store: Store) -> None:
    ours, theirs = point(), point(**OTHERS[name])
    store_launches(store, 1, (ours, [1.0]), (theirs, [100.0]))
    store_launches(store, 2, (theirs, [200.0]))
    with store.reading() as connection:
        entries = groups(connection)
        frames = [latest_results(connection, entry.group) for entry in entries]
        changed = latest_changes(connection)
    assert [frame["host_p50_ms"].tolist() for frame in frames] == [[200.0], [1.0]]  # the latest first
    assert [entry.points for entry in entries] == [1, 1]
    assert changed["point_key"].tolist() == [theirs.key]  # and nothing is compared across them


def test_another_machine_is_another_group(store: Store) -> None:
    each = point()
    store_launches(store, 1, (each, [1.0]))
    store_launches(store, 2, (each, [2.0]), machine=2)
    with store.reading() as connection:
        frames = [latest_results(connection, entry.group) for entry in groups(connection)]
        assert latest_changes(connection).empty
    assert [frame["host_p50_ms"].tolist() for frame in frames] == [[2.0], [1.0]]


def test_a_wrong_answer_is_shown_but_never_compared(store: Store) -> None:
    each, other = point(), point(variant="compile")
    store_launches(store, 1, (each, [10.0, 10.1]), (other, [9.0, 9.1]))
    store_launches(store, 2, (each, [1.0, 1.1]), status="invalid", parity=WRONG)
    with store.reading() as connection:
        row = only(latest_changes(connection))
        points = summarise(latest_results(connection, groups(connection)[0].group))
        failed = latest_failures(connection)
        evidence = {row.variant: row for row in rows_of(engine_evidence(connection, MACHINE))}
        base, new = (summarise(run_results(connection, run(number).id)) for number in (1, 2))
    assert (row.status_new, row.word) == ("invalid", None) and np.isnan(row.ratio)
    wrong = next(each for each in rows_of(points) if each.variant == "eager")
    assert (wrong.status, wrong.p50_ms, wrong.parity_ok, wrong.error) == (
        "invalid",
        pytest.approx(1.05),
        False,
        "relative L2 error 0.5",
    )
    assert failed["status"].tolist() == ["invalid", "invalid"]
    assert (evidence["eager"].ok, evidence["eager"].invalid, evidence["eager"].unchecked) == (2, 2, 2)
    for compared in (pair(base, new), pair(new, points[points["variant"] == "compile"], SAME_SHAPE)):
        assert compared.rows.empty and len(compared.failed) == 1


def test_one_wrong_launch_makes_the_point_wrong(store: Store) -> None:
    each = point()
    run_id = store_launches(store, 1, (each, [2.0, 2.0]))
    again = exact(each.key, run(1).started + timedelta(hours=1), 1.0, 1, status="invalid", parity=WRONG)
    store.add_measurement(run_id, None, again)
    with store.reading() as connection:
        row = only(summarise(run_results(connection, run_id)))
    assert (row.status, row.launches, row.p50_ms, row.parity_ok) == ("invalid", 2, 1.5, False)


def test_a_failed_launch_leaves_no_figure(store: Store) -> None:
    each = point()
    run_id = store_launches(store, 1, (each, [2.0, "crashed", 3.0]))
    with store.reading() as connection:
        row = only(summarise(run_results(connection, run_id)))
        assert latest_outcomes(connection)[0].failed == 1
    assert (row.status, row.error, row.phase) == ("crashed", "it did not work", "measure")
    assert np.isnan(row.p50_ms) and np.isnan(row.log_p50_ms) and np.isnan(row.throughput_seq_s)


def test_twins_are_counted(store: Store) -> None:
    few, many = point(options={"threads": 1}), point(options={"threads": 4})
    run_id = store_launches(store, 1, (few, [4.0]), (many, [1.0]))
    with store.reading() as connection:
        points = summarise(run_results(connection, run_id))
    compared = pair(points, points[points["point_key"] == many.key], SAME_SHAPE)
    assert compared.twins == 1 and compared.rows["ratio"].tolist() == pytest.approx([0.25])
    assert pair(points, points).twins == 0
