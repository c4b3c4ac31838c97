"""What to call a series: the engine, plus only what differs within the figures that are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchrun.dashboard.formats import distinct_short, engine_text, known, settings, short
from benchrun.results.layouts import layout_of

if TYPE_CHECKING:
    import pandas as pd


def add_series(points: pd.DataFrame, ignored: tuple[str, ...] = ()) -> pd.DataFrame:
    """Adds `engine` and `series` to a frame of points; `ignored` options do not tell series apart.

    `series` names dtype, layout, weights, options only where the frame holds several of them, so that two rows of one series differ
    in batch and sequence length (and run) only.
    """
    if points.empty:
        return points.assign(engine=[], series=[])
    engines = [engine_text(b, v) for b, v in zip(points["backend"], points["variant"], strict=True)]
    options = [
        {name: value for name, value in settings(text).items() if name not in ignored} for text in points["options"]
    ]
    parts = [[engine] for engine in engines]
    if points["dtype"].nunique(dropna=False) > 1:
        _append(parts, points["dtype"].map(lambda value: short(value, 12)))
    layouts = [
        layout_of(workload) if known(workload) else "" for workload in points.get("workload", ())
    ]  # artefacts have none
    if len(set(layouts)) > 1:
        _append(parts, layouts)
    for name, values in _differing(options).items():
        _append(parts, [f"{name}={short(value, 24)}" if known(value) else "" for value in values])
    if points["weights"].nunique(dropna=False) > 1:
        _append(parts, points["weights"].map(lambda value: f"weights {short(value, 20)}"))
    whole = [" · ".join(part for part in each if part) for each in parts]
    shown = distinct_short(whole, 64)
    names = distinct_short(engines, 40)
    return points.assign(engine=[names[engine] for engine in engines], series=[shown[text] for text in whole])


def _append(parts: list[list[str]], values: Any) -> None:
    for part, value in zip(parts, values, strict=True):
        part.append(value)


def _differing(options: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Options of which the rows have several values: name → value of each row."""
    names = sorted({name for each in options for name in each})
    columns = {name: [each.get(name) for each in options] for name in names}
    return {name: values for name, values in columns.items() if len({repr(value) for value in values}) > 1}
