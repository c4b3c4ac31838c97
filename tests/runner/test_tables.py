"""What a terminal shows of a run: no figure is cut off, at 80 columns either, however large and from however many launches."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import numpy as np
import pytest
from rich.console import Console

from benchrun.results.document import between_launches
from benchrun.results.records import LaunchRecord, MeasurementRecord, PlannedPoint, RunRecord
from benchrun.results.rows import CeilingRow, EnvironmentRow, LaunchRow, MeasurementRow, Parity, PointRow, RunRow, Score
from benchrun.results.statistics import ReportedSummary, summarise
from benchrun.runner.cli.remarks import fold_figures
from benchrun.runner.cli.tables import run_tables

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
ENGINES = ("torch:cudagraph", "trt:tensorrt", "ort:migraphx")
STATUSES = ("ok", "invalid", "build_failed")


def planned(ordinal: int, launches: int) -> PlannedPoint:
    backend, _, variant = ENGINES[ordinal].partition(":")
    point = PointRow(
        f"{ordinal:016d}",
        "bert-large",
        "random:0",
        "qa",
        backend,
        variant,
        "cuda:0",
        "fp16",
        1024,
        4096,
        "padded",
        "v1",
    )
    return PlannedPoint(ordinal, launches, point)


def measured(ordinal: int, replicate: int, ms: float, clock: str) -> MeasurementRecord:
    status = STATUSES[ordinal]
    summary = None if status == "build_failed" else summarise(np.full(200, round((ms + replicate) * 1e6), np.int64))
    row = MeasurementRow(
        f"{ordinal:016d}",
        replicate,
        ordinal,
        status,
        MOMENT,
        error="no kernel for that" if summary is None else None,
        host=summary,
        device=summary if clock == "device" else None,
        throughput_seq_s=None if summary is None else 1024 / ms * 1000,
        parity=None if summary is None else Parity(1.4e-3, 1.0, 1.0, 1.0, 0.0, status == "ok"),
        flags=("unsteady",) if ordinal == 0 else (),
        settled=True,
    )
    return MeasurementRecord(10 * ordinal + replicate, 1, row)


def record(launches: int, ms: float, clock: str) -> RunRecord:
    return RunRecord(
        RunRow("20260301-000000-abcd", "", MOMENT, "finished", EnvironmentRow("0" * 16, {})),
        tuple(planned(ordinal, launches) for ordinal in range(3)),
        (LaunchRecord(1, LaunchRow(0, 1, MOMENT)),),
        tuple(measured(i, replicate, ms, clock) for i, replicate in product(range(3), range(launches))),
    )


def shown(found: RunRecord, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), no_color=True)
    for each in run_tables(found, width):
        console.print(each, highlight=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("clock", ["host", "device"])
@pytest.mark.parametrize("ms", [0.567, 143.4, 12345.0])
@pytest.mark.parametrize("launches", [1, 3, 10])
@pytest.mark.parametrize("width", [80, 120])
def test_no_figure_is_cut_off(width: int, launches: int, ms: float, clock: str) -> None:
    text = shown(record(launches, ms, clock), width)
    assert "…" not in text.replace(" … ", " ")  # which stands between the ends of an interval
    assert max(map(len, text.splitlines())) <= width
    for words in (*ENGINES, "1024", "4096", "build_failed", "invalid", f"{200 * launches}", f"{clock} time"):
        assert words in text


def test_launches_show_the_interval_between_them_at_any_width() -> None:
    found = record(3, 143.4, "host")
    low, high = between_launches([143.4, 144.4, 145.4]) or (0.0, 0.0)
    assert f"{low:.1f} … {high:.1f}" in shown(found, 120)
    narrow = shown(found, 80)
    assert f" {(high - low) / 2:.3f} " in narrow and "±: 95 % between launches" in " ".join(narrow.split())
    assert "±" not in shown(record(1, 143.4, "host"), 80)


def test_what_all_launches_say_is_said_once() -> None:
    text = shown(record(3, 143.4, "host"), 80)
    assert text.count("unsteady") == 1 and "torch:cudagraph b1024 s4096: unsteady (3 of 3 launches)" in text
    assert "launches)" not in shown(record(1, 143.4, "host"), 80)


def test_a_flag_that_differs_in_its_figures_is_said_once_with_their_range() -> None:
    """Found by a user: 16 points of 2 launches on a busy machine gave 40 lines of notes."""
    base = record(2, 143.4, "host")
    points = tuple(
        replace(each, point=replace(each.point, backend="torch", variant="eager", batch=2**place))
        for place, each in enumerate(base.points)
    )
    rows = []
    for each, figure in zip(base.measurements, ("1.54", "0.95", "1.2", "1.2", "10.5", None), strict=True):
        reasons = {"noisy_host": f"other processes kept {figure} of 2 cores busy"} if figure else {}
        row = replace(
            each.row, status="ok", error=None, timed_out=True, flags=tuple(reasons), telemetry={"reasons": reasons}
        )
        rows.append(replace(each, row=row))
    text = " ".join(shown(replace(base, points=points, measurements=tuple(rows)), 80).split())
    assert text.count("noisy_host") == text.count("stopped by --max-time") == 1
    assert (
        "b1 s4096, b2 s4096, b4 s4096: noisy_host (other processes kept 0.95–10.5 of 2 cores busy) (5 of 6 launches)"
        in text
    )
    assert "stopped by --max-time (6 of 6 launches)" in text


def test_what_different_launches_say_stands_on_lines_of_its_own() -> None:
    base = record(2, 143.4, "host")
    one, other = (
        replace(each.row, flags=flags, settled=settled)
        for each, flags, settled in zip(base.measurements, (("throttled",), ()), (True, False), strict=False)
    )
    rows = (replace(base.measurements[0], row=one), replace(base.measurements[1], row=other), *base.measurements[2:])
    text = shown(replace(base, measurements=rows), 80)
    assert "throttled (1 of 2 launches)" in text and "warm-up did not settle (1 of 2 launches)" in text


@pytest.mark.parametrize(
    ("texts", "folded"),
    [
        (["a 1 of 2"], "a 1 of 2"),
        (["a 9.5 of 2", "a 10 of 2", "a 1 of 2"], "a 1–10 of 2"),
        (["3 s", "3 s"], "3 s"),
        (["from 345 to 1980 MHz", "from 1755 to 1980 MHz"], "from 345–1755 to 1980 MHz"),
        (["0.1 s of 2 s", "3.0 s of 30 s"], "0.1–3.0 s of 2–30 s"),
        (["since 2.1.0, 1e-05, 1,200", "since 2.1.0, 1e-05, 1,200"], "since 2.1.0, 1e-05, 1,200"),
        (["no figure", "no figure"], "no figure"),
    ],
)
def test_figures_are_folded_into_ranges(texts: list[str], folded: str) -> None:
    assert fold_figures(texts) == folded


@pytest.mark.parametrize(
    ("count", "named"),
    [(1, "b1 s8: "), (3, "b1 s8, b2 s8, b3 s8: "), (5, "b1 s8 … b5 s8 (5 points): ")],
)
def test_what_several_points_say_alike_is_said_once(count: int, named: str) -> None:
    found = record(1, 1.0, "host")
    reason = "it runs on cuda, not on cpu"
    points, rows = [], []
    for ordinal in range(count):
        point = replace(found.points[0].point, key=f"{ordinal:016d}", batch=ordinal + 1, seq=8)
        points.append(PlannedPoint(ordinal, 1, point))
        row = MeasurementRow(point.key, 0, ordinal, "skipped", MOMENT, error=reason)
        rows.append(MeasurementRecord(ordinal, 1, row))
    text = " ".join(shown(replace(found, points=tuple(points), measurements=tuple(rows)), 120).split())
    assert text.count(reason) == 1 and f"torch:cudagraph {named}{reason}" in text


def test_overrides_scores_and_points_without_percentiles_are_shown() -> None:
    base = record(1, 2.0, "host")
    first, second, _ = base.points
    changed = replace(second, point=replace(second.point, overrides={"num_hidden_layers": 6, "hidden_act": "relu"}))
    scores = (Score("squad", "exact", 83.25, 4, None), Score("squad", "f1", 90.5, 4, 91.0))
    rows = [
        replace(base.measurements[0].row, scores=scores),
        MeasurementRow(
            changed.point.key, 0, 1, "ok", MOMENT, throughput_seq_s=1234.0, host=ReportedSummary(mean_ms=5.0)
        ),
    ]
    run = replace(
        base, points=(first, changed), measurements=tuple(MeasurementRecord(i, 1, row) for i, row in enumerate(rows))
    )
    text = io.StringIO()
    console = Console(file=text, width=120)
    for each in run_tables(run, 120):
        console.print(each, highlight=False)
    shown = text.getvalue()
    assert "bert-large (hidden_act=relu, num_hidden_layers=6) · qa" in shown
    assert "torch:cudagraph b1024 s4096: squad exact 83.25, f1 90.50 (fp32: 91.00)" in shown
    line = next(each for each in shown.splitlines() if each.startswith("trt:tensorrt") and "1234" in each)
    assert "5.000" in line and "–" in line


def placed(ms: float, *ceilings: CeilingRow, dtype: str = "fp16") -> RunRecord:
    """A point with counted work, energy and a stored reason for its flag, under these ceilings."""
    base = record(1, ms, "host")
    point = replace(base.points[0], point=replace(base.points[0].point, dtype=dtype))
    row = replace(
        base.measurements[0].row, flops=2e9, least_bytes=1_000_000, joules_per_seq=0.5, flags=("noisy_host",),
        telemetry={"reasons": {"noisy_host": "other processes kept 0.95 of 2 cores busy"}},
    )  # fmt: skip
    run = replace(base.run, environment=EnvironmentRow("0" * 16, {"libraries": {"torch": "2.13"}}))
    return replace(
        base, run=run, points=(point,), measurements=(MeasurementRecord(1, 1, row),), ceilings=tuple(ceilings)
    )


def ceiling(quantity: str, value: float, torch: str = "2.13", flags: tuple[str, ...] = ()) -> CeilingRow:
    dtype = "fp16" if quantity == "matmul" else None
    conditions = {"flags": list(flags), "software": {"torch": torch}}
    return CeilingRow("0" * 16, "cuda:0", quantity, dtype, None, value, 9, MOMENT, 0.0, conditions)


GOOD = (ceiling("matmul", 1e12), ceiling("copy", 1e9), ceiling("launch", 1e-5))


def test_what_must_be_known_of_the_ceilings_is_said_once() -> None:
    assert "ceilings" not in shown(placed(4.0, *GOOD), 120)
    bare = " ".join(shown(placed(4.0), 120).split())
    assert "measure them on that machine with 'benchrun ceilings --device cuda:0'" in bare
    assert "ceilings" not in shown(placed(4.0, dtype="int8"), 120)  # there is no product of that dtype to measure
    spoilt = (ceiling("matmul", 1e12, "2.11", ("noisy_host",)), ceiling("copy", 1e9, "2.11"))
    text = " ".join(shown(placed(4.0, *spoilt), 120).split())
    assert "measured under noisy_host, so shares may be too high: 'benchrun ceilings --again'" in text
    assert "ceilings were measured with torch 2.11, this run with 2.13" in text


def test_a_flag_is_shown_with_its_reason() -> None:
    text = " ".join(shown(placed(4.0, *GOOD), 120).split())
    assert "noisy_host (other processes kept 0.95 of 2 cores busy)" in text


def test_columns_that_a_narrow_table_lacks_are_named() -> None:
    hint = "share of the ceiling and energy: in a terminal of 120 columns or more, and in --json"
    assert hint in " ".join(shown(placed(4.0, *GOOD), 80).split()) and "J/seq" not in shown(placed(4.0, *GOOD), 80)
    wide = shown(placed(4.0, *GOOD), 120)
    assert hint not in wide and "J/seq" in wide and "0.500" in wide
    assert "share of the ceiling and" not in shown(placed(4.0), 80) and "energy: in a terminal" in shown(
        placed(4.0), 80
    )


def test_small_rates_are_in_gflops() -> None:
    assert "TFLOP/s" in shown(placed(4.0, *GOOD), 120)
    slow = shown(placed(4000.0, *GOOD), 120)
    assert "GFLOP/s" in slow and "TFLOP/s" not in slow and "0.500" in slow


# --- layouts of a LoadGen mix ---

MIX = "loadgen:server:auto:130ms:lognormal:177:32-384"
LAYOUTS = ("padded", "bucketed", "packed")


def served(engines: tuple[str, ...], batches: tuple[int, ...] = (64,), joules: float | None = None) -> RunRecord:
    """A Server run in three layouts, as the plan orders it: one workload after the other."""
    points, found = [], []
    for ordinal, (layout, engine, batch) in enumerate(product(LAYOUTS, engines, batches)):
        backend, _, variant = engine.partition(":")
        key = f"{ordinal:016d}"
        head = (key, "bert-large", "random:0", "encoder", backend, variant, "cuda:0", "bf16")
        points.append(PlannedPoint(ordinal, 1, PointRow(*head, batch, 384, f"{MIX}:{layout}", "v1")))
        row = MeasurementRow(
            key,
            0,
            ordinal,
            "ok",
            MOMENT,
            host=ReportedSummary(n=2000, p50_ms=64.87, p90_ms=82.82, p95_ms=87.01, p99_ms=95.68, p99_9_ms=104.1),
            throughput_seq_s=1685.0 + ordinal,
            padding_fraction=0.5,
            joules_per_seq=joules,
            flags=("noisy_host",),
            facts={"loadgen": {"validity": "VALID", "p97_ms": 90.01, "setting": "own"}},
        )
        found.append(MeasurementRecord(ordinal, 1, row))
    return replace(record(1, 1.0, "host"), points=tuple(points), measurements=tuple(found))


def table_of(text: str) -> list[str]:
    """The heading's last line and the lines of figures."""
    return [line.rstrip() for line in text.splitlines() if "VALID" in line or "p99.9" in line]


def test_layouts_of_one_mix_stand_in_one_table() -> None:
    text = shown(served(("torch:cudagraph",), joules=0.413), 80)
    heading, *lines = table_of(text)
    assert heading.split() == [
        "layout", "samples/s", "p50", "p90", "p95", "p97", "p99", "p99.9", "ding", "sample", "LoadGen",
    ]  # fmt: skip
    assert lines[0].split() == [
        "padded", "1685", "64.87", "82.82", "87.01", "90.01", "95.68", "104.1", "50.0%", "0.413", "VALID",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines] == list(LAYOUTS) and text.count(MIX) == 1 and f"{MIX}:" not in text
    assert "torch:cudagraph · batch 64 · seq 384" in text.splitlines()
    assert text.count("noisy_host") == 1 and "  torch:cudagraph padded, bucketed, packed: noisy_host" in text
    narrow = shown(served(("torch:cudagraph",), joules=0.413), 64)
    assert "  energy, padding: in a wider terminal, and in --json" in narrow.splitlines() and "0.413" not in narrow


def test_engines_stay_together_where_several_have_layouts() -> None:
    text = shown(served(("torch:eager", "ort:cpu")), 80)
    assert [tuple(line.split()[:2]) for line in table_of(text)[1:]] == [
        *(("torch:eager", layout) for layout in LAYOUTS),
        *(("ort:cpu", layout) for layout in LAYOUTS),
    ]
    assert "wider terminal" not in text and "batch 64 · seq 384" in text.splitlines()


@pytest.mark.parametrize("batches", [(64,), (16, 64)])
@pytest.mark.parametrize("width", [80, 120])
def test_no_figure_of_a_layout_is_cut_off(width: int, batches: tuple[int, ...]) -> None:
    text = shown(served(ENGINES, batches, joules=0.413), width)
    assert "…" not in text.replace(" … ", " ")
    assert max(map(len, table_of(text))) <= width
    assert len(table_of(text)) == 1 + 9 * len(batches)
    for words in ("64.87", "95.68", "104.1"):
        assert text.count(words) == 9 * len(batches)
    left_out = [words for words in ("50.0%", "90.01", "87.01", "0.413") if words not in text]
    assert bool(left_out) == ("wider terminal" in text) == (width == 80)
