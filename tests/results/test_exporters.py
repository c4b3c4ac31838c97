"""Exports: tables as people expect them, figures that come back exactly, and nothing a spreadsheet or a browser would run."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchrun.results.document import run_document
from benchrun.results.errors import ExportError
from benchrun.results.exporters import FORMATS, export_run
from benchrun.results.exporters.columns import COLUMNS, flat_rows
from benchrun.results.exporters.csv import defuse
from benchrun.results.exporters.markdown import escape, figure
from benchrun.results.records import MeasurementRecord, PlannedPoint, RunRecord
from benchrun.results.rows import CeilingRow, EnvironmentRow, MeasurementRow, PointRow, Score
from benchrun.results.schema import Measurement, Point
from benchrun.results.statistics import ReportedSummary, Summary
from benchrun.results.store import Store
from tests.results.conftest import RUN, NewMeasurement, NewPoint, NewRun


def _sweep(
    new_run: NewRun, points: list[PointRow], rows: list[MeasurementRow], replicates: int = 1, **changes: Any
) -> RunRecord:
    planned = tuple(PlannedPoint(i, replicates, point) for i, point in enumerate(points))
    return RunRecord(new_run(**changes), planned, (), tuple(MeasurementRecord(i, 1, row) for i, row in enumerate(rows)))


def _markdown(record: RunRecord) -> str:
    written = export_run(record, "markdown")
    assert isinstance(written, str)
    return written


def _table(markdown: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in markdown.splitlines()
        if line.startswith("| ")
    ]


def test_the_markdown_table_has_the_shape_of_the_published_ones(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    engines = ("eager", "compile")
    points = [new_point(f"{v}{s}{b}", variant=v, seq=s, batch=b) for v in engines for s in (384, 128) for b in (2, 1)]
    speeds = {
        "eager1281": 20,
        "eager1282": 40,
        "eager3841": 60,
        "compile1281": 10,
        "compile1282": 50,
        "compile3842": 100,
    }
    rows = [
        new_measurement(key, samples=np.full(500, ms * 1_000_000), throughput_seq_s=1000 / ms)
        for key, ms in speeds.items()
    ]
    rows += [
        new_measurement("eager3842", "oom", error="CUDA out of memory", phase="warmup"),
        new_measurement(
            "compile3841", "invalid", samples=np.full(500, 1_000_000), throughput_seq_s=1000.0, error="wrong | answer"
        ),
    ]
    markdown = _markdown(_sweep(new_run, points, rows, label="nightly"))
    assert markdown.startswith("# nightly\n\nRun `20260301-123015-abcd`, started 2026-03-01 12:30 UTC, running.\n")
    assert "- cpu: Xeon\n- versions: torch 2.13.0\n" in markdown
    assert "## bert-base, encoder, fp32, cpu\n" in markdown
    assert "Times of the host clock; 1 launch, 500 samples a cell." in markdown
    header, *body = _table(markdown)
    captions = ["Average (ms)", "95th Percentile (ms)", "99th Percentile (ms)", "Sequences/s"]
    assert header == [
        "Sequence Length",
        "Batch Size",
        *(f"torch:{v} {caption}" for v in engines for caption in captions),
    ]
    assert body == [
        ["128", "1", "20.00", "20.00", "20.00", "50.00", "**10.00**", "**10.00**", "**10.00**", "**100.00**"],
        ["128", "2", "**40.00**", "**40.00**", "**40.00**", "**25.00**", "50.00", "50.00", "50.00", "20.00"],
        ["384", "1", "60.00", "60.00", "60.00", "16.67", "~~1.00~~", "~~1.00~~", "~~1.00~~", "~~1000.00~~"],
        ["384", "2", "OOM", "OOM", "OOM", "OOM", "100.00", "100.00", "100.00", "10.00"],
    ]
    assert "- torch:eager, batch 2, sequence length 384: oom (warmup): CUDA out of memory\n" in markdown
    assert "- torch:compile, batch 1, sequence length 384: invalid: wrong \\| answer\n" in markdown
    assert "†" not in markdown


def test_figures_that_do_not_belong_together_stand_in_blocks_of_their_own(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    different: list[dict[str, Any]] = [
        {},
        {"model": "bert-large"},
        {"head": "layers"},
        {"dtype": "bf16"},
        {"device": "cuda:0"},
        {"workload": "packed"},
        {"protocol": "p2"},
        {"weights": "random:1"},
        {"overrides": {"num_hidden_layers": 6}},
    ]
    points = [new_point(str(i), **changes) for i, changes in enumerate(different)]
    points += [new_point("same", options={"tf32": True, "attention": "sdpa"})]
    rows = [new_measurement(point.key, samples=[10**6]) for point in points]
    markdown = _markdown(_sweep(new_run, points, rows))
    assert markdown.count("\n## ") == len(different)
    assert "## bert-base (num\\_hidden\\_layers=6), encoder" in markdown
    assert "torch:eager (attention=sdpa, tf32=True) Average (ms)" in markdown


def test_the_device_clock_is_used_where_all_have_it(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    points = [new_point("a"), new_point("b", batch=2)]
    both = [new_measurement(key, samples=[3 * 10**6], device=[2 * 10**6]) for key in ("a", "b")]
    assert "device clock" in (markdown := _markdown(_sweep(new_run, points, both)))
    assert "| 2.00 |" in markdown and "| 3.00 |" not in markdown
    mixed = [both[0], new_measurement("b", samples=[3 * 10**6])]
    assert "host clock" in (markdown := _markdown(_sweep(new_run, points, mixed)))
    assert "| 2.00 |" not in markdown


def test_marks_for_few_samples_flags_launches_and_isolated_rates(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    points = [new_point("a"), new_point("b", batch=2), new_point("c", batch=4)]
    rows = [
        new_measurement("a", replicate=0, samples=np.full(50, 10**6), throughput_isolated=True, flags=("not_steady",)),
        new_measurement("a", replicate=1, samples=np.full(50, 10**6)),
        new_measurement("b", replicate=0, samples=np.full(100, 10**6)),
    ]
    markdown = _markdown(_sweep(new_run, points, rows, 2))
    first, second, third = _table(markdown)[1:]
    assert first == ["128", "1", "1.00", "1.00†", "1.00†", ""]
    assert second == ["128", "2", *["interrupted"] * 4] and third == ["128", "4", *["interrupted"] * 4]
    assert "- † too few samples to bound this percentile" in markdown
    assert "torch:eager, batch 1, sequence length 128: flagged not\\_steady" in markdown
    assert "1 to 2 launches, 100 samples a cell." in markdown
    assert "Sequences/s of torch:eager: the rate of the isolated calls" in markdown
    assert "batch 4, sequence length 128: interrupted: not measured: the run is still marked running" in markdown


def test_share_of_the_ceiling_and_energy_are_columns_where_a_block_has_them(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    points = [
        new_point("a", dtype="fp16"),
        new_point("b", dtype="fp16", batch=2),
        new_point("c", dtype="fp16", batch=4),
    ]
    work = {"samples": [4 * 10**6] * 12, "flops": 2e9, "least_bytes": 10**6}
    rows = [new_measurement("a", joules_per_seq=0.5, **work), new_measurement("b", samples=[10**6])]
    record = _sweep(new_run, points, [*rows, new_measurement("c", "oom", error="full")])
    taken = datetime(2026, 3, 1, tzinfo=UTC)
    ceilings = tuple(
        CeilingRow("f", "cpu", quantity, dtype, None, value, 9, taken)
        for quantity, dtype, value in (("matmul", "fp16", 1e12), ("copy", None, 1e9))
    )
    header, *body = _table(_markdown(replace(record, ceilings=ceilings)))
    assert header[-2:] == ["torch:eager Of Ceiling (%)", "torch:eager J/Sequence"]
    assert [row[-2:] for row in body] == [["50 (compute)", "0.5"], ["", ""], ["OOM", "OOM"]]
    assert _table(_markdown(record))[0][-1] == "torch:eager J/Sequence"


def test_options_that_all_share_are_said_once(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    points = [new_point("a", options={"threads": 2}), new_point("b", options={"threads": 2, "graph": True})]
    rows = [new_measurement(point.key, samples=[10**6]) for point in points]
    markdown = _markdown(_sweep(new_run, points, rows))
    assert "protocol p1, options (threads=2).\n" in markdown
    assert _table(markdown)[0][2::4] == ["torch:eager Average (ms)", "torch:eager (graph=True) Average (ms)"]


def test_what_an_imported_file_does_not_say_is_left_open(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    unknown = dict.fromkeys(("model", "weights", "head", "device", "dtype", "batch", "seq", "workload"))
    rows = [new_measurement("a", host=ReportedSummary(mean_ms=2.0)), new_measurement("b", "error")]
    points = [new_point("a", **unknown), new_point("b", **unknown | {"batch": 8})]
    markdown = _markdown(
        _sweep(new_run, points, rows, environment=EnvironmentRow("f", {"gpus": ["T4", "V100"], "deep": {"a": {}}}))
    )
    assert "## unknown, unknown, unknown, unknown\n" in markdown and "- gpus: T4, V100\n" in markdown
    assert _table(markdown)[1:] == [["", "", "2.00", "", "", ""], ["", "8", *["error"] * 4]]
    assert "torch:eager, batch 8, sequence length unknown: error" in markdown and "†" not in markdown


def test_engines_that_did_not_take_a_point_leave_it_blank(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    points = [new_point("a"), new_point("b", backend="ort", variant="cpu", batch=2)]
    rows = [new_measurement(point.key, samples=np.full(500, 10**6)) for point in points]
    assert _table(_markdown(_sweep(new_run, points, rows)))[1:] == [
        ["128", "1", "1.00", "1.00", "1.00", "", "", "", "", ""],
        ["128", "2", "", "", "", "", "1.00", "1.00", "1.00", ""],
    ]


def test_a_run_without_any_figure_is_still_a_table(new_run: NewRun, new_point: NewPoint) -> None:
    markdown = _markdown(_sweep(new_run, [new_point("a")], [], label=""))
    assert markdown.startswith(f"# {RUN}\n") and "nothing measured" in markdown
    assert _markdown(_sweep(new_run, [], [])).count("\n## ") == 0


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "a | b", "two\nlines", "[x](javascript:1)", "**bold** _it_ `code` ~~x~~"]
)
def test_names_are_shown_as_text_in_markdown(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement, text: str
) -> None:
    rows = [new_measurement("a", "error", error=text)]
    markdown = _markdown(_sweep(new_run, [new_point("a", model=text, variant=text)], rows, label=text))
    assert text not in markdown and "<script" not in markdown
    assert {len(line.replace("\\|", "").split("|")) for line in markdown.splitlines() if line.startswith("|")} == {8}


@given(st.text())
def test_escaped_text_stays_on_one_line_and_keeps_its_words(text: str) -> None:
    escaped = escape(text)
    assert len(escaped.splitlines()) <= 1 and "<" not in escaped and ">" not in escaped


@pytest.mark.parametrize(
    ("value", "text"), [(1762.719, "1762.72"), (7.96, "7.96"), (1.0, "1.00"), (0.71449, "0.714"), (0.001234, "0.00123")]
)
def test_figures_have_the_digits_of_the_published_tables(value: float, text: str) -> None:
    assert figure(value) == text


# --- flat table ---


def test_the_flat_table_has_every_figure_of_the_database() -> None:
    names = {column.name for column in COLUMNS}
    stored = {column.name for table in (Measurement, Point) for column in table.__table__.columns}
    assert stored - {"id", "point_key", "superseded"} <= names
    assert len(names) == len(COLUMNS)
    assert {f"host_{field.name}" for field in fields(Summary)} <= names


def _exported(record: RunRecord) -> tuple[list[dict[str, Any]], list[dict[str, str]], list[dict[str, Any]]]:
    """The rows as they are, as CSV has them and as Parquet has them."""
    text, data = export_run(record, "csv"), export_run(record, "parquet")
    assert isinstance(text, str) and isinstance(data, bytes)
    return list(flat_rows(record)), list(csv.DictReader(io.StringIO(text))), pq.read_table(io.BytesIO(data)).to_pylist()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_cell_comes_back_from_csv_and_parquet(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement, data: st.DataObject
) -> None:
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    taken = st.none() | st.lists(st.integers(0, 2**62), min_size=1, max_size=20)
    figures = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    point = new_point(
        "a", model=data.draw(texts), options=data.draw(st.dictionaries(texts, st.booleans() | texts, max_size=2))
    )
    scores = st.lists(
        st.builds(Score, texts, texts, st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 9)), max_size=2
    )
    rows = [
        new_measurement(
            "a",
            replicate=i,
            scores=tuple(data.draw(scores)),
            samples=data.draw(taken),
            device=data.draw(taken),
            error=data.draw(st.none() | texts),
            throughput_seq_s=data.draw(figures),
            compile_s=data.draw(figures),
            peak_host_bytes=data.draw(st.none() | st.integers(0, 2**62)),
            cache_hit=data.draw(st.none() | st.booleans()),
            flags=tuple(data.draw(st.lists(texts, max_size=2))),
        )
        for i in range(3)
    ]
    plain, as_csv, as_parquet = _exported(_sweep(new_run, [point], rows, 3, label=data.draw(texts)))
    assert len(plain) == len(as_csv) == len(as_parquet) == 3
    for row, text, typed in zip(plain, as_csv, as_parquet, strict=True):
        for column in COLUMNS:
            value, cell = row[column.name], typed[column.name]
            if column.kind == "samples":
                assert (cell is None) == (value is None) and (value is None or cell == value.tolist())
                continue
            if column.kind == "json" and value is not None:
                assert json.loads(cell) == json.loads(text[column.name]) == value
                continue
            assert cell == value
            written = text[column.name]
            if value is None:
                assert written == ""
            elif column.kind == "figure":
                assert float(written) == value
            elif column.kind == "integer":
                assert int(written) == value
            elif column.kind == "truth":
                assert written == str(value).lower()
            elif column.kind == "text":
                assert written.removeprefix("'") == value.removeprefix("'")


def test_scores_have_columns_of_their_own_in_csv(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    """Those of a later launch too, which the first lines knew nothing of."""
    f1, exact = Score("squad", "f1", 90.5, 4), Score("squad", "exact", 75.0, 4, 76.0)
    rows = [new_measurement("a", replicate=i, scores=scores) for i, scores in enumerate(((), (f1,), (exact, f1)))]
    plain, as_csv, as_parquet = _exported(_sweep(new_run, [new_point("a")], rows, 3))
    assert [each.get("score_squad_f1") for each in as_csv] == ["", "90.5", "90.5"]
    assert [each.get("score_squad_exact") for each in as_csv] == ["", "", "75.0"]
    assert list(as_csv[0])[-2:] == ["score_squad_f1", "score_squad_exact"]
    assert [len(json.loads(each["scores"])) for each in as_parquet] == [0, 1, 2]
    assert plain[2]["scores"][0] == {"task": "squad", "metric": "exact", "value": 75.0, "n": 4, "reference": 76.0}


def test_a_stored_run_is_exported_with_its_samples(
    store: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    store.add_run(new_run(), [new_point("a"), new_point("b")], 1)
    store.add_measurement(RUN, None, new_measurement("a", samples=[3, 1, 2]))
    plain, as_csv, as_parquet = _exported(store.run(RUN, samples=True))
    assert [row["key"] for row in as_csv] == ["a"] and plain[0]["host_n"] == 3
    assert as_parquet[0]["host_samples_ns"] == [3, 1, 2] and as_parquet[0]["device_samples_ns"] is None
    assert as_parquet[0]["run_started"] == new_run().started
    assert _exported(store.run(RUN))[2][0]["host_samples_ns"] is None
    for each in FORMATS:
        assert export_run(store.run(RUN), each, store.shown)


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "＝1"])
def test_cells_are_no_formulas(
    new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement, start: str
) -> None:
    rows = [new_measurement("a", "error", error=start)]
    _, (row,), _ = _exported(_sweep(new_run, [new_point("a", model=start)], rows, label=start))
    assert row["error"] == row["model"] == row["label"] == f"'{start}"
    assert defuse("fine = text") == "fine = text"


def test_negative_figures_are_figures(new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement) -> None:
    samples = np.linspace(2e6, 1e6, 60).astype(np.int64)
    _, (row,), _ = _exported(_sweep(new_run, [new_point("a")], [new_measurement("a", samples=samples)]))
    assert float(row["host_drift"]) < 0 and row["host_drift"].startswith("-")


def test_the_json_export_is_the_document(store: Store, new_run: NewRun, new_point: NewPoint) -> None:
    store.add_run(new_run(label="ü"), [new_point("a")], 1)
    written = export_run(store.run(RUN), "json", "here")
    assert isinstance(written, str) and "ü" in written
    assert json.loads(written) == run_document(store.run(RUN), "here")


def test_an_unknown_format_and_a_missing_library_are_one_sentence(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = _sweep(new_run, [], [])
    with pytest.raises(ExportError, match="no export format 'xlsx'; choose one of markdown, csv, json, parquet"):
        export_run(record, "xlsx")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExportError, match=r"Parquet needs pyarrow: pip install 'benchrun-inference\[parquet\]'"):
        export_run(record, "parquet")
