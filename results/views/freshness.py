"""Has the database changed? A small token that is equal as long as nothing that the views show has changed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from benchrun.results.schema import Gate, Measurement, Run, RunPoint


@dataclass(frozen=True, slots=True)
class Freshness:
    """Equal tokens: nothing was added, removed or finished in between. `running`: runs that say so of themselves."""

    newest_measurement: int
    runs: int
    newest_run: str
    newest_end: str
    running: int
    planned: int  # launches that running runs plan
    gates: int
    newest_gate: str  # start and end: a gate that ends changes its verdicts with its end


def freshness(connection: Connection) -> Freshness:
    """The token of this moment; a few index look-ups."""
    newest = connection.execute(select(func.max(Measurement.id))).scalar()
    row = connection.execute(select(func.count(), func.max(Run.started), func.max(Run.finished)).select_from(Run)).one()
    # By ids, and only where there are any: with statistics (ANALYZE), SQLite would read the plans of all runs for a sub-query.
    active = connection.execute(select(Run.id).where(Run.state == "running")).scalars().all()
    launches = select(func.sum(RunPoint.replicates)).where(RunPoint.run_id.in_(active))
    planned = connection.execute(launches).scalar() if active else 0
    gates = connection.execute(
        select(func.count(), func.max(Gate.started), func.max(Gate.finished)).select_from(Gate)
    ).one()
    return Freshness(
        newest_measurement=int(newest or 0),
        runs=int(row[0]),
        newest_run=str(row[1] or ""),
        newest_end=str(row[2] or ""),
        running=len(active),
        planned=int(planned or 0),
        gates=int(gates[0]),
        newest_gate=f"{gates[1] or ''} {gates[2] or ''}",
    )
