"""Published tables as package data: a CSV of the cells as printed, and a TOML sidecar with the conditions.

Times are milliseconds, throughput is sequences a second, over all devices of the row unless the column says per device.
An empty cell of the CSV is a figure that the source does not print; `status` keeps `oom` (the source says so)
and `blank` (the source leaves the cell empty) apart.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

STATUSES = ("ok", "oom", "blank")
FIGURES = (
    "avg_ms",
    "p50_ms",
    "p90_ms",
    "p95_ms",
    "p97_ms",
    "p99_ms",
    "p99_9_ms",
    "throughput_seq_s",
    "throughput_per_device_seq_s",
)
COLUMNS = (
    *("order", "section", "hardware", "devices", "model", "head", "engine", "precision", "dtype", "batch", "seq"),
    *("scenario", "status"),
    *FIGURES,
    "note",
)


class UnknownTable(LookupError):
    """There is no published table of that name."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which conditions a figure was taken; None: not known. The words are benchrun's: two sides can be compared.

    `graph` is `on` or `off`; `transfers` `excluded` or `included`; `workload` `padded`, `lengths:…` or `packed`; `mask`
    what was fed as attention mask; `accumulation` the dtype of the matrix products' sums; `clocks` whether the device's
    clocks were locked; `timing` which clock and around what; `percentile` its definition; `software` versions in words.
    """

    graph: str | None = None
    transfers: str | None = None
    workload: str | None = None
    mask: str | None = None
    accumulation: str | None = None
    clocks: str | None = None
    timing: str | None = None
    percentile: str | None = None
    warmup: str | None = None
    samples: str | None = None
    inputs: str | None = None
    software: str | None = None


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One configuration of a published table. `order` is its place on the page, from 1; `printed` keeps the digits.

    `batch` and `seq` are None where the source does not say; `devices` is how many devices the figures are for.
    """

    order: int
    section: str
    hardware: str | None
    devices: int | None
    model: str
    head: str | None
    engine: str
    precision: str | None
    dtype: str
    batch: int | None
    seq: int | None
    scenario: str | None
    status: str
    avg_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p97_ms: float | None = None
    p99_ms: float | None = None
    p99_9_ms: float | None = None
    throughput_seq_s: float | None = None
    throughput_per_device_seq_s: float | None = None
    note: str = ""
    printed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A published table with its sidecar.

    `protocol` holds for all rows except as `engine_protocol` (by engine) says otherwise; `evidence` says in words where
    each of its entries was read. `derived` names columns that were computed by a reader, not printed by the source.
    `odd` pairs a row's order with what looks wrong with it: listed, never mended.
    """

    name: str
    title: str
    source: Mapping[str, str]
    hardware: Mapping[str, str]
    software: Mapping[str, str]
    protocol: Conditions
    engine_protocol: Mapping[str, Conditions]
    evidence: Mapping[str, str]
    caveats: tuple[str, ...]
    odd: tuple[tuple[int, str], ...]
    derived: tuple[str, ...]
    rows: tuple[PublishedRow, ...]

    def conditions(self, row: PublishedRow) -> Conditions:
        """The conditions of one row."""
        return self.engine_protocol.get(row.engine, self.protocol)


def table_names() -> tuple[str, ...]:
    """The names of all published tables, sorted."""
    folder = resources.files("benchrun.results.published")
    return tuple(sorted(each.name.removesuffix(".csv") for each in folder.iterdir() if each.name.endswith(".csv")))


def published_tables() -> list[PublishedTable]:
    """All published tables, by name."""
    return [load(name) for name in table_names()]


@cache
def load(name: str) -> PublishedTable:
    """The published table of that name; `UnknownTable` names those there are."""
    if name not in table_names():
        raise UnknownTable(f"there is no published table '{name}'; there are: {', '.join(table_names())}")
    folder = resources.files("benchrun.results.published")
    side: dict[str, Any] = tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))
    text = (folder / f"{name}.csv").read_text(encoding="utf-8")
    protocol: dict[str, Any] = dict(side["protocol"])
    per_engine: dict[str, dict[str, str]] = protocol.pop("engine", {})
    return PublishedTable(
        name=name,
        title=side["title"],
        source=MappingProxyType(side["source"]),
        hardware=MappingProxyType(side["hardware"]),
        software=MappingProxyType(side.get("software", {})),
        protocol=Conditions(**protocol),
        engine_protocol=MappingProxyType({k: Conditions(**(protocol | v)) for k, v in per_engine.items()}),
        evidence=MappingProxyType(side.get("evidence", {})),
        caveats=tuple(side.get("caveats", ())),
        odd=tuple((each["order"], each["what"]) for each in side.get("odd", ())),
        derived=tuple(side.get("derived", ())),
        rows=tuple(_read_row(line) for line in csv.DictReader(text.splitlines())),
    )


def _read_row(cells: Mapping[str, str]) -> PublishedRow:
    figures = {name: float(cells[name]) for name in FIGURES if cells[name]}
    return PublishedRow(
        order=int(cells["order"]),
        section=cells["section"],
        hardware=cells["hardware"] or None,
        devices=_count(cells["devices"]),
        model=cells["model"],
        head=cells["head"] or None,
        engine=cells["engine"],
        precision=cells["precision"] or None,
        dtype=cells["dtype"],
        batch=_count(cells["batch"]),
        seq=_count(cells["seq"]),
        scenario=cells["scenario"] or None,
        status=cells["status"],
        note=cells["note"],
        printed=MappingProxyType({name: cells[name] for name in figures}),
        **figures,
    )


def _count(text: str) -> int | None:
    return int(text) if text else None


def condition_names() -> tuple[str, ...]:
    """The fields of `Conditions`, in order."""
    return tuple(each.name for each in fields(Conditions))
