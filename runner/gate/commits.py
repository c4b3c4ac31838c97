"""A point's history: one value a commit, and where the level changed. It informs, and never blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchrun.results.changepoints import Change, ChangeSettings, find_changes
from benchrun.runner.gate.launches import METRICS, log_value

if TYPE_CHECKING:
    from datetime import datetime

    from benchrun.results.series import SeriesLaunch

UNKNOWN = "(no commit)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitValue:
    """What a commit came to in one environment: the geometric mean over its `ok` launches, in the metric's own unit.

    `first` is when it was first measured, `runs` where; `changed` lists versions that differ from the entry before.
    """

    commit: str
    first: datetime
    launches: int
    failed: int
    runs: tuple[str, ...]
    value: float
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PointHistory:
    """Commits in the order in which they were first measured; a change's `index` counts in them."""

    metric: str
    commits: tuple[CommitValue, ...]
    changes: tuple[Change, ...]


def trace_history(
    launches: Sequence[SeriesLaunch],
    metric: str,
    environments: Mapping[int, Mapping[str, Any]],
    settings: ChangeSettings | None = None,
) -> PointHistory:
    """Group launches of one point by commit and environment, and look for changes. Ratios above 1 are slower."""
    groups: dict[tuple[str, int], list[SeriesLaunch]] = {}
    for launch in sorted(launches, key=lambda each: each.started):
        groups.setdefault((launch.commit or f"{UNKNOWN} {launch.run_id}", launch.environment_id), []).append(launch)
    commits: list[CommitValue] = []
    levels: list[float] = []
    before: Mapping[str, Any] | None = None
    for (commit, environment), members in groups.items():
        y = [log_value(METRICS[metric], _value(metric, each)) for each in members if each.status == "ok"]
        y = [each for each in y if math.isfinite(each)]
        levels.append(math.fsum(y) / len(y) if y else math.nan)
        versions = environments.get(environment, {}).get("libraries", {})
        commits.append(
            CommitValue(
                commit=commit,
                first=members[0].started,
                launches=len(y),
                failed=sum(each.status != "ok" for each in members),
                runs=tuple(dict.fromkeys(each.run_id for each in members)),
                value=math.exp(METRICS[metric].sign * levels[-1]) if y else math.nan,
                changed=_changed(before, versions) if before is not None else (),
            )
        )
        before = versions
    return PointHistory(metric=metric, commits=tuple(commits), changes=find_changes(levels, settings))


def _value(metric: str, launch: SeriesLaunch) -> float | None:
    return launch.p50_ms if metric == "p50" else launch.throughput_seq_s


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    names = sorted({*before, *now})
    return tuple(
        f"{name} {before.get(name, 'none')} → {now.get(name, 'none')}"
        for name in names
        if before.get(name) != now.get(name)
    )
