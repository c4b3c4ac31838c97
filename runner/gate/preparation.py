"""From what was asked for to a gate that is ready to run: both sides set up, told apart and stored."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.runner.devices import usable_cores
from benchrun.runner.environment import benchrun_version, git_commit, read_environment
from benchrun.runner.errors import UsageError
from benchrun.runner.gate.acceptance import Acceptance
from benchrun.runner.gate.checkouts import check_out, contains, find_commit, is_dirty
from benchrun.runner.gate.command_side import split_command
from benchrun.runner.gate.interpreters import Introduction, clean_variables, find_interpreter, introduce
from benchrun.runner.gate.launches import SIDES, Side
from benchrun.runner.gate.outcome import GateSide
from benchrun.runner.gate.request import GateRequest, SideRequest
from benchrun.runner.gate.sweep_side import PairedPlans, pair_plans, plan_side
from benchrun.runner.launcher import Interpreter
from benchrun.runner.messages import HINTS
from benchrun.runner.plan import Plan

if TYPE_CHECKING:
    from benchrun.results import Store
    from benchrun.results.rows import PointRow

HERE = "this environment"
SHORT = 8
LABEL = 60  # characters of a command that a label shows
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a side runs: its interpreter (None: this one), what its processes' variables differ in, the folder commands
    start in, and what to call it.
    """

    label: str
    identity: str
    python: str | None
    environment: Mapping[str, str | None]
    folder: Path
    commit: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSides:
    """Two sides that measure points of a sweep."""

    places: Mapping[Side, Place]
    introductions: Mapping[Side, Introduction]
    plans: Mapping[Side, Plan]
    paired: PairedPlans


def find_places(request: GateRequest, folder: Path, cache: Path, tell: Tell) -> dict[Side, Place]:
    """Set both sides up. Raises UsageError where one cannot be."""
    base, new = request.base, request.new
    if base.ref and not (new.ref or new.python):
        new = replace(new, ref=base.ref if request.aa else "HEAD")
    places: dict[Side, Place] = {}
    for side, asked in zip(SIDES, (base, new), strict=True):
        places[side] = find_place(asked, request.install, folder, cache, tell)
    if new.ref == "HEAD" and is_dirty(folder):
        places["new"] = replace(
            places["new"],
            notes=(*places["new"].notes, "the work tree has changes that are not committed: not measured"),
        )
    return places


def find_place(asked: SideRequest, install: str | None, folder: Path, cache: Path, tell: Tell) -> Place:
    """Set one side up. Raises UsageError."""
    if asked.ref:
        commit = find_commit(folder, asked.ref)
        # in CI the ref is a commit already: its merge base with the branch
        label = commit[:SHORT] if commit.startswith(asked.ref) else f"{asked.ref} {commit[:SHORT]}"
        tell(f"setting up {label}")
        made = check_out(folder, commit, install, cache)
        if made.reused:
            tell(f"{label} is in the cache")
        return Place(
            label=label,
            identity=f"commit {commit}",
            python=made.python,
            environment=made.environment,
            folder=made.tree,
            commit=commit,
            notes=(made.note,) if made.note else (),
        )
    if asked.python:
        python = find_interpreter(asked.python)
        path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", os.defpath)])
        return Place(
            label=_short_path(asked.python),
            identity="",  # its introduction tells
            python=python,
            environment={**clean_variables(), "PATH": path},
            folder=folder,
            commit=None,
        )
    return Place(
        label=HERE,
        identity="",
        python=None,
        environment={},
        folder=folder,
        commit=git_commit(folder),
    )


def plan_sweep(request: GateRequest, places: Mapping[Side, Place], sweep: Mapping[str, Any]) -> SweepSides:
    """Plan the points of both sides, each by what its own interpreter has. Raises UsageError."""
    asked: dict[Side, list[tuple[str, str]]] = {side: [] for side in SIDES}
    options = {"base": request.base.options, "new": request.new.options}

    def note(side: Side) -> Callable[[str, str], str | None]:
        def collect(backend: str, variant: str) -> str | None:
            asked[side].append((backend, variant))
            return None

        return collect

    for side in SIDES:
        plan_side(sweep, options[side], note(side))
    introductions: dict[Side, Introduction] = {
        side: introduce(places[side].python, asked[side], places[side].environment, shown=places[side].label)
        for side in SIDES
    }

    def lacks(side: Side) -> Callable[[str, str], str | None]:
        return lambda backend, variant: introductions[side].missing.get(f"{backend}:{variant}")

    plans: dict[Side, Plan] = {side: plan_side(sweep, options[side], lacks(side)) for side in SIDES}
    return SweepSides(
        places=places, introductions=introductions, plans=plans, paired=pair_plans(plans["base"], plans["new"])
    )


def describe_sweep_side(side: Side, sides: SweepSides, request: GateRequest, run_id: str) -> GateSide:
    """What one side of a sweep is called, and what tells it apart."""
    place, told = sides.places[side], sides.introductions[side]
    options = (request.base if side == "base" else request.new).options
    listed = ", ".join(f"{name}={value}" for name, value in sorted(options.items()))
    identity = place.identity or f"environment {told.identity} (python {told.python})"
    subject = identity if not listed else f"{identity}; {listed}"
    label = place.label if not listed else listed if place.label == HERE else f"{place.label}, {listed}"
    return GateSide(
        side=side,
        label=label,
        subject=subject,
        commit=place.commit,
        run_id=run_id,
        details={**told.details, "options": dict(options)},
    )


def label_commands(commands: Mapping[Side, str]) -> dict[Side, str]:
    """Short names of two commands: of long ones the words that differ, so that a label tells the sides apart."""
    words = {side: commands[side].split() for side in SIDES}
    base, new = words["base"], words["new"]
    if base == new or all(len(each) <= LABEL for each in commands.values()):
        return {side: _cut(commands[side]) for side in SIDES}
    start = _count_alike(base, new)
    end = _count_alike(base[start:][::-1], new[start:][::-1])
    if any(len(each) - end == start for each in words.values()):  # one is the other and words more: it needs a name too
        start, end = (start, end - 1) if end else (start - 1, end)
    differ = {side: " ".join(words[side][start : len(words[side]) - end]) for side in SIDES}
    if len({_cut(each) for each in differ.values()}) == 1:  # what differs is further back than a label reaches
        alike = _count_alike(differ["base"], differ["new"])
        alike = min(alike, min(map(len, differ.values())) - LABEL // 3)  # one may be the other and more
        alike = differ["base"].rfind("/", alike - LABEL // 3, alike) + 1 or alike
        differ = {side: f"…{each[alike:]}" for side, each in differ.items()}
    return {side: f"{'… ' if start else ''}{_cut(differ[side])}{' …' if end else ''}" for side in SIDES}


def _count_alike(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words, or letters, both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _cut(text: str) -> str:
    return text if len(text) <= LABEL else text[: LABEL - 1] + "…"


def describe_command_side(side: Side, place: Place, commands: Mapping[Side, str], run_id: str) -> GateSide:
    """What one side of a suite is called, and what tells it apart."""
    command = commands[side]
    home = str(Path(place.python or sys.executable).parent.resolve())
    identity = place.identity or f"environment {hashlib.sha256(home.encode()).hexdigest()[:SHORT]}"
    return GateSide(
        side=side,
        label=place.label if place.label != HERE else label_commands(commands)[side],
        subject=f"{identity}; command {command}",
        commit=place.commit,
        run_id=run_id,
        details={"command": command},
    )


def check_sides(base: GateSide, new: GateSide, *, aa: bool) -> None:
    """An A/A run is of equal sides, any other run is not. Raises UsageError."""
    if base.subject == new.subject and not aa:
        raise UsageError(
            f"both sides are {base.subject!r}: there is nothing to compare. To try the gate on equal sides, add --aa"
        )
    if aa and base.subject != new.subject:
        raise UsageError(
            f"--aa compares a side with itself, but these differ: {base.subject!r} and {new.subject!r}; leave --aa out"
        )


def explain_differences(base: GateSide, new: GateSide) -> tuple[str, ...]:
    """Software that differs between the sides, as a note: it is what is compared, or what was not meant to differ."""
    ours, theirs = (side.details.get("libraries", {}) for side in (base, new))
    found = [
        f"{name} {ours.get(name, 'none')} > {theirs.get(name, 'none')}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    for name in ("python", "benchrun"):
        one, other = base.details.get(name), new.details.get(name)
        if one != other:
            found.append(f"{name} {one} > {other}")
    return (f"the sides' software differs: {', '.join(found)}",) if found else ()


def explain_versions(sides: SweepSides) -> tuple[str, ...]:
    """What a side's benchrun is too old to be told, as notes."""
    found = []
    for side in SIDES:
        known = sides.introductions[side].takes
        lacking = sorted(HINTS - {name for names in known.values() for name in names}) if known else []
        if lacking:
            found.append(
                f"the {side} side's benchrun is another version and does not know {', '.join(lacking)}: "
                "it does as it is used to"
            )
    return tuple(found)


def settle_acceptances(request: GateRequest, folder: Path, base_commit: str | None) -> tuple[Acceptance, ...]:
    """Accepted slowdowns with what has become of their expiry: it has come once the base's history contains it, for then
    the slowdown is on both sides. An expiry that git does not know counts as having come.
    """
    settled = []
    for each in request.accepted:
        expired = False
        expiry = each.expiry
        if expiry:
            commit = (base_commit or "HEAD").removesuffix("+dirty")
            known = contains(folder, commit, expiry)
            expired = known is not False
            if known is None:
                expiry = f"{expiry}, which git does not know here"
        settled.append(Acceptance(each.point, each.reason, expiry, expired))
    return tuple(settled)


def open_side_run(
    store: Store, gate_id: str, side: GateSide, request: Mapping[str, Any], device: str, points: list[PointRow]
) -> None:
    """The run that holds the launches of one side, among all other runs."""
    from benchrun.results.rows import RunRow

    assert side.run_id is not None
    here = read_environment(device)
    libraries = side.details.get("libraries")
    system = {**here.details.get("system", {}), "python": side.details.get("python")}
    details = here.details if libraries is None else {**here.details, "libraries": libraries, "system": system}
    run = RunRow(
        id=side.run_id,
        label=f"gate {gate_id.rpartition('-')[2]}: {side.side}, {side.label}",
        started=datetime.now(UTC),
        state="running",
        environment=replace(here, details=details),
        request={"gate": gate_id, "side": side.side, **request},
        origin="gate",
        version=side.details.get("benchrun") or benchrun_version(),
        commit=side.commit,
    )
    store.add_run(run, points, 1)


def close_side_run(store: Store, side: GateSide, state: str) -> None:
    """Set the run's plan to the launches that each point was asked for, and its state."""
    assert side.run_id is not None
    record = store.run(side.run_id)
    by_count: dict[int, list[PointRow]] = {}
    for planned in record.points:
        count = len(record.by_point[planned.point.key])
        if count > 1:
            by_count.setdefault(count, []).append(planned.point)
    for count, points in by_count.items():
        store.extend_run(side.run_id, points, count)
    store.finish_run(side.run_id, state)


def choose_cores(threads: int) -> tuple[int, ...]:
    """The last cores, as many as there are threads; none where that is all of them."""
    usable = sorted(os.sched_getaffinity(0))
    return tuple(usable[-threads:]) if threads < len(usable) else ()


def place_interpreter(place: Place, threads: int, told: Introduction | None = None) -> Interpreter:
    """How a side's processes are started; `told`: what its interpreter said of itself."""
    takes = {} if told is None else told.takes
    return Interpreter(place.python, place.environment, choose_cores(threads), takes)


def default_threads(asked: int | None) -> int:
    """Threads of a command's libraries: what was asked for, else all usable cores."""
    return asked or usable_cores()


def new_seed() -> int:
    """A seed that is stored with the gate."""
    return secrets.randbelow(2**31)


def command_arguments(request: GateRequest) -> Mapping[Side, tuple[str, ...]]:
    """The commands of both sides as arguments. Raises UsageError."""
    return {
        "base": split_command(request.base.command or "", "--base-cmd"),
        "new": split_command(request.new.command or "", "--new-cmd"),
    }


def _short_path(path: str) -> str:
    """The end of a path: enough to tell, without the folders of a user."""
    parts = [part for part in Path(path).parts if part not in ("/", "bin", "python", "python3")]
    return "/".join(parts[-2:]) or path
