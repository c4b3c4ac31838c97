"""From stored launches to a machine's noise, and to a point's history."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from rich.console import Console

from benchrun.results.series import SeriesLaunch
from benchrun.runner.errors import UsageError
from benchrun.runner.gate.commits import trace_history
from benchrun.runner.gate.noise import NoiseReport, PointNoise, report_noise
from benchrun.runner.gate.reports.variance import sentences, variance_document, variance_parts
from benchrun.runner.gate.reports.wording import DASH, percent
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.variance import expect_launches, find_detectable, size_fresh

NAMES = {"a": ("point a", "cpu"), "b": ("point \x1b[31mb", "cpu")}
MOMENT = datetime(2026, 11, 1, tzinfo=UTC)


def session(
    run: str = "r9",
    *,
    sd: float = 0.01,
    launches: int = 21,
    level: float = 5.0,
    keys: tuple[str, ...] = ("a", "b"),
    drift: float = 0.0,
    slow_first: float = 0.0,
    day: int = 0,
    **changes: object,
) -> list[SeriesLaunch]:
    rng = np.random.default_rng([len(run), ord(run[-1]), launches])
    found = []
    for key in keys:
        for i in range(launches):
            noise = rng.normal(0, sd, 2) + drift * i + (slow_first if i == 0 else 0.0)
            ms = level * math.exp(noise[0])
            launch = SeriesLaunch(
                point_key=key,
                fingerprint="f" * 16,
                run_id=run,
                run_label="",
                run_started=MOMENT + timedelta(days=day),
                commit="1" * 40,
                version="0.1.0",
                environment_id=1,
                replicate=i,
                started=MOMENT + timedelta(days=day, minutes=i),
                status="ok",
                n=200,
                mean_ms=ms * 1.01,
                std_ms=ms * 0.02,
                p50_ms=ms,
                p50_low_ms=ms * 0.997,
                p50_high_ms=ms * 1.003,
                autocorrelation=0.5,
                throughput_seq_s=1000 / (level * math.exp(noise[1])),
            )
            found.append(replace(launch, **changes))  # type: ignore[arg-type]
    return found


def told(report: NoiseReport, width: int = 80) -> str:
    stream = io.StringIO()
    console = Console(width=width, file=stream, color_system=None)
    for part in variance_parts(report, width):
        console.print(part, highlight=False)
    return stream.getvalue()


def test_the_noise_that_was_put_in_is_found() -> None:
    report = report_noise("r9", NAMES, session(sd=0.01, launches=400), launch_s=2.0)
    for (_, metric), sd in report.pooled.items():
        assert metric in ("p50", "throughput")
        assert sd == pytest.approx(0.01, rel=0.1)
    figure = report.points[0].figures[0]
    assert figure.components.within_sd == pytest.approx(0.02 / 1.01)
    assert figure.components.within_share == pytest.approx((0.006 / 3.92 * math.sqrt(3) / 0.01) ** 2, rel=0.2)
    assert figure.fresh == size_fresh(figure.sd)
    assert figure.detectable == pytest.approx(max(0.03, find_detectable(figure.sd, figure.fresh)))
    assert report.settles
    assert report.gate_launches == pytest.approx(expect_launches(0.01, 2), rel=0.15)
    assert report.gate_s == pytest.approx(report.gate_launches * 2 * 2.0)


def test_the_first_launch_is_left_out() -> None:
    slow = report_noise("r9", NAMES, session(slow_first=0.5))
    assert all(sd < 0.02 for sd in slow.pooled.values())
    assert slow.points[0].figures[0].components.launches == 20


def test_a_noisy_machine_is_told_what_it_cannot_do() -> None:
    report = report_noise("r9", NAMES, session(sd=0.09))
    assert not report.settles
    assert report.detectable > 0.05
    assert report.single_stage > 32
    text = " ".join(told(report).split())
    assert "A 5 % gate will often be INCONCLUSIVE here" in text
    assert f"it would take {report.single_stage} launches a side, and 32 are the most" in text


def test_a_quiet_machine_finds_nothing_below_what_can_fail() -> None:
    assert report_noise("r9", NAMES, session(sd=0.0005)).detectable == pytest.approx(0.03)


def test_sessions_tell_what_sessions_differ_by() -> None:
    one = report_noise("r9", NAMES, session())
    assert one.sessions == 1
    assert "Between sessions: unknown" in told(one)
    several = session() + [
        launch for i in range(8) for launch in session(f"r{i}", level=5.0 * math.exp(0.03 * (-1) ** i), day=-i - 1)
    ]
    more = report_noise("r9", NAMES, several)
    assert more.sessions == 9
    assert more.points[0].figures[0].components.session_sd == pytest.approx(0.03, rel=0.3)
    assert "9 sessions" in told(more)


def test_a_short_session_of_another_day_is_passed_over() -> None:
    short = session("r1", launches=2, day=-1)
    assert report_noise("r9", NAMES, session() + short).points[0].figures[0].components.sessions == 1


def test_drift_and_waves_are_noticed() -> None:
    notes = " ".join(report_noise("r9", NAMES, session(sd=0.002, drift=0.002)).notes)
    assert "2 of 2 points drift over the session" in notes
    assert "neighbouring launches are alike at 2 of 2 points" in notes
    assert report_noise("r9", NAMES, session()).notes == ()


def test_table_and_sentence_tell_of_one_drift() -> None:
    """Both reckon with the number of points: 32 quiet ones, of which each alone may look as if it drifted."""
    names = {f"k{i}": (f"b{i}", "cpu") for i in range(32)}
    keys = tuple(names)
    quiet = report_noise("r3", names, session("r3", keys=keys))
    assert max(map(_drift_size, quiet.points)) > 2.878  # Student's t at 99 %, 18 degrees of freedom
    assert quiet.notes == () and "beyond chance (99 %" not in told(quiet)
    cells = [line.split()[-4:-2] for line in told(quiet, 120).splitlines() if line.startswith("b")]
    assert len(cells) == 32 and all(DASH in each for each in cells)
    moving = session("r3", keys=keys[:31]) + session("r3", keys=keys[31:], drift=0.01)
    found = report_noise("r3", names, moving)
    assert [point.key for point in found.points if point.drifts] == ["k31"]
    assert "1 of 32 points drift over the session, beyond chance (99 %" in " ".join(found.notes)
    assert json.loads(json.dumps(variance_document(found)))["points"][31]["drifts"] is True


def _drift_size(point: PointNoise) -> float:
    components = point.figures[0].components
    return abs(components.drift) / components.drift_error


def test_points_that_failed_are_named() -> None:
    launches = session()
    launches[25] = replace(launches[25], status="timeout", p50_ms=None)
    report = report_noise("r9", NAMES, launches)
    assert [bool(point.figures) for point in report.points] == [True, False]
    assert report.points[1].reason == "1 of 21 launches are timeout"
    assert "left out: point [31mb: 1 of 21 launches are timeout" in told(report)
    with pytest.raises(UsageError, match="no point has three ok launches"):
        report_noise("r9", {"b": NAMES["b"]}, launches)
    with pytest.raises(UsageError, match="no point has three ok launches"):
        report_noise("r9", NAMES, session(launches=2))
    assert "only 2 launches" in told(report_noise("r9", NAMES, session(keys=("a",)) + session(keys=("b",), launches=2)))


def test_a_point_without_throughput_is_told_by_its_latency() -> None:
    report = report_noise("r9", NAMES, session(throughput_seq_s=None))
    assert {each.metric for point in report.points for each in point.figures} == {"p50"}


def test_table_and_sentence_find_the_same() -> None:
    """A rate that jumps from launch to launch beside a steady latency: the gate goes by both, so both lines do."""
    launches = [
        replace(each, throughput_seq_s=(each.throughput_seq_s or 0) * (1.3 if at % 2 else 0.8))
        for at, each in enumerate(session(keys=("a",)))
    ]
    report = report_noise("r9", {"a": NAMES["a"]}, launches)
    text, found = told(report), percent(report.detectable)
    assert f"slowdown of {found} at the noisiest point, by throughput" in " ".join(text.split())
    assert any(line.rstrip().endswith(f" {found}") and "–" in line for line in text.splitlines())
    assert report.detectable > 0.3


def test_the_document_says_the_same() -> None:
    report = report_noise("r9", NAMES, session())
    document = json.loads(json.dumps(variance_document(report), allow_nan=False))
    assert document["schema"] == "benchrun.variance/1"
    assert document["gate"]["launch_s"] is None
    assert document["gate"]["settles"] is True
    assert [each["key"] for each in document["points"]] == ["a", "b"]
    figures = document["points"][0]["figures"][0]
    assert figures["components"]["session_sd"] is None
    assert figures["components"]["launch_sd"] == pytest.approx(report.points[0].figures[0].components.launch_sd, 1e-5)


def test_the_text_fits_80_columns() -> None:
    text = told(report_noise("r9", NAMES, session(), launch_s=3.0))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in told(report_noise("r9", NAMES, session(sd=0.4)))
    assert "\x1b" not in text
    assert sentences(report_noise("r9", NAMES, session(), launch_s=3.0), GateSettings())[0].startswith(
        "Between launches: p50 "
    )


# --- history

LIBRARIES = {1: {"libraries": {"torch": "2.12.0"}}, 2: {"libraries": {"torch": "2.13.0"}}}


def over_commits(count: int, step_at: int = 1000) -> list[SeriesLaunch]:
    found: list[SeriesLaunch] = []
    for i in range(count):
        level = 5.3 if i >= step_at else 5.0
        found += session(f"r{i}", sd=0.004, launches=4, keys=("a",), level=level, day=i, commit=f"{i:040x}")
    return found


def test_a_step_is_found_at_its_commit() -> None:
    history = trace_history(over_commits(20, 12), "p50", {})
    (change,) = history.changes
    assert history.commits[change.index].commit == f"{12:040x}"
    assert change.ratio == pytest.approx(1.06, abs=0.01)
    assert [each.launches for each in history.commits] == [4] * 20
    assert history.commits[15].value == pytest.approx(5.3, rel=0.01)
    assert trace_history(over_commits(20), "p50", {}).changes == ()


def test_runs_of_one_commit_are_one_value() -> None:
    launches = over_commits(3)
    again = [replace(each, run_id="again", started=each.started + timedelta(days=30)) for each in launches[:4]]
    history = trace_history(again + launches, "throughput", {})
    assert [each.runs for each in history.commits] == [("r0", "again"), ("r1",), ("r2",)]
    assert history.commits[0].launches == 8
    assert history.commits[0].value == pytest.approx(200, rel=0.02)


def test_failures_and_new_versions_are_kept_apart() -> None:
    launches = over_commits(4)
    launches[4:8] = [replace(each, status="crashed", p50_ms=None) for each in launches[4:8]]
    launches[12:] = [replace(each, environment_id=2) for each in launches[12:]]
    history = trace_history(launches, "p50", LIBRARIES)
    assert [(each.launches, each.failed) for each in history.commits] == [(4, 0), (0, 4), (4, 0), (4, 0)]
    assert math.isnan(history.commits[1].value)
    assert [each.changed for each in history.commits] == [(), (), (), ("torch 2.12.0 → 2.13.0",)]


def test_runs_outside_a_repository_do_not_share_a_value() -> None:
    history = trace_history(
        session("r1", keys=("a",), commit=None) + session("r2", keys=("a",), commit=None, day=1), "p50", {}
    )
    assert [each.commit for each in history.commits] == ["(no commit) r1", "(no commit) r2"]
