"""What all reports say, in the same words: the headline, the order of the points, one sentence a point."""

from __future__ import annotations

import math
from collections.abc import Iterable

from benchrun.runner.gate.outcome import CROSS_SESSION, GateOutcome
from benchrun.runner.gate.verdict import WORST_FIRST, GateVerdict, MetricVerdict, PointVerdict, describe_stop
from benchrun.runner.messages import clean_line

LONGEST_NAME = 300
LONGEST_REASON = 1000
DASH = "–"
UNDECIDED = ("MISSING", "INVALID", "INCONCLUSIVE")


def clean_name(text: str) -> str:
    """A point's name as one printable line."""
    return clean_line(text, LONGEST_NAME) or "(a name without printable characters)"


def clean_reason(text: str) -> str:
    """A reason as one printable line."""
    return clean_line(text, LONGEST_REASON)


def point_names(points: Iterable[PointVerdict]) -> dict[str, str]:
    """Key → the name to show: the label, with the key where two points share one."""
    found = {each.point: clean_name(each.label or each.point) for each in points}
    names = list(found.values())
    return {key: f"{name} ({clean_name(key)})" if names.count(name) > 1 else name for key, name in found.items()}


def worst_first(outcome: GateOutcome) -> list[PointVerdict]:
    """Points by verdict, failures that nobody accepted first; among equals in the plan's order."""
    return sorted(outcome.points, key=lambda each: (WORST_FIRST.index(each.verdict), bool(each.accepted)))


def word(point: PointVerdict) -> str:
    """The verdict as it is shown: `FAIL`, `accepted` (a FAIL that was), `IMPROVED`, …"""
    if point.verdict == "FAIL" and point.accepted:
        return "accepted"
    return "IMPROVED" if point.improved else point.verdict


def title(outcome: GateOutcome) -> str:
    """One line that says how the run ended."""
    verdict = outcome.verdict
    counts, total = verdict.counts(), len(verdict.points)
    accepted = sum(bool(each.accepted) for each in verdict.points)
    failed = counts["FAIL"] - accepted
    parts = []
    if failed:
        parts.append(f"{_count(failed, total)} FAIL")
    if accepted:
        parts.append(f"{_count(accepted, total)} slower, accepted")
    for name, text in (("MISSING", "missing"), ("INVALID", "invalid"), ("INCONCLUSIVE", "undecided")):
        if counts[name]:
            parts.append(f"{_count(counts[name], total)} {text}")
    if not parts:
        limit = setting(verdict, "regression_ratio")
        fresh = sum(is_new(each) for each in verdict.points)
        if compared_nothing(outcome):
            parts.append("nothing was compared, no point has a base")
        else:
            parts.append(f"{_count(total - fresh, total)} checked, none is {percent(limit - 1)} slower")
        if 0 < fresh < total:
            parts.append(f"{_count(fresh, total)} NEW, not compared")
    kind = " (A/A)" if verdict.aa else ""
    return f"{ended(outcome)}{kind}: {'; '.join(parts)}"


def ended(outcome: GateOutcome) -> str:
    """The run's own word, which follows from its exit code: an accepted FAIL does not make the run fail. NEW where no point
    has a base: nothing was compared, so nothing passed.
    """
    if outcome.exit_code == 0 and compared_nothing(outcome):
        return "NEW"
    return {0: "PASS", 1: "FAIL", 3: "NOT VALID", 4: "INCONCLUSIVE"}.get(outcome.exit_code, outcome.verdict.verdict)


def compared_nothing(outcome: GateOutcome) -> bool:
    """Whether there are points, and none has a base."""
    return bool(outcome.points) and all(is_new(each) for each in outcome.points)


def is_new(point: PointVerdict) -> bool:
    """Whether a point has no base. With limits it may have another verdict than NEW."""
    return "NEW" in (point.verdict, *(each.verdict for each in point.metrics))


def sides(outcome: GateOutcome) -> str:
    """`main 1a2b (base) against HEAD 3c4d (new)`."""
    if outcome.verdict.aa and outcome.base.label == outcome.new.label:
        return f"{clean_name(outcome.base.label)} (base) against itself (new)"
    return f"{clean_name(outcome.base.label)} (base) against {clean_name(outcome.new.label)} (new)"


def remarks(outcome: GateOutcome) -> list[str]:
    """What concerns the run as a whole, the most doubtful first."""
    verdict = outcome.verdict
    found = [CROSS_SESSION] if outcome.kind == "baseline" else []
    if verdict.control.verdict == "INVALID":
        found.append(verdict.control.reason)
    if verdict.stopped:
        found.append(f"{describe_stop(verdict.stopped)}: what had too few launches by then is INCONCLUSIVE")
    found += [each for each in verdict.warnings if each not in found]
    if told := power(outcome):
        found.append(told)
    return list(dict.fromkeys(clean_reason(each) for each in (*found, *outcome.notes)))


def power(outcome: GateOutcome) -> str:
    """What this run was able to see."""
    least = setting(outcome.verdict, "fail_ratio") - 1
    seen = sorted(value for point in outcome.points if math.isfinite(value := finds(outcome, point)))
    if not seen:
        return ""
    middle, most = percent(seen[len(seen) // 2]), percent(seen[-1])
    spread = (
        f"a slowdown of {middle} at the middle point, of {most} at the noisiest"
        if middle != most
        else f"a slowdown of {most}"
    )
    return f"found in 95 of 100 such runs: {spread}; below {percent(least)} nothing FAILs"


def finds(outcome: GateOutcome, point: PointVerdict) -> float:
    """The smallest slowdown that would FAIL in 95 of 100 such runs, whichever metric has it; NaN where that is unknown."""
    values = [each.detectable_slowdown for each in point.metrics]
    known = [each for each in values if math.isfinite(each)]
    if not known or point.verdict in ("MISSING", "INVALID", "NEW"):
        return math.nan
    return max(*known, setting(outcome.verdict, "fail_ratio") - 1)


def explain(point: PointVerdict) -> list[str]:
    """Sentences on a point that is not simply PASS: what was found, metric by metric, and what could not be told."""
    found: list[str] = []
    shown = {*(each.verdict for each in point.metrics), *(each.verdict for each in point.limits)}
    if point.verdict not in shown and point.reason:
        found.append(clean_reason(point.reason))
    reasons: set[str] = set()
    for metric in point.metrics:
        if metric.verdict == point.verdict or metric.verdict in ("FAIL", *UNDECIDED):
            text = clean_reason(metric.reason)
            bare = point.verdict in ("MISSING", "INVALID", "NEW") or not math.isfinite(metric.ratio)
            if bare and text in reasons:
                continue  # the same launches are missing for every metric
            reasons.add(text)
            found.append(text if bare else explain_metric(metric, text))
    for each in point.limits:
        if each.verdict != "PASS":
            text = clean_reason(each.reason)
            told = not text or text in reasons  # what is missing for the metrics is missing for the limits too
            found.append(f"limit {clean_name(each.limit)}: {each.verdict}" + ("" if told else f", {text}"))
    if point.accepted:
        found.append(f"accepted: {clean_reason(point.accepted)}")
    return [*found, *(clean_reason(each) for each in point.notes)]


def explain_metric(metric: MetricVerdict, reason: str = "") -> str:
    """The figures of one metric, and why it has its verdict. The change is one of time, whatever the metric counts."""
    parts = [f"{metric.metric} {levels(metric)}time {change(metric)}"]
    if math.isfinite(metric.ratio_low):
        parts.append(f"95 % interval {interval(metric)}, {metric.launches} launches a side")
    if metric.check_work:
        parts.append("check that the work was done")
    elif reason:
        parts.append(reason)
    if metric.verdict == "INCONCLUSIVE" and math.isfinite(metric.p):  # not where launches are missing
        parts.append(f"so many launches find {percent(metric.detectable_slowdown)} or more")
    return "; ".join(parts)


def launches_a_side(point: PointVerdict) -> int:
    """Launches that the point's figures come from; where there are no figures, those that were taken."""
    used = max((each.launches for each in point.metrics), default=0)
    return used or max(point.launches_base, point.launches_new)


def needs_words(point: PointVerdict) -> bool:
    """Whether a point is told of above the table."""
    return point.verdict in ("FAIL", *UNDECIDED) or any(each.check_work for each in point.metrics)


def unit(metric: str) -> str:
    """Of a metric's figures."""
    return "seq/s" if metric == "throughput" else "ms"


def with_unit(metric: str) -> str:
    """A metric and its unit, as the head of a column: `p50 ms`, `seq/s`."""
    return unit(metric) if metric == "throughput" else f"{metric} {unit(metric)}"


def levels(metric: MetricVerdict) -> str:
    """`0.556 → 0.812 ms, `: the figure of either side; empty where one is unknown."""
    if not (math.isfinite(metric.base) and math.isfinite(metric.new)):
        return ""
    return f"{metric.base:.4g} → {metric.new:.4g} {unit(metric.metric)}, "


def change(metric: MetricVerdict) -> str:
    """`+5.9 %`: how much more time the new side takes; a dash where that is unknown."""
    return f"{100 * (metric.ratio - 1):+.1f} %" if math.isfinite(metric.ratio) else DASH


def interval(metric: MetricVerdict) -> str:
    """`+4.5 … +7.3 %`."""
    if not (math.isfinite(metric.ratio_low) and math.isfinite(metric.ratio_high)):
        return DASH
    return f"{100 * (metric.ratio_low - 1):+.1f} … {100 * (metric.ratio_high - 1):+.1f} %"


def percent(share: float) -> str:
    """`4.5 %`; a dash where it is unknown."""
    if not math.isfinite(share):
        return DASH
    return f"{100 * share:.2g} %" if abs(share) < 0.1 else f"{100 * share:.0f} %"


def setting(verdict: GateVerdict, name: str) -> float:
    """A constant of the rule, as the run had it."""
    return float(verdict.settings[name])


def _count(count: int, total: int) -> str:
    return f"{count} of {total} points" if total != 1 else "the one point"
