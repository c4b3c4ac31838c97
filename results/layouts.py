"""What a layout of sequences of different lengths gains over padding them all: measured against its ideal. Pure.

Padded, a share p of what is computed is padding. Whoever computes true tokens only, at the same rate, is 1 / (1 − p) times as fast;
attention, which costs the square of a length, can make it a little more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchrun.results.statistics import mean_of_known

if TYPE_CHECKING:
    from benchrun.results.records import PlannedPoint, RunRecord
    from benchrun.results.rows import PointRow

LAYOUTS = ("padded", "bucketed", "packed")
USES = ("padded", "packed", "training")  # what engines have code of their own for
LENGTHS = "lengths:"  # the kind whose layouts gain what padding leaves; LoadGen's points hold waiting besides
KINDS = (LENGTHS, "loadgen:")


@dataclass(frozen=True, slots=True)
class LayoutGain:
    """`speedup` in sequences/s over the padded twin, `ideal` what its padding allows, `share` their ratio."""

    speedup: float
    ideal: float

    @property
    def share(self) -> float:
        """Of the ideal speed-up: 1 is all of it."""
        return self.speedup / self.ideal


def split_layout(workload: str | None) -> tuple[str, str] | None:
    """`lengths:uniform:32-384:packed` → (`lengths:uniform:32-384`, `packed`); None for a workload that knows no layouts."""
    mix, _, layout = (workload or "").rpartition(":")
    return (mix, layout) if mix.startswith(KINDS) and layout in LAYOUTS else None


def layout_of(workload: str | None) -> str:
    """The layout of a workload; empty for one that knows none."""
    return (split_layout(workload) or ("", ""))[1]


def engine_use(workload: str | None) -> str:
    """Which of USES a workload is: buckets are padded calls too, and so are accuracy tasks."""
    if (workload or "").partition(":")[0] == "train":
        return "training"
    return "packed" if layout_of(workload) == "packed" else "padded"


def with_layouts(mix: str) -> tuple[str, ...]:
    """The workloads that `split_layout` takes apart into `mix`, and `mix` itself."""
    return (mix, *(f"{mix}:{layout}" for layout in LAYOUTS))


def split_lengths(workload: str | None) -> tuple[str, str] | None:
    """The same for mixes of lengths only."""
    return split_layout(workload) if (workload or "").startswith(LENGTHS) else None


def layout_gain(rate: float, padded_rate: float, padding: float) -> LayoutGain:
    """From sequences/s of a layout and of padding, and the padding fraction of the padded one (below 1)."""
    return LayoutGain(rate / padded_rate, 1 / (1 - padding))


def layout_gains(record: RunRecord) -> Mapping[str, LayoutGain]:
    """Point key → its gain, for the points of a run that have a padded twin; both must be `ok` in all their launches."""
    good = [
        planned for planned in record.points if record.status(planned) == "ok" and split_lengths(planned.point.workload)
    ]
    padded = {_twin(each.point): each for each in good if (each.point.workload or "").endswith(":padded")}
    found = {}
    for planned in good:
        base = padded.get(_twin(planned.point))
        if base is None or base is planned:
            continue
        rate, padded_rate = (_mean(record, each, "throughput_seq_s") for each in (planned, base))
        padding = _mean(record, base, "padding_fraction")
        if rate and padded_rate and padding is not None:
            found[planned.point.key] = layout_gain(rate, padded_rate, padding)
    return found


def _twin(point: PointRow) -> tuple[object, ...]:
    """All that a point shares with its padded twin, its workload included, which both spell the same here."""
    mix, _ = split_layout(point.workload) or ("", "")
    names = ("model", "weights", "head", "backend", "variant", "device", "dtype", "batch", "seq", "protocol")
    same = tuple(getattr(point, name) for name in names)
    return (*same, mix, _pairs(point.overrides), _pairs(point.options))


def _pairs(values: Mapping[str, object]) -> tuple[object, ...]:
    return tuple(sorted((name, str(value)) for name, value in values.items()))


def _mean(record: RunRecord, planned: PlannedPoint, name: str) -> float | None:
    return mean_of_known(getattr(each.row, name) for each in record.by_point[planned.point.key])
