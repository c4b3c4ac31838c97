"""What a gate is asked to do, as plain data, and the checks that need nothing but it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.command_side import FORMATS
from benchrun.runner.gate.launches import GATED_BY_DEFAULT, METRICS
from benchrun.runner.gate.limits import Limit
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.lists import LARGEST
from benchrun.runner.loadgen.traffic import KIND

FOREIGN_METRICS = ("p50",)  # a suite of pytest-benchmark times calls, it has no back-to-back rate
SUITE_TIMEOUT_S = 1800.0
LARGEST_SEED = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class SideRequest:
    """What tells one side from the other: a git ref or an interpreter, sweep options, a command."""

    ref: str | None = None
    python: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptanceRequest:
    """An accepted slowdown. `expiry`: a commit or tag; it has come once the base contains it."""

    point: str
    reason: str
    expiry: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRequest:
    """A gate as it was asked for. `sweep` holds settings by option name, as `--preset` and the config have them."""

    base: SideRequest = SideRequest()
    new: SideRequest = SideRequest()
    sweep: Mapping[str, Any] = field(default_factory=dict)
    install: str | None = None
    aa: bool = False
    baseline: str | None = None
    baseline_launches: int = 5
    cmd_format: str = FORMATS[0]
    metrics: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    accepted: tuple[AcceptanceRequest, ...] = ()
    settings: GateSettings = field(default_factory=GateSettings)
    seed: int | None = None
    label: str = ""

    @property
    def foreign(self) -> bool:
        """Whether commands measure, and not benchrun."""
        return self.base.command is not None

    def gated_metrics(self) -> tuple[str, ...]:
        """What gates: the usual metrics of that kind of gate, and those asked for."""
        usual = FOREIGN_METRICS if self.foreign else GATED_BY_DEFAULT
        return tuple(dict.fromkeys((*usual, *self.metrics)))

    def to_json(self) -> dict[str, Any]:
        """For the record, as plain JSON values."""
        plain = asdict(self)
        return {name: plain[name] for name in ("base", "new", "sweep", "install", "baseline", "cmd_format")}


def check_gate(request: GateRequest) -> None:
    """Refuse what cannot be compared. Raises UsageError."""
    base, new = request.base, request.new
    _check_workloads(request)
    unknown = [name for name in request.metrics if name not in METRICS]
    if unknown:
        raise UsageError(f"the gate cannot go by {', '.join(unknown)}: choose from {', '.join(METRICS)}")
    if request.seed is not None and not 0 <= request.seed <= LARGEST_SEED:
        raise UsageError(f"--seed {request.seed}: it must be from 0 to {LARGEST_SEED}")
    if request.baseline is not None:
        _check_baseline(request)
        return
    if base == new == SideRequest() and not request.aa:
        raise UsageError(
            "say what to compare: --base-ref REF, --base-python PATH, --base-opt NAME=VALUE with --new-opt, "
            "--base-cmd with --new-cmd, --baseline RUN, or --aa for this environment against itself"
        )
    for name, side in (("base", base), ("new", new)):
        if side.ref and side.python:
            raise UsageError(f"--{name}-ref and --{name}-python are two ways to choose one side: give one of them")
    if new.ref and not base.ref:
        raise UsageError("--new-ref needs --base-ref: name the commit that it is compared with")
    if (base.command is None) != (new.command is None):
        raise UsageError("--base-cmd and --new-cmd go together: give both, or --cmd for one command on both sides")
    if request.foreign:
        _check_commands(request)
    _check_bounds(request.settings)


def _check_commands(request: GateRequest) -> None:
    if request.cmd_format not in FORMATS:
        raise UsageError(f"unknown --cmd-format {request.cmd_format!r}: choose from {', '.join(FORMATS)}")
    if request.base.options or request.new.options:
        raise UsageError("--base-opt and --new-opt belong to sweeps: put what differs into the commands")
    extra = sorted(set(request.sweep) - {"threads", "timeout", "db", "label"})
    if extra:
        raise UsageError(f"a command measures what it measures: leave --{extra[0]} out")
    for name in ("timeout", "threads"):
        given = request.sweep.get(name)
        if given is not None and not 1 <= given <= LARGEST:
            raise UsageError(f"--{name} {given}: it must be from 1 to {LARGEST}")
    foreign = [name for name in request.metrics if name != "p50"]
    if foreign:
        raise UsageError(f"a suite of pytest-benchmark gates by p50 only, not by {', '.join(foreign)}")


def _check_bounds(settings: GateSettings) -> None:
    least = 2 * (settings.screen_launches + settings.warmup)
    if settings.max_launches is not None and settings.max_launches < least:
        raise UsageError(
            f"--max-launches {settings.max_launches} decides nothing: stage 1 takes {least}, both sides together"
            + (", with the two discarded ones" if settings.warmup else "")
        )


def _check_workloads(request: GateRequest) -> None:
    """Before any side is set up."""
    for settings in (request.sweep, request.base.options, request.new.options):
        given = settings.get("workload") or ()
        refuse_loadgen(each.strip() for each in (given.split(",") if isinstance(given, str) else map(str, given)))


def refuse_loadgen(workloads: Iterable[str]) -> None:
    """Raises UsageError where one is LoadGen's."""
    if found := next((each for each in workloads if each.partition(":")[0] == KIND), None):
        raise UsageError(
            f"workload {found}: 'benchrun gate' judges samples, and a LoadGen point has LoadGen's own summary instead; compare two runs "
            "of 'benchrun loadgen' with 'benchrun compare'"
        )


def _check_baseline(request: GateRequest) -> None:
    base, new = request.base, request.new
    if base != SideRequest() or request.aa:
        raise UsageError("--baseline is the base side itself: leave --aa and the --base options out")
    if new.command is not None or new.options:
        raise UsageError("--baseline measures the points of the stored run again: leave --new-cmd and --new-opt out")
    if new.ref and new.python:
        raise UsageError("--new-ref and --new-python are two ways to choose one side: give one of them")
    if request.sweep.keys() - {"timeout", "threads", "db", "label"}:
        raise UsageError("--baseline measures the points of the stored run: leave the options of a sweep out")
    if request.baseline_launches < 2:
        raise UsageError("[gate] baseline_launches must be at least 2, for a variance needs two launches")
    most = request.settings.max_launches
    if most is not None and most < request.baseline_launches:
        raise UsageError(
            f"--max-launches {most} decides nothing: --baseline takes {request.baseline_launches} launches "
            "([gate] baseline_launches)"
        )
