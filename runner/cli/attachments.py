"""The files of a run's measurements, written out: a folder for each point."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.results import Store
    from benchrun.results.records import MeasurementRecord, PlannedPoint, RunRecord


def write_attachments(store: Store, record: RunRecord, folder: Path) -> int:
    """Write the attachments of a run as `folder/01-torch-eager-…/NAME`; how many there were. Raises UsageError.

    Files of a second launch go into a folder `launch-1` inside. Names are made plain: a database that came from elsewhere must not
    choose where a file lands.
    """
    written = 0
    try:
        for place, measurement, name in _files(record):
            path = folder / place / plain_name(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(store.attachment(measurement.id, name), encoding="utf-8", newline="")
            written += 1
    except OSError as error:
        raise UsageError(f"cannot write files to {folder}: {error.strerror}") from error
    return written


def plain_name(name: str) -> str:
    """A file name of letters, digits, dots, hyphens and underscores, without a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:120] or "_"


def _files(record: RunRecord) -> Iterator[tuple[Path, MeasurementRecord, str]]:
    for planned in record.points:
        for measurement in record.by_point[planned.point.key]:
            place = Path(_folder_name(planned))
            if measurement.row.replicate:
                place /= f"launch-{measurement.row.replicate}"
            for each in measurement.attachments:
                yield place, measurement, each.name


def _folder_name(planned: PlannedPoint) -> str:
    point = planned.point
    words = (point.backend, point.variant, point.model, point.dtype, f"b{point.batch}", f"s{point.seq}", point.workload)
    return f"{planned.ordinal + 1:02}-{plain_name('-'.join(str(word) for word in words if word))}"
