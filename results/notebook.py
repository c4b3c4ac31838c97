"""Queries that return pandas frames, for notebooks and scripts: docs/python-api.md.

from benchrun.results import open_store

with open_store(read_only=True) as store:
    table = store.frames.points(model="bert-base", dtype=["fp32", "bf16"])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, or_, select

from benchrun.results.queries import CURRENT
from benchrun.results.samples import decode
from benchrun.results.schema import CLOCKS, Environment, Measurement, Point, Run, SampleSet

if TYPE_CHECKING:
    import pandas as pd

    from benchrun.results.store import Store

_SAMPLE_COLUMNS = ("run_id", "point_key", "backend", "variant", "model", "dtype", "batch", "seq", "replicate")
Wanted = str | int | Sequence[str] | Sequence[int] | None


class Frames:
    """The store's questions, each one read transaction. Filters take one value or several; None asks for nothing.

    `run` takes what the command line takes: an id, the start of one, `last`. `backend` is `torch` or `torch:eager`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def runs(self) -> pd.DataFrame:
        """One row a run, latest first: id, label, started, state, points, ok, failed."""
        import pandas as pd

        from benchrun.results.records import RunOverview

        columns = [each.name for each in fields(RunOverview)]
        return pd.DataFrame([asdict(each) for each in self._store.runs()], columns=columns)

    def launches(self, run: Wanted = None, **wanted: Wanted) -> pd.DataFrame:
        """One row for each launch of a point, with the summaries of both clocks; columns: `views.frames.COLUMNS`.

        `wanted`: backend, model, head, dtype, device, batch, seq, workload, status. ValueError for another name.
        """
        from benchrun.results.views.frames import launches_frame, measurement_select, point_select, run_select

        query = (
            select(Point.key.label("point_key"), *point_select(), *run_select(), *measurement_select())
            .select_from(Measurement)
            .join(Point, Point.key == Measurement.point_key)
            .join(Run, Run.id == Measurement.run_id)
            .join(Environment, Environment.id == Run.environment_id)
            .where(CURRENT, *self._conditions(run, wanted))
            .order_by(Run.started, Measurement.id)
        )
        with self._store.reading() as connection:
            return launches_frame(connection.execute(query).mappings())

    def points(self, run: Wanted = None, clock: str = "host", **wanted: Wanted) -> pd.DataFrame:
        """One row for each point of each run by one clock: figures over its launches with the interval of p50.

        Columns and the meaning of the interval: `views.summaries`.
        """
        from benchrun.results.views.summaries import summarise

        return summarise(self.launches(run, **wanted), _clock(clock))

    def samples(self, run: Wanted = None, clock: str = "host", **wanted: Wanted) -> pd.DataFrame:
        """One row for each sample, in the order they were taken: the point, `replicate`, `index` from 0 and `ms`."""
        import numpy as np
        import pandas as pd

        query = (
            select(
                Run.id.label("run_id"), Point.key.label("point_key"), Point.backend, Point.variant, Point.model, Point.dtype,
                Point.batch, Point.seq, Measurement.replicate, SampleSet.data, SampleSet.n, SampleSet.version,
            )
            .select_from(SampleSet)
            .join(Measurement, Measurement.id == SampleSet.measurement_id)
            .join(Point, Point.key == Measurement.point_key)
            .join(Run, Run.id == Measurement.run_id)
            .where(CURRENT, SampleSet.clock == _clock(clock), *self._conditions(run, wanted))
            .order_by(Run.started, Measurement.id)
        )  # fmt: skip
        with self._store.reading() as connection:
            rows = connection.execute(query).mappings().all()
        sets = [decode(row["data"], row["n"], row["version"]) for row in rows]
        counts = [len(each) for each in sets]
        columns: dict[str, Any] = {
            name: pd.Series([row[name] for row in rows]).repeat(counts).reset_index(drop=True)
            for name in _SAMPLE_COLUMNS
        }
        columns["index"] = np.concatenate([np.arange(n) for n in counts]) if counts else np.array([], dtype=np.int64)
        columns["ms"] = np.concatenate(sets) / 1e6 if sets else np.array([], dtype=np.float64)
        return pd.DataFrame(columns)

    def scores(self, run: Wanted = None, **wanted: Wanted) -> pd.DataFrame:
        """One row for each score of each launch: the point, `task`, `metric`, `value`, `n`, `reference`, and what the same launch
        measured: `host_p50_ms`, `device_p50_ms`, `throughput_seq_s`.
        """
        from benchrun.results.views.scores import load_scores

        with self._store.reading() as connection:
            return load_scores(connection, *self._conditions(run, wanted))

    def published(self, *names: str) -> pd.DataFrame:
        """The rows of published tables, all or the named ones, with their table and every condition (`condition_…`)."""
        import pandas as pd

        from benchrun.results.published import load, published_tables

        tables = [load(name) for name in names] or published_tables()
        return pd.DataFrame(
            [
                {"table": table.name}
                | {name: value for name, value in _row_values(row).items() if name != "printed"}
                | {f"condition_{name}": value for name, value in asdict(table.conditions(row)).items()}
                for table in tables
                for row in table.rows
            ]
        )

    def beside(self, run: str, *names: str) -> pd.DataFrame:
        """A run beside published rows of the same model, dtype and shape: ratios (here ÷ published), and in words what differs
        (`differs`) and what only one side states (`unknown`).
        """
        import pandas as pd

        from benchrun.results.published import compare, load, published_tables, run_points

        points = run_points(self._store.run(self._store.resolve_run(run)))
        tables = [load(name) for name in names] or published_tables()
        rows = [
            {
                "table": each.table,
                **{
                    name: getattr(each.measured, name)
                    for name in ("model", "head", "engine", "dtype", "batch", "seq", "hardware")
                },
                "published_engine": each.published.engine,
                "published_hardware": each.published.hardware,
                **{f"{name}_ratio": getattr(each, f"{name}_ratio") for name in ("avg", "p95", "p99", "throughput")},
                "differs": each.differs,
                "unknown": each.unknown,
            }
            for table in tables
            for each in compare(points, table)
        ]
        return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["table", "model", "differs", "unknown"])

    def _conditions(self, run: Wanted, wanted: Mapping[str, Wanted]) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if run is not None:
            conditions.append(Run.id.in_([self._store.resolve_run(str(each)) for each in _several(run)]))
        for name, given in wanted.items():
            if name not in _FILTERS:
                raise ValueError(f"there is no filter '{name}'; there are run, {', '.join(_FILTERS)}")
            if given is None:
                continue
            values = list(_several(given))
            conditions.append(_engines(values) if name == "backend" else _FILTERS[name].in_(values))
        return conditions


_FILTERS: Mapping[str, Any] = {
    "backend": Point.backend,
    "model": Point.model,
    "head": Point.head,
    "dtype": Point.dtype,
    "device": Point.device,
    "batch": Point.batch,
    "seq": Point.seq,
    "workload": Point.workload,
    "status": Measurement.status,
}


def _row_values(row: Any) -> dict[str, Any]:
    """A published row's fields, by name."""
    return {each.name: getattr(row, each.name) for each in fields(row)}


def _engines(values: Iterable[Any]) -> ColumnElement[bool]:
    parts = [str(each).partition(":") for each in values]
    return or_(
        *(and_(Point.backend == name, *([Point.variant == variant] if variant else [])) for name, _, variant in parts)
    )


def _several(given: Any) -> Iterable[Any]:
    return (given,) if isinstance(given, str | int) else given


def _clock(clock: str) -> str:
    if clock not in CLOCKS:
        raise ValueError(f"there is no clock '{clock}'; there are {', '.join(CLOCKS)}")
    return clock
