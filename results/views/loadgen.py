"""What LoadGen itself said of a measurement: its verdict, what was asked, what it refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from benchrun.results.schema import Measurement


def loadgen_facts(connection: Connection, measurement_ids: Sequence[int]) -> dict[str, list[Mapping[str, Any]]]:
    """Point key → LoadGen's facts of those measurements that have any, in the order of their ids."""
    query = (
        select(Measurement.point_key, Measurement.facts)
        .where(Measurement.id.in_(measurement_ids))
        .order_by(Measurement.id)
    )
    found: dict[str, list[Mapping[str, Any]]] = {}
    for key, facts in connection.execute(query):
        told = facts.get("loadgen") if isinstance(facts, dict) else None
        if isinstance(told, dict):
            found.setdefault(key, []).append(told)
    return found
