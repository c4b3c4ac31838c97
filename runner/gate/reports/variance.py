"""What `benchrun variance` says: the table, the sentences, the JSON document."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchrun.runner.durations import describe_seconds
from benchrun.runner.gate.noise import MetricNoise, NoiseReport
from benchrun.runner.gate.reports.terminal import shorten_names
from benchrun.runner.gate.reports.wording import DASH, clean_name, percent
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.welch import round_significant

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = "benchrun.variance/1"


def variance_document(report: NoiseReport, settings: GateSettings | None = None) -> dict[str, Any]:
    """Plain JSON values; shares are fractions (0.01 is 1 %), what the data cannot tell is null."""
    settings = settings or GateSettings()
    return {
        "schema": SCHEMA,
        "run": report.run_id,
        "fingerprint": report.fingerprint,
        "sessions": report.sessions,
        "points": [_plain(asdict(point)) for point in report.points],
        "pooled": [
            {"device_class": device_class, "metric": metric, "sd": _plain(sd)}
            for (device_class, metric), sd in report.pooled.items()
        ],
        "gate": {
            "slowdown": _plain(settings.regression_ratio - 1),
            "settles": report.settles,
            "detectable": _plain(report.detectable),
            "launches_a_point": _plain(report.gate_launches),
            "launch_s": _plain(report.launch_s),
            "seconds": _plain(report.gate_s),
            "single_stage_launches_a_side": report.single_stage,
        },
        "notes": list(report.notes),
    }


def variance_parts(report: NoiseReport, width: int, settings: GateSettings | None = None) -> Iterator[RenderableType]:
    """Sentences first, then the table of points."""
    from rich.text import Text

    yield from (
        Text(line) for each in sentences(report, settings or GateSettings()) for line in textwrap.wrap(each, width)
    )
    short, shared = shorten_names({point.key: clean_name(point.label) for point in report.points})
    yield Text(f"all points: {shared}" if shared else "")
    yield _table(report, width, short)
    for point in report.points:
        if point.reason:
            yield Text(f"left out: {clean_name(point.label)}: {point.reason}")


def sentences(report: NoiseReport, settings: GateSettings) -> list[str]:
    """The answer in words."""
    limit = percent(settings.regression_ratio - 1)
    worst = max((each for point in report.points for each in point.figures), key=lambda each: each.detectable)
    found = [
        "Between launches: "
        + ", ".join(f"{metric} {percent(sd)} on {device_class}" for (device_class, metric), sd in report.pooled.items())
        + " (standard deviation, pooled over the points).",
        (
            f"A gate here finds a slowdown of {percent(report.detectable)} at the noisiest point, by {worst.metric} "
            f"({worst.fresh} fresh launches a side, 95 of 100 gates)."
        ),
    ]
    cost = (
        f"On unchanged code it costs about {report.gate_launches:.3g} launches a point, both sides"
        + (f", {describe_seconds(report.gate_s)} for these points" if math.isfinite(report.gate_s) else "")
        + "."
    )
    if report.settles:
        found.append(f"A {limit} gate comes to a verdict here. {cost}")
    else:
        found.append(
            f"A {limit} gate will often be INCONCLUSIVE here: it would take {report.single_stage} launches a side, and "
            f"{settings.confirm_launches_max} are the most. {cost} Quieten the machine first: fewer threads, a pinned core, no neighbours."
        )
    sessions = [each.components.session_sd for point in report.points for each in point.figures if each.metric == "p50"]
    known = [each for each in sessions if math.isfinite(each)]
    found.append(
        f"Between sessions: {percent(max(known))} at most (p50, {report.sessions} sessions)."
        if known
        else "Between sessions: unknown, for one session is stored. Run this again on another day."
    )
    return [*found, *(f"{each[0].upper()}{each[1:]}." for each in report.notes)]


def _table(report: NoiseReport, width: int, names: dict[str, str]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left", width=width)
    table.add_column("point", no_wrap=True, overflow="ellipsis", ratio=1, min_width=12)
    heads = ("between\nlaunches", "95 %\ninterval", "within\none", "drift a\nlaunch", "neigh-\nbours", "finds")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for point in report.points:
        for each in point.figures:
            if each.metric == "p50":
                finds = max(figure.detectable for figure in point.figures)
                table.add_row(Text(names[point.key]), *_cells(each, drifts=point.drifts), percent(finds))
    table.caption = "of p50, the launches' medians (throughput is in --json), but what a gate finds is by both; drift –: none beyond chance"
    return table


def _cells(noise: MetricNoise, *, drifts: bool) -> tuple[str, ...]:
    c = noise.components
    return (
        percent(c.launch_sd),
        f"{percent(c.launch_sd_low).removesuffix(' %')}–{percent(c.launch_sd_high)}",
        percent(c.within_sd),
        f"{100 * c.drift:+.2g} %" if drifts else DASH,
        f"{c.neighbours:+.1f}" if math.isfinite(c.neighbours) else DASH,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round_significant(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
