"""`benchrun backends`: the doctor for engines, from package metadata and drivers; imports no engine unless asked to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchrun.backends.cache import default_cache
from benchrun.backends.contract import Backend, BackendError, Description, Variant
from benchrun.backends.registry import UnknownBackend, backend_entries, load_backend
from benchrun.runner.cli.tables import WIDE
from benchrun.runner.devices import list_devices
from benchrun.runner.environment import installed_version

CHECK_S = 60
NEVER = "never run"


@dataclass(frozen=True, slots=True)
class Line:
    """One variant of one engine on this machine. `verified` is how far it got here, by the stored runs; `project` maps a device
    kind to how far the project itself got with it."""

    engine: str
    available: bool
    reason: str
    versions: dict[str, str]
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    install: str
    verified: str
    project: dict[str, str]
    summary: str
    checked: bool = False


def list_backends(*, as_json: bool, check: bool) -> int:
    """Print every variant of every backend; exit 0."""
    lines = [line for name in backend_entries() for line in describe_backend(name, check=check)]
    if as_json:
        document = {"schema": 1, "devices": list(list_devices()), "backends": [asdict(line) for line in lines]}
        print(json.dumps(document, indent=1))
        return 0
    console = Console()
    console.print(f"devices here: {', '.join(list_devices())}", highlight=False)
    wide = console.width >= WIDE
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "engine",
        "here",
        "version",
        *(("devices", "dtypes") if wide else ()),
        "verified here",
        "in the project",
    ):
        table.add_column(name, no_wrap=name != "in the project")
    for line in lines:
        here = Text("yes", style="green") if line.available else Text("no", style="yellow")
        more = (", ".join(line.devices), " ".join(line.dtypes)) if wide else ()
        table.add_row(
            line.engine, here, ", ".join(line.versions.values()), *more, line.verified, by_level(line.project)
        )
    console.print(table, highlight=False)
    for reason in dict.fromkeys(line.reason for line in lines if line.reason):
        engines = ", ".join(line.engine for line in lines if line.reason == reason)
        rest = f" {said}" if (said := reason.removeprefix(f"{engines} ")) != reason else f": {reason}"
        console.print(Text.assemble((engines, "bold"), rest), highlight=False)
    told = (
        "executed, built, compiled or never run: how far it got here, by your stored runs and cache, and in the project"
    )
    elsewhere = "" if wide else "; devices, dtypes and install commands: --json, or a terminal of 120 columns"
    console.print(f"{told} (docs/engines.md){elsewhere}", style="dim", highlight=False)
    return 0


def by_level(verified: dict[str, str]) -> str:
    """`executed on cpu, cuda; never run on rocm`."""
    levels: dict[str, list[str]] = {}
    for kind, level in verified.items():
        levels.setdefault(level, []).append(kind)
    return "; ".join(f"{level} on {', '.join(kinds)}" for level, kinds in levels.items())


def describe_backend(name: str, *, check: bool) -> list[Line]:
    """One line a variant; a backend that cannot even be imported is one line with the reason."""
    try:
        backend = load_backend(name)
    except UnknownBackend as error:
        return [Line(name, False, str(error), {}, (), (), "", NEVER, {}, "")]
    about = backend.description
    missing = {variant.name: backend.missing(variant.name) for variant in about.variants}
    built = _built(backend)
    found = probe(name) if check and None in missing.values() else None
    return [
        _line(about, variant, missing[variant.name], found, built.get(variant.name, NEVER))
        for variant in about.variants
    ]


def _built(backend: type[Backend]) -> Mapping[str, str]:
    """How far variants got with what lies in the artefact cache; nothing where there is no usable cache."""
    try:
        return backend.built(default_cache())
    except (BackendError, OSError):
        return {}


def _line(
    about: Description, variant: Variant, missing: str | None, found: dict[str, Any] | None, built: str = NEVER
) -> Line:
    names = variant.distributions or about.distributions
    versions = {each: found_version for each in names if (found_version := installed_version(each))}
    devices = tuple(device for device in list_devices() if device.partition(":")[0] in variant.devices)
    reason = missing or ""
    cuda = any(device.startswith("cuda") for device in devices)
    dtypes = tuple(
        dtype for dtype in variant.dtypes if dtype != "tf32" or cuda or not devices
    )  # it exists on NVIDIA GPUs only
    if found is not None and missing is None:
        versions = dict(found.get("versions") or versions)
        reason = found["reason"]
        devices = tuple(device for device in found["devices"] if device.partition(":")[0] in variant.devices)
        kinds = {device.partition(":")[0] for device in devices}
        allowed = {dtype for kind in kinds for dtype in found["dtypes"].get(kind, ())}
        dtypes = tuple(dtype for dtype in variant.dtypes if dtype in allowed) if devices else ()
    if not reason and not devices:
        reason = f"it runs on {', '.join(variant.devices)}, and this machine shows {', '.join(list_devices())}"
    return Line(
        engine=f"{about.name}:{variant.name}",
        available=not reason,
        reason=reason,
        versions=versions,
        devices=devices,
        dtypes=dtypes,
        install=variant.install or about.install,
        verified="executed" if (about.name, variant.name) in executed_here() else built,
        project=dict(variant.verified),
        summary=variant.summary,
        checked=found is not None,
    )


@cache
def executed_here() -> set[tuple[str, str]]:
    """(backend, variant) pairs that stored runs of this machine have executed; none where there is no readable database."""
    from benchrun.results import open_store
    from benchrun.results.errors import StoreError
    from benchrun.runner.environment import read_environment

    try:
        with open_store(read_only=True) as store:
            return store.executed([read_environment(device).fingerprint for device in list_devices()])
    except StoreError:
        return set()


def probe(name: str) -> dict[str, Any]:
    """What the backend says after importing its engine, in a process of its own."""
    code = (
        "import json, sys; from dataclasses import asdict; from benchrun.backends.registry import load_backend; "
        "found = asdict(load_backend(sys.argv[1])().probe()); print('\\n' + json.dumps(found))"
    )
    try:
        done = subprocess.run([sys.executable, "-P", "-c", code, name], capture_output=True, text=True, timeout=CHECK_S)
    except subprocess.TimeoutExpired:
        return _unusable(f"it did not answer within {CHECK_S} s")
    last = done.stdout.strip().splitlines()[-1:] or [""]
    try:
        found = json.loads(last[0])
    except ValueError:
        words = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return _unusable(f"asking it failed: {words[0]}")
    if not found["ok"]:
        found["reason"] = found["reason"] or "it is not usable here"
    return dict(found)


def _unusable(reason: str) -> dict[str, Any]:
    return {"ok": False, "reason": reason, "versions": {}, "devices": [], "dtypes": {}}
