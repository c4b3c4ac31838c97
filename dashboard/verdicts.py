"""LoadGen's verdicts as a table, a line for each series. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchrun.dashboard.formats import figure, named
from benchrun.dashboard.markup import Cell, Column, Tone, table
from benchrun.dashboard.selection import TOLD_INVALID
from benchrun.results.statistics import mean_of_known
from benchrun.results.views.frames import rows_of

if TYPE_CHECKING:
    import pandas as pd

Told = Mapping[str, Any]  # what a launch's facts say of LoadGen
_RATED = "server"  # Offline sends all at once, the others the next query when one is answered: their rate is only what LoadGen expected
_COLUMNS = (
    *(Column("series"), Column("LoadGen says"), Column("minima"), Column("asked", "queries/s", number=True)),
    *(Column("refused at", "queries/s", number=True), Column("done", "samples/s", number=True)),
    *(Column(name, "ms", number=True) for name in ("p50", "p90", "p97", "p99")),
)
WORDS = (
    "LoadGen's own verdict and percentiles. Refused: the lowest rate that it called INVALID, where the highest VALID one was looked for. "
    "Minima: own ones make a shorter test than MLPerf's, so such a result is none of MLPerf's."
)


def verdict_table(points: pd.DataFrame, told: Mapping[str, Sequence[Told]]) -> str:
    """HTML; empty where LoadGen said nothing of any point. `points` is a summary with `series`, `told` by point key."""
    found = [
        (row, told[row.point_key])
        for row in rows_of(points.sort_values("series", kind="stable"))
        if row.point_key in told
    ]
    if not found:
        return ""
    limits = {each["limit_ms"] for _, every in found for each in every if _is_number(each.get("limit_ms"))}
    scenarios = sorted({named(each.get("scenario")) for _, every in found for each in every})
    caption = ", ".join(scenarios) + "".join(f", p99 at most {limit:g} ms" for limit in sorted(limits))
    return table(_COLUMNS, [_line(row, every) for row, every in found], caption=caption)


def _line(row: Any, told: Sequence[Told]) -> list[Cell | str]:
    tone: Tone = "strike" if row.status == "invalid" else ""
    refused = [each.get("bracket") or {} for each in told]
    figures = [row.throughput_seq_s, row.p50_ms, row.p90_ms, _mean(told, "p97_ms"), row.p99_ms]
    return [
        str(row.series),
        _verdict(row, told),
        ", ".join(sorted({named(each.get("setting")) for each in told})),
        figure(_mean([each for each in told if each.get("scenario") == _RATED], "qps")),
        figure(_mean(refused, "invalid_qps")),
        *(Cell(figure(value), tone) for value in figures),
    ]


def _verdict(row: Any, told: Sequence[Told]) -> Cell:
    """LoadGen's word where it gave one and the answers were right."""
    if row.status == "invalid":
        return Cell("INVALID" if TOLD_INVALID in row.flags else "wrong answer", "failed", str(row.error or ""))
    words = sorted({str(each.get("validity") or "done") for each in told})
    return Cell(", ".join(words), "ok" if words == ["VALID"] else "muted" if words == ["done"] else "failed")


def _mean(told: Sequence[Told], name: str) -> float | None:
    return mean_of_known(float(each[name]) for each in told if _is_number(each.get(name)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
