"""What goes into the store comes out of it: runs, launches, measurements with their samples, scores and attachments."""

from __future__ import annotations

import math
import zlib
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
from benchrun.results.records import StoredAttachment
from benchrun.results.rows import STATUSES, Attachment, LaunchRow, MeasurementRow, Parity, Score
from benchrun.results.schema import AttachedText
from benchrun.results.statistics import ReportedSummary, Summary
from benchrun.results.store import Store
from tests.results.conftest import KEY, MOMENT, RUN, NewMeasurement, NewPoint, NewRun, same

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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=measurements)
def test_any_measurement_comes_back_as_it_was(planned: Store, row: MeasurementRow) -> None:
    number = planned.add_measurement(RUN, None, row)
    (found,) = planned.run(RUN, samples=True).measurements
    assert found.id == number and found.launch_id is None
    assert same(found.row, row)
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
    with planned.writing() as connection:
        connection.execute(update(AttachedText).values(change))
    with pytest.raises(StoreError, match=told):
        planned.attachment(number, "log")


def test_damaged_samples_are_reported(planned: Store, new_measurement: NewMeasurement) -> None:
    number = planned.add_measurement(RUN, None, new_measurement(samples=[1, 2, 3]))
    with planned.writing() as connection:
        connection.exec_driver_sql("UPDATE samples SET n = 4")
    for read in (lambda: planned.samples(number), lambda: planned.run(RUN, samples=True)):
        with pytest.raises(StoreError, match="samples are damaged"):
            read()


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
    launch = LaunchRow(0, 2**40, MOMENT)
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
