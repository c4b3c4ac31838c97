"""Samples of chosen launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from benchrun.results.samples import DamagedData, decode
from benchrun.results.schema import SampleSet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def samples_ms(
    connection: Connection, measurement_ids: Sequence[int], clock: str
) -> dict[int, npt.NDArray[np.float64] | None]:
    """Samples [n] in milliseconds, in order, of each measurement that kept any; None where they are damaged."""
    query = select(SampleSet).where(SampleSet.measurement_id.in_(measurement_ids), SampleSet.clock == clock)
    found: dict[int, npt.NDArray[np.float64] | None] = {}
    for row in connection.execute(query):
        try:
            found[row.measurement_id] = decode(row.data, row.n, row.version) / 1e6
        except DamagedData:
            found[row.measurement_id] = None
    return found
