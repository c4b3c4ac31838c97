"""Has the database changed? A small token that is equal as long as nothing that the views show has changed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select

from benchrun.results.schema import Measurement, Run, RunPoint


@dataclass(frozen=True, slots=True)
class Freshness:
    """Equal tokens: nothing was added, removed or finished in between. `running`: runs that say so of themselves."""

    newest_measurement: int
    runs: int
    newest_run: str
    newest_end: str
    running: int
    planned: int  # launches that running runs plan


def freshness(connection: Connection) -> Freshness:
    """The token of this moment; a few index look-ups."""
    newest = connection.execute(select(func.max(Measurement.id))).scalar()
    running = func.sum(case((Run.state == "running", 1), else_=0))
    row = connection.execute(
        select(func.count(), func.max(Run.started), func.max(Run.finished), running).select_from(Run)
    ).one()
    active = select(Run.id).where(Run.state == "running")
    planned = connection.execute(select(func.sum(RunPoint.replicates)).where(RunPoint.run_id.in_(active))).scalar()
    return Freshness(
        int(newest or 0), int(row[0]), str(row[1] or ""), str(row[2] or ""), int(row[3] or 0), int(planned or 0)
    )
