"""`benchrun backends`: the doctor for engines, from package metadata and drivers; imports no engine unless asked to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchrun.backends.cache import default_cache
from benchrun.backends.contract import Backend, Description, Variant
from benchrun.backends.registry import UnknownBackend, backend_entries, find_missing, load_backend
from benchrun.runner.cli.tables import WIDE
from benchrun.runner.devices import list_devices
from benchrun.runner.environment import installed_version

CHECK_S = 60
NEVER = "never run"
LEVELS = ("executed", "built", "compiled", NEVER)  # the furthest first
ANSWER = "benchrun-probe:"  # what a line of a probe begins with, since an engine may print anything


@dataclass(frozen=True, slots=True)
class Line:
    """One variant of one engine on this machine.

    `available` without `checked` means no more than that its packages are installed and a device of its kind is here.
    `verified` is how far it got here, by the stored runs and the cache, at best; `verified_on` maps each device kind to that;
    `executed` maps those where it ran here to what of it did (`Store.executed`); `project` maps a device kind to how far the project
    itself got with it.
    """

    engine: str
    available: bool
    reason: str
    versions: dict[str, str]
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    install: str
    verified: str
    verified_on: dict[str, str]
    project: dict[str, str]
    summary: str
    checked: bool = False
    executed: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def here(self) -> Text:
        """What is known: it was tried, its packages are there, or it cannot run."""
        if not self.available:
            return Text("no", style="yellow")
        return Text("yes" if self.checked else "installed", style="green")

    @property
    def verified_here(self) -> str:
        """`executed (padded, packed)`; with several kinds of device here, `executed (padded) on cpu; never run on cuda`."""
        kinds = {device.partition(":")[0] for device in list_devices()}
        ran = {kind: f"executed ({', '.join(uses)})" for kind, uses in self.executed.items() if kind in kinds}
        found = {kind: ran.get(kind, level) for kind, level in self.verified_on.items() if kind in kinds}
        return by_level(found) if len(found) > 1 else next(iter(ran.values()), self.verified)


def list_backends(*, as_json: bool, check: bool, options: bool = False, db: str | None = None) -> int:
    """Print every variant of every backend, or with `options` the options of every backend; exit 0."""
    if options and not as_json:
        print_options(Console())
        return 0
    lines = [line for name in backend_entries() for line in describe_backend(name, check=check, db=db)]
    if as_json:
        document = {
            "schema": 1,
            "devices": list(list_devices()),
            "backends": [asdict(line) for line in lines],
            "options": list_options(),
        }
        print(json.dumps(document, indent=1))
        return 0
    print_lines(Console(), lines, check=check)
    return 0


def print_lines(console: Console, lines: Sequence[Line], *, check: bool) -> None:
    """A table of the engines, and why those that cannot run cannot."""
    console.print(f"devices here: {', '.join(list_devices())}", highlight=False)
    wide = console.width >= WIDE
    table = Table(box=None, pad_edge=False, header_style="bold")
    more = ("devices", "dtypes") if wide else ()
    for name in ("engine", "here", "version", *more, "verified here", "in the project"):
        table.add_column(name, no_wrap=name not in ("verified here", "in the project"))
    for line in lines:
        shown = (", ".join(line.devices), " ".join(line.dtypes)) if wide else ()
        versions = ", ".join(line.versions.values())
        table.add_row(line.engine, line.here, versions, *shown, line.verified_here, by_level(line.project))
    console.print(table, highlight=False)
    for reason in dict.fromkeys(line.reason for line in lines if line.reason):
        engines = ", ".join(line.engine for line in lines if line.reason == reason)
        rest = f" {said}" if (said := reason.removeprefix(f"{engines} ")) != reason else f": {reason}"
        console.print(Text.assemble((engines, "bold"), rest), highlight=False)
    told = (
        "executed, built, compiled or never run: how far it got here, by your stored runs and cache, and in the project"
    )
    if any(line.executed for line in lines):
        told += "; in brackets, what ran: padded calls, packed ones, training"
    elsewhere = "" if wide else "; devices, dtypes and install commands: --json, or a terminal of 120 columns"
    untried = "" if check else "installed: by package metadata, not tried; --check loads each engine and asks it. "
    console.print(
        f"{untried}{told} (docs/engines.md){elsewhere}; options: --options", style="dim", highlight=False, markup=False
    )


def list_options() -> list[dict[str, Any]]:
    """Every option of every backend that can be loaded: `name` as `--opt` takes it, default, choices (any where empty), summary."""
    found = []
    for name in backend_entries():
        try:
            about = load_backend(name).description
        except UnknownBackend:
            continue  # its line says why
        for each in about.options:
            named = {"name": f"{about.name}.{each.name}", "default": each.default, "choices": list(each.choices)}
            found.append({"backend": about.name, **named, "summary": each.summary})
    return found


def print_options(console: Console) -> None:
    """Each option with its choices, the default first, and what it does below."""
    for option in list_options():
        choices = [str(each) for each in option["choices"] if each != option["default"]]
        shown = "none" if option["default"] == "" else option["default"]
        line = Text.assemble((option["name"], "bold"), f" = {shown} (default)")
        line.append(f" | {' | '.join(choices)}" if choices else ", or another value")
        console.print(line, highlight=False)
        console.print(Text(f"    {option['summary']}"), highlight=False)
    console.print("set with --opt NAME=VALUE, as often as needed", style="dim", highlight=False, markup=False)


def by_level(verified: dict[str, str]) -> str:
    """`executed on cpu, cuda; never run on rocm`."""
    levels: dict[str, list[str]] = {}
    for kind, level in verified.items():
        levels.setdefault(level, []).append(kind)
    return "; ".join(f"{level} on {', '.join(kinds)}" for level, kinds in levels.items())


def describe_backend(name: str, *, check: bool, db: str | None = None) -> list[Line]:
    """One line a variant; a backend that cannot even be imported is one line with the reason."""
    try:
        backend = load_backend(name)
    except UnknownBackend as error:
        return [Line(name, False, str(error), {}, (), (), "", NEVER, {}, {}, "")]
    about = backend.description
    missing = {variant.name: find_missing(name, variant.name) for variant in about.variants}
    built = _built(backend)
    executed = executed_here(db)
    usable = [variant for variant, reason in missing.items() if reason is None]
    found = probe(name, usable) if check and usable else {}
    lines = []
    for variant in about.variants:
        otherwise = built.get(variant.name, NEVER)
        ran = {kind: uses for kind in variant.devices if (uses := executed.get((about.name, variant.name, kind)))}
        levels = {kind: "executed" if kind in ran else otherwise for kind in variant.devices}
        line = _line(about, variant, missing[variant.name], found.get(variant.name), levels)
        lines.append(replace(line, executed=ran))
    return lines


def _built(backend: type[Backend]) -> Mapping[str, str]:
    """How far variants got with what lies in the artefact cache; nothing where there is no usable cache."""
    try:
        return dict(backend.built(default_cache()))
    except Exception:  # a cache that cannot be read, or somebody else's code
        return {}


def _line(
    about: Description,
    variant: Variant,
    missing: str | None,
    found: dict[str, Any] | None,
    levels: dict[str, str],
) -> Line:
    names = variant.distributions or about.distributions
    versions = {each: found_version for each in names if (found_version := installed_version(each))}
    present = tuple(device for device in list_devices() if device.partition(":")[0] in variant.devices)
    devices, reason = present, missing or ""
    cuda = any(device.startswith("cuda") for device in devices)
    dtypes = tuple(
        dtype for dtype in variant.dtypes if dtype != "tf32" or cuda or not devices
    )  # it exists on NVIDIA GPUs only
    if found is not None:
        versions = dict(found.get("versions") or versions)
        reason = found["reason"]
        devices = tuple(device for device in found["devices"] if device.partition(":")[0] in variant.devices)
        kinds = {device.partition(":")[0] for device in devices}
        allowed = {dtype for kind in kinds for dtype in found["dtypes"].get(kind, ())}
        dtypes = tuple(dtype for dtype in variant.dtypes if dtype in allowed) if devices else ()
    if not reason and not devices:
        reason = f"it runs on {', '.join(variant.devices)}"
        if present and found is not None:
            usable = ", ".join(found["devices"]) or "no device"
            reason += f"; {', '.join(present)} is here, but the installed build can use {usable} only"
        else:
            reason += f", and this machine has only {', '.join(list_devices())}"
    return Line(
        engine=f"{about.name}:{variant.name}",
        available=not reason,
        reason=reason,
        versions=versions,
        devices=devices,
        dtypes=dtypes,
        install=variant.install or about.install,
        verified=min((level for level in levels.values() if level in LEVELS), key=LEVELS.index, default=NEVER),
        verified_on=levels,
        project=dict(variant.verified),
        summary=variant.summary,
        checked=found is not None,
    )


@cache
def executed_here(db: str | None) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """What stored runs of this machine have executed (`Store.executed`); nothing where no database was made yet.

    Raises StoreError where a database was named and cannot be read.
    """
    from benchrun.results import open_store
    from benchrun.results.errors import StoreError
    from benchrun.runner.environment import read_environment

    try:
        with open_store(db, read_only=True) as store:
            return store.executed([read_environment(device).fingerprint for device in list_devices()])
    except StoreError:
        if db is not None:
            raise
        return {}


PROBE = """
import json, sys
from dataclasses import asdict
from benchrun.backends.registry import load_backend
backend = load_backend(sys.argv[2])()
for variant in sys.argv[3:]:
    try:
        found = asdict(backend.probe_variant(variant))
    except Exception as error:
        reason = f"asking it failed: {type(error).__name__}: {error}"
        found = {"ok": False, "reason": reason, "versions": {}, "devices": [], "dtypes": {}}
    print("\\n" + sys.argv[1] + json.dumps([variant, found]), flush=True)
"""


def probe(name: str, variants: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the backend says of each variant after importing its engine, in a process of its own."""
    command = [sys.executable, "-P", "-c", PROBE, ANSWER, name, *variants]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CHECK_S)
        said, words = done.stdout, done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        otherwise = f"asking it failed: {(words or [f'exit status {done.returncode}'])[0]}"
    except subprocess.TimeoutExpired as error:
        said, otherwise = error.stdout or b"", f"it did not answer within {CHECK_S} s"
    lines = said.decode(errors="replace").splitlines()
    answers = dict(json.loads(line.removeprefix(ANSWER)) for line in lines if line.startswith(ANSWER))
    for found in answers.values():
        if not found["ok"]:
            found["reason"] = " ".join(str(found["reason"]).split()) or "it is not usable here"
    return {each: answers.get(each) or _unusable(otherwise) for each in variants}


def _unusable(reason: str) -> dict[str, Any]:
    return {"ok": False, "reason": reason, "versions": {}, "devices": [], "dtypes": {}}
