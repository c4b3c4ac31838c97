"""What parent and worker say to each other: one JSON object a line. Samples travel as lists of nanoseconds."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchrun.backends.catalogue import ModelSpec
from benchrun.backends.checkpoints import find_tokenizer
from benchrun.backends.contract import Point
from benchrun.runner.protocol import Protocol


def clean_line(text: str, limit: int) -> str:
    """Somebody else's text as one line of printable characters, at most `limit` of them."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text[: 10 * limit]).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


@dataclass(frozen=True, slots=True)
class Task:
    """One point for a worker. `ordinal` is its place in the launch."""

    point: Point
    ordinal: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """All that a worker needs: its model, its points, the protocol.

    `progress_s` is the least time between two ticks, 0 for none. `settings` are those of the workload (a target rate, a file): what
    says how well or on which data it is measured, plain JSON values. `sweep` is what an engine is built for that takes a range of
    shapes: all points that share this worker as they were planned, also those that are measured already or in another launch;
    empty where the tasks are all of them.
    """

    spec: ModelSpec
    max_seq: int
    tasks: tuple[Task, ...]
    protocol: Protocol
    progress_s: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    sweep: tuple[Point, ...] = ()


# What only says how well a number is known or when to tell of it: a worker of another version may do without.
HINTS = frozenset({"energy", "repeats", "progress_s"})
FULL: Mapping[str, Collection[str]] = {}


def encode_assignment(assignment: Assignment, takes: Mapping[str, Collection[str]] = FULL) -> str:
    """As one line of JSON.

    `takes`: the fields that a worker of another version knows of `assignment` and `protocol`; empty for all. What it does
    not know is left out where it has its default or is one of `HINTS`; the rest is sent all the same, for without it something else
    would be measured, and the worker then refuses.
    """
    raw = asdict(assignment)
    if takes:
        raw["protocol"] = _without(raw["protocol"], Protocol, takes.get("protocol", ()))
        raw = _without(raw, Assignment, takes.get("assignment", ()))
    return json.dumps(raw)


def _without(raw: Mapping[str, Any], part: type[Any], known: Collection[str]) -> dict[str, Any]:
    """A part without the fields that a worker does not know and can do without."""
    usual = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(part)
    }
    spare = {name for name in raw.keys() - set(known) if name in HINTS or raw[name] == usual[name]} if known else ()
    return {name: value for name, value in raw.items() if name not in spare}


def decode_assignment(line: str) -> Assignment:
    """The inverse of `encode_assignment`."""
    raw = json.loads(line)
    raw["spec"] = decode_spec(raw["spec"])
    raw["tasks"] = tuple(Task(decode_point(task["point"]), task["ordinal"]) for task in raw["tasks"])
    raw["protocol"] = Protocol(**raw["protocol"])
    raw["sweep"] = tuple(decode_point(point) for point in raw.get("sweep", ()))
    return Assignment(**raw)


def decode_point(raw: Mapping[str, Any]) -> Point:
    """A point from its JSON form."""
    pairs = {name: tuple((key, value) for key, value in raw[name]) for name in ("overrides", "options")}
    return Point(**{**raw, **pairs})


def decode_spec(raw: Mapping[str, Any]) -> ModelSpec:
    """A model spec from its JSON form."""
    names = {field.name for field in fields(ModelSpec)}
    values = {name: value for name, value in raw.items() if name in names}
    if (
        "tokenizer" not in raw and raw["weights_path"]
    ):  # the other side of a gate is older than the field, and looked there
        found = find_tokenizer((Path(raw["weights_path"]),))
        values["tokenizer"] = str(found) if found else None
    return ModelSpec(**{**values, "overrides": tuple((key, value) for key, value in raw["overrides"])})
