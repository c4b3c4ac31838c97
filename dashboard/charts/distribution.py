"""Samples: how they are distributed, and how they came one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from benchrun.dashboard.charts.look import Look
from benchrun.dashboard.charts.parts import colour, finish, series_names, shown, toggle

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

MOST_DRAWN = 1500  # samples of a launch that are drawn one by one
_BLOCK = 10
_BINS = 48
_BODY = 0.99  # the share of a launch's samples that the axis surely holds
_TAIL = 1.6  # an axis is cut where the largest sample is this many times beyond the body


def body_limit(parts: Sequence[Floats]) -> float | None:
    """Where to end a linear axis, so that a few slow samples don't squeeze all others into a line; None: it holds all."""
    if not parts:
        return None
    body = max(float(np.quantile(samples, _BODY)) for samples in parts)
    largest = max(float(samples.max()) for samples in parts)
    return body * 1.15 if largest > body * _TAIL else None


def _time_scale(logarithmic: bool, values: pd.Series[float], limit: float | None) -> alt.Scale:
    if limit is None:
        return alt.Scale(type="log" if logarithmic else "linear", zero=False, nice=False, padding=6)
    return alt.Scale(domain=[min(float(values.min()) * 0.99, limit), limit], nice=False, clamp=True)


def ecdf_frame(samples: Floats, series: str, launch: str) -> pd.DataFrame:
    """Share of samples up to a time; very many samples become quantiles, the extremes kept."""
    ordered = np.sort(samples)
    n = len(ordered)
    places = (
        np.arange(n)
        if n <= MOST_DRAWN
        else np.unique(np.concatenate([np.linspace(0, n - 1, MOST_DRAWN).astype(int), np.arange(n - 50, n)]))
    )
    return pd.DataFrame({"ms": ordered[places], "share": (places + 1) / n, "n": n}).assign(series=series, launch=launch)


def ecdf_chart(
    frame: pd.DataFrame, look: Look, *, logarithmic: bool, limit: float | None = None, height: int = 300
) -> Any:
    """Rows of `ecdf_frame`; a line for each launch, coloured by series, rules at 50, 95 and 99 %. The axis ends at `limit`."""
    chosen = toggle()
    scale = _time_scale(logarithmic, frame["ms"], limit)
    lines = (
        alt.Chart(frame)
        .mark_line(interpolate="step-after", strokeWidth=1.8)
        .encode(
            x=alt.X("ms:Q", title="time, ms", scale=scale, axis=alt.Axis(format="~r", tickCount=6)),
            y=alt.Y(
                "share:Q", title="share of samples", axis=alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 0.95, 1])
            ),
            color=colour(series_names(frame), look),
            detail="launch:N",
            opacity=shown(chosen),
            tooltip=[
                alt.Tooltip("series:N", title="point"),
                alt.Tooltip("launch:N", title="launch"),
                alt.Tooltip("ms:Q", title="time, ms", format=".4g"),
                alt.Tooltip("share:Q", title="share up to it", format=".1%"),
                alt.Tooltip("n:Q", title="n", format=","),
            ],
        )
    )
    marks = (
        alt.Chart(pd.DataFrame({"share": [0.5, 0.95, 0.99]}))
        .mark_rule(strokeDash=[3, 4], opacity=0.6)
        .encode(y="share:Q")
    )
    return finish(alt.layer(marks, lines).add_params(chosen), look, height=height)


def histogram_frame(
    parts: Sequence[tuple[str, Floats]], *, logarithmic: bool, limit: float | None = None
) -> pd.DataFrame:
    """Samples of several series counted in shared bins up to `limit`, as shares of each whole series."""
    every = np.concatenate([samples for _, samples in parts])
    low, high = float(every.min()), float(every.max()) if limit is None else limit
    if high <= low:
        low, high = low * 0.99, high * 1.01 + 1e-9
    edges = np.geomspace(low, high, _BINS + 1) if logarithmic and low > 0 else np.linspace(low, high, _BINS + 1)
    frames = []
    for series, samples in parts:
        counts, _ = np.histogram(samples, edges)
        shares = counts / max(1, len(samples))
        frames.append(
            pd.DataFrame({"start": edges[:-1], "end": edges[1:], "share": shares, "count": counts, "series": series})
        )
    return pd.concat(frames, ignore_index=True)


def histogram_chart(
    frame: pd.DataFrame, look: Look, *, logarithmic: bool, limit: float | None = None, height: int = 300
) -> Any:
    """Rows of `histogram_frame`: two humps are two modes. The axis ends at `limit`."""
    chosen = toggle()
    scale = _time_scale(logarithmic, frame["start"], limit)
    base = alt.Chart(frame).encode(
        x=alt.X("start:Q", title="time, ms", scale=scale, axis=alt.Axis(format="~r", tickCount=6)),
        y=alt.Y("share:Q", title="share of samples", axis=alt.Axis(format="%", tickCount=5), stack=None),
        color=colour(series_names(frame), look),
        tooltip=[
            alt.Tooltip("series:N", title="point"),
            alt.Tooltip("start:Q", title="from, ms", format=".4g"),
            alt.Tooltip("end:Q", title="to, ms", format=".4g"),
            alt.Tooltip("count:Q", title="samples", format=","),
            alt.Tooltip("share:Q", title="share", format=".1%"),
        ],
    )
    areas = base.mark_area(interpolate="step-after").encode(opacity=shown(chosen, 0.22))
    edges = base.mark_line(interpolate="step-after", strokeWidth=1.6).encode(opacity=shown(chosen))
    return finish(alt.layer(areas, edges).add_params(chosen), look, height=height)


def sequence_frame(samples: Floats, series: str, launch: str, start: int) -> pd.DataFrame:
    """Samples in order from place `start` on; very many become the smallest and the largest of each stretch. With medians of blocks."""
    n = len(samples)
    places = np.arange(n)
    if n > MOST_DRAWN:
        stretches = np.array_split(places, MOST_DRAWN // 2)
        places = np.unique(
            [pick for part in stretches for pick in (part[samples[part].argmin()], part[samples[part].argmax()])]
        )
    block = max(_BLOCK, n // 120)
    whole = n // block * block
    medians = np.median(samples[:whole].reshape(-1, block), axis=1) if whole else np.array([])
    middle = pd.DataFrame(
        {"place": start + np.arange(len(medians)) * block + block / 2, "ms": medians, "kind": "median"}
    )
    each = pd.DataFrame(
        {
            "place": (start + places).astype(float),
            "ms": samples[places],
            "kind": "sample",
            "number": (places + 1).astype(float),
        }
    )
    return pd.concat([each, middle], ignore_index=True).assign(series=series, launch=launch)


def sequence_chart(
    frame: pd.DataFrame,
    starts: dict[str, int],
    look: Look,
    *,
    logarithmic: bool,
    limit: float | None = None,
    height: int = 300,
) -> Any:
    """Rows of `sequence_frame`: every sample a dot, medians of blocks as a line; `starts` maps launch → first place, drawn as rules.

    Samples above `limit` lie on the chart's upper edge.
    """
    chosen = toggle()
    names = series_names(frame)
    scale = alt.Scale(type="log" if logarithmic else "linear", zero=False, nice=True, padding=4)
    scale = scale if limit is None else _time_scale(logarithmic, frame["ms"], limit)
    x = alt.X(
        "place:Q",
        title="samples in the order of measuring, launches side by side",
        axis=alt.Axis(labels=False, ticks=False, grid=False),
        scale=alt.Scale(nice=False),
    )
    y = alt.Y("ms:Q", title="time, ms", scale=scale, axis=alt.Axis(format="~r", tickCount=6))
    base = alt.Chart(frame).encode(x=x, y=y, color=colour(names, look))
    dots = (
        base.transform_filter("datum.kind == 'sample'")
        .mark_circle(size=14)
        .encode(
            opacity=shown(chosen, 0.45),
            tooltip=[
                alt.Tooltip("series:N", title="point"),
                alt.Tooltip("launch:N", title="launch"),
                alt.Tooltip("number:Q", title="sample number", format=",d"),
                alt.Tooltip("ms:Q", title="time, ms", format=".4g"),
            ],
        )
    )
    lines = (
        base.transform_filter("datum.kind == 'median'")
        .mark_line(strokeWidth=2)
        .encode(detail="launch:N", opacity=shown(chosen))
    )
    edges = alt.Chart(pd.DataFrame({"place": list(starts.values()), "launch": list(starts)}))
    rules = edges.mark_rule(strokeDash=[2, 3], opacity=0.7).encode(x="place:Q")
    words = edges.mark_text(align="left", dx=5, dy=2, baseline="top", fontSize=11, color=look.muted).encode(
        x="place:Q", y=alt.value(0), text="launch:N"
    )
    return finish(alt.layer(rules, dots, lines, words).add_params(chosen), look, height=height)
