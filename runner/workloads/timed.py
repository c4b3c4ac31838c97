"""The timed measurement that several workloads share: build, first answer, warm-up, latency, throughput, and the answer once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchrun.runner import memory
from benchrun.runner.bench import WorkerBuild, judge

if TYPE_CHECKING:
    from benchrun.backends.contract import Inputs, Point, Session
    from benchrun.runner.bench import Bench
    from benchrun.runner.channel import Progress


@dataclass(frozen=True, slots=True)
class Trial:
    """What is timed at a point, and how its answer is judged.

    `inputs` are rotated, set 0 is the one that is verified. `verify` runs the session once and returns parity as a dict, and for low
    precisions the distance to the nearest reference (`runner.bench.verify`). `before` is called with the session before its first
    call, `after` once all is timed. `sequences` are those of a call, where they are not the point's batch.
    """

    inputs: Sequence[Inputs]
    prepare: Callable[[WorkerBuild], Session]
    verify: Callable[[Session], tuple[dict[str, Any], float | None]]
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the workload, stored with the engine's own
    before: Callable[[Session], None] | None = None
    after: Callable[[Session], None] | None = None
    sequences: int | None = None


def measure_trial(bench: Bench, point: Point, progress: Progress, found: dict[str, Any], trial: Trial) -> None:
    """Measure, filling `found` with what is learnt on the way, so that a late failure keeps it, and report it.

    Raises WrongVariant where the answer or the precision is not what was asked for, and whatever the engine raises.
    """
    from benchrun.results.plain import plain_json
    from benchrun.runner import loops
    from benchrun.runner.attempts import measure_attempts, split

    bench.begin(progress)
    build = WorkerBuild(bench.cache, bench.points, bench.assignment.settings)
    session: Session | None = None
    try:
        started = time.perf_counter()
        session = trial.prepare(build)
        found["build_s"] = time.perf_counter() - started
        found |= build.fields()
        bench.open_clock()
        free_before = bench.clock.memory()[0] if bench.clock else None
        bench.device_peak()

        progress.enter("verify")
        for each in reversed(trial.inputs):  # set 0 last: it is the one that is verified
            session.bind(each)
        if trial.before is not None:
            trial.before(session)
        started = time.perf_counter()
        session.enqueue()
        session.synchronize()
        found["first_run_s"] = time.perf_counter() - started
        parity, distance = trial.verify(session)
        found["parity"] = parity
        bench.device_peak()

        timer = loops.Timer(session, trial.inputs, bench.clock)
        progress.enter("warmup")
        warmup = loops.warm_up(timer, bench.protocol, point.device_kind, progress.tick)
        found |= {"warmup_n": warmup.n, "warmup_s": warmup.seconds, "settled": warmup.settled}

        progress.enter("measure")
        resident = memory.resident_bytes()
        asynchronous = session.stream is not None
        attempts = measure_attempts(timer, bench.protocol, bench.telemetry, progress.tick, asynchronous=asynchronous)
        calls = sum(int(each.latency.host.size) for each in attempts)
        leaking = memory.leaks(resident, memory.resident_bytes(), calls)
        kept, spoilt = split(attempts)
        if bench.clock and free_before is not None:
            found["device_growth_bytes"] = free_before - bench.clock.memory()[0]
        sequences = trial.sequences or point.batch
        found |= kept.fields(sequences)
        found["spoilt"] = [each.fields(sequences) for each in spoilt]
        found["flags"] += ["leaks_memory"] if leaking else []
        found |= bench.peaks()
        if trial.after is not None:
            trial.after(session)
        progress.phase = "verify"
        session.bind(trial.inputs[0])  # once more: an answer may also go wrong while it is timed
        again, _ = trial.verify(session)
        if not again["ok"]:
            found["parity"] = parity = again
        facts = plain_json(session.facts()) | {f"model_{name}": value for name, value in bench.model.facts.items()}
        found["facts"] = facts = facts | dict(trial.facts)
        judge(point, parity, distance, facts)
        progress.done(found)
    finally:
        if session is not None:
            session.close()
