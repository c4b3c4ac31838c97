"""The JSON documents: valid by their schema whatever a run holds, and the figures of several launches put together rightly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from benchrun.results.document import between_launches, document_schema, run_document, runs_document
from benchrun.results.records import MeasurementRecord, PlannedPoint, RunRecord
from benchrun.results.rows import PHASES, STATUSES, Attachment, MeasurementRow, Parity, RunRow, Score
from benchrun.results.statistics import ReportedSummary
from benchrun.results.store import Store
from tests.results.conftest import RUN, NewMeasurement, NewPoint, NewRun

# The keys that users were promised; more may join them, none may go.
POINT_KEYS = {
    "backend",
    "variant",
    "model",
    "head",
    "device",
    "dtype",
    "batch",
    "seq",
    "workload",
    "protocol",
    "status",
    "error",
    "n",
    "device_ms",
    "host_ms",
    "throughput_seq_s",
    "tokens_s",
    "parity",
    "build_s",
    "peak_device_bytes",
    "peak_host_bytes",
    "key",
    "launches",
    "options",
    "weights",
    "flags",
    "settled",
    "timed_out",
    "facts",
}
CLOCK_KEYS = {"mean", "p50", "p90", "p95", "p99", "p99_9", "min", "max", "std", "intervals"}


VALIDATOR = jsonschema.Draft202012Validator(document_schema())


def check(document: dict[str, Any]) -> None:
    """Valid by the schema, and by JSON itself."""
    VALIDATOR.validate(document)
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def _record(run: RunRow, planned: list[PlannedPoint], rows: list[MeasurementRow], launch: int | None = 1) -> RunRecord:
    return RunRecord(run, tuple(planned), (), tuple(MeasurementRecord(i, launch, row) for i, row in enumerate(rows)))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(document_schema())


def test_the_document_of_a_run_has_all_that_was_promised(
    store: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    store.add_run(new_run(), [new_point("a", options={"tf32": True}), new_point("b", batch=2)], 1)
    row = new_measurement(
        "a",
        samples=[2_000_000, 3_000_000, 4_000_000],
        device=[1_000_000, 2_000_000, 3_000_000],
        throughput_seq_s=400.0,
        tokens_s=51_200.0,
        build_s=1.5,
        peak_host_bytes=10**9,
        settled=True,
        timed_out=False,
        flags=("not_steady",),
        facts={"attention": "sdpa"},
    )
    store.add_measurement(RUN, None, row)
    store.finish_run(RUN, "interrupted")
    document = run_document(store.run(RUN), "/data/results.db")
    check(document)
    assert document["schema"] == 1
    assert document["run"] == {
        "id": RUN,
        "label": "a run",
        "started": "2026-03-01T12:30:15.250Z",
        "db": "/data/results.db",
        "environment": {"fingerprint": "0123456789abcdef", "cpu": "Xeon", "versions": {"torch": "2.13.0"}},
    }
    first, second = document["points"]
    assert set(first) >= POINT_KEYS and set(first) == set(second)
    assert set(first["host_ms"]) >= CLOCK_KEYS
    assert (first["status"], first["error"], first["n"], first["launches"]) == ("ok", None, 3, 1)
    assert (first["host_ms"]["mean"], first["host_ms"]["p50"], first["device_ms"]["max"]) == (3.0, 3.0, 3.0)
    assert first["host_ms"]["intervals"] == {
        "p50": [None, None],
        **{p: [None, None] for p in ("p90", "p95", "p99", "p99_9")},
    }
    assert first["host_ms"]["launch_p50_ms"] == [3.0] and first["host_ms"]["between_launches"] is None
    assert (first["throughput_seq_s"], first["tokens_s"], first["build_s"]) == (400.0, 51_200.0, 1.5)
    assert (first["options"], first["flags"], first["facts"]) == ({"tf32": True}, ["not_steady"], {"attention": "sdpa"})
    assert first["parity"]["ok"] is True and first["settled"] is True and first["timed_out"] is False
    assert (second["status"], second["error"]) == ("interrupted", "not measured: the run is interrupted")
    assert second["host_ms"] is None and second["n"] == 0 and second["launches"] == 0


def test_several_launches_are_put_together(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    launches = [np.random.default_rng(i).integers(10**6, 2 * 10**6, 100 * (i + 1)) for i in range(3)]
    rows = [
        new_measurement(
            "a",
            replicate=i,
            samples=taken,
            throughput_seq_s=float(100 + i),
            peak_host_bytes=10**9 + i,
            settled=i != 1,
            timed_out=i == 2,
            cache_hit=True,
            throughput_isolated=True,
            flags=("x", f"y{i}"),
            parity=Parity(1e-6 * i, 1e-5, 1.0, 1.0, 0.0, True),
        )
        for i, taken in enumerate(launches)
    ]
    document = run_document(_record(new_run(), [PlannedPoint(0, 3, new_point("a"))], rows), "")
    check(document)
    (point,) = document["points"]
    host = point["host_ms"]
    medians = [float(np.median(each)) / 1e6 for each in launches]
    assert (point["status"], point["n"], point["launches"]) == ("ok", 600, 3)
    assert host["launch_p50_ms"] == pytest.approx(medians)
    assert host["p50"] == pytest.approx(np.mean(medians))
    assert host["mean"] == pytest.approx(np.mean([each.mean() for each in launches]) / 1e6)
    assert host["std"] == pytest.approx(np.mean([each.std(ddof=1) for each in launches]) / 1e6)
    assert host["p99"] == pytest.approx(np.mean([np.percentile(each, 99) for each in launches]) / 1e6)
    assert (host["min"], host["max"]) == (min(map(min, launches)) / 1e6, max(map(max, launches)) / 1e6)
    assert host["intervals"]["p50"][0] == pytest.approx(np.mean([row.host.p50_low_ms or 0 for row in rows if row.host]))
    assert host["intervals"]["p90"][1] == pytest.approx(
        np.mean([row.host.p90_upper_ms or 0 for row in rows if row.host])
    )
    assert host["intervals"]["p99"] == [None, None]  # no launch has the 459 samples
    interval = stats.t.interval(0.95, 2, loc=np.mean(medians), scale=stats.sem(medians))
    assert host["between_launches"] == pytest.approx(interval)
    assert point["throughput_seq_s"] == 101 and point["peak_host_bytes"] == 10**9 + 2
    assert (point["settled"], point["timed_out"], point["cache_hit"], point["throughput_isolated"]) == (
        False,
        True,
        True,
        True,
    )
    assert point["flags"] == ["x", "y0", "y1", "y2"]
    assert point["parity"]["rel_l2"] == 2e-6  # the worst


def test_a_bound_that_one_launch_cannot_give_is_not_given(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    rows = [new_measurement("a", replicate=i, samples=np.arange(1, n + 1) * 1000) for i, n in enumerate((90, 89))]
    (point,) = run_document(_record(new_run(), [PlannedPoint(0, 2, new_point("a"))], rows), "")["points"]
    assert point["host_ms"]["intervals"]["p90"][1] is not None
    assert point["host_ms"]["intervals"]["p95"] == [None, None]


def test_a_failed_launch_is_seen_beside_good_ones(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    rows = [
        new_measurement("a", samples=[1000]),
        new_measurement("a", "crashed", 1, error="SIGSEGV", phase="measure"),
        new_measurement("a", "invalid", 2, samples=[2000], error="too far off"),
    ]
    (point,) = run_document(_record(new_run(), [PlannedPoint(0, 3, new_point("a"))], rows), "")["points"]
    assert (point["status"], point["error"], point["phase"]) == ("crashed", "SIGSEGV", "measure")
    assert (point["launches"], point["n"], point["host_ms"]["launch_p50_ms"]) == (3, 2, [0.001, 0.002])
    assert point["parity"]["ok"] is False


def test_a_missing_launch_says_how_many_there_are(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    record = _record(new_run(), [PlannedPoint(0, 3, new_point("a"))], [new_measurement("a", samples=[1000])])
    (point,) = run_document(record, "")["points"]
    assert (point["status"], point["error"]) == (
        "interrupted",
        "1 of 3 launches measured: the run is still marked running",
    )
    assert point["host_ms"]["p50"] == 0.001


def test_a_point_that_was_skipped_before_any_launch_has_none(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    row = new_measurement("a", "skipped", error="oom at b64", phase="plan")
    record = _record(new_run(), [PlannedPoint(0, 1, new_point("a"))], [row], launch=None)
    document = run_document(record, "")
    check(document)
    assert (document["points"][0]["launches"], document["points"][0]["error"]) == (0, "oom at b64")


def test_what_an_imported_file_does_not_say_is_null(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    unknown = dict.fromkeys(("model", "weights", "head", "device", "dtype", "batch", "seq", "workload"))
    rows = [
        new_measurement("a", host=ReportedSummary(n=200, mean_ms=2.0, p99_ms=3.0)),
        new_measurement("a", replicate=1, host=ReportedSummary(n=100, mean_ms=4.0, max_ms=9.0)),
        new_measurement("a", replicate=2, device=[1000]),
        new_measurement("a", replicate=3, throughput_seq_s=10.0),
    ]
    record = _record(new_run(origin="import:csv"), [PlannedPoint(0, 4, new_point("a", **unknown))], rows, launch=None)
    document = run_document(record, "")
    check(document)
    (point,) = document["points"]
    assert all(point[name] is None for name in unknown)
    assert (point["status"], point["n"], point["launches"]) == ("ok", 300, 4)
    host = point["host_ms"]
    assert (host["mean"], host["p99"], host["max"], host["p50"], host["min"]) == (3.0, 3.0, 9.0, None, None)
    assert host["launch_p50_ms"] == [] and host["between_launches"] is None and host["intervals"]["p50"] == [None, None]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_document_of_any_run_is_valid(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement, data: st.DataObject
) -> None:
    texts = st.text(max_size=10)
    taken = st.none() | st.lists(st.integers(0, 10**15), min_size=1, max_size=50)
    figures = st.none() | st.floats(0, 1e12)
    planned = [
        PlannedPoint(i, data.draw(st.integers(1, 3)), new_point(str(i), model=data.draw(texts))) for i in range(3)
    ]
    rows = [
        new_measurement(
            planned_point.point.key,
            data.draw(st.sampled_from(STATUSES)),
            replicate,
            samples=data.draw(taken),
            device=data.draw(taken),
            error=data.draw(st.none() | texts),
            phase=data.draw(st.none() | st.sampled_from(PHASES)),
            throughput_seq_s=data.draw(figures),
            build_s=data.draw(figures),
            settled=data.draw(st.none() | st.booleans()),
            peak_device_bytes=data.draw(st.none() | st.integers(0, 2**62)),
            flags=tuple(data.draw(st.lists(texts, max_size=2))),
            facts={data.draw(texts): float("nan")},
            parity=data.draw(
                st.none() | st.builds(Parity, st.none(), st.none(), figures, figures, st.floats(0, 1), st.booleans())
            ),
        )
        for planned_point in planned
        for replicate in range(data.draw(st.integers(0, planned_point.replicates)))
    ]
    run = replace(
        new_run(), label=data.draw(texts), state=data.draw(st.sampled_from(["running", "finished", "interrupted"]))
    )
    check(run_document(_record(run, planned, rows), data.draw(texts)))


def test_the_list_of_runs(store: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement) -> None:
    check(runs_document(store.runs()))
    store.add_run(
        new_run(started=datetime(2026, 3, 1, tzinfo=UTC)), [new_point(key) for key in ("a", "b", "c", "d")], 1
    )
    store.add_measurement(RUN, None, new_measurement("a", samples=[1000]))
    store.add_measurement(RUN, None, new_measurement("b", "oom"))
    store.add_measurement(RUN, None, new_measurement("d", "unsupported"))
    document = runs_document(store.runs())
    check(document)
    assert document["runs"] == [
        {
            "id": RUN,
            "label": "a run",
            "started": "2026-03-01T00:00:00.000Z",
            "state": "running",
            "points": 4,
            "ok": 1,
            "failed": 2,
            "unsupported": 1,
        }
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document.update(schema=2),
        lambda document: document.update(extra=1),
        lambda document: document["points"][0].update(status=None),
        lambda document: document["points"][0].update(status="fine"),
        lambda document: document["points"][0].update(extra=1),
        lambda document: document["points"][0].pop("key"),
        lambda document: document["points"][0]["host_ms"].update(p50="1"),
        lambda document: document["points"][0]["host_ms"]["intervals"].update(p90=[1.0, 2.0]),
        lambda document: document["run"].pop("db"),
    ],
)
def test_the_schema_refuses_what_is_wrong(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement, damage: Callable[[dict[str, Any]], object]
) -> None:
    record = _record(new_run(), [PlannedPoint(0, 1, new_point("a"))], [new_measurement("a", samples=[1000])])
    document = run_document(record, "")
    check(document)
    damage(document)
    with pytest.raises(jsonschema.ValidationError):
        check(document)


def test_one_launch_has_no_interval_between_launches() -> None:
    assert between_launches([1.0]) is None
    assert between_launches([2.0, 2.0]) == [2.0, 2.0]


def test_scores_and_files_are_in_the_document(
    store: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    store.add_run(new_run(), [new_point("a"), new_point("b", batch=2)], 2)
    for replicate, f1 in enumerate((90.0, 91.0)):
        scores = (Score("squad", "f1", f1, 4, 92.0), Score("loss", "last", float("nan"), 1))
        files = (Attachment("log.txt", "12345"),)
        store.add_measurement(RUN, None, new_measurement("a", replicate=replicate, scores=scores, attachments=files))
    document = run_document(store.run(RUN), "results.db")
    check(document)
    first, second = document["points"]
    assert first["scores"] == [
        {"task": "loss", "metric": "last", "value": None, "n": 1, "reference": None},
        {"task": "squad", "metric": "f1", "value": 90.5, "n": 4, "reference": 92.0},
    ]
    assert first["attachments"] == [{"replicate": i, "name": "log.txt", "size_bytes": 5} for i in range(2)]
    assert second["scores"] == second["attachments"] == []
