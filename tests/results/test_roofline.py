from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchrun.results.document import document_schema, run_document
from benchrun.results.exporters.columns import COLUMNS, flat_rows
from benchrun.results.roofline import NOWHERE, Roof, best_ceilings, pick_roof, place, spoilt
from benchrun.results.rows import CeilingRow
from benchrun.results.store import open_store
from benchrun.results.views.roofline import placed_points, roofs
from tests.results.conftest import NewMeasurement, NewPoint, NewRun

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WORK = {"flops": 2e9, "least_bytes": 1_000_000, "least_launches": 10}


def ceiling(quantity: str, value: float, dtype: str | None = None, **changes: object) -> CeilingRow:
    given = {"fingerprint": "f", "device": "cuda:0", "threads": None, "n": 9, "measured": NOW, **changes}
    return CeilingRow(quantity=quantity, dtype=dtype, value=value, **given)  # type: ignore[arg-type]


MEASURED = [
    ceiling("matmul", 1e12, "fp16"),
    ceiling("matmul", 5e10, "fp32"),
    ceiling("copy", 1e9),
    ceiling("launch", 1e-5),
]


def test_the_ceilings_of_a_point(new_point: NewPoint) -> None:
    assert pick_roof(MEASURED, new_point(device="cuda:1", dtype="fp16")) == Roof(1e12, 1e9, 1e-5)
    assert pick_roof(MEASURED, new_point(device="cuda:0", dtype="int8")) == Roof(None, 1e9, 1e-5)
    later = ceiling("copy", 2e9, measured=NOW + timedelta(days=1))
    assert pick_roof([later, *MEASURED], new_point(device="cuda:0", dtype="fp32")) == Roof(5e10, 2e9, 1e-5)


def test_the_ceilings_that_count_are_unspoilt_then_of_the_device_then_near_in_time(new_point: NewPoint) -> None:
    day = timedelta(days=1)
    noisy = {"conditions": {"flags": ["noisy_host"]}}
    capped = {"conditions": {"flags": ["power_capped"]}}
    spoilt_now = ceiling("copy", 1.0, **noisy)
    elsewhere = ceiling("copy", 2.0, device="cuda:1", measured=NOW)
    before, after = (
        ceiling("copy", 3.0, measured=NOW - 3 * day, **capped),
        ceiling("copy", 4.0, measured=NOW + 2 * day),
    )
    every = [after, elsewhere, before, spoilt_now]
    point = new_point(device="cuda:0", dtype="fp16")
    assert pick_roof([spoilt_now], point, NOW).bytes_s == 1.0  # better than none
    assert pick_roof([spoilt_now, elsewhere], point, NOW).bytes_s == 2.0
    assert pick_roof(every, point, NOW).bytes_s == 4.0 and pick_roof(every, point, NOW - day).bytes_s == 3.0
    assert [row.value for row in best_ceilings(every)] == [4.0] and [spoilt(row) for row in every].count("") == 3


def test_on_a_cpu_the_threads_must_fit(new_point: NewPoint) -> None:
    two = [ceiling("matmul", 9e10, "fp32", threads=2), ceiling("copy", 7e9, threads=2), ceiling("copy", 4e9, threads=1)]
    assert pick_roof(two, new_point(device="cpu", dtype="fp32", options={"threads": 2})) == Roof(9e10, 7e9, None)
    assert pick_roof(two, new_point(device="cpu", dtype="fp32", options={"threads": 1})) == Roof(None, 4e9, None)
    assert pick_roof(two, new_point(device="cpu", dtype="fp32", options={})) == Roof()


@pytest.mark.parametrize(
    ("roof", "binding", "share"),
    [
        (Roof(1e12, 1e9, 1e-5), "compute", 0.5),  # 2 ms of 4 ms
        (Roof(1e13, 1e9, 1e-5), "bandwidth", 0.25),  # 1 ms
        (Roof(1e13, 1e11, 3e-4), "launch", 0.75),  # 3 ms
        (Roof(1e13, 1e9, None), "bandwidth", 0.25),
        (Roof(None, 1e9, 1e-5), None, None),
        (Roof(), None, None),
    ],
)
def test_which_ceiling_binds(
    new_measurement: NewMeasurement, roof: Roof, binding: str | None, share: float | None
) -> None:
    found = place(new_measurement(samples=[4_000_000] * 12, **WORK), roof)
    assert found.ceiling == binding and found.ceiling_share == (None if share is None else pytest.approx(share))
    assert found.tflop_s == pytest.approx(0.5) and found.gbyte_s == pytest.approx(0.25) and found.flops_per_byte == 2000


def test_device_time_counts_where_there_is_some(new_measurement: NewMeasurement) -> None:
    row = new_measurement(samples=[9_000_000] * 12, device=[4_000_000] * 12, **WORK)
    assert place(row, Roof(1e12, 1e9)).compute_share == pytest.approx(0.5)


def test_without_work_or_samples_there_is_no_place(new_measurement: NewMeasurement) -> None:
    assert place(new_measurement(samples=None, **WORK), Roof(1, 1, 1)) == NOWHERE
    assert place(new_measurement(samples=[1000] * 12), Roof(1, 1, 1)) == NOWHERE


def test_ceilings_energy_and_telemetry_through_the_store(
    tmp_path: Path, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    from jsonschema import Draft202012Validator

    run = new_run()
    fingerprint = run.environment.fingerprint
    point = new_point(device="cuda:0", dtype="fp16")
    telemetry = {"before": {"host": {"cores": 2}}, "reasons": {"noisy_host": "why"}}
    row = new_measurement(
        point.key,
        samples=[4_000_000] * 12,
        energy_joules=50.0,
        joules_per_seq=0.5,
        telemetry=telemetry,
        **WORK,
    )
    with open_store(tmp_path / "a.db") as store:
        store.add_run(run, [point], 1)
        store.add_measurement(run.id, None, row)
        assert store.ceilings(fingerprint) == store.ceilings() == []
        before = store.run(run.id)
        assert run_document(before, "db")["points"][0]["ceiling"] is None
        old = [ceiling("matmul", 1.0, "fp16", fingerprint=fingerprint, measured=NOW - timedelta(days=1))]
        store.add_ceilings(old)
        mine = [ceiling(c.quantity, c.value, c.dtype, fingerprint=fingerprint) for c in MEASURED]
        store.add_ceilings([*mine, ceiling("copy", 5.0, fingerprint="another")])
        assert {(c.quantity, c.dtype, c.value) for c in store.ceilings(fingerprint)} == {
            (c.quantity, c.dtype, c.value) for c in MEASURED
        }
        assert len(store.ceilings()) == 5
        record = store.run(run.id)
        with store.reading() as connection:
            flat, placed = roofs(connection, fingerprint), placed_points(connection, fingerprint)
            assert placed_points(connection, fingerprint, "another").empty and roofs(connection, "nosuch").empty
    document = run_document(record, "db")
    Draft202012Validator(document_schema()).validate(document)
    (found,) = document["points"]
    assert (found["ceiling"], found["seq_per_joule"], found["telemetry"]) == ("compute", 2.0, telemetry)
    assert found["ceiling_share"] == pytest.approx(0.5) and found["flops"] == 2e9
    (cells,) = flat_rows(record)
    assert set(cells) == {column.name for column in COLUMNS}
    assert (cells["ceiling"], cells["seq_per_joule"], cells["telemetry"]) == ("compute", 2.0, telemetry)
    assert flat["ridge_flops_per_byte"].tolist() == pytest.approx([1000.0, 50.0]) and flat["dtype"].tolist() == [
        "fp16",
        "fp32",
    ]
    assert placed["ceiling"].tolist() == ["compute"] and placed["joules_per_seq"].tolist() == [0.5]
    assert placed["model"].tolist() == [point.model] and placed["p50_ms"].tolist() == [4.0]


def test_unknown_telemetry_is_null_in_the_database(
    tmp_path: Path, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    with open_store(tmp_path / "a.db") as store:
        store.add_run(new_run(), [new_point()], 1)
        store.add_measurement(new_run().id, None, new_measurement(samples=[1000] * 12))
        with store.reading() as connection:
            assert connection.exec_driver_sql("SELECT telemetry IS NULL FROM measurements").scalar() == 1
        assert store.run(new_run().id).measurements[0].row.telemetry is None
