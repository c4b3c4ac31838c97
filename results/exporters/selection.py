"""Which points of a run are exported."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from benchrun.results.records import RunRecord
from benchrun.results.rows import STATUSES


@dataclass(frozen=True, slots=True)
class Selection:
    """Values that a point may have; an empty collection asks for nothing. A backend is `torch` or, with its variant, `torch:eager`."""

    backends: Collection[str] = ()
    models: Collection[str] = ()
    dtypes: Collection[str] = ()
    batches: Collection[int] = ()
    seqs: Collection[int] = ()
    statuses: Collection[str] = ()

    def __post_init__(self) -> None:
        unknown = [each for each in self.statuses if each not in STATUSES]
        if unknown:
            raise ValueError(f"there is no status '{unknown[0]}'; there are {', '.join(STATUSES)}")

    @property
    def wants_all(self) -> bool:
        """Whether nothing is left out."""
        return not any((self.backends, self.models, self.dtypes, self.batches, self.seqs, self.statuses))


def select_points(record: RunRecord, selection: Selection) -> RunRecord:
    """The run with those of its points, and their measurements, that fit."""
    if selection.wants_all:
        return record
    points = tuple(each for each in record.points if _fits(record, each, selection))
    keys = {each.point.key for each in points}
    measurements = tuple(each for each in record.measurements if each.row.point_key in keys)
    return replace(record, points=points, measurements=measurements)


def _fits(record: RunRecord, planned: Any, selection: Selection) -> bool:
    point = planned.point
    engine = (point.backend, f"{point.backend}:{point.variant}")
    return (
        (not selection.backends or any(each in selection.backends for each in engine))
        and (not selection.models or point.model in selection.models)
        and (not selection.dtypes or point.dtype in selection.dtypes)
        and (not selection.batches or point.batch in selection.batches)
        and (not selection.seqs or point.seq in selection.seqs)
        and (not selection.statuses or record.status(planned) in selection.statuses)
    )
