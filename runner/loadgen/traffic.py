"""What LoadGen asks of a system, as the words of a workload: scenario, mode, rate, deadline, lengths, layout. Pure.

loadgen:offline:fixed:padded
loadgen:multi-stream:fixed:padded                              the point's batch is the number of samples a query
loadgen:server:auto:130ms:lognormal:177:32-384:packed          the highest rate that keeps its 99th percentile under 130 ms
loadgen:server:250qps:10ms:wait2ms:fixed:padded                that rate; a batch is held back up to 2 ms for more
loadgen:offline:accuracy:fixed:padded                          every sample once, the answers compared
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from benchrun.backends.contract import LAYOUTS
from benchrun.runner.errors import UsageError

KIND = "loadgen"
SCENARIOS = ("single-stream", "multi-stream", "server", "offline")
NAMES: dict[str, str] = dict(
    zip(SCENARIOS, ("SingleStream", "MultiStream", "Server", "Offline"), strict=True)
)  # LoadGen's own
MODES = ("performance", "accuracy")
FIXED = "fixed"
AUTO = "auto"
LIMIT_MS = 130.0  # MLPerf's deadline of the Server scenario for BERT
WAIT_MS = 1.0
MOST_RATE = 1e6  # queries a second: a Python system takes up some 100,000
MOST_MS = 1e7

_RATE = re.compile(r"([0-9.e+-]+)qps")
_LIMIT = re.compile(r"([0-9.e+-]+)ms")
_WAIT = re.compile(r"wait([0-9.e+-]+)ms")


@dataclass(frozen=True, slots=True)
class Traffic:
    """One scenario. `rate` is queries a second, None for the highest that keeps the deadline; it, `limit_ms` (of the 99th percentile) and
    `wait_ms` (how long a batch is held back for more) are of the Server scenario only. `lengths` is the distribution of a workload
    `lengths:…`, or `fixed`.
    """

    scenario: str
    mode: str = "performance"
    rate: float | None = None
    limit_ms: float = LIMIT_MS
    wait_ms: float = WAIT_MS
    lengths: str = FIXED
    layout: str = "padded"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("scenario", self.scenario, SCENARIOS),
            ("mode", self.mode, MODES),
            ("layout", self.layout, LAYOUTS),
        ):
            if value not in allowed:
                raise UsageError(f"unknown {name} {value!r}: choose from {', '.join(allowed)}")
        _check("--target-qps", 1.0 if self.rate is None else self.rate, 1e-3, MOST_RATE, "queries a second")
        _check("--latency-limit", self.limit_ms, 1e-3, MOST_MS, "milliseconds")
        _check("--max-wait", self.wait_ms, 0.0, MOST_MS, "milliseconds")
        if self.lengths == FIXED and self.layout != "padded":
            raise UsageError(f"--layout {self.layout} is for sequences of different lengths: give --lengths too")

    @property
    def server(self) -> bool:
        """Whether queries come at times of their own."""
        return self.scenario == "server"

    @property
    def streams(self) -> bool:
        """Whether one query follows the answer to the one before."""
        return self.scenario in ("single-stream", "multi-stream")

    @property
    def text(self) -> str:
        """As a workload."""
        parts = [KIND, self.scenario]
        if self.mode != "performance":
            parts.append(self.mode)
        if self.server and self.mode == "performance":
            parts += [AUTO if self.rate is None else f"{self.rate:g}qps", f"{self.limit_ms:g}ms"]
        if self.server and self.wait_ms != WAIT_MS:
            parts.append(f"wait{self.wait_ms:g}ms")
        return ":".join((*parts, self.lengths, self.layout))

    @property
    def engine_workload(self) -> str:
        """What a session is prepared for: `padded` where nothing is padding, else the lengths with their layout."""
        return "padded" if self.lengths == FIXED else f"lengths:{self.lengths}:{self.layout}"


def parse_traffic(text: str) -> Traffic:
    """The inverse of `Traffic.text`. Raises UsageError for anything that is no workload of this kind."""
    kind, _, rest = text.partition(":")
    parts = rest.split(":")
    if kind != KIND or len(parts) < 1 or not parts[0]:
        raise UsageError(f"unknown workload {text!r}: write it as {KIND}:offline:{FIXED}:padded")
    found: dict[str, object] = {"scenario": parts.pop(0)}
    if parts and parts[0] in MODES:
        found["mode"] = parts.pop(0)
    while parts:
        if parts[0] == AUTO:
            found["rate"] = None
        elif match := _RATE.fullmatch(parts[0]):
            found["rate"] = _number(match[1], text)
        elif match := _WAIT.fullmatch(parts[0]):
            found["wait_ms"] = _number(match[1], text)
        elif match := _LIMIT.fullmatch(parts[0]):
            found["limit_ms"] = _number(match[1], text)
        else:
            break
        parts.pop(0)
    if parts and parts[-1] in LAYOUTS:
        found["layout"] = parts.pop()
    found["lengths"] = ":".join(parts) or FIXED
    traffic = Traffic(**found)  # type: ignore[arg-type]  # each is of the field's type
    if not traffic.server and found.keys() & {"rate", "limit_ms", "wait_ms"}:
        raise UsageError(f"workload {text!r}: a rate, a deadline and a wait are for the server scenario")
    return traffic


def parse_rate(text: str) -> float | None:
    """`--target-qps`: a number, or `auto` (None)."""
    if text == AUTO:
        return None
    try:
        rate = float(text)
    except ValueError:
        raise UsageError(f"--target-qps {text}: give a number of queries a second, or {AUTO}") from None
    _check("--target-qps", rate, 1e-3, MOST_RATE, "queries a second")
    return rate


def _check(option: str, value: float, least: float, most: float, unit: str) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise UsageError(f"{option} {value:,.10g} is no number of {unit} from {least:,.10g} to {most:,.10g}")


def _number(text: str, workload: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"workload {workload!r}: {text!r} is no number") from None
