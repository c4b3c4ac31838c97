"""A stored gate run as plain frozen data, independent of the database layer and of the gate's rule.

The launches of both sides are ordinary runs: what was measured is there, and nothing of it is repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

GATE_STATES = ("running", "finished", "interrupted")
GATE_KINDS = ("session", "baseline")
GATE_SIDES = ("base", "new")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One gate run. `kind` `session`: both sides measured in turns; `baseline`: against a stored run, across sessions.

    `settings` are the constants of the rule, `plan` its metrics and whether it was an A/A run or a foreign suite,
    `request` what was asked for. `stopped` names the bound that ended it early. `verdict`, `exit_code` and `document`
    (the verdict's JSON text) are there once it was decided.
    """

    id: str
    label: str
    started: datetime
    state: str
    kind: str
    seed: int
    settings: Mapping[str, Any]
    plan: Mapping[str, Any]
    request: Mapping[str, Any] = field(default_factory=dict)
    limits: tuple[Mapping[str, Any], ...] = ()
    acceptances: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    version: str = ""  # of benchrun
    finished: datetime | None = None
    stopped: str = ""
    verdict: str | None = None
    exit_code: int | None = None
    document: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSideRow:
    """What one side ran, and the run that holds its launches (None once that run was removed)."""

    side: str
    subject: str
    label: str
    run_id: str | None
    commit: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePointRow:
    """A point of a gate: its own key, that of the point in each side's run, and what became of it.

    The keys differ where the sides' options do. `worker` groups points that share a process.
    """

    key: str
    label: str
    device_class: str
    worker: str
    in_base: bool
    in_new: bool
    base_key: str | None = None
    new_key: str | None = None
    verdict: str | None = None
    reason: str = ""
    accepted: str = ""  # why a FAIL does not make the run fail


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdictRow:
    """One metric of one point: the fields of the rule's `MetricVerdict`."""

    point: str
    metric: str
    verdict: str
    stage: str
    reason: str
    launches: int
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    fresh_ratio: float | None
    fresh_launches: int
    p: float | None
    p_adjusted: float | None
    sd: float | None
    excluded_slowdown: float | None
    detectable_slowdown: float | None
    base: float | None
    new: float | None
    improved: bool
    check_work: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLaunchRow:
    """One launch of a gate: its place in the session, and what it was asked to measure (the gate's point keys).

    What it measured are the rows of its side's run whose `replicate` is `place`.
    """

    place: int
    side: str
    stage: int
    pair: int
    fingerprint: str
    points: tuple[str, ...]
    control_ms: float | None
    started: datetime
    finished: datetime


@dataclass(frozen=True, slots=True)
class GateRecord:
    """A gate run with everything that belongs to it; points in the plan's order, launches in theirs."""

    gate: GateRow
    sides: Mapping[str, GateSideRow]
    points: tuple[GatePointRow, ...]
    launches: tuple[GateLaunchRow, ...]
    verdicts: tuple[GateVerdictRow, ...]
