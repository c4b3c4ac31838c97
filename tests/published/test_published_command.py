"""`benchrun published`: every cell is shown, 80 columns are kept, and what differs or is unknown is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchrun.results import open_store
from benchrun.results.published import load, published_tables, table_names
from benchrun.results.rows import EnvironmentRow, MeasurementRow, PointRow, RunRow
from benchrun.results.statistics import summarise
from benchrun.results.store import new_run_id
from benchrun.runner.cli import run

Capture = pytest.CaptureFixture[str]
PROTOCOL = "v1;sync=iteration;streams=1;transfers=exclude;cache=warm;inputs=uniform/4/seed0;percentiles=linear"


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("BENCHRUN_DB", str(tmp_path / "runs.db"))


def store_run(db: Path, **changes: object) -> str:
    """A run of an H200: two engines that worked at batch 1, and one that ran out of memory at batch 256."""
    from dataclasses import replace
    from datetime import UTC, datetime

    import numpy as np

    now = datetime(2026, 1, 1, tzinfo=UTC)
    point = PointRow(
        key="a", model="bert-base", weights="random:0", head="layers", backend="torch", variant="eager", device="cuda:0",
        dtype="fp16", batch=1, seq=64, workload="padded", protocol=PROTOCOL,
    )  # fmt: skip
    points = [point, replace(point, key="b", variant="compile"), replace(point, key="c", batch=256, seq=384)]
    points = [replace(each, **changes) for each in points]  # type: ignore[arg-type]
    environment = EnvironmentRow(
        "f" * 16, {"hardware": {"gpu": {"name": "NVIDIA H200"}}, "libraries": {"torch": "2.13.0"}}
    )
    run_id = new_run_id(now)
    with open_store(db) as store:
        store.add_run(RunRow(run_id, "nightly", now, "finished", environment), points, 1)
        for key, ms in (("a", 4), ("b", 2)):
            samples = np.full(200, ms * 1_000_000)
            store.add_measurement(
                run_id, None,
                MeasurementRow(key, 0, 0, "ok", now, device=summarise(samples), host=summarise(samples), throughput_seq_s=1000 / ms,
                               warmup_n=20, facts={"cuda_graph": False}),
            )  # fmt: skip
        store.add_measurement(run_id, None, MeasurementRow("c", 0, 0, "oom", now, error="CUDA out of memory"))
    return run_id


def test_ls(capsys: Capture) -> None:
    assert run(["published", "ls"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in table_names()) and len(table_names()) == 13
    assert max(map(len, text.splitlines())) <= 80
    assert run(["published", "ls", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1 and sum(each["rows"] for each in found["tables"]) == sum(
        len(t.rows) for t in published_tables()
    )


@pytest.mark.parametrize("name", table_names())
def test_show_prints_every_figure_as_it_was_printed(name: str, capsys: Capture) -> None:
    assert run(["published", "show", name]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    table = load(name)
    shown = set(re.split(r"\s+", text))
    missing = {cell for row in table.rows for cell in row.printed.values()} - shown
    assert not missing
    assert text.count("OOM") >= sum(row.status == "oom" for row in table.rows)
    assert text.count("(blank)") == sum(row.status == "blank" for row in table.rows)
    assert "not stated" in text  # no source says everything
    for _, what in table.odd:
        assert what in " ".join(text.split())


def test_show_as_json_has_all_of_it(capsys: Capture) -> None:
    assert run(["published", "show", "aitemplate_a100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1 and len(found["rows"]) == 90
    assert found["rows"][1]["printed"]["avg_ms"] == "0.71" and found["engine_protocol"]["ait"]["graph"] == "on"


def test_an_unknown_table_is_one_sentence(capsys: Capture) -> None:
    assert run(["published", "show", "nosuch"]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and "there is no published table 'nosuch'; there are: aitemplate_a100" in text


def test_compare_spells_out_what_differs_and_what_is_unknown(tmp_path: Path, capsys: Capture) -> None:
    run_id = store_run(tmp_path / "runs.db")
    assert run(["published", "compare", run_id, "--table", "aitemplate_a100"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    assert "hardware: published NVIDIA A100-40GB, here NVIDIA H200" in flat
    assert "engine: published torch:eager, here torch:compile" in flat
    assert "attention mask: published none, not recorded here" in flat
    assert "CUDA graph: published on, here off" in flat  # AITemplate's side only
    line = next(line for line in text.splitlines() if "4.000 / 7.96" in line)
    assert "0.50" in line and "ok / ok" in line  # 4 ms here beside 7.96 ms
    assert "oom / ok" in text  # AITemplate fits at batch 256, we did not


def test_compare_as_json(tmp_path: Path, capsys: Capture) -> None:
    run_id = store_run(tmp_path / "runs.db")
    assert run(["published", "compare", run_id, "--table", "aitemplate_a100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (table,) = found["tables"]
    row = next(
        each
        for each in table["rows"]
        if each["published"]["engine"] == "ait" and each["measured"]["engine"] == "torch:eager"
    )
    assert row["ratios"]["avg"] == pytest.approx(4 / 0.71) and row["ratios"]["p99"] is None
    assert row["published"]["conditions"]["graph"] == "on" and found["run"] == run_id
    assert any(each.startswith("CUDA graph") for each in row["differs"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dtype": "fp8"}, "No published row fits: this run has bert-base fp8; the tables have"),
        ({"seq": 77}, "No published row of bert-base fp16 has one of this run's shapes (s77 b1, s77 b256)"),
        ({"model": None}, "Nothing can be laid beside it"),
    ],
)
def test_compare_says_why_nothing_fits(changes: dict[str, object], why: str, tmp_path: Path, capsys: Capture) -> None:
    run_id = store_run(tmp_path / "runs.db", **changes)
    assert run(["published", "compare", run_id]) == 1
    assert why in " ".join(capsys.readouterr().out.split())
    assert run(["published", "compare", "nosuch"]) == 2
    assert "there is no run 'nosuch'" in capsys.readouterr().err
