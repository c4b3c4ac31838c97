"""Chart builders: what they draw is valid Vega-Lite that the renderer accepts, and readable on both backgrounds."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert

from benchrun.dashboard.charts.accuracy import accuracy_chart
from benchrun.dashboard.charts.bars import bar_chart
from benchrun.dashboard.charts.distribution import (
    MOST_DRAWN,
    body_limit,
    ecdf_chart,
    ecdf_frame,
    histogram_chart,
    histogram_frame,
    sequence_chart,
    sequence_frame,
)
from benchrun.dashboard.charts.figures import FIGURES, LATENCIES
from benchrun.dashboard.charts.frontier import best_under, frontier_chart, frontier_mask, readable
from benchrun.dashboard.charts.heatmap import heat_map, value_span
from benchrun.dashboard.charts.look import Look
from benchrun.dashboard.charts.parts import (
    interval_text,
    log_ticks,
    series_names,
    tail_text,
    value_axis,
    value_scale,
)
from benchrun.dashboard.charts.published import published_chart
from benchrun.dashboard.charts.ratios import axis_range, interval, ratio_chart, ratio_ticks
from benchrun.dashboard.charts.roofline import roof_lines, roofline_chart
from benchrun.dashboard.charts.scaling import scaling_chart
from benchrun.dashboard.charts.trend import Along, run_order, trend_chart
from benchrun.dashboard.comparison import compare_table, names_of_pairs
from benchrun.dashboard.formats import change
from benchrun.dashboard.labels import add_series
from benchrun.dashboard.selection import drawable
from benchrun.results.store import open_store
from benchrun.results.views.latest import run_results
from benchrun.results.views.pairing import pair
from benchrun.results.views.summaries import summarise
from tests.dashboard.test_dashboard_colours import LOOKS, contrast


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Points of the runs of the database `several`, by the number of the run."""
    from tests.dashboard.stores import make

    path = make(tmp_path_factory.mktemp("charts") / "several.db", "several")
    with open_store(path, read_only=True) as store, store.reading() as connection:
        return {each.id[-1]: add_series(summarise(run_results(connection, each.id))) for each in store.runs()}


def rendered(chart: Any) -> str:
    """The chart as SVG, by the same Vega-Lite that the browser runs."""
    svg: str = vl_convert.vegalite_to_svg(chart.properties(width=700).to_dict())
    assert svg.startswith("<svg") and "NaN" not in svg
    return svg


@LOOKS
@pytest.mark.parametrize(
    ("x", "figure", "band", "logarithmic"),
    [("batch", "p50", True, True), ("seq", "p99", False, False), ("batch", "throughput", False, True)],
)
def test_scaling(
    several: dict[str, pd.DataFrame], look: Look, x: str, figure: str, band: bool, logarithmic: bool
) -> None:
    points = drawable(several["4"], [FIGURES[figure].column])
    svg = rendered(scaling_chart(points, x, FIGURES[figure], look, band=band, logarithmic=logarithmic))
    for series in set(points["series"]):
        assert series in svg
    assert FIGURES[figure].axis in svg


@LOOKS
def test_frontier(several: dict[str, pd.DataFrame], look: Look) -> None:
    points = drawable(several["4"], ["p99_ms", "throughput_seq_s"])
    assert "limit 2 ms" in rendered(frontier_chart(points, LATENCIES["p99"], 2.0, look))
    assert ">limit" not in rendered(frontier_chart(points, LATENCIES["p99"], None, look))


def test_frontier_mask_is_what_nothing_else_beats() -> None:
    points = pd.DataFrame(
        {
            "p99_ms": [1.0, 2.0, 3.0, 2.5, 9.0],
            "throughput_seq_s": [10.0, 30.0, 20.0, 40.0, 1.0],
            "seq": [32, 32, 32, 32, 64],
        }
    )
    assert frontier_mask(points, LATENCIES["p99"]) == [True, True, False, True, True]
    best = best_under(points, LATENCIES["p99"], 2.2)
    assert best[["seq", "throughput_seq_s"]].to_numpy().tolist() == [[32.0, 30.0]]


@LOOKS
def test_heat_map_labels_failures(several: dict[str, pd.DataFrame], look: Look) -> None:
    points = several["4"]
    one = points[points["series"] == points["series"].iloc[0]]
    svg = rendered(heat_map(one, FIGURES["p50"], look, value_span(points, FIGURES["p50"]), title="a series"))
    assert ">oom<" in svg and "a series" in svg
    failed = one.assign(status="timeout", p50_ms=np.nan, launches=0)
    assert rendered(heat_map(failed, FIGURES["p50"], look, value_span(failed, FIGURES["p50"]))).count(
        ">timeout<"
    ) == len(one)


@LOOKS
def test_ratios(several: dict[str, pd.DataFrame], look: Look) -> None:
    result = pair(several["4"], several["5"])
    rows = result.rows.assign(name=names_of_pairs(result.rows))
    svg = rendered(ratio_chart(rows, look, base="the first", new="the second"))
    assert "slower" in svg and rows["name"].is_unique
    assert compare_table(rows, FIGURES["p50"]).count("<tr>") == len(rows) + 1


def test_ratio_axis_holds_all_ratios_and_few_ticks() -> None:
    for ratio, low, high in itertools.product((1.001, 1.04, 1.3, 0.2, 40.0), (0.001, 0.9, None), (1.2, 1e6, None)):
        frame = pd.DataFrame({"ratio": [ratio], "ratio_low": [low], "ratio_high": [high]})
        start, end = axis_range(frame)
        assert start <= ratio <= end and start < 1 < end
        ticks = ratio_ticks(end)
        assert 1.0 in ticks and 3 <= len(ticks) <= 9 and all(start <= tick <= end for tick in ticks)
    assert ratio_ticks(4.05) == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1 / 1.5, 1, 1.5, 2, 3, 4])


@LOOKS
def test_single_launches_are_drawn_too(several: dict[str, pd.DataFrame], look: Look) -> None:
    """Seen in a screenshot: their marks were of a shape that has no area."""
    rows = pair(several["4"], several["5"]).rows
    bare = rows.assign(
        name=names_of_pairs(rows), word="one launch", ratio_low=np.nan, ratio_high=np.nan, launches_new=1
    )
    svg = rendered(ratio_chart(bare, look, base="the first", new="the second"))
    marks = re.findall(r'<path[^>]*aria-label="point[^"]*"[^>]* d="([^"]*)"[^>]*fill="(#[0-9a-f]{6})"', svg)
    marks = marks or re.findall(r'<path[^>]*roledescription="point"[^>]* d="([^"]*)"[^>]*fill="(#[0-9a-f]{6})"', svg)
    assert len(marks) == len(bare) and all("Z" in path for path, _ in marks), svg[:3000]


def test_changes_in_words() -> None:
    assert [change(value) for value in (1.07, 0.88, 2.5, 0.112, 150, None, 0.0)] == [
        "+7.0 %", "−12.0 %", "2.5× slower", "8.9× faster", "150× slower", "–", "−100 %",
    ]  # fmt: skip


def test_a_narrow_axis_has_ticks_and_room() -> None:
    """Seen in a screenshot: one point, and an axis without a single tick."""
    for values in ([1.464], [0.97, 1.05], [7.0, 13.0], [123.0], [0.0031]):
        inside = [tick for tick in log_ticks(values) if min(values) / 1.15 <= tick <= max(values) * 1.15]
        assert 2 <= len(inside) <= 9, (values, inside)
    scale = value_scale(True, [1.464]).to_dict()
    assert scale["domain"][0] < 1.4 and scale["domain"][1] > 1.6
    assert value_scale(False, [100, 101], zero=False).to_dict()["domain"][0] < 99
    assert (
        "domain" not in value_scale(True, [1, 100]).to_dict() and value_scale(False, [1, 2]).to_dict()["zero"] is True
    )


@LOOKS
@pytest.mark.parametrize("logarithmic", [True, False])
def test_distribution(look: Look, logarithmic: bool) -> None:
    samples = np.exp(np.random.default_rng(0).normal(0, 0.1, 300))
    rendered(ecdf_chart(ecdf_frame(samples, "a", "launch 1"), look, logarithmic=logarithmic))
    rendered(
        histogram_chart(
            histogram_frame([("a", samples), ("b", samples * 2)], logarithmic=logarithmic),
            look,
            logarithmic=logarithmic,
        )
    )
    svg = rendered(
        sequence_chart(sequence_frame(samples, "a", "launch 1", 0), {"launch 1": 0}, look, logarithmic=logarithmic)
    )
    assert "launch 1" in svg


def test_very_many_samples_keep_their_extremes() -> None:
    samples = np.exp(np.random.default_rng(0).normal(0, 0.1, 200_000))
    samples[[17, 150_000]] = 9.0, 0.01
    ecdf = ecdf_frame(samples, "a", "launch 1")
    assert (
        len(ecdf) <= MOST_DRAWN + 60
        and ecdf["ms"].max() == 9.0
        and ecdf["ms"].min() == 0.01
        and ecdf["share"].iloc[-1] == 1
    )
    order = sequence_frame(samples, "a", "launch 1", 0)
    drawn = order[order["kind"] == "sample"]
    assert (
        len(drawn) <= MOST_DRAWN
        and {9.0, 0.01} <= set(drawn["ms"])
        and drawn.loc[drawn["ms"] == 9.0, "number"].tolist() == [18.0]
    )


def test_equal_samples_still_have_a_histogram() -> None:
    frame = histogram_frame([("a", np.full(20, 2.0))], logarithmic=False)
    assert frame["count"].sum() == 20 and (frame["end"] > frame["start"]).all()


@LOOKS
@pytest.mark.parametrize("along", ["order", "commit", "time"])
def test_trend(several: dict[str, pd.DataFrame], look: Look, along: Along) -> None:
    course = pd.concat([several[number].iloc[[1]] for number in "123456"], ignore_index=True)
    marks = pd.DataFrame(
        {
            "run_id": [course["run_id"][2], course["run_id"][3]],
            "kind": ["environment", "step"],
            "text": ["torch 1 → 2", "level +30 %"],
        }
    )
    svg = rendered(trend_chart(course, marks, FIGURES["p50"], look, along=along, logarithmic=along == "time"))
    assert "torch 1 → 2" in svg and "level +30 %" in svg
    assert rendered(trend_chart(course, marks.iloc[:0], FIGURES["p50"], look, along=along, logarithmic=False))
    assert list(run_order(course.iloc[::-1]).values()) == [1, 2, 3, 4, 5, 6]


@LOOKS
def test_bars_where_there_is_one_shape(several: dict[str, pd.DataFrame], look: Look) -> None:
    points = several["4"]
    points = points[(points["batch"] == 4) & (points["seq"] == 32)]
    svg = rendered(bar_chart(points, FIGURES["p50"], look, band=True))
    assert svg.count('aria-roledescription="bar"') == len(points) == 3
    assert len(re.findall(r">p50 0\.5\d\d · p95 0\.\d+ · p99 0\.\d+<", svg)) == 3
    assert svg.count('aria-roledescription="tick"') == 6
    plain = rendered(bar_chart(points, FIGURES["throughput"], look, band=False))
    assert "p99" not in re.sub("<path[^>]*>", "", plain) and plain.count('aria-roledescription="tick"') == 0


@LOOKS
def test_every_series_can_be_seen(several: dict[str, pd.DataFrame], look: Look) -> None:
    """Every shape of a filled mark has an area: a `stroke` has none, and its point was not there."""
    one = several["4"].iloc[[0]]
    many = pd.concat([one.assign(series=f"engine {n}", p50_ms=1.0 + n, throughput_seq_s=9.0 + n) for n in range(16)])
    svg = rendered(frontier_chart(many, LATENCIES["p50"], None, look))
    paths = re.findall(r'<path aria-label="[^"]*" role="graphics-symbol"[^>]* d="([^"]*)"[^>]*opacity="1"', svg)
    assert len(paths) >= 16
    for path in paths:
        assert len(re.findall("[ahlv]", path, re.IGNORECASE)) >= 2, path


def test_large_figures_have_no_exponent() -> None:
    import altair as alt

    for logarithmic in (False, True):
        rows = pd.DataFrame({"x": [1, 2, 3], "ms": [20.0, 90.0, 141.0]})
        axis = value_axis("time, ms", rows["ms"], logarithmic=logarithmic)
        y = alt.Y("ms:Q", axis=axis, scale=value_scale(logarithmic, rows["ms"]))
        svg = rendered(alt.Chart(rows).mark_point().encode(x="x:Q", y=y))
        assert ">100<" in svg and "e+" not in svg


@LOOKS
def test_a_lone_point_stands_at_its_own_figure(several: dict[str, pd.DataFrame], look: Look) -> None:
    """An axis without width would write every tick where the point is."""
    one = (
        several["4"]
        .iloc[[0]]
        .assign(flops_per_byte=15.85, tflop_s=0.0399, gbyte_s=2.5, ceiling=None, ceiling_share=None)
    )
    none = pd.DataFrame({"dtype": [], "flops_s": [], "bytes_s": [], "ridge_flops_per_byte": []})
    published = pd.DataFrame({"series": ["a"], "ours": [True], "batch": [1], "value": [3.14], "note": [""]})
    scored = one.assign(value=90.0, reference=90.0, n=100)
    for chart in (
        roofline_chart(one, none, look),
        frontier_chart(one, LATENCIES["p50"], None, look),
        published_chart(published, FIGURES["mean"], look),
        accuracy_chart(scored, LATENCIES["p50"], "f1", look),
    ):
        svg = rendered(chart)
        for side in re.findall(r'aria-label="([XY])-axis', svg):
            labels = re.findall(rf'aria-label="{side}-axis.*?role-axis-label(.*?)role-axis-title', svg, re.DOTALL)
            places = re.findall(r'<text[^>]*transform="translate\(([^)]*)\)"[^>]*>([^<]+)</text>', "".join(labels))
            at = [tuple(map(float, place.split(","))) for place, _ in places]
            assert len(set(at)) == len(at) >= 1, (side, places)


def test_names_with_numbers_stand_in_their_order() -> None:
    names = ["launch 10", "launch 2", "b", "launch 1", "2 x", "a1b10", "a1b9"]
    assert series_names(pd.DataFrame({"series": names})) == [
        "2 x",
        "a1b9",
        "a1b10",
        "b",
        "launch 1",
        "launch 2",
        "launch 10",
    ]


def test_intervals_have_one_notation() -> None:
    def row(low: float, high: float) -> Any:
        return pd.DataFrame({"ratio_low": [low], "ratio_high": [high]}).iloc[0]

    assert interval(row(0.98, 1.04)) == "−2.0 % to +4.0 %"
    assert interval(row(0.1, 0.8)) == "10.0× to 1.2× faster" and interval(row(1.2, 3.0)) == "1.2× to 3.0× slower"
    assert interval(row(0.5, 4.0)) == "2.0× faster to 4.0× slower"


def test_labels_of_lines_do_not_lie_on_each_other() -> None:
    assert readable([10.0, 10.1, 1.0], [100.0, 99.0, 100.0], [0.5, 12.0], [1.0, 100.0]) == [True, False, True]
    assert readable([1.0, 1.0], [10.0, 1.0], [0.5, 2.0], [1.0, 10.0]) == [True, True]


def end_of_time(chart: Any) -> float:
    """Where the axis of times ends, as its label tells screen readers."""
    (end,) = re.findall(
        r"-axis titled 'time, ms' for a linear scale with values from [\d.]+ to ([\d.]+)", rendered(chart)
    )
    return float(end)


@LOOKS
def test_a_few_slow_samples_do_not_squeeze_the_rest(look: Look) -> None:
    body = np.linspace(1.0, 1.2, 400)
    slow = np.append(body, [5.0, 9.0])
    limit = body_limit([body, slow])
    assert limit is not None and 1.2 < limit < 1.5 and body_limit([body]) is None and body_limit([]) is None
    frame = histogram_frame([("a", slow)], logarithmic=False, limit=limit)
    assert frame["end"].max() == limit and frame["share"].sum() == pytest.approx(400 / 402)
    one, launch = ecdf_frame(slow, "a", "launch 1"), sequence_frame(slow, "a", "launch 1", 0)
    every = histogram_frame([("a", slow)], logarithmic=False)
    for cut, whole in (
        (histogram_chart(part, look, logarithmic=False, limit=end) for part, end in ((frame, limit), (every, None))),
        (ecdf_chart(one, look, logarithmic=False, limit=end) for end in (limit, None)),
        (sequence_chart(launch, {"launch 1": 0}, look, logarithmic=False, limit=end) for end in (limit, None)),
    ):
        assert 1.2 < end_of_time(cut) < 1.5 and end_of_time(whole) >= 9


@LOOKS
def test_a_chart_carries_all_it_needs_and_no_way_out(several: dict[str, pd.DataFrame], look: Look) -> None:
    spec = scaling_chart(
        drawable(several["4"], ["p50_ms"]), "batch", FIGURES["p50"], look, band=True, logarithmic=True
    ).to_dict()
    text = json.dumps(spec)
    assert '"bind": "legend"' in text and "interval of p50" in text and '"title": "n"' in text
    assert '"href"' not in text and '"url"' not in text


@LOOKS
def test_roofline(look: Look) -> None:
    points = pd.DataFrame(
        {
            "series": ["a", "b"], "batch": [1, 8], "seq": [32, 32], "dtype": "fp32", "flops_per_byte": [5.0, 500.0],
            "tflop_s": [0.05, 0.1], "gbyte_s": [10.0, 0.2], "ceiling": ["bandwidth", None], "ceiling_share": [0.5, None],
        }
    )  # fmt: skip
    roofs = pd.DataFrame(
        {
            "dtype": ["fp32", "bf16"],
            "flops_s": [2e11, 4e11],
            "bytes_s": [2e10, None],
            "ridge_flops_per_byte": [10.0, None],
        }
    )
    lines = roof_lines(roofs, (1.0, 1000.0))
    assert lines["tflop_s"].tolist() == pytest.approx([0.02, 0.2, 0.2]) and set(lines["roof"]) == {
        "fp32, 0.200 TFLOP/s"
    }
    svg = rendered(roofline_chart(points, roofs, look))
    assert "fp32, 0.200 TFLOP/s" in svg and "bandwidth, 50 % of it" in svg and "benchrun ceilings" in svg
    rendered(roofline_chart(points.head(1), roofs.iloc[:0], look))


def test_ticks() -> None:
    assert {1, 2, 5, 10} <= set(log_ticks([1.2, 90]))
    assert {2, 3, 4} <= set(log_ticks([2, 5])) and 200 not in log_ticks([1e-3, 1e6]) and log_ticks([]) == [1.0]


def test_tooltips_say_what_an_interval_is(several: dict[str, pd.DataFrame]) -> None:
    row = next(several["4"].itertuples())
    assert "95 % between 3 launches" in interval_text(row)
    bare = next(several["4"].assign(p50_low_ms=np.nan).itertuples())
    assert interval_text(bare) == "too few samples for one"
    assert (
        tail_text(3.0, None) == "3.000 ms, n too small for a bound"
        and tail_text(3.0, 4.0) == "3.000 ms, at most 4.000 at 99 %"
        and tail_text(None, 1.0) == "–"
    )


@LOOKS
def test_heat_map_labels_have_aa_contrast(look: Look, several: dict[str, pd.DataFrame]) -> None:
    points = several["4"]
    table = json.loads(json.dumps(heat_map(points, FIGURES["p50"], look, value_span(points, FIGURES["p50"])).to_dict()))
    rows = next(iter(table["datasets"].values()))
    assert len({row["fill"] for row in rows}) >= 4
    for row in rows:
        assert contrast(row["ink"], row["fill"]) >= 4.5, row
