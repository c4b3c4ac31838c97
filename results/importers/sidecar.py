"""The sidecar: what a user knows of a foreign file that the file itself cannot say. TOML, or JSON.

label = "A100 node 7"
model = "bert-base"
batch = 8
log = "trtexec.log"          # a companion file, in the sidecar's folder
[hardware]
device = "NVIDIA A100-SXM4-40GB"
[protocol]
graph = true                 # conditions of trtexec and the like
[columns]                    # of a generic CSV file
batch = "Batch"
mean_ms = {column = "latency", unit = "us"}
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from benchrun.results.importers import values
from benchrun.results.importers.documents import Node, parse_json
from benchrun.results.importers.foreign import ForeignPoint, ImportFailed, Source
from benchrun.results.importers.limits import decode_text, read_bounded, read_companion

MAX_SIDECAR_BYTES = 2**20
COMPANIONS = ("log", "config")
NAMES = ("model", "weights", "head", "backend", "variant", "device", "dtype", "workload")
COUNTS = ("batch", "seq")
TABLES = ("hardware", "software", "protocol", "columns")
KNOWN = ("label", "started", "command", *NAMES, *COUNTS, *COMPANIONS, *TABLES)
DTYPES = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar's content; `source` is its file, None where there is none. `companions`:

    the files `log` and `config`.
    """

    source: Source | None = None
    label: str | None = None
    started: datetime | None = None
    command: str | None = None
    model: str | None = None
    weights: str | None = None
    head: str | None = None
    backend: str | None = None
    variant: str | None = None
    device: str | None = None
    dtype: str | None = None
    workload: str | None = None
    batch: int | None = None
    seq: int | None = None
    hardware: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    companions: Mapping[str, Source] = field(default_factory=dict)

    def failed(self, problem: str, *, field: str | None = None) -> ImportFailed:
        """The exception for a problem in the sidecar."""
        name = self.source.name if self.source else "sidecar"
        return ImportFailed(problem, file=name, field=field)

    def condition(self, name: str) -> bool | None:
        """A condition of the table `protocol` that is on or off."""
        value = self.protocol.get(name)
        if value is None or isinstance(value, bool):
            return value
        if value in ("on", "off"):
            return bool(value == "on")
        raise self.failed(f"{values.show(value)} is neither true nor false", field=f"protocol.{name}")

    def complete(self, point: ForeignPoint, found_in: Source) -> ForeignPoint:
        """`point` with what only the sidecar knows. Where both know and differ, the sidecar is of another file."""
        updates: dict[str, Any] = {}
        for name in ("model", "weights", "head", "device", "dtype", "workload", *COUNTS):
            given, known = getattr(self, name), getattr(point, name)
            if given is None or given == known:
                continue
            if known is not None and not (name == "device" and given.startswith(f"{known}:")):
                raise self.failed(
                    f"says {values.show(given)}, but {found_in.name} says {values.show(known)}", field=name
                )
            updates[name] = given
        for name in ("backend", "variant"):  # the file names them in its own words: the sidecar's win
            if (given := getattr(self, name)) is not None:
                updates[name] = given
        return replace(point, **updates) if updates else point


NO_SIDECAR = Sidecar()


def read_sidecar(path: Path) -> Sidecar:
    """A sidecar file with the companions it names; `ImportFailed` where it, or one of them, cannot be used."""
    return parse_sidecar(read_bounded(path, limit=MAX_SIDECAR_BYTES), path.parent)


def parse_sidecar(source: Source, folder: Path | None = None) -> Sidecar:
    """The content of a sidecar, with the companion files that it names in `folder`."""
    node = _parse(source)
    unknown = [name for name in node.object() if name not in KNOWN]
    if unknown:
        raise source.failed(f"{values.show(unknown[0])} is not known; a sidecar may have {', '.join(KNOWN)}")
    given: dict[str, Any] = {}
    for name in ("label", *NAMES):
        if (each := node.get(name)) is not None:
            given[name] = each.name()
    for name in COUNTS:
        if (each := node.get(name)) is not None:
            given[name] = each.count(least=1)
    if given.get("dtype") not in (None, *DTYPES):
        raise node.need("dtype").failed(f"{values.show(given['dtype'])} is not one of {', '.join(DTYPES)}")
    if (each := node.get("command")) is not None:
        given["command"] = _line(each)
    if (each := node.get("started")) is not None:
        given["started"] = _moment(each)
    for name in TABLES:
        if (each := node.get(name)) is not None:
            each.object()
            given[name] = _plain(each)
    companions = {}
    for name in COMPANIONS:
        if (each := node.get(name)) is not None:
            if folder is None:
                raise each.failed("names a file, but the sidecar's folder is not known")
            companions[name] = read_companion(folder, each.name(), of=source.name)
    return Sidecar(source=source, companions=companions, **given)


def _parse(source: Source) -> Node:
    text = decode_text(source)
    if text.lstrip().startswith("{"):
        return parse_json(source)
    if text.count("[") + text.count("{") > 10_000:  # its parser is slow on nesting, and a sidecar is small
        raise source.failed("is not a believable sidecar")
    try:
        return Node(source, "", tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise source.failed(f"is not TOML: {str(error)[:200]}") from None
    except RecursionError:
        raise source.failed("is nested too deep") from None


def _line(node: Node) -> str:
    if not isinstance(node.value, str) or not node.value.isprintable() or len(node.value) > 20_000:
        raise node.failed("is not one line of text")
    return node.value


def _moment(node: Node) -> datetime:
    if isinstance(node.value, datetime):  # TOML has dates of its own
        return values.to_moment(node.value.isoformat(), node.failed)[0]
    if isinstance(node.value, date):
        return datetime(node.value.year, node.value.month, node.value.day, tzinfo=UTC)
    return values.to_moment(node.value, node.failed)[0]


def _plain(node: Node, depth: int = 0) -> Any:
    """A value that JSON can hold: TOML also has dates, infinities and numbers of any size."""
    value = node.value
    if depth > 8:
        raise node.failed("is nested too deep")
    if isinstance(value, dict):
        return {
            name: _plain(Node(node.source, node.text, each, (*node.path, name)), depth + 1)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [_plain(each, depth + 1) for each in node.items()]
    if isinstance(value, float) and value - value != 0.0:
        raise node.failed(f"{value} is not a finite number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise node.failed("is too large a number")
    if value is not None and not isinstance(value, str | int | float):
        return str(value)
    return value
