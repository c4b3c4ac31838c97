"""Charts as pictures, made without a browser by the same Vega-Lite that the pages run."""

from __future__ import annotations

from typing import Any

WIDTH = 790  # pixels of a chart that would otherwise take the width of its container


def svg(chart: Any, width: int = WIDTH) -> str:
    """A chart of these builders as SVG. Nothing is fetched: all data is in the specification."""
    import vl_convert

    found: str = vl_convert.vegalite_to_svg(chart.properties(width=width).to_dict(), allowed_base_urls=[])
    return found
