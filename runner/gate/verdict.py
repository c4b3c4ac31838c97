"""What comes out of a gate, as frozen data, and its one JSON text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchrun.runner.gate.limits import LimitVerdict
from benchrun.runner.gate.settings import RULE
from benchrun.runner.gate.welch import round_significant

Verdict = Literal["FAIL", "MISSING", "INVALID", "INCONCLUSIVE", "PASS", "NEW"]
WORST_FIRST: tuple[Verdict, ...] = ("FAIL", "MISSING", "INVALID", "INCONCLUSIVE", "PASS", "NEW")
SCHEMA = "benchrun.gate/1"
EXIT_PASS, EXIT_FAIL, EXIT_USAGE, EXIT_INVALID, EXIT_INCONCLUSIVE = 0, 1, 2, 3, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricVerdict:
    """One metric of one point. Ratios are times new ÷ base (1.05: 5 % slower; for throughput, base rate ÷ new rate);
    NaN where there is none.

    `stage` says what decided: `screen`, `confirm` or nothing. `ratio_low`, `ratio_high`: 95 % interval over all
    launches taken. `fresh_ratio`, `p`, `p_adjusted` belong to stage 2. `sd` is the standard deviation between
    launches (of the logarithms, within the sides), `launches` those used on each side, `fresh_launches` what stage 2
    asked for. `excluded_slowdown`: the smallest slowdown that the data rule out; `detectable_slowdown`: the smallest
    that this many launches would find in 95 of 100 runs.
    """

    metric: str
    verdict: Verdict
    stage: str = ""
    reason: str = ""
    launches: int = 0
    ratio: float = math.nan
    ratio_low: float = math.nan
    ratio_high: float = math.nan
    fresh_ratio: float = math.nan
    fresh_launches: int = 0
    p: float = math.nan
    p_adjusted: float = math.nan
    sd: float = math.nan
    excluded_slowdown: float = math.nan
    detectable_slowdown: float = math.nan
    base: float = math.nan
    new: float = math.nan
    improved: bool = False
    check_work: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PointVerdict:
    """One point: the worst of its metrics and limits. `notes` say what does not change it.

    `accepted` is the reason why a FAIL does not make the run fail. `launches` counts what was taken on each side.
    """

    point: str
    label: str
    verdict: Verdict
    reason: str = ""
    metrics: tuple[MetricVerdict, ...] = ()
    limits: tuple[LimitVerdict, ...] = ()
    notes: tuple[str, ...] = ()
    improved: bool = False
    accepted: str = ""
    launches_base: int = 0
    launches_new: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlVerdict:
    """The control workload: `verdict` is PASS, INVALID or `not measured`."""

    verdict: str
    reason: str = ""
    launches_base: int = 0
    launches_new: int = 0
    ratio: float = math.nan
    ratio_low: float = math.nan
    ratio_high: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """The whole run. `stopped` names the bound that ended it early; `warnings` concern the run as a whole."""

    verdict: Verdict
    exit_code: int
    base: str
    new: str
    aa: bool
    session: str
    points: tuple[PointVerdict, ...]
    control: ControlVerdict
    launches: int
    stopped: str = ""
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any]

    def counts(self) -> dict[str, int]:
        """Points by verdict, the worst first."""
        return {name: sum(each.verdict == name for each in self.points) for name in WORST_FIRST}


def find_worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of verdicts; PASS of none."""
    seen = set(verdicts)
    for name in WORST_FIRST:
        if name in seen:
            return name
    return "PASS"


def describe_stop(stopped: str) -> str:
    """What ended a run early, in words: `ended by max_minutes`, `interrupted`."""
    return stopped if stopped == "interrupted" else f"ended by {stopped}"


def find_exit_code(points: Iterable[PointVerdict], *, broken: bool) -> int:
    """0 pass, 1 any FAIL that is not accepted, 3 any MISSING or INVALID, 4 any INCONCLUSIVE; usage errors (2) never
    come this far.
    """
    seen = {each.verdict for each in points if not (each.verdict == "FAIL" and each.accepted)}
    if "FAIL" in seen:
        return EXIT_FAIL
    if broken or "MISSING" in seen or "INVALID" in seen:
        return EXIT_INVALID
    return EXIT_INCONCLUSIVE if "INCONCLUSIVE" in seen else EXIT_PASS


def verdict_document(verdict: GateVerdict) -> dict[str, Any]:
    """The verdict as plain JSON values: floats rounded to 6 significant digits, those that are not finite null."""
    document = {"schema": SCHEMA, "rule": RULE, **asdict(verdict), "counts": verdict.counts()}
    return {name: _plain(each) for name, each in document.items()}


def verdict_json(verdict: GateVerdict) -> str:
    """The one text of a verdict: equal launches in any order give equal bytes."""
    return json.dumps(verdict_document(verdict), sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round_significant(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
