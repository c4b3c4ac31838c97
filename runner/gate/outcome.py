"""A gate run that has ended, whole: what was compared, what was decided, and what a report may say of it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from benchrun.runner.gate.acceptance import Acceptance
from benchrun.runner.gate.launches import GatePlan, Side
from benchrun.runner.gate.limits import Limit
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.verdict import GateVerdict, PointVerdict

Kind = Literal["session", "baseline"]
State = Literal["running", "finished", "interrupted"]
CROSS_SESSION = "cross-session: the base was measured in another session, and sessions differ"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSide:
    """One side. `label` is short (`origin/main 1a2b3c4d`), `subject` says all that tells the sides apart, `run_id` is
    the run in the store that holds its launches. `details`: python, libraries, options, command.
    """

    side: Side
    label: str
    subject: str
    commit: str | None = None
    run_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutcome:
    """A gate run as it was decided.

    `kind` `session` is the gate proper, `baseline` one against a stored run (label it `CROSS_SESSION`).
    `verdict` has the points with their metrics (ratio, interval, launches, smallest detectable slowdown, reasons), the
    control, the exit code, what stopped it early and the settings; `notes` are remarks on the run as a whole that
    change nothing, `verdict.warnings` what makes it doubtful. `plan.points` are in the order to show them in.
    """

    id: str
    started: datetime
    finished: datetime | None
    state: State
    kind: Kind
    seed: int
    plan: GatePlan
    settings: GateSettings
    base: GateSide
    new: GateSide
    verdict: GateVerdict
    limits: tuple[Limit, ...] = ()
    acceptances: tuple[Acceptance, ...] = ()
    notes: tuple[str, ...] = ()
    label: str = ""
    version: str = ""  # of benchrun
    db: str = ""  # where it is stored, without a password

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 missing or invalid, 4 inconclusive."""
        return self.verdict.exit_code

    @property
    def points(self) -> tuple[PointVerdict, ...]:
        """The points' verdicts in the plan's order."""
        place = {each.key: at for at, each in enumerate(self.plan.points)}
        return tuple(sorted(self.verdict.points, key=lambda each: place[each.point]))

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs."""
        return None if self.finished is None else (self.finished - self.started).total_seconds()
