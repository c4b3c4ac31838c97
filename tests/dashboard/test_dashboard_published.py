"""Published figures beside ours: the table, the chart, what can be taken away."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from benchrun.dashboard.beside import COMPARED, chart_frame, compared, like_for_like, published_table, taken_away
from benchrun.dashboard.charts.figures import FIGURES
from benchrun.dashboard.charts.look import Look
from benchrun.dashboard.charts.published import published_chart
from benchrun.results.published import ComparisonRow, MeasuredPoint, compare, load
from tests.dashboard.test_dashboard_charts import LOOKS, rendered


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
    assert "step" not in set(chart_frame(training, training.rows, [], COMPARED[1])["series"])
