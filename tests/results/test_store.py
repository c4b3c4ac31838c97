"""The store on every database that can be tested here: what goes in comes out, and the plan shows what is missing."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from benchrun.results.errors import StoreError
from benchrun.results.merge_rows import part_tables
from benchrun.results.records import RunRecord, StoredAttachment, point_status
from benchrun.results.rows import (
    STATUSES,
    Attachment,
    EnvironmentRow,
    LaunchRow,
    MeasurementRow,
    Parity,
    PointRow,
    RunRow,
    Score,
)
from benchrun.results.schema import AttachedText, Base, Measurement
from benchrun.results.statistics import ReportedSummary, Summary
from benchrun.results.store import Store, new_run_id, open_store

NewRun = Callable[..., RunRow]
NewPoint = Callable[..., PointRow]
NewMeasurement = Callable[..., MeasurementRow]

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RUN = "20260301-123015-abcd"
KEY = "00000000000000aa"

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
figures = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**31 - 1)
sizes = st.integers(0, 2**62)
moments = st.integers(0, 2**52).map(lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us))
documents = st.dictionaries(
    texts, st.recursive(st.none() | st.booleans() | figures | texts, st.lists, max_leaves=5), max_size=4
)
samples = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20).map(lambda each: np.array(each, dtype=np.int64))
_OF = {
    "int": counts,
    "float": figures,
    "bool": st.booleans(),
    "str": texts,
    "datetime": moments,
    "Mapping[str, Any]": documents,
}


def _rows_of(kind: type[Any], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Rows of a dataclass with any values its annotations allow."""
    parts: dict[str, st.SearchStrategy[Any]] = {}
    for field in fields(kind):
        name = str(field.type).removesuffix(" | None")
        if field.name in given:
            parts[field.name] = given[field.name]
        elif field.name.endswith("_bytes"):
            parts[field.name] = st.none() | sizes
        else:
            parts[field.name] = st.none() | _OF[name] if name != str(field.type) else _OF[name]
    return st.builds(kind, **parts)


# What a foreign tool reports lacks something (here at least the deviations), but is not empty.
reported = _rows_of(ReportedSummary, n=counts, mad_ms=st.none())

measurements = _rows_of(
    MeasurementRow,
    point_key=st.just(KEY),
    replicate=st.just(0),
    status=st.sampled_from(STATUSES),
    host=st.none() | _rows_of(Summary) | reported,
    device=st.none() | _rows_of(Summary) | reported,
    parity=st.none() | _rows_of(Parity),
    flags=st.lists(texts, max_size=3).map(tuple),
    scores=st.lists(_rows_of(Score), max_size=3, unique_by=lambda each: (each.task, each.metric)).map(
        lambda found: tuple(sorted(found, key=lambda each: (each.task, each.metric)))
    ),
    attachments=st.lists(_rows_of(Attachment), max_size=3, unique_by=lambda each: each.name).map(tuple),
    host_samples=st.none() | samples,
    device_samples=st.none() | samples,
)


@pytest.fixture
def planned(store: Store, new_run: NewRun, new_point: NewPoint) -> Store:
    """A store with a run of one point."""
    store.add_run(new_run(), [new_point()], 1)
    return store


def _same(one: MeasurementRow, other: MeasurementRow) -> bool:
    for clock in ("host_samples", "device_samples"):
        mine, theirs = getattr(one, clock), getattr(other, clock)
        assert (mine is None) == (theirs is None)
        assert mine is None or np.array_equal(mine, theirs)
    bare, others = (replace(each, host_samples=None, device_samples=None, attachments=()) for each in (one, other))
    return bare == others


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=measurements)
def test_any_measurement_comes_back_as_it_was(planned: Store, row: MeasurementRow) -> None:
    number = planned.add_measurement(RUN, None, row)
    (found,) = planned.run(RUN, samples=True).measurements
    assert found.id == number and found.launch_id is None
    assert _same(found.row, row)
    assert found.attachments == planned.attachments(number) and found.row.attachments == ()
    texts_read = {each.name: planned.attachment(number, each.name) for each in found.attachments}
    assert texts_read == {each.name: each.text for each in row.attachments}
    assert [each.size_bytes for each in found.attachments] == [
        len(texts_read[each.name].encode()) for each in found.attachments
    ]


def test_scores_and_attachments_go_with_their_measurement(
    planned: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    lossy = (Score("squad", "f1", float("nan"), 4, 90.0), Score("squad", "exact", 75.0, 4))
    row = new_measurement(samples=[1000], scores=lossy, attachments=(Attachment("log\0.txt", "a\0b\r\n"),))
    number = planned.add_measurement(RUN, None, row)
    (found,) = planned.run(RUN).measurements
    exact, f1 = found.row.scores
    assert exact == lossy[1] and math.isnan(f1.value) and f1.reference == 90.0
    assert found.attachments == (StoredAttachment("log\ufffd.txt", 7),)
    assert planned.attachment(number, "log\ufffd.txt") == "a\ufffdb\r\n"
    with pytest.raises(StoreError, match=f"measurement {number} in .* has no attachment 'other'"):
        planned.attachment(number, "other")
    planned.remove_run(RUN)
    with planned.reading() as connection:
        for table in part_tables():
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "an attachment is in format 2; this benchrun reads format 1"),
        ({"data": b"rubbish"}, "an attachment is damaged"),
        ({"data": zlib.compress(b"\xff\xfe abc")}, "an attachment is damaged: 'utf-8' codec"),
        ({"size_bytes": 4}, "does not end where it should"),
        ({"size_bytes": 2**40}, "cannot hold 1099511627776"),
    ],
)
def test_a_damaged_attachment_is_told(
    planned: Store, new_measurement: NewMeasurement, change: dict[str, Any], told: str
) -> None:
    number = planned.add_measurement(RUN, None, new_measurement(attachments=(Attachment("log", "words"),)))
    with planned._writing() as connection:
        connection.execute(update(AttachedText).values(change))
    with pytest.raises(StoreError, match=told):
        planned.attachment(number, "log")


def test_a_run_comes_back_as_it_was(
    store: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    run = new_run(
        label="emoji 🐎 'quoted' \"twice\" <script>",
        request={"seq": [128, 384], "nested": {"a": None, "b": 1.5}},
        origin="import:trtexec",
        version="0.1.0",
        commit="deadbeef",
        started=datetime(2026, 3, 1, 13, 0, 0, 123456, timezone(timedelta(hours=1))),
    )
    points = [new_point("b", batch=2, options={"tf32": True}), new_point("a", overrides={"num_hidden_layers": 6})]
    store.add_run(run, points, 2)
    launch = LaunchRow(0, 2**40, NOW)
    number = store.add_launch(run.id, launch)
    row = new_measurement("a", samples=[1000, 2000, 3000], device=[900, 1900, 2900])
    measured = store.add_measurement(run.id, number, row)
    store.finish_launch(number, "SIGKILL")

    record = store.run(run.id)
    assert record.run == run
    assert record.run.started.tzinfo is UTC
    assert [(each.ordinal, each.replicates, each.point) for each in record.points] == [
        (0, 2, points[0]),
        (1, 2, points[1]),
    ]
    (stored,) = record.launches
    assert stored.id == number and stored.row.finished is not None
    assert replace(stored.row, finished=None) == replace(launch, exit="SIGKILL")
    (found,) = record.measurements
    assert (found.id, found.launch_id) == (measured, number)
    assert found.row.host_samples is None and found.row.host == row.host
    assert store.samples(measured).tolist() == [1000, 2000, 3000]  # type: ignore[union-attr]
    assert store.samples(measured, "device").tolist() == [900, 1900, 2900]  # type: ignore[union-attr]


def test_points_without_samples_have_none(planned: Store, new_measurement: NewMeasurement) -> None:
    number = planned.add_measurement(RUN, None, new_measurement(status="oom", phase="build", error="out of memory"))
    assert planned.samples(number) is None
    (found,) = planned.run(RUN).measurements
    assert (found.row.status, found.row.phase, found.row.error) == ("oom", "build", "out of memory")
    assert found.row.host is None and found.row.parity is None


def test_figures_that_are_not_finite_are_null(planned: Store, new_measurement: NewMeasurement) -> None:
    row = new_measurement(
        status="invalid",
        parity=Parity(float("nan"), float("inf"), None, None, 1.0, False, "NaN in the answer"),
        facts={"loss": float("nan"), "scale": np.float32(0.5), "names": ("a", {"b"})},
    )
    planned.add_measurement(RUN, None, row)
    found = planned.run(RUN).measurements[0].row
    assert found.parity == Parity(None, None, None, None, 1.0, False, "NaN in the answer")
    assert found.facts == {"loss": None, "scale": 0.5, "names": ["a", ["b"]]}


def test_text_that_no_database_takes_is_kept_readable(planned: Store, new_measurement: NewMeasurement) -> None:
    row = new_measurement(status="error", error="bad\0byte \udcff end", facts={"log\0": ["\ud800"]})
    planned.add_measurement(RUN, None, row)
    found = planned.run(RUN).measurements[0].row
    assert found.error == "bad\ufffdbyte \\udcff end"
    assert found.facts == {"log\ufffd": ["\\ud800"]}


@pytest.mark.parametrize(
    "label", ["<script>alert(1)</script>", "'; DROP TABLE runs; --", "x" * 10_000, "", "日本語\n🐎"]
)
def test_any_label_is_kept(store: Store, new_run: NewRun, label: str) -> None:
    store.add_run(new_run(label=label), [], 1)
    assert store.runs()[0].label == label


def test_mistakes_of_the_caller_are_shown_as_they_are(
    planned: Store, new_run: NewRun, new_measurement: NewMeasurement
) -> None:
    with pytest.raises(ValueError, match="needs its timezone"):
        planned.add_run(new_run("other", started=NOW.replace(tzinfo=None)), [], 1)
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
        lambda store, row: store.add_launch("nope", LaunchRow(0, 1, NOW)),
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


# --- plan, resume ---


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


# --- lists ---


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
    run = new_run(new_run_id(NOW))
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


def test_last_where_no_sweep_is_stored_says_what_is_there(store: Store, new_run: NewRun) -> None:
    for side in ("base", "new"):
        store.add_run(new_run(f"20260301-000000-abcd-{side}", origin="gate"), [], 1)
    said = "no run of a sweep is stored in .*'last' means one; the latest .* are 20260301-000000-abcd-new, .*-base: give one"
    with pytest.raises(StoreError, match=said):
        store.resolve_run("last")


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
    ids = [new_run_id(NOW + timedelta(seconds=i)) for i in range(50)]
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
    ]
    for run, fingerprint, statuses in (("one", "f1", ("ok", "oom", "ok")), ("two", "f2", ("invalid", "ok", "error"))):
        store.add_run(new_run(run, environment=EnvironmentRow(fingerprint, {})), points, 1)
        rows = [new_measurement(point.key, status) for point, status in zip(points, statuses, strict=True)]
        store.add_measurements(run, [(None, row) for row in rows])
    assert store.executed(["f1"]) == {("torch", "eager", "cpu"), ("ort", "cpu", "cpu")}
    assert store.executed(["f2"]) == {("torch", "compile", "cuda")}
    assert len(store.executed(["f1", "f2"])) == 3
    assert store.executed([]) == store.executed(["f3"]) == set()


# --- sharing and removing ---


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
        launch = store.add_launch(run, LaunchRow(0, 1, NOW))
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
    assert all(_same(one.row, other.row) for one, other in zip(again.measurements, kept.measurements, strict=True))
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


def test_damaged_samples_are_reported(planned: Store, new_measurement: NewMeasurement) -> None:
    number = planned.add_measurement(RUN, None, new_measurement(samples=[1, 2, 3]))
    with planned._writing() as connection:
        connection.exec_driver_sql("UPDATE samples SET n = 4")
    for read in (lambda: planned.samples(number), lambda: planned.run(RUN, samples=True)):
        with pytest.raises(StoreError, match="samples are damaged"):
            read()


def test_a_reading_store_refuses_to_write(location: str, new_run: NewRun) -> None:
    with open_store(location) as store:
        store.add_run(new_run(), [], 1)
    with open_store(location, read_only=True) as store:
        assert [each.id for each in store.runs()] == [RUN]
        with pytest.raises(StoreError, match=r"read-only|cannot be"):
            store.remove_run(RUN)
        assert [each.id for each in store.runs()] == [RUN]


# --- speed that the design rests on ---


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
