"""Colours: text can be read, and series are told apart by all eyes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchrun.dashboard.charts.figures import FIGURES
from benchrun.dashboard.charts.look import DARK, LIGHT, Look, look_of
from benchrun.dashboard.charts.parts import colour, shape
from benchrun.dashboard.charts.published import published_chart
from benchrun.dashboard.style import BORDER, PRIMARY, SECONDARY

LOOKS = pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])


def contrast(one: str, two: str) -> float:
    """WCAG 2.2's contrast ratio."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def as_seen(colour: str, kind: str) -> np.ndarray[Any, Any]:
    """A colour in CIELAB as somebody with full protanopia or deuteranopia sees it (Machado, Oliveira & Fernandes 2009)."""
    matrices = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "normal": np.eye(3).tolist(),
    }
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(matrices[kind]) @ linear, 0, 1)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    scaled = to_xyz @ linear / np.array([0.95047, 1.0, 1.08883])
    f = np.where(scaled > 216 / 24389, np.cbrt(scaled), (24389 / 27 * scaled + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@LOOKS
def test_no_two_series_look_alike(look: Look) -> None:
    names = [f"engine {number:02}" for number in range(len(look.series) * 4)]
    drawn = [colour(names, look).to_dict()["scale"]["range"], shape(names).to_dict()["scale"]["range"]]
    assert len(set(zip(*drawn, strict=True))) == len(names)
    rows = pd.DataFrame(
        {"series": names, "ours": [n % 3 == 0 for n in range(len(names))], "batch": 1, "value": 1.0, "note": ""}
    )
    ranges = list(find_ranges(published_chart(rows[:24], FIGURES["mean"], look).to_dict()))
    tints, dashes = (next(each for each in ranges if isinstance(each[0], kind)) for kind in (str, list))
    assert len(set(zip(tints, map(str, dashes), strict=True))) == 24


def find_ranges(part: Any) -> Iterator[list[Any]]:
    """Every `range` that is a list, anywhere in a chart."""
    inside = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for name, value in inside:
        if name == "range" and isinstance(value, list):
            yield value
        else:
            yield from find_ranges(value)


@LOOKS
def test_text_has_aa_contrast(look: Look) -> None:
    for background in (look.background, SECONDARY[look.name]):
        for tint in (look.text, look.muted, look.failed, look.slower, look.faster, PRIMARY[look.name]):
            assert contrast(tint, background) >= 4.5, (tint, background)
    for tint in (*look.series, look.unclear):
        assert contrast(tint, look.background) >= 3
    assert contrast(look.failed, look.failed_fill) >= 4.5
    assert BORDER[look.name] and look_of(look.name) == look and look_of(None) == LIGHT


@LOOKS
@pytest.mark.parametrize("eyes", ["normal", "protan", "deutan"])
def test_colours_differ_for_all_eyes(look: Look, eyes: str) -> None:
    assert np.linalg.norm(as_seen(look.slower, eyes) - as_seen(look.faster, eyes)) > 40
    for one, two in itertools.combinations(look.series[:5], 2):
        assert np.linalg.norm(as_seen(one, eyes) - as_seen(two, eyes)) > 15, (one, two)
