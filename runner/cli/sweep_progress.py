"""How far a sweep is: one live line on a terminal, one plain line a point elsewhere."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from benchrun.runner.cli.tables import point_name
from benchrun.runner.durations import describe_seconds
from benchrun.runner.estimate import point_seconds
from benchrun.runner.loadgen.stand import IMPOSSIBLE

if TYPE_CHECKING:
    from benchrun.backends.contract import Point
    from benchrun.runner.plan import Plan
    from benchrun.runner.sweep import Update

REDRAW_S = 1.0  # least time between two progress lines inside a point; the worker waits while one is drawn
STATUS_STYLES: Mapping[str, str] = {"ok": "green", "skipped": "yellow", "unsupported": "yellow"}


@dataclass
class Progress:
    """Where a sweep is: the point, its phase, samples so far with their running median, and the time that is left."""

    console: Console
    plan: Plan
    missing: list[tuple[str, int]]
    _live: Live | None = None
    _started: float = field(default_factory=time.monotonic)
    _done: int = 0
    _taken_ns: list[int] = field(default_factory=list)

    @property
    def interval_s(self) -> float:
        """Seconds between two signs of life from a worker inside a phase; 0 for none where nobody watches."""
        return REDRAW_S if self.console.is_terminal else 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The live line, while the sweep runs. Drawn only when there is news: no thread wakes up beside a timed call."""
        if not self.console.is_terminal:
            yield
            return
        with Live(Text(""), console=self.console, auto_refresh=False, transient=True) as self._live:
            yield

    def update(self, update: Update) -> None:
        """Show what the sweep has just said."""
        if update.row is not None:
            self._done += 1
            self._finished(update)
            return
        if update.n <= 1:
            self._taken_ns.clear()
        if update.last_ns:
            self._taken_ns.append(update.last_ns)
        if self._live is None:
            return
        parts = [f"[{self._done + 1}/{len(self.missing)}]", self._name(update.planned.point), update.phase]
        if update.n:
            parts.append(f"{update.n} samples, p50 about {statistics.median(self._taken_ns) / 1e6:.2f} ms")
        parts.append(f"about {describe_seconds(self._left())} left")
        self._live.update(Text(" · ".join(parts), overflow="ellipsis", no_wrap=True), refresh=True)

    def _finished(self, update: Update) -> None:
        row = update.row
        if row is None:
            return
        style = STATUS_STYLES.get(row.status, "red")
        line = Text(f"[{self._done}/{len(self.missing)}] {self._name(update.planned.point)}  ")
        line.append(row.status, style=style)
        if row.host is not None and row.host.p50_ms is not None:
            line.append(f"  p50 {row.host.p50_ms:.2f} ms, n {row.host.n}")
        elif row.throughput_seq_s is not None:
            line.append(f"  {row.throughput_seq_s:.1f} sequences/s")
        # the plan has said why it will be skipped; what nothing can meet is said at the end
        if row.error and row.error != update.planned.refusal and IMPOSSIBLE not in row.flags:
            line.append(f"  {row.error}")
        self.console.print(line, highlight=False)

    def _name(self, point: Point) -> str:
        """With its workload where there are several, such as the layouts of a mix."""
        return point_name(point) + (f" {point.workload}" if len(self.plan.request.workloads) > 1 else "")

    def _left(self) -> float:
        """Seconds left, from the estimate of each point, scaled by how wrong it has been so far."""
        planned = {each.point.key: point_seconds(each, self.plan) for each in self.plan.points}
        total = sum(planned[key] for key, _ in self.missing)
        share = sum(planned[key] for key, _ in self.missing[self._done :]) / total if total else 0.0
        elapsed = time.monotonic() - self._started
        if self._done == 0:
            return max(0.0, total - elapsed)
        return elapsed * share / max(1e-9, 1 - share)
