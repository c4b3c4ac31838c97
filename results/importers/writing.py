"""Files into the store: one transaction a file, and the same file twice adds nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, insert, select

from benchrun.results import queries
from benchrun.results.attached import has_parts, insert_parts
from benchrun.results.importers.detection import find_format, parse
from benchrun.results.importers.foreign import ImportFailed, Source
from benchrun.results.importers.limits import read_bounded
from benchrun.results.importers.mapping import ForeignRows, run_id, to_rows
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar, read_sidecar
from benchrun.results.inserts import insert_points, insert_run
from benchrun.results.rows import MeasurementRow
from benchrun.results.schema import Measurement, Run, RunPoint

if TYPE_CHECKING:
    from benchrun.results.store import Store

CHUNK = 1000  # rows a statement


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """What became of one file. `added` is false where it was there already, as `run_id`, or could not be read."""

    path: Path
    format: str | None
    run_id: str | None
    added: bool
    measurements: int
    warnings: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of all files, in the order given."""

    files: tuple[ImportedFile, ...]

    @property
    def added(self) -> int:
        """Files that became a run."""
        return sum(each.added for each in self.files)

    @property
    def known(self) -> int:
        """Files that were there already."""
        return sum(not each.added and each.error is None for each in self.files)

    @property
    def failed(self) -> int:
        """Files that could not be read; the store is as it was before them."""
        return sum(each.error is not None for each in self.files)


def import_files(
    store: Store, format_name: str, paths: Sequence[Path], sidecar: Path | Sidecar | None = None
) -> ImportReport:
    """Import files of one format (`auto` looks at each) into a store.

    A file that cannot be read is reported and the others go on. Raises `ImportFailed` for an unknown format or an
    unreadable sidecar, before anything is written, and `StoreError` where the database cannot be written.
    """
    if format_name != "auto":
        find_format(format_name)
    known = NO_SIDECAR if sidecar is None else sidecar if isinstance(sidecar, Sidecar) else read_sidecar(sidecar)
    return ImportReport(tuple(_import_file(store, format_name, path, known) for path in paths))


def _import_file(store: Store, format_name: str, path: Path, sidecar: Sidecar) -> ImportedFile:
    try:
        source = read_bounded(path)
        already = _find(store, source, sidecar)
        if already is not None:
            return ImportedFile(path, None, run_id(source.sha256), added=False, measurements=0, warnings=already)
        result = parse(source, sidecar, format_name)
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        rows = to_rows(result, path.name, modified, sidecar, _version())
    except ImportFailed as failure:
        return ImportedFile(path, None, None, added=False, measurements=0, error=str(failure))
    except OSError as error:  # gone since it was read
        return ImportedFile(path, None, None, added=False, measurements=0, error=f"{path.name}: {error.strerror}")
    added = write_rows(store, rows)
    return ImportedFile(
        path, result.format, rows.run.id, added, len(rows.measurements) if added else 0, result.warnings
    )


def _find(store: Store, source: Source, sidecar: Sidecar) -> tuple[str, ...] | None:
    """Warnings about a file that is in the store already; None where it is not."""
    run = run_id(source.sha256)
    with store.reading() as connection:
        request = connection.execute(select(Run.request).where(Run.id == run)).scalar()
    if request is None:
        return None
    before = request.get("import", {}).get("sidecar_sha256")
    now = sidecar.source.sha256 if sidecar.source is not None else None
    if before == now:
        return ()
    return (f"it was imported with another sidecar; to import it again, remove {run} first",)


def write_rows(store: Store, rows: ForeignRows) -> bool:
    """Write a run with its points, measurements and samples in one transaction; False where that run is there."""
    with store.writing(points=True) as connection:
        if connection.execute(select(Run.id).where(Run.id == rows.run.id)).first() is not None:
            return False
        insert_run(connection, rows.run)
        _write_points(connection, rows)
        own = {"run_id": rows.run.id, "fingerprint": rows.run.environment.fingerprint, "superseded": False}
        for start in range(0, len(rows.measurements), CHUNK):
            _write_measurements(connection, own, rows.measurements[start : start + CHUNK])
    return True


def _write_points(connection: Connection, rows: ForeignRows) -> None:
    replicates = Counter(each.point_key for each in rows.measurements)
    for start in range(0, len(rows.points), CHUNK):
        chunk = rows.points[start : start + CHUNK]
        insert_points(connection, chunk)
        plan = [
            {"run_id": rows.run.id, "point_key": point.key, "ordinal": ordinal, "replicates": replicates[point.key]}
            for ordinal, point in enumerate(chunk, start)
        ]
        connection.execute(insert(RunPoint), plan)


def _write_measurements(connection: Connection, own: dict[str, Any], chunk: Sequence[MeasurementRow]) -> None:
    plain = [row for row in chunk if not has_parts(row)]
    if plain:
        connection.execute(insert(Measurement), _columns(own, plain))
    whole = [row for row in chunk if has_parts(row)]
    if whole:
        returning = insert(Measurement).returning(Measurement.id, sort_by_parameter_order=True)
        ids = connection.execute(returning, _columns(own, whole)).scalars().all()
        insert_parts(connection, list(zip(ids, whole, strict=True)))


def _columns(own: dict[str, Any], rows: Sequence[MeasurementRow]) -> list[dict[str, Any]]:
    """The rows' columns, without those that are NULL in all of them: most are, and each costs its conversion."""
    given = [own | queries.measurement_columns(row) for row in rows]
    names = tuple(given[0])
    columns = zip(names, zip(*(each.values() for each in given), strict=True), strict=True)
    filled = {name: cells for name, cells in columns if cells.count(None) < len(rows)}
    return [dict(zip(filled, cells, strict=True)) for cells in zip(*filled.values(), strict=True)]


def _version() -> str:
    try:
        return metadata.version("benchrun-inference")
    except metadata.PackageNotFoundError:  # run from a checkout
        return ""
