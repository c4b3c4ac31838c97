"""Judging against a stored run (`--baseline RUN`): across sessions, so how much sessions differ has to be known
first.

FAIL needs D − t(.99, sessions − 1) · sqrt(2·s_sess² + s²·(1/k_b + 1/k_n)) > ln 1.03, where s_sess is the standard
deviation of the session means of that point on that hardware and s the one between launches of a session. Below 3
stored sessions the verdict is INCONCLUSIVE, never PASS or FAIL. PASS needs the same error's 97.5 % upper bound of D
below ln 1.05.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.launches import METRICS, log_value
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.verdict import Verdict
from benchrun.runner.gate.welch import t_quantile


@dataclass(frozen=True, slots=True)
class StoredSession:
    """One session's launches of one point: the metric of each launch, in the metric's own unit."""

    session: str
    fingerprint: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVerdict:
    """A verdict across sessions. `advisory` where too few sessions are stored to decide. Ratios are times new ÷ base;
    NaN where there is none.
    """

    verdict: Verdict
    advisory: bool
    reason: str = ""
    sessions: int = 0
    launches_base: int = 0
    launches_new: int = 0
    ratio: float = math.nan
    ratio_low: float = math.nan  # one-sided, at the confidence that FAIL asks for
    ratio_high: float = math.nan  # upper end of the two-sided 95 % interval
    session_sd: float = math.nan
    launch_sd: float = math.nan


def judge_stored(
    metric: str,
    stored: Sequence[StoredSession],
    baseline: str,
    new: StoredSession,
    settings: GateSettings | None = None,
) -> StoredVerdict:
    """Judge `new` against the session named `baseline`, with all `stored` sessions telling how much sessions differ.

    Raises UsageError where no stored session has that name.
    """
    settings = settings or GateSettings()
    chosen = next((each for each in stored if each.session == baseline), None)
    if chosen is None:
        names = ", ".join(sorted({each.session for each in stored}))
        raise UsageError(f"there is no stored session {baseline!r}: choose from {names or 'none, for none is stored'}")
    missing = _find_missing(metric, chosen, new)
    if missing:
        return StoredVerdict(verdict="MISSING", advisory=False, reason=missing)
    logs = {each.session: _logs(metric, each) for each in stored if each.fingerprint == new.fingerprint}
    logs = {name: y for name, y in sorted(logs.items()) if y and all(map(math.isfinite, y))}
    y_base, y_new = logs[baseline], _logs(metric, new)
    if any(len(set(y)) == 1 for y in (y_base, y_new)):
        return StoredVerdict(
            verdict="INVALID",
            advisory=False,
            reason="all launches of a side are identical: copied rows or a clock too coarse",
        )
    difference = _mean(y_new) - _mean(y_base)
    within = [y for y in (*logs.values(), y_new) if len(y) > 1]
    freedom = sum(len(y) - 1 for y in within)
    launch_sd = math.sqrt(math.fsum(_squares(y) for y in within) / freedom)
    count = len(logs)
    common = {
        "sessions": count,
        "launches_base": len(y_base),
        "launches_new": len(y_new),
        "launch_sd": launch_sd,
    }
    if count < settings.baseline_sessions:
        reason = f"{count} sessions are stored of this point on this hardware, {settings.baseline_sessions} are needed"
        return StoredVerdict(verdict="INCONCLUSIVE", advisory=True, reason=reason, ratio=math.exp(difference), **common)  # type: ignore[arg-type]
    session_sd = math.sqrt(_squares([_mean(y) for y in logs.values()]) / (count - 1))
    error = math.sqrt(2 * session_sd**2 + launch_sd**2 * (1 / len(y_base) + 1 / len(y_new)))
    low = difference - t_quantile(count - 1, settings.baseline_confidence) * error
    high = difference + t_quantile(count - 1, 0.5 + settings.confidence / 2) * error
    verdict: Verdict = "INCONCLUSIVE"
    reason = f"only slowdowns above {100 * math.expm1(high):.1f} % are ruled out across sessions"
    if low > math.log(settings.fail_ratio):
        verdict, reason = (
            "FAIL",
            f"{100 * math.expm1(difference):.1f} % slower than the stored session, more than sessions differ",
        )
    elif high < math.log(settings.regression_ratio):
        verdict, reason = "PASS", ""
    return StoredVerdict(
        verdict=verdict,
        advisory=False,
        reason=reason,
        ratio=math.exp(difference),
        ratio_low=math.exp(low),
        ratio_high=math.exp(high),
        session_sd=session_sd,
        **common,  # type: ignore[arg-type]
    )


def _find_missing(metric: str, base: StoredSession, new: StoredSession) -> str:
    if not new.fingerprint or base.fingerprint != new.fingerprint:
        return "the stored session ran on other hardware"
    for name, side in (("stored", base), ("new", new)):
        if len(side.values) < 2:
            return f"the {name} session has {len(side.values)} launches, at least 2 are needed"
        if not all(map(math.isfinite, _logs(metric, side))):
            return f"the {name} session has launches without a finite {metric}"
    return ""


def _logs(metric: str, session: StoredSession) -> list[float]:
    return [log_value(METRICS[metric], value) for value in session.values]


def _mean(y: Sequence[float]) -> float:
    return math.fsum(y) / len(y)


def _squares(y: Sequence[float]) -> float:
    mean = _mean(y)
    return math.fsum((each - mean) ** 2 for each in y)
