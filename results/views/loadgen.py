"""What LoadGen itself said of a measurement: its verdict, what was asked, what it refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from benchrun.results.schema import Measurement

AT_ONCE = 500  # ids of one query: databases bound the number of its parameters


def loadgen_facts(connection: Connection, measurement_ids: Sequence[int]) -> dict[str, list[Mapping[str, Any]]]:
    """Point key → LoadGen's facts of those measurements that have any, in the order of their ids."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    ids = sorted(measurement_ids)
    for start in range(0, len(ids), AT_ONCE):
        query = (
            select(Measurement.point_key, Measurement.facts)
            .where(Measurement.id.in_(ids[start : start + AT_ONCE]))
            .order_by(Measurement.id)
        )
        for key, facts in connection.execute(query):
            told = facts.get("loadgen") if isinstance(facts, dict) else None
            if isinstance(told, dict):
                found.setdefault(key, []).append(told)
    return found
