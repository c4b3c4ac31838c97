"""What a layout gains over padding, from the rows of a run."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from benchrun.results.document import document_schema, run_document
from benchrun.results.layouts import layout_gain, layout_gains, split_layout, split_lengths
from benchrun.results.records import MeasurementRecord, PlannedPoint, RunRecord
from benchrun.results.rows import EnvironmentRow, MeasurementRow, PointRow, RunRow
from benchrun.runner.cli.layout_table import layout_tables

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
MIX = "lengths:lognormal:177:32-384"
POINT = PointRow("k", "bert-large", "random:0", "encoder", "torch", "cudagraph", "cuda:0", "bf16", 1024, 384, "", "v1")


def record(*points: tuple[str, float | None, float, dict[str, Any]]) -> RunRecord:
    """A run of points (workload, sequences/s, padding, other columns); a rate of None is a failure."""
    planned, found = [], []
    for place, (workload, rate, padding, changes) in enumerate(points):
        point = replace(POINT, key=f"{place:016d}", workload=workload, **changes)
        planned.append(PlannedPoint(place, 1, point))
        status = "error" if rate is None else "ok"
        row = MeasurementRow(
            point.key, 0, place, status, MOMENT, throughput_seq_s=rate, padding_fraction=padding, tokens_s=123456.0
        )
        found.append(MeasurementRecord(place, 1, row))
    run = RunRow("20260301-000000-abcd", "", MOMENT, "finished", EnvironmentRow("0" * 16, {}))
    return RunRecord(run, tuple(planned), (), tuple(found))


FULL = record(
    (f"{MIX}:padded", 1000.0, 0.5, {}),
    (f"{MIX}:bucketed", 1500.0, 0.2, {}),
    (f"{MIX}:packed", 1800.0, 0.0, {}),
    (f"{MIX}:packed", 900.0, 0.0, {"variant": "eager"}),  # without a padded twin
    ("padded", 500.0, 0.0, {}),
)


def test_the_ideal_is_what_padding_leaves_to_gain() -> None:
    found = layout_gain(1800, 1000, 0.5)
    assert (found.speedup, found.ideal) == (1.8, 2.0) and found.share == pytest.approx(0.9)
    assert layout_gain(10, 10, 0.0).ideal == 1


def test_workloads_are_split_into_mix_and_layout() -> None:
    assert split_layout(f"{MIX}:packed") == (MIX, "packed")
    assert split_layout("loadgen:server:auto:130ms:lognormal:177:32-384:packed") == (
        "loadgen:server:auto:130ms:lognormal:177:32-384",
        "packed",
    )
    assert [split_layout(each) for each in (None, "padded", "train:adamw", MIX)] == [None] * 4
    assert split_lengths(f"{MIX}:packed") == (MIX, "packed") and split_lengths("loadgen:offline:fixed:packed") is None


def test_points_are_compared_with_their_padded_twin() -> None:
    found = layout_gains(FULL)
    assert {key: each.speedup for key, each in found.items()} == {f"{1:016d}": 1.5, f"{2:016d}": 1.8}
    assert all(each.ideal == 2.0 for each in found.values())


@pytest.mark.parametrize(
    "changes",
    [{"batch": 1}, {"seq": 512}, {"dtype": "fp16"}, {"options": {"a": 1}}, {"overrides": {"b": 2}}, {"weights": "x"}],
)
def test_a_twin_differs_in_nothing_else(changes: dict[str, Any]) -> None:
    assert not layout_gains(record((f"{MIX}:padded", 1000.0, 0.5, {}), (f"{MIX}:packed", 1800.0, 0.0, changes)))


def test_what_failed_gains_nothing() -> None:
    assert not layout_gains(record((f"{MIX}:padded", None, 0.5, {}), (f"{MIX}:packed", 1800.0, 0.0, {})))
    assert not layout_gains(record((f"{MIX}:padded", 1000.0, 0.5, {}), (f"{MIX}:packed", None, 0.0, {})))


def test_the_table_fits_80_columns() -> None:
    console = Console(width=80, file=io.StringIO(), no_color=True)
    for each in layout_tables(FULL):
        console.print(each, highlight=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert f"bert-large · encoder · bf16 · cuda:0 · {MIX} · layouts" in text
    lines = [line.split() for line in text.splitlines() if line.startswith("torch:cudagraph")]
    assert [line[3:] for line in lines] == [
        ["padded", "50.0%", "123456", "1000.0"],
        ["bucketed", "20.0%", "123456", "1500.0", "1.50×", "2.00×", "75%"],
        ["packed", "0.0%", "123456", "1800.0", "1.80×", "2.00×", "90%"],
    ]
    assert not list(layout_tables(record((f"{MIX}:padded", 1000.0, 0.5, {}), ("padded", 1.0, 0.0, {}))))


def test_the_document_has_the_gain() -> None:
    from jsonschema import Draft202012Validator

    document = run_document(FULL, "db")
    Draft202012Validator(document_schema()).validate(document)
    assert [each["layout_gain"] for each in document["points"]] == [
        None,
        {"speedup": 1.5, "ideal": 2.0, "share": 0.75},
        {"speedup": 1.8, "ideal": 2.0, "share": 0.9},
        None,
        None,
    ]
