"""Finished gate runs for tests of the reports: decided by the product's own core from simulated launches."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from benchrun.runner.gate.acceptance import Acceptance
from benchrun.runner.gate.decision import decide
from benchrun.runner.gate.launches import GatePlan, Launch, PlannedPoint, Reading
from benchrun.runner.gate.limits import parse_limit
from benchrun.runner.gate.outcome import GateOutcome, GateSide
from benchrun.runner.gate.settings import GateSettings
from tests.gate.builders import edit, make_plan, noisy, run_gate

HOSTILE = (
    "::error file=x::pwned\r\n::set-output name=a::b",
    "##[error] <script>alert('x')</script> & ]]> | `code` *b* _i_ [l](http://evil) @everyone #1",
    "\x1b[31mred\x1b[0m \u202egnp.exe\u202c \x00 %0A%25 , : \ud800 \ufffe",
    "-- \"quoted\" 'single' \\back\\ ${{ secrets.X }} -bencher-ignore",
)


def make_outcome(
    plan: GatePlan | None = None,
    *,
    sd: float = 0.004,
    slower: dict[str, float] | None = None,
    lost: tuple[str, ...] = (),
    throttled: tuple[str, ...] = (),
    settings: GateSettings | None = None,
    acceptances: tuple[Acceptance, ...] = (),
    limits: tuple[str, ...] = (),
    **changes: object,
) -> GateOutcome:
    """A gate run: some points `slower` on the new side, some `lost` (crashed there), some `throttled` throughout."""
    plan, settings = plan or make_plan(6), settings or GateSettings()
    bounds = tuple(parse_limit(each) for each in limits)
    launches, stopped = run_gate(plan, noisy(sd, slower), settings)

    def spoil(launch: Launch, reading: Reading) -> Reading | None:
        if reading.point in lost and launch.side == "new":
            return replace(reading, status="crashed", error="the worker was ended by SIGSEGV", p50_ms=None, n=0)
        return replace(reading, throttled=True) if reading.point in throttled else reading

    verdict = decide(plan, edit(launches, spoil), settings, stopped=stopped, limits=bounds, acceptances=acceptances)
    started = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
    outcome = GateOutcome(
        id="20261122-050000-abcd",
        started=started,
        finished=started + timedelta(minutes=3),
        state="finished",
        kind="session",
        seed=1,
        plan=plan,
        settings=settings,
        base=GateSide(side="base", label="origin/main 1a2b3c4d", subject=plan.base, commit="1a2b3c4d", run_id="r1"),
        new=GateSide(side="new", label="HEAD 5e6f7a8b", subject=plan.new, commit="5e6f7a8b", run_id="r2"),
        verdict=verdict,
        limits=bounds,
        acceptances=acceptances,
        version="0.1.0",
        db="results.db",
    )
    return replace(outcome, **changes)  # type: ignore[arg-type]


def hostile_plan() -> GatePlan:
    """A point for each hostile name, two with the same one, and two that only one side has."""
    names = (*HOSTILE, HOSTILE[0])
    points = [PlannedPoint(key=f"p{i}", label=name) for i, name in enumerate(names)]
    points.append(PlannedPoint(key="new", label="\n::warning::new", in_base=False))
    points.append(PlannedPoint(key="old", label="|gone|", in_new=False))
    return GatePlan(base="commit-a", new="commit-b", points=tuple(points))


def hostile_outcome() -> GateOutcome:
    """Every verdict at once, under hostile names."""
    return make_outcome(hostile_plan(), slower={"p0": 1.2, "p1": 1.15}, lost=("p2",), throttled=("p3",))
