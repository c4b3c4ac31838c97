"""Reading the store: one function a question, each on an open connection. Writing is store.py's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, and_, case, func, select, text

from benchrun.results.attached import decode_text, read_score
from benchrun.results.ceilings import load_ceilings
from benchrun.results.records import (
    UNMEASURED,
    EnvironmentRecord,
    LaunchRecord,
    MeasurementRecord,
    PlannedPoint,
    RunOverview,
    RunRecord,
    StoredAttachment,
)
from benchrun.results.rows import EnvironmentRow, LaunchRow, MeasurementRow, Parity, PointRow, RunRow, Score
from benchrun.results.samples import decode
from benchrun.results.schema import (
    CLOCKS,
    AttachedText,
    Environment,
    Launch,
    Measurement,
    Point,
    Run,
    RunPoint,
    SampleSet,
    ScoreValue,
)
from benchrun.results.statistics import ReportedSummary, Summary

if TYPE_CHECKING:
    from benchrun.results.rows import Samples

CURRENT = text("NOT measurements.superseded")  # spelled as in the partial index, so that both databases use it
_PLAIN_FIELDS = tuple(
    f.name
    for f in fields(MeasurementRow)
    if f.name not in ("host", "device", "parity", "flags", "scores", "attachments", "host_samples", "device_samples")
)
_SUMMARY_FIELDS = tuple(f.name for f in fields(Summary))
_ALWAYS_THERE = ("n", "mean_ms", "min_ms", "max_ms", "mad_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms")
_PARITY_FIELDS = tuple(f.name for f in fields(Parity))
_POINT_FIELDS = tuple(f.name for f in fields(PointRow))
_LAUNCH_FIELDS = tuple(f.name for f in fields(LaunchRow))


def overviews(connection: Connection, limit: int | None = None) -> list[RunOverview]:
    """All runs, or the `limit` latest ones, latest first."""
    chosen = select(Run).order_by(Run.started.desc(), Run.id.desc()).limit(limit)
    runs = connection.execute(chosen).all()
    planned = (
        select(
            RunPoint.run_id,
            RunPoint.replicates,
            func.sum(case((Measurement.status == "ok", 1), else_=0)).label("ok"),
            func.sum(case((Measurement.status.not_in(("ok", UNMEASURED)), 1), else_=0)).label("failed"),
            func.sum(case((Measurement.status == "unsupported", 1), else_=0)).label("unsupported"),
        )
        .outerjoin(
            Measurement,
            and_(
                Measurement.run_id == RunPoint.run_id,
                Measurement.superseded.is_(False),
                Measurement.point_key == RunPoint.point_key,
            ),
        )
        .group_by(RunPoint.run_id, RunPoint.point_key, RunPoint.replicates)
    )
    if limit is not None:
        planned = planned.where(RunPoint.run_id.in_([run.id for run in runs]))
    each = planned.subquery()
    failed = func.sum(case((each.c.failed > 0, 1), else_=0))
    ok = func.sum(case((and_(each.c.failed == 0, each.c.ok >= each.c.replicates), 1), else_=0))
    unsupported = func.sum(case((and_(each.c.failed > 0, each.c.unsupported == each.c.failed), 1), else_=0))
    query = select(each.c.run_id, func.count(), ok, failed, unsupported).group_by(each.c.run_id)
    counts = {row[0]: row[1:] for row in connection.execute(query)}
    none = (0, 0, 0, 0)
    return [
        RunOverview(run.id, run.label, run.started, run.state, *(int(count) for count in counts.get(run.id, none)))
        for run in runs
    ]


def environments(connection: Connection) -> list[EnvironmentRecord]:
    """All environments, oldest first."""
    query = (
        select(Environment.id, Environment.fingerprint, Environment.details, func.count(Run.id).label("runs"))
        .outerjoin(Run, Run.environment_id == Environment.id)
        .group_by(Environment.id)
        .order_by(Environment.id)
    )
    # PostgreSQL cannot group by a JSON column, but knows that the primary key decides the others.
    return [EnvironmentRecord(**row) for row in connection.execute(query).mappings()]


def planned_points(connection: Connection, run_id: str) -> list[PlannedPoint]:
    """The plan of a run, in order."""
    query = (
        select(RunPoint.ordinal, RunPoint.replicates, *(getattr(Point, name) for name in _POINT_FIELDS))
        .join(Point, Point.key == RunPoint.point_key)
        .where(RunPoint.run_id == run_id)
        .order_by(RunPoint.ordinal)
    )
    return [
        PlannedPoint(row["ordinal"], row["replicates"], point_row(row)) for row in connection.execute(query).mappings()
    ]


def point_row(row: RowMapping) -> PointRow:
    """A row of the table `points` as plain data."""
    return PointRow(**{name: row[name] for name in _POINT_FIELDS})


def missing(connection: Connection, run_id: str) -> list[tuple[str, int]]:
    """(point key, replicate) pairs of a run without a row, or with an `interrupted` one: by replicate, then in the plan's order."""
    plan = connection.execute(
        select(RunPoint.point_key, RunPoint.replicates).where(RunPoint.run_id == run_id).order_by(RunPoint.ordinal)
    ).all()
    measured = {
        (row.point_key, row.replicate)
        for row in connection.execute(
            select(Measurement.point_key, Measurement.replicate).where(
                Measurement.run_id == run_id, CURRENT, Measurement.status != UNMEASURED
            )
        )
    }
    most = max((row.replicates for row in plan), default=0)
    return [
        (row.point_key, replicate)
        for replicate in range(most)
        for row in plan
        if replicate < row.replicates and (row.point_key, replicate) not in measured
    ]


def load_run(connection: Connection, run_id: str, *, samples: bool = False) -> RunRecord | None:
    """A whole run; None where there is none of that id."""
    found = connection.execute(
        select(Run, Environment.fingerprint, Environment.details).join(Environment).where(Run.id == run_id)
    ).mappings()
    row = found.first()
    if row is None:
        return None
    launches = connection.execute(select(Launch).where(Launch.run_id == run_id).order_by(Launch.id)).mappings()
    return RunRecord(
        run=_run(row),
        points=tuple(planned_points(connection, run_id)),
        launches=tuple(
            LaunchRecord(each["id"], LaunchRow(**{name: each[name] for name in _LAUNCH_FIELDS})) for each in launches
        ),
        measurements=tuple(_measurements(connection, run_id, samples=samples)),
        ceilings=tuple(load_ceilings(connection, row["fingerprint"])),
    )


def load_samples(connection: Connection, measurement_id: int, clock: str) -> Samples | None:
    """The samples of one clock; None where there are none."""
    query = select(SampleSet).where(SampleSet.measurement_id == measurement_id, SampleSet.clock == clock)
    row = connection.execute(query).first()
    return None if row is None else decode(row.data, row.n, row.version)


def list_attachments(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[StoredAttachment, ...]]:
    """The attachments of measurements by name, without their texts; an empty tuple where there is none."""
    columns = (AttachedText.measurement_id, AttachedText.name, AttachedText.size_bytes)
    return _listed(connection.execute(select(*columns).where(AttachedText.measurement_id.in_(ids))).all(), ids)


def load_attachment(connection: Connection, measurement_id: int, name: str) -> str | None:
    """The text of an attachment; None where there is none of that name."""
    query = select(AttachedText).where(AttachedText.measurement_id == measurement_id, AttachedText.name == name)
    row = connection.execute(query).first()
    return None if row is None else decode_text(row.data, row.size_bytes, row.version)


def _listed(rows: Iterable[Any], ids: Iterable[int]) -> dict[int, tuple[StoredAttachment, ...]]:
    found: dict[int, list[StoredAttachment]] = {number: [] for number in ids}
    for row in rows:
        found[row.measurement_id].append(StoredAttachment(row.name, row.size_bytes))
    return {number: tuple(sorted(each, key=lambda one: one.name)) for number, each in found.items()}


def _scores_and_attachments(
    connection: Connection, run_id: str
) -> tuple[Mapping[int, tuple[Score, ...]], Mapping[int, tuple[StoredAttachment, ...]]]:
    """Of the measurements of a run that count, by their ids; only those that have some."""
    of_run = (Measurement.run_id == run_id, CURRENT)
    scores: dict[int, list[Score]] = defaultdict(list)
    chosen = select(ScoreValue).join(Measurement, Measurement.id == ScoreValue.measurement_id).where(*of_run)
    for row in connection.execute(chosen.order_by(ScoreValue.task, ScoreValue.metric)).mappings():
        scores[row["measurement_id"]].append(read_score(row))
    texts = (
        select(AttachedText.measurement_id, AttachedText.name, AttachedText.size_bytes)
        .join(Measurement, Measurement.id == AttachedText.measurement_id)
        .where(*of_run)
    )
    rows = connection.execute(texts).all()
    return {number: tuple(each) for number, each in scores.items()}, _listed(rows, {row[0] for row in rows})


def _measurements(connection: Connection, run_id: str, *, samples: bool) -> list[MeasurementRecord]:
    kept: dict[int, dict[str, Samples]] = defaultdict(dict)
    if samples:
        sets = (
            select(SampleSet)
            .join(Measurement, Measurement.id == SampleSet.measurement_id)
            .where(Measurement.run_id == run_id, CURRENT)
        )
        for each in connection.execute(sets):
            kept[each.measurement_id][each.clock] = decode(each.data, each.n, each.version)
    query = select(Measurement).where(Measurement.run_id == run_id, CURRENT).order_by(Measurement.id)
    found = connection.execute(query)
    names = tuple(found.keys())
    rows: Iterator[dict[str, Any]] = (dict(zip(names, row, strict=True)) for row in found)
    scores, texts = _scores_and_attachments(connection, run_id)
    return [
        MeasurementRecord(
            row["id"],
            row["launch_id"],
            measurement_row(row, kept.get(row["id"]), scores.get(row["id"], ())),
            texts.get(row["id"], ()),
        )
        for row in rows
    ]


def _run(row: RowMapping) -> RunRow:
    return RunRow(
        id=row["id"],
        label=row["label"],
        started=row["started"],
        state=row["state"],
        environment=EnvironmentRow(row["fingerprint"], row["details"]),
        request=row["request"],
        origin=row["origin"],
        version=row["version"],
        commit=row["git_commit"],
        finished=row["finished"],
    )


def measurement_row(
    row: Mapping[Any, Any], samples: Mapping[str, Samples] | None = None, scores: tuple[Score, ...] = ()
) -> MeasurementRow:
    """A row of the table `measurements` as plain data, with what hangs on it; attachments stay where they are."""
    given = samples or {}
    return MeasurementRow(
        **dict(zip(_PLAIN_FIELDS, _get_plain(row), strict=True)),
        host=_summary(_get_summary["host"](row)),
        device=_summary(_get_summary["device"](row)),
        parity=Parity(*_get_parity(row)) if row["parity_ok"] is not None else None,
        flags=tuple(row["flags"]),
        scores=scores,
        host_samples=given.get("host"),
        device_samples=given.get("device"),
    )


# Rows by the hundred thousand: the columns of a part are fetched together.
_get_plain = itemgetter(*_PLAIN_FIELDS)
_get_parity = itemgetter(*(f"parity_{name}" for name in _PARITY_FIELDS))
_get_summary = {clock: itemgetter(*(f"{clock}_{name}" for name in _SUMMARY_FIELDS)) for clock in CLOCKS}
_get_always_there = itemgetter(*(_SUMMARY_FIELDS.index(name) for name in _ALWAYS_THERE))


def _summary(figures: tuple[Any, ...]) -> Summary | ReportedSummary | None:
    """Our own samples are always summed up whole; what lacks a figure is what a foreign tool reported."""
    if figures.count(None) == len(figures):
        return None
    whole = None not in _get_always_there(figures)
    return Summary(*figures) if whole else ReportedSummary(*figures)


def measurement_columns(row: MeasurementRow) -> dict[str, Any]:
    """The columns of `measurements` that come from a row; the inverse of `measurement_row`."""
    columns: dict[str, Any] = {name: getattr(row, name) for name in _PLAIN_FIELDS}
    for clock, summary in (("host", row.host), ("device", row.device)):
        columns |= {f"{clock}_{name}": getattr(summary, name, None) for name in _SUMMARY_FIELDS}
    columns |= {f"parity_{name}": getattr(row.parity, name, None) for name in _PARITY_FIELDS}
    return columns | {"flags": list(row.flags)}
