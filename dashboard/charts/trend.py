"""A figure over time: a dot for each run, what changed around it, and where its level moved."""

from __future__ import annotations

from typing import Any, Literal

import altair as alt
import pandas as pd

from benchrun.dashboard.charts.figures import Figure
from benchrun.dashboard.charts.look import Look
from benchrun.dashboard.charts.parts import (
    TIPS,
    colour,
    drawn,
    finish,
    series_names,
    shape,
    shown,
    toggle,
    value_axis,
    value_scale,
)
from benchrun.dashboard.charts.scaling import interval_columns
from benchrun.dashboard.formats import moment, short
from benchrun.results.views.frames import rows_of

Along = Literal["order", "commit", "time"]
MARK_KINDS = ("environment", "step", "verdict", "accepted", "pass")
_TURN = 0.7  # of the axis: from there on, words stand left of their rule, where there is room
_DASHES = {"environment": [4, 3], "step": [4, 3], "verdict": [1, 0], "accepted": [1, 3], "pass": [1, 0]}


def trend_chart(
    points: pd.DataFrame,
    marks: pd.DataFrame,
    figure: Figure,
    look: Look,
    *,
    along: Along,
    logarithmic: bool,
    height: int = 420,
) -> Any:
    """Points (`summaries.summarise`, with `series`) of status `ok` over their runs; a click on one selects its run as `picked`.

    `marks` has `run_id`, `kind` (one of `MARK_KINDS`) and `text`: rules at runs. `along` spaces runs by `order`, by `commit` (runs of one
    commit stand together) or by `time`.
    """
    names = series_names(points)
    chosen, picked = toggle(), alt.selection_point(name="picked", fields=["run_id"], on="click", empty=False)
    order = run_order(points)
    table = drawn(points, "run_id").assign(
        place=[order[run_id] for run_id in points["run_id"]],
        when=pd.to_datetime(points["run_started"], utc=True).to_numpy(),
        tip_run=[f"{short(row.run_label, 40) or 'no label'}, {moment(row.run_started)}" for row in rows_of(points)],
        tip_commit=[short(commit, 16) for commit in points["commit"]],
    )
    table = table.assign(spot=[(commit or "no commit")[:9] for commit in points["commit"].fillna("")])
    x = _run_axis(along, table)
    axis = value_axis(figure.axis, points[figure.column], logarithmic=logarithmic, short_numbers=figure.more_is_better)
    bounds = [name for name in (figure.column, *interval_columns(figure)) if name]
    scale = value_scale(logarithmic, [value for name in bounds for value in points[name]], zero=False)
    y = alt.Y(f"{figure.column}:Q", scale=scale, axis=axis)
    base = alt.Chart(table).encode(x=x, color=colour(names, look))
    layers: list[Any] = _mark_layers(marks, table, x, look, along)
    low, high = interval_columns(figure)
    if low:
        layers.append(
            base.mark_rule(strokeWidth=2).encode(
                y=alt.Y(f"{low}:Q", scale=scale), y2=f"{high}:Q", opacity=shown(chosen, 0.5)
            )
        )
    layers.append(base.mark_line(strokeWidth=1.6).encode(y=y, opacity=shown(chosen, 0.7)))
    tips = [*TIPS, alt.Tooltip("tip_run:N", title="run"), alt.Tooltip("tip_commit:N", title="commit")]
    size = alt.when(picked).then(alt.value(220)).otherwise(alt.value(80))
    dots = base.mark_point(filled=True, stroke=look.background, strokeWidth=1, cursor="pointer").encode(
        y=y, shape=shape(names), opacity=shown(chosen), size=size, tooltip=tips
    )
    layers.append(dots.add_params(picked))
    return finish(alt.layer(*layers).add_params(chosen), look, height=height)


def _run_axis(along: Along, table: pd.DataFrame) -> Any:
    if along == "time":
        axis = alt.Axis(grid=False, format="%d %b %H:%M", labelAngle=0, tickCount=6)
        return alt.X("when:T", title="start of the run, UTC", axis=axis)
    if along == "commit":
        commits = list(dict.fromkeys(table.sort_values("place")["spot"]))
        axis = alt.Axis(grid=False, labelAngle=-45, labelLimit=90)
        return alt.X(
            "spot:O", sort=commits, title="commits, by their first run", axis=axis, scale=alt.Scale(type="point")
        )
    axis = alt.Axis(grid=False, format="d", tickMinStep=1)
    scale = alt.Scale(nice=False, padding=12, zero=False)
    return alt.X("place:Q", title="runs, oldest first", axis=axis, scale=scale)


def run_order(points: pd.DataFrame) -> dict[str, int]:
    """Run id → its place by start, from 1."""
    runs = (
        points[["run_id", "run_started"]]
        .drop_duplicates("run_id")
        .sort_values(["run_started", "run_id"], kind="stable")
    )
    return {run_id: place for place, run_id in enumerate(runs["run_id"], 1)}


def _mark_layers(marks: pd.DataFrame, table: pd.DataFrame, x: Any, look: Look, along: Along) -> list[Any]:
    if marks.empty:
        return []
    places = table.drop_duplicates("run_id")[["run_id", "place", "when", "spot"]]
    placed = marks.merge(places, on="run_id", how="inner").sort_values("place", kind="stable")
    if placed.empty:
        return []
    ahead = placed["when"] if along == "time" else placed["place"]
    every = places["when"] if along == "time" else places["place"]
    middle = every.min() + (every.max() - every.min()) * _TURN
    labelled = (placed["kind"] != "pass").cumsum() - 1
    placed = placed.assign(
        text=[short(text, 44) for text in placed["text"]],
        row=[12 * (int(i) % 4) for i in labelled],
        late=(ahead > middle).tolist(),
    )
    colours: dict[str, str] = dict(
        zip(MARK_KINDS, (look.muted, look.failed, look.slower, look.faster, look.muted), strict=True)
    )
    rules: list[Any] = []
    texts: list[Any] = []
    # Colours and heights are values, not encodings: a scale of their own would tear the legend of the series in two.
    for kind, part in placed.groupby("kind", sort=False):
        name = str(kind)
        tips = [alt.Tooltip("kind:N", title="mark"), alt.Tooltip("text:N", title="what")]
        base = alt.Chart(part).encode(x=x, tooltip=tips)
        width = 0.8 if name == "pass" else 2
        rules.append(base.mark_rule(strokeDash=_DASHES[name], strokeWidth=width, color=colours[name]))
        for row, late in sorted(set(zip(part["row"], part["late"], strict=True))) if name != "pass" else ():
            at = base.transform_filter(f"datum.row == {row} && datum.late == {str(late).lower()}").encode(
                y=alt.value(row), text="text:N"
            )
            side: dict[str, Any] = {"align": "right" if late else "left", "dx": -5 if late else 5, "baseline": "top"}
            # below the words, the same ones broad and in the colour of the background: no rule goes through them
            texts.append(at.mark_text(fontSize=11, stroke=look.background, strokeWidth=4, strokeJoin="round", **side))
            texts.append(at.mark_text(fontSize=11, color=colours[name], **side))
    return [*rules, *texts]
