"""Running a gate: the scheduler says which launch comes next, a side takes it, the store keeps it, until the rule has
enough.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from benchrun.runner.gate.control import ControlWorkload, summarise_control
from benchrun.runner.gate.foresight import TimedLaunch, estimate_seconds, foresee_end
from benchrun.runner.gate.launches import WARMUP, GatePlan, Launch, Side
from benchrun.runner.gate.readings import Taken, to_launches
from benchrun.runner.gate.schedule import Batch, LaunchOrder, next_batch
from benchrun.runner.gate.settings import GateSettings

if TYPE_CHECKING:
    from benchrun.results import Store
    from benchrun.results.rows import MeasurementRow


class SideRunner(Protocol):
    """What takes the launches of one side. Its rows are in the store before `take` returns."""

    def take(self, order: LaunchOrder) -> tuple[tuple[str, MeasurementRow], ...]:
        """One launch: fresh processes for the points of the order; (gate's point key, row) of each."""
        ...

    def fingerprint(self) -> str:
        """The hardware that the last launch ran on."""
        ...


@dataclass(frozen=True, slots=True)
class GateUpdate:
    """What the session is doing. `launch` is set once one has ended; `left` counts those known to be still to come, `left_s`
    is about what they take (NaN: not known yet), `warning` what is to be told at once.
    """

    order: LaunchOrder
    taken: int
    left: int
    launch: Launch | None = None
    seconds: float = 0.0
    left_s: float = math.nan
    warning: str = ""


Listener = Callable[[GateUpdate], None]
Clock = Callable[[], float]


class GateSession:
    """One session of a gate run. `launches` grows; what is in it is stored. `clock` counts seconds, from anywhere."""

    def __init__(
        self,
        store: Store,
        gate_id: str,
        settings: GateSettings,
        seed: int,
        sides: Mapping[Side, SideRunner],
        control: ControlWorkload | None,
        listen: Listener,
        clock: Clock = time.monotonic,
    ) -> None:
        self._store = store
        self._id = gate_id
        self._settings = settings
        self._seed = seed
        self._sides = sides
        self._control = control
        self._listen = listen
        self._taken: list[Taken] = []
        self._timed: list[TimedLaunch] = []
        self._warned: set[int] = set()  # stages
        self._clock = clock
        self._began = clock()

    def launches(self, plan: GatePlan) -> tuple[Launch, ...]:
        """What was taken so far."""
        return to_launches(plan, self._id, self._taken)

    def run(self, plan: GatePlan) -> str:
        """Take launches to the end; returns the bound that ended it early, `interrupted` for Ctrl-C, or nothing."""
        try:
            while True:
                batch = self._next(plan)
                if not batch.launches:
                    return batch.stopped
                # the rule is asked after every pair: points that crashed drop out, and the time limit holds
                first = batch.launches[0]
                for at, order in enumerate(batch.launches):
                    if (order.stage, order.pair) == (first.stage, first.pair):
                        self.take(order, plan, batch.launches[at + 1 :])
        except KeyboardInterrupt:
            return "interrupted"

    def book_discarded(self, order: LaunchOrder) -> None:
        """Book a discarded launch that was taken before the session could begin: it found out what there is."""
        from benchrun.results.gate_rows import GateLaunchRow
        from benchrun.results.gates import add_gate_launch

        now = datetime.now(UTC)
        booked = GateLaunchRow(
            place=order.order,
            side=order.side,
            stage=order.stage,
            pair=order.pair,
            fingerprint=self._sides[order.side].fingerprint(),
            points=order.points,
            control_ms=None,
            started=now,
            finished=now,
        )
        add_gate_launch(self._store, self._id, booked)
        self._taken.append(Taken(booked, ()))

    def take(self, order: LaunchOrder, plan: GatePlan, ahead: Sequence[LaunchOrder]) -> None:
        """One launch with the control beside it, booked once it has ended. `ahead`: those known to come after it."""
        from benchrun.results.gate_rows import GateLaunchRow
        from benchrun.results.gates import add_gate_launch

        side = self._sides[order.side]
        self._listen(GateUpdate(order, len(self._taken), len(ahead) + 1, left_s=self._estimate([order, *ahead], plan)))
        started, began = datetime.now(UTC), self._clock()
        control = self._control.run() if self._control else []
        rows = side.take(order)
        control += self._control.run() if self._control else []
        booked = GateLaunchRow(
            place=order.order,
            side=order.side,
            stage=order.stage,
            pair=order.pair,
            fingerprint=side.fingerprint(),
            points=order.points,
            control_ms=summarise_control(control) if control else None,
            started=started,
            finished=datetime.now(UTC),
        )
        add_gate_launch(self._store, self._id, booked)
        # the rows of a discarded launch are not kept: a gate that is read back has none either
        self._taken.append(Taken(booked, rows if order.stage != WARMUP else ()))
        seconds = self._clock() - began
        self._timed.append(TimedLaunch(order, seconds))
        shown = to_launches(plan, self._id, [Taken(booked, rows)])[0]
        left_s = self._estimate(ahead, plan) if ahead else math.nan
        warning = self._foresee(ahead, plan)
        self._listen(GateUpdate(order, len(self._taken), len(ahead), shown, seconds, left_s, warning))

    def _estimate(self, ahead: Sequence[LaunchOrder], plan: GatePlan) -> float:
        return estimate_seconds(self._timed, ahead, whole=plan.foreign)

    def _foresee(self, ahead: Sequence[LaunchOrder], plan: GatePlan) -> str:
        """A warning that the time will not be enough; one a stage."""
        if not ahead or ahead[0].stage in self._warned:
            return ""
        # a session of one side is judged against a stored run, without a second stage
        warning = foresee_end(
            self._timed, ahead, self._settings, self._elapsed(), whole=plan.foreign, confirms=len(self._sides) > 1
        )
        if warning:
            self._warned.add(ahead[0].stage)
        return warning

    def find_bound(self) -> str:
        """The bound that the session has reached, for one whose launches the rule does not order; empty for none."""
        limit = self._settings.max_minutes
        return "max_minutes" if limit is not None and self._elapsed() >= limit * 60 else ""

    def _next(self, plan: GatePlan) -> Batch:
        return next_batch(plan, self.launches(plan), self._settings, seed=self._seed, elapsed_s=self._elapsed())

    def _elapsed(self) -> float:
        return self._clock() - self._began
