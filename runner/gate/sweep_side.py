"""A side that measures points of a sweep: each launch is one fresh worker a group of points, with the side's
interpreter and its own benchrun.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benchrun.runner.environment import read_fingerprint
from benchrun.runner.errors import UsageError
from benchrun.runner.gate.launches import WARMUP, PlannedPoint
from benchrun.runner.gate.request import refuse_loadgen
from benchrun.runner.gate.schedule import LaunchOrder
from benchrun.runner.launcher import Interpreter
from benchrun.runner.plan import Missing, Plan, Planned, make_plan
from benchrun.runner.presets import SETTINGS, make_request, parse_pairs
from benchrun.runner.sweep import Sweep, Update

if TYPE_CHECKING:
    from benchrun.results import Store
    from benchrun.results.rows import MeasurementRow

NEVER_A_SIDES = ("launches", "timeout", "try-all", "device")  # one for both: the sides share machine and bounds


class SweepSide:
    """Takes launches of sweep points. `points` maps the gate's keys to what this side measures."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        plan: Plan,
        points: Mapping[str, Planned],
        interpreter: Interpreter,
        listen: Callable[[Update], None] | None = None,
        progress_s: float = 0.0,
    ) -> None:
        self._points = points
        self._device = plan.request.device or "cpu"
        self._rows: dict[str, MeasurementRow] = {}
        self._listen = listen
        self._sweep = Sweep(plan, store, run_id, self._hear, progress_s, interpreter)

    def take(self, order: LaunchOrder) -> tuple[tuple[str, MeasurementRow], ...]:
        """One launch of the points of an order."""
        self._rows.clear()
        points = [self._points[key] for key in order.points]
        self._sweep.measure_launch(points, order.order, discard=order.stage == WARMUP)
        found = ((key, self._rows.get(self._points[key].point.key)) for key in order.points)
        return tuple((key, row) for key, row in found if row is not None)

    def fingerprint(self) -> str:
        """This machine, as it is now."""
        return read_fingerprint(self._device)

    def _hear(self, update: Update) -> None:
        if update.row is not None:
            self._rows[update.row.point_key] = update.row
        if self._listen is not None:
            self._listen(update)


def plan_side(sweep: Mapping[str, Any], options: Mapping[str, Any], missing: Missing) -> Plan:
    """The plan of one side: the sweep with that side's options over it, a setting of sweeps or an engine's option.

    Raises UsageError.
    """
    settings, engine = dict(sweep), {}
    for name, value in options.items():
        if name in NEVER_A_SIDES:
            raise UsageError(f"{name} is the same for both sides: give it as --{name}, not to one of them")
        if name in SETTINGS and name != "opt":
            settings[name] = value
        else:
            engine[name] = value
    if engine:
        settings["opt"] = {**parse_pairs(settings.get("opt") or {}, "opt"), **engine}
    # after an oom the larger batches are tried all the same: every point has to end by itself
    # and nothing is measured again inside a launch: the rule itself replaces launches that were spoilt
    # and joules are not judged: without them a GPU's throughput window is 0.5 s, not 2
    fixed = {"try-all": True, "launches": 1, "repeats": 0, "energy": False}
    plan = make_plan(make_request(settings, fixed), missing)
    refuse_loadgen(each.point.workload for each in plan.points)
    return plan


@dataclass(frozen=True, slots=True)
class PairedPlans:
    """What both sides measure, point by point. `base`, `new`: gate's key → what that side measures; `keys` the keys of
    the points in each side's run; `notes` tell of points that neither side can do.
    """

    points: tuple[PlannedPoint, ...]
    base: Mapping[str, Planned]
    new: Mapping[str, Planned]
    keys: Mapping[str, tuple[str | None, str | None]]
    notes: tuple[str, ...]


def pair_plans(base: Plan, new: Plan) -> PairedPlans:
    """Pair the points of two plans of one shape. A point's own key is that of its base, or of the new side where only
    that one can do it. Raises UsageError where the plans differ in more than values.
    """
    if len(base.points) != len(new.points):
        raise UsageError(
            f"the sides' options give {len(base.points)} and {len(new.points)} points: "
            "they may differ in values, not in how many points there are"
        )
    points: list[PlannedPoint] = []
    found: tuple[dict[str, Planned], dict[str, Planned]] = ({}, {})
    keys: dict[str, tuple[str | None, str | None]] = {}
    notes: dict[str, int] = {}
    for one, other in zip(base.points, new.points, strict=True):
        if one.refusal and other.refusal:
            notes[one.refusal] = notes.get(one.refusal, 0) + 1
            continue
        key = (other if one.refusal else one).point.key
        keys[key] = (None if one.refusal else one.point.key, None if other.refusal else other.point.key)
        if not one.refusal:
            found[0][key] = one
        if not other.refusal:
            found[1][key] = other
        shown = one if not one.refusal else other
        points.append(
            PlannedPoint(
                key=key,
                label=label_of(one, other),
                device_class=shown.point.device_kind,
                group=replace(shown.point, batch=1, seq=1, dtype="").key,
                in_base=not one.refusal,
                in_new=not other.refusal,
            )
        )
    if not points:
        raise UsageError("neither side can measure any of these points: " + "; ".join(notes))
    texts = tuple(f"{count} points are left out, for neither side can do them: {why}" for why, count in notes.items())
    return PairedPlans(tuple(points), *found, keys, texts)


def label_of(one: Planned, other: Planned) -> str:
    """`torch:eager bert-base encoder fp32 b1 s128 cpu`; where the sides differ, base > new."""
    return " ".join(a if a == b else f"{a}>{b}" for a, b in zip(_words(one), _words(other), strict=True))


def _words(planned: Planned) -> tuple[str, ...]:
    p = planned.point
    return (p.engine, p.model, p.head, p.dtype, f"b{p.batch}", f"s{p.seq}", p.device)
