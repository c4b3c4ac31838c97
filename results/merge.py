"""Merging databases: the runs and gates of other machines into one, each in a transaction of its own.

    report = merge_database(store, "other.db")

A run is the same run by its id. One that is here already is compared measurement by measurement, samples included:

- the same, or less there: nothing is written (`known`);
- all that is here and more there (it went on after it was copied): what is new is added (`extended`);
- each has what the other lacks: nothing is written, and it is reported (`conflict`).

An imported file is the same run where file and sidecar are the same. So a merge may be repeated, also after it was killed:
what was written is complete, and is found again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, Select, delete, select

from benchrun.results import merge_rows
from benchrun.results.merge_rows import Conflict, Reader, Row
from benchrun.results.merge_source import open_source, refuse_itself
from benchrun.results.schema import Ceiling, Gate, GateLaunch, Run
from benchrun.results.target import locate

if TYPE_CHECKING:
    from benchrun.results.store import Store

_LATER = ("running", "interrupted", "finished")  # states in the order in which a run or a gate goes through them
Outcome = Literal["added", "extended", "known", "conflict"]


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of one run, gate, or machine's measured ceilings (`kind`; then `id` is its fingerprint).

    `measurements` counts those that were written; `problem` is a conflict's sentence.
    """

    kind: Literal["run", "gate", "ceilings"]
    id: str
    outcome: Outcome
    measurements: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What became of all runs and gates of one other database, oldest first."""

    other: str
    merged: tuple[Merged, ...]

    def count(self, outcome: Outcome) -> int:
        """How many runs and gates ended so."""
        return sum(each.outcome == outcome for each in self.merged)

    @property
    def measurements(self) -> int:
        """Measurements that were written."""
        return sum(each.measurements for each in self.merged)

    @property
    def conflicts(self) -> tuple[Merged, ...]:
        """What differs on both sides and was left as it is."""
        return tuple(each for each in self.merged if each.outcome == "conflict")


def merge_database(
    store: Store, other: str | Path, *, dry_run: bool = False, told: Callable[[Merged], None] | None = None
) -> MergeReport:
    """Bring the runs and gates of `other`, which is only read, into `store`. `told` hears of each as it is done.

    With `dry_run` nothing is written and the report says what would be. Raises `StoreError` where `other` cannot be used or
    `store` not be written; what was reported until then is complete.
    """
    refuse_itself(store, other)
    merged = []
    target = locate(other)
    with open_source(other) as source, source.reading() as connection:
        reader = Reader(connection, target)
        for each in _merge_all(store, reader, dry_run):
            merged.append(each)
            if told is not None:
                told(each)
    return MergeReport(target.shown, tuple(merged))


def _merge_all(store: Store, reader: Reader, dry_run: bool) -> Iterator[Merged]:
    for row in reader.rows(select(Run.id).order_by(Run.started, Run.id)):
        yield _merge_one(store, reader, "run", row["id"], _judge_run, _write_run, dry_run)
    for row in reader.rows(select(Gate.id).order_by(Gate.started, Gate.id)):
        yield _merge_one(store, reader, "gate", row["id"], _judge_gate, _write_gate, dry_run)
    for row in reader.rows(select(Ceiling.fingerprint).distinct().order_by(Ceiling.fingerprint)):
        yield _merge_one(store, reader, "ceilings", row["fingerprint"], _judge_ceilings, _write_ceilings, dry_run)


@dataclass(frozen=True, slots=True)
class _Judgement:
    outcome: Outcome
    problem: str | None = None
    new: int = 0
    ours: Mapping[bytes, list[int]] | None = None
    theirs: Mapping[bytes, list[int]] | None = None


def _merge_one(
    store: Store,
    reader: Reader,
    kind: Literal["run", "gate", "ceilings"],
    id: str,
    judge: Callable[[Connection, Reader, str], _Judgement],
    write: Callable[[Connection, Reader, str, _Judgement], int],
    dry_run: bool,
) -> Merged:
    with store.reading() as connection:  # without the write lock: most of a repeated merge ends here
        found = judge(connection, reader, id)
    if dry_run or found.outcome in ("known", "conflict"):
        return Merged(kind, id, found.outcome, found.new, found.problem)
    try:
        with store.writing(points=True) as connection:
            found = judge(connection, reader, id)  # again: another process may have been faster
            written = write(connection, reader, id, found)
    except Conflict as conflict:
        return Merged(kind, id, "conflict", 0, str(conflict))
    return Merged(kind, id, found.outcome, written, found.problem)


# --- runs -------------------------------------------------------------------------------------------------------------


def _judge_run(here: Connection, reader: Reader, run_id: str) -> _Judgement:
    ours = here.execute(select(Run).where(Run.id == run_id)).mappings().first()
    (theirs,) = reader.rows(select(Run).where(Run.id == run_id))
    if ours is None:
        return _Judgement("added", new=merge_rows.count_measurements(reader, run_id))
    if ours["origin"] != theirs["origin"]:
        return _Judgement("conflict", f"it is of {ours['origin']} here and of {theirs['origin']} there")
    if theirs["origin"].startswith("import:"):
        return _judge_imported(dict(ours), theirs)
    have, get = merge_rows.measured(_asking(here), run_id), merge_rows.measured(reader.rows, run_id)
    more_here, more_there = _count(have) - _count(get), _count(get) - _count(have)
    if more_here and more_there:
        return _Judgement(
            "conflict", f"{more_here.total()} of its measurements are only here and {more_there.total()} only there"
        )
    later = _LATER.index(theirs["state"]) > _LATER.index(ours["state"])
    if more_here or not (more_there or later):
        return _Judgement("known")
    return _Judgement("extended", None, more_there.total(), have, get)


def _judge_imported(ours: Row, theirs: Row) -> _Judgement:
    """The same file may have been imported on both machines; only its modification time then differs."""
    names = ("sha256", "sidecar_sha256")
    same = all(_imported(ours).get(name) == _imported(theirs).get(name) for name in names)
    return _Judgement("known") if same else _Judgement("conflict", "it was imported with another sidecar there")


def _imported(run: Row) -> Mapping[str, Any]:
    found = run["request"].get("import")
    return found if isinstance(found, Mapping) else {}


def _write_run(write: Connection, reader: Reader, run_id: str, found: _Judgement) -> int:
    if found.outcome == "added":
        return merge_rows.add_run(write, reader, run_id)
    if found.outcome == "extended" and found.ours is not None and found.theirs is not None:
        return merge_rows.extend_run(write, reader, run_id, found.ours, found.theirs)
    return 0


def _count(found: Mapping[bytes, list[int]]) -> Counter[bytes]:
    return Counter({digest: len(ids) for digest, ids in found.items()})


def _asking(connection: Connection) -> Callable[[Select[Any]], list[Row]]:
    return lambda query: [dict(row) for row in connection.execute(query).mappings()]


# --- gates ------------------------------------------------------------------------------------------------------------


def _judge_gate(here: Connection, reader: Reader, gate_id: str) -> _Judgement:
    ours = merge_rows.gate_content(_asking(here), gate_id)
    theirs = merge_rows.gate_content(reader.rows, gate_id)
    if not ours[Gate.__tablename__]:
        return _Judgement("added")
    if ours == theirs:
        return _Judgement("known")
    (gate,), (other,) = ours[Gate.__tablename__], theirs[Gate.__tablename__]
    here_rank, there_rank = _LATER.index(gate["state"]), _LATER.index(other["state"])
    launches, others = ours[GateLaunch.__tablename__], theirs[GateLaunch.__tablename__]
    if there_rank > here_rank and all(each in others for each in launches):
        return _Judgement("extended")
    if there_rank < here_rank and all(each in launches for each in others):
        return _Judgement("known")
    return _Judgement("conflict", "its launches or its verdict differ from those there")


def _write_gate(write: Connection, reader: Reader, gate_id: str, found: _Judgement) -> int:
    if found.outcome == "extended":
        write.execute(delete(Gate).where(Gate.id == gate_id))
    if found.outcome in ("added", "extended"):
        merge_rows.write_gate(write, reader, gate_id)
    return 0


# --- ceilings ---------------------------------------------------------------------------------------------------------


def _judge_ceilings(here: Connection, reader: Reader, fingerprint: str) -> _Judgement:
    new = merge_rows.new_ceilings(_asking(here), reader, fingerprint)
    return _Judgement("added", new=len(new)) if new else _Judgement("known")


def _write_ceilings(write: Connection, reader: Reader, fingerprint: str, found: _Judgement) -> int:
    return merge_rows.write_ceilings(write, reader, fingerprint) if found.new else 0
