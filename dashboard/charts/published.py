"""Our figures beside published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from benchrun.dashboard.charts.figures import AXES, Figure
from benchrun.dashboard.charts.look import Look
from benchrun.dashboard.charts.parts import finish, legend_columns, shown, size_axis, toggle, value_axis, value_scale

if TYPE_CHECKING:
    import pandas as pd

OURS = ([1, 0], [14, 2], [14, 2, 2, 2])  # dashes of lines: solid, then nearly so
THEIRS = ([5, 4], [2, 3], [8, 3, 2, 3])


def published_chart(rows: pd.DataFrame, figure: Figure, look: Look, *, height: int = 400) -> Any:
    """A figure over batch. Rows have `series`, `ours`, `batch`, `value`, `note`; ours are solid, published dashed and hollow."""
    names = sorted(
        set(rows["series"]), key=lambda name: (not bool(rows.loc[rows["series"] == name, "ours"].iloc[0]), name)
    )
    chosen = toggle()
    palette = [look.series[i % len(look.series)] for i in range(len(names))]
    # from the ninth series on colours come again, with another dash
    turns = [i // len(look.series) for i in range(len(names))]
    ours = [bool(rows.loc[rows["series"] == name, "ours"].iloc[0]) for name in names]
    dash = [
        OURS[turn % len(OURS)] if own else THEIRS[turn % len(THEIRS)] for own, turn in zip(ours, turns, strict=True)
    ]
    tint = alt.Color(
        "series:N",
        scale=alt.Scale(domain=names, range=palette),
        legend=alt.Legend(
            title=None, symbolType="stroke", symbolSize=260, columns=legend_columns(names, 360), labelLimit=360
        ),
    )
    tips = [
        alt.Tooltip("series:N", title="series"),
        alt.Tooltip("batch:Q", title="batch", format=",d"),
        alt.Tooltip("value:Q", title=figure.axis, format=".4~r"),
        alt.Tooltip("note:N", title="conditions"),
    ]
    base = alt.Chart(rows).encode(
        x=size_axis("batch", rows["batch"].tolist(), AXES["batch"]),
        y=alt.Y(
            "value:Q",
            scale=value_scale(True, rows["value"]),
            axis=value_axis(figure.axis, rows["value"], logarithmic=True, short_numbers=figure.more_is_better),
        ),
        color=tint,
        opacity=shown(chosen),
    )
    strokes = alt.StrokeDash(
        "series:N",
        scale=alt.Scale(domain=names, range=dash),
        legend=alt.Legend(title=None, columns=legend_columns(names, 360), labelLimit=360),
    )
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=strokes)
    dots = [
        base.transform_filter(f"datum.ours == {str(ours).lower()}")
        .mark_point(filled=ours, size=64, strokeWidth=2)
        .encode(tooltip=tips)
        for ours in sorted(set(map(bool, rows["ours"])))
    ]
    return finish(alt.layer(lines, *dots).add_params(chosen), look, height=height)
