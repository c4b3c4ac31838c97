"""Published figures beside ours: the table, the chart, what can be taken away."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchrun.backends.catalogue import ModelError, named_spec
from benchrun.dashboard.beside import (
    COMPARED,
    MOST_ENGINES,
    MOST_LINES,
    chart_frame,
    compared,
    lay_out,
    like_for_like,
    published_table,
    table_words,
    taken_away,
)
from benchrun.dashboard.charts.figures import FIGURES
from benchrun.dashboard.charts.look import Look
from benchrun.dashboard.charts.published import published_chart
from benchrun.dashboard.recipes import command_for
from benchrun.results.published import ComparisonRow, MeasuredPoint, PublishedRow, compare, load, table_names
from benchrun.runner import cli
from tests.dashboard.test_dashboard_charts import rendered
from tests.dashboard.test_dashboard_colours import LOOKS


@LOOKS
def test_published(look: Look) -> None:
    rows = pd.DataFrame(
        {
            "series": ["a", "a", "b"],
            "ours": [True, True, False],
            "batch": [1, 2, 1],
            "value": [1.0, 2.0, 0.5],
            "note": ["", "", ""],
        }
    )
    svg = rendered(published_chart(rows, FIGURES["mean"], look))
    assert svg.index(">a<") < svg.index(">b<") and "latency mean, ms" in svg
    assert "throughput, sequences/s" in rendered(published_chart(rows[~rows["ours"]], FIGURES["throughput"], look))


def beside(table: str, *points: MeasuredPoint) -> list[ComparisonRow]:
    return like_for_like(compare(points, load(table)))


def our_point(engine: str, **changes: Any) -> MeasuredPoint:
    given: dict[str, Any] = {
        "model": "bert-base", "head": "encoder", "dtype": "fp16", "batch": 8, "seq": 128, "hardware": "NVIDIA H200",
        "avg_ms": 1.0, "p95_ms": 1.5, "p99_ms": 2.0, "throughput_seq_s": 8000.0,
    }  # fmt: skip
    return MeasuredPoint(engine=engine, **(given | changes))


def test_each_engine_of_ours_has_columns_beside_a_published_row() -> None:
    two = beside("aitemplate_a100", our_point("torch:eager"), our_point("torch:compile", avg_ms=0.5))
    assert len(two) == 4 and compared([each.published for each in two], two) is COMPARED[0]
    html = published_table([two[0].published], two)
    assert html.count("ours: torch:") == 2 and html.count("<tr>") == 3 and "0.12×" in html and "0.06×" in html
    assert re.findall(r"<th[^>]*>(mean|p95|throughput)<", html) == ["mean", "throughput", "mean", "mean"]
    frame = chart_frame(load("aitemplate_a100"), [two[0].published], two)
    assert list(frame["ours"]) == [False, True, True] and list(frame["value"]) == [8.12, 1.0, 0.5]
    away = taken_away([two[0].published], two)
    assert list(away["our_engine"]) == ["torch:eager", "torch:compile"] and set(away["avg_ms"]) == {8.12}
    assert list(away["our_avg_ms"]) == [1.0, 0.5]


def test_a_table_of_our_own_compares_each_engine_with_itself_by_what_it_prints() -> None:
    pairs = beside("benchrun_h200", our_point("torch:eager"), our_point("torch:compile"))
    assert pairs and all(each.published.engine == each.measured.engine for each in pairs)
    rows = [row for row in load("benchrun_h200").rows if row.batch == 8 and row.seq == 128 and row.model == "bert-base"]
    what = compared(rows, pairs)
    assert what.column == "p95_ms"  # it prints no mean
    html = published_table(rows, pairs, what)
    assert ">ours<" in html and "ours: " not in html and "0.20×" in html  # 1.5 ms against 7.55 ms
    assert compared(load("benchrun_h200_lengths").rows, []).column == "throughput_seq_s"
    assert taken_away(rows, [])["our_engine"].isna().all()


def test_published_rows_say_devices_scenarios_and_failures() -> None:
    html = published_table(load("mlperf_closed_nvidia").rows, [])
    assert (
        "8 × NVIDIA H200" in html
        and ">scenario<" in html
        and "<caption>qa · 384 tokens</caption>" in html
        and "Offline" in html
        and ">mean<" not in html
    )
    html = published_table([row for row in load("aitemplate_a100").rows if row.status == "oom"], [])
    assert "out of memory" in html
    training = load("benchrun_h200_training")
    # its one head, scenario and section tell nothing apart, so that no line names them
    series = set(
        chart_frame(training, [row for row in training.rows if row.model == "bert-large"], [], COMPARED[1])["series"]
    )
    assert series and not any(word in name for name in series for word in ("training", "qa", "step")), series


def test_heads_are_lines_of_their_own() -> None:
    table = load("aitemplate_a100")
    rows = [row for row in table.rows if row.seq == 128 and row.engine == "ait"]
    rows[-1] = replace(rows[-1], head="qa")  # at a batch of its own, so that the batch alone tells it from the others
    series = list(chart_frame(table, rows, [])["series"])
    assert len(rows) > 2 and len(set(series[:-1])) == 1 and "layers" in series[0] and "qa" in series[-1]


def test_of_several_of_ours_at_one_place_the_best_stands_there() -> None:
    """MLPerf states no batch, and two option sets of one engine look alike."""
    points = [
        our_point(
            "torch:eager", model="bert-large", head="qa", dtype="fp16", seq=384, batch=batch, throughput_seq_s=rate
        )
        for batch, rate in ((1, 500.0), (64, 9000.0), (8, 3000.0), (64, 8000.0))
    ]
    pairs = beside("mlperf_closed_nvidia", *points)
    rows = [row for row in load("mlperf_closed_nvidia").rows if row.dtype == "fp16"]
    what = compared(rows, pairs)
    html = published_table(rows, pairs, what)
    assert what.column == "throughput_seq_s" and ">9000<" in html and ">500.0<" not in html
    assert ">batch 64, 384 tokens<" in html
    words = " ".join(table_words(lay_out(rows, pairs, what), pairs, what))
    assert "ours is the best of those measured" in words
    assert "1 point of ours with the engine and shape of another" in words and "the highest throughput" in words
    assert len(taken_away(rows, pairs)) == len(pairs) == 4 and set(taken_away(rows, pairs)["our_batch"]) == {1, 8, 64}

    two = [our_point("torch:eager"), our_point("torch:eager", avg_ms=0.5), our_point("torch:eager", avg_ms=2.0)]
    pairs = beside("aitemplate_a100", *two)
    row = pairs[0].published
    assert ">0.500<" in published_table([row], pairs)
    frame = chart_frame(load("aitemplate_a100"), [row], pairs)
    assert list(frame[frame["ours"]]["value"]) == [0.5]
    assert "2 points of ours" in " ".join(table_words(lay_out([row], pairs, COMPARED[0]), pairs, COMPARED[0]))


def test_nothing_is_cut_without_a_word() -> None:
    engines = [f"torch:e{place}" for place in range(MOST_ENGINES + 2)]
    pairs = beside("aitemplate_a100", *(our_point(name) for name in engines))
    row = pairs[0].published
    laid = lay_out([row], pairs, COMPARED[0])
    assert table_words(laid, pairs, COMPARED[0]) == ["2 more engines of ours in the CSV only."]
    assert published_table([row], pairs).count("ours: torch:") == MOST_ENGINES
    rows = [row] * (MOST_LINES + 1)
    assert table_words(lay_out(rows, [], COMPARED[0]), [], COMPARED[0]) == ["1 more row in the CSV only."]
    # one of ours a line takes one group of columns, however many engines there are
    own = [replace(each, published=replace(each.published, order=place)) for place, each in enumerate(pairs)]
    rows = [each.published for each in own if each.published.engine == row.engine]
    html = published_table(rows, own)
    assert all(f">{name}<" in html for name, each in zip(engines, own, strict=False) if each.published in rows)
    assert table_words(lay_out(rows, own, COMPARED[0]), own, COMPARED[0]) == []


def test_what_a_source_leaves_out_is_not_printed() -> None:
    rows = [row for row in load("benchrun_h200_loadgen").rows if row.scenario == "SingleStream"]
    html = published_table(rows, [])
    assert ">p97<" in html and ">p99.9<" in html
    html = published_table([replace(row, seq=None) for row in rows], [])
    assert "– tokens" not in html and "<caption>" in html
    open_ = load("mlperf_open_nvidia")
    assert chart_frame(open_, open_.rows, [], COMPARED[4]).empty
    # ours alone would be no chart of the table's figures
    points = [our_point("torch:eager", model="bert-large", head="qa", dtype="fp16", seq=384)]
    pairs = beside("mlperf_closed_nvidia", *points)
    assert pairs and chart_frame(load("mlperf_closed_nvidia"), [pairs[0].published], pairs, COMPARED[4]).empty


def parts(name: str) -> list[list[PublishedRow]]:
    """Rows as the page shows them together, by scenario too."""
    found: dict[tuple[Any, ...], list[PublishedRow]] = {}
    for row in load(name).rows:
        found.setdefault((row.model, row.dtype, row.seq, row.scenario), []).append(row)
    return list(found.values())


@pytest.mark.parametrize("name", table_names())
def test_the_command_line_takes_what_the_page_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCHRUN_DB", str(tmp_path / "none.db"))
    for rows in parts(name):
        command = command_for(load(name), rows)
        try:
            named_spec(rows[0].model)
        except ModelError:
            assert command is None
            continue
        assert command is not None
        status = cli.run([*shlex.split(command)[1:], "--dry-run"])
        complaint = capsys.readouterr().err
        # only what this machine lacks may be in the way
        assert status == 0 or re.search("there is no device 'cuda' here|is not installed", complaint), (
            command,
            complaint,
        )
        many = replace(rows[0], scenario="MultiStream")
        multi = shlex.split(command_for(load(name), [many]) or "")
        assert multi[1:4] == ["loadgen", "--scenario", "multi-stream"] and "--batch" not in multi


def test_rows_that_only_their_part_tells_apart_name_it_and_ours_stand_in_their_scenario() -> None:
    rows = load("benchrun_h200_loadgen").rows
    ours = our_point(
        "torch:cudagraph", model="bert-large", head="qa", dtype="bf16", batch=128, seq=384, scenario="Offline"
    )
    pairs = beside("benchrun_h200_loadgen", ours)
    assert {each.published.scenario for each in pairs} == {"Offline"}
    multi = beside("benchrun_h200_loadgen", replace(ours, scenario="MultiStream", batch=4))
    assert multi and all(
        "MultiStream" not in str(each.published.scenario) for each in multi
    )  # no such row: the others, with what differs
    html = published_table(rows, pairs, COMPARED[-1])
    assert ">part<" in html and html.count(">bucketed<") == html.count(">packed<") == 6
    assert ">part<" not in published_table(load("aitemplate_a100").rows[:8], [])
