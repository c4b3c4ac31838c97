"""A LoadGen point in a worker: sessions, the check of their answers, LoadGen's test, and what its logs say."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchrun.backends.contract import Unsupported, WrongVariant
from benchrun.runner.bench import WorkerBuild, judge
from benchrun.runner.loadgen.answers import compare_logged
from benchrun.runner.loadgen.build import RETURNED_HEADS, open_executor, plan_shapes, point_of, verify_executor
from benchrun.runner.loadgen.executors import Packing
from benchrun.runner.loadgen.library import Library
from benchrun.runner.loadgen.minima import read_minima
from benchrun.runner.loadgen.stand import (
    IMPOSSIBLE,
    Impossible,
    Outcome,
    Stand,
    Story,
    pace_to_json,
    run_traffic,
)
from benchrun.runner.loadgen.traffic import FIXED
from benchrun.runner.loadgen.trial import ACCURACY, DETAIL, DISTRIBUTION, SUMMARY, missing_loadgen
from benchrun.runner.telemetry.judgement import LIMITS
from benchrun.runner.telemetry.judgement import judge as judge_machine

if TYPE_CHECKING:
    from benchrun.backends.contract import Point
    from benchrun.runner.bench import Bench
    from benchrun.runner.channel import Progress
    from benchrun.runner.loadgen.executors import Shape
    from benchrun.runner.loadgen.traffic import Traffic

INVALID = "loadgen_invalid"  # the flag beside status `invalid` that tells LoadGen's verdict from a wrong answer
MOST_ATTACHED = (
    80 << 20
)  # bytes of the accuracy log that are kept whole: of 10,833 answers to questions at 384 tokens it has 64 MiB


def measure_traffic(bench: Bench, point: Point, progress: Progress, found: dict[str, Any], traffic: Traffic) -> None:
    """Measure, filling `found` with what is learnt on the way, and report it.

    Raises Unsupported where LoadGen is not here or what is asked for cannot be done by any rate, WrongVariant where an answer is wrong or
    LoadGen calls the test INVALID, and whatever the engine raises.
    """
    if absent := missing_loadgen():
        raise Unsupported(absent)
    minima = read_minima(traffic.scenario, bench.assignment.settings)
    library = make_library(bench, point, traffic, minima.samples)
    bench.begin(progress)
    shapes = plan_shapes(traffic, point.batch, library)
    points = tuple(point_of(point, shape, traffic) for shape in shapes)
    build = WorkerBuild(bench.cache, points, bench.assignment.settings)
    answers = traffic.mode == "accuracy" or point.head in RETURNED_HEADS
    started = time.perf_counter()
    executor = open_executor(
        shapes,
        traffic,
        library,
        lambda shape: bench.backend.prepare(bench.model, point_of(point, shape, traffic), build),
        answers=answers,
    )
    try:
        found["build_s"] = time.perf_counter() - started
        found |= build.fields()
        bench.open_clock()
        bench.device_peak()
        stand = Stand(traffic, point, executor, library, minima, answers)
        _measure(bench, stand, progress, found, shapes)
    finally:
        for session in executor.sessions.values():
            session.close()


def make_library(bench: Bench, point: Point, traffic: Traffic, samples: int) -> Library:
    """The samples of a traffic, from the protocol's seed."""
    from benchrun.runner.inputs import make_inputs
    from benchrun.runner.lengths.naming import parse_workload
    from benchrun.runner.lengths.sets import make_sets

    spec, seed = bench.model.spec, bench.protocol.input_seed
    if traffic.lengths == FIXED:
        return Library.of(make_inputs(spec.shape, point.head, samples, point.seq, seed)[0])
    files = bench.assignment.settings.get("files", {})
    return Library.of(
        make_sets(parse_workload(traffic.engine_workload), spec, point.head, samples, point.seq, seed, files).sets[0]
    )


def _measure(bench: Bench, stand: Stand, progress: Progress, found: dict[str, Any], shapes: Sequence[Shape]) -> None:
    from benchrun.results.plain import plain_json

    point, executor = stand.point, stand.executor
    progress.enter("verify")
    parity, distance = verify_executor(bench, point, stand.library, executor)
    found["parity"] = parity
    shape, largest = list(executor.sessions.items())[-1]
    facts = plain_json(largest.facts()) | {f"model_{name}": value for name, value in bench.model.facts.items()}
    found["facts"] = facts
    if isinstance(executor, Packing):  # it has just run fewer tokens than its capacity
        executor.exact = facts.get("tokens") != shape.tokens
    judge(point, parity, distance, facts)
    bench.device_peak()

    progress.enter("warmup")
    own = facts["loadgen"] = _describe(stand, shapes)
    started = time.perf_counter()
    pace = stand.pace()
    found |= {"warmup_n": executor.tally.calls, "warmup_s": time.perf_counter() - started}
    own["pace"] = pace_to_json(pace)

    story = Story()
    own |= {"probes": story.probes, "runs": story.runs, "bracket": story.bracket}
    progress.enter("measure")
    before = bench.telemetry.read()
    try:
        outcome = run_traffic(stand, pace, bench.telemetry, story)
    except Impossible as error:
        found["flags"] = [IMPOSSIBLE]
        raise Unsupported(str(error)) from error
    after = bench.telemetry.read()
    judgement = judge_machine(before, after, LIMITS)
    found["flags"] = list(judgement.flags)
    found["telemetry"] = {"before": before.to_json(), "after": after.to_json(), "reasons": dict(judgement.reasons)}
    found |= bench.peaks()
    _book(found, outcome)
    own |= _tell(outcome)

    progress.phase = "verify"
    if outcome.read is None:
        found["parity"], compared = compare_logged(bench, point, stand.library, outcome.logs.accuracy)
        own |= compared
    else:  # once more: an answer may also go wrong while it is timed
        again, _ = verify_executor(bench, point, stand.library, executor, only_last=True)
        found["parity"] = found["parity"] if again["ok"] else again
    judge(point, found["parity"], None, {})
    progress.phase = "measure"
    if outcome.read is not None and outcome.read.status != "ok":
        found["flags"].append(INVALID)
        raise WrongVariant(outcome.read.error or "LoadGen calls the run INVALID")
    progress.done(found)


def _describe(stand: Stand, shapes: Sequence[Shape]) -> dict[str, Any]:
    """What is run: the setting, the samples, the sessions, what lies inside LoadGen's latency."""
    traffic, library, minima = stand.traffic, stand.library, stand.minima
    return {
        "version": version(DISTRIBUTION),
        "scenario": traffic.scenario,
        "mode": traffic.mode,
        "setting": minima.origin,
        "samples": library.count,
        "mean_length": round(library.mean_length, 3),
        "sessions": [
            f"b{shape.batch} s{shape.seq}" + (f" {shape.tokens} tokens" if shape.tokens else "") for shape in shapes
        ],
        "inside_latency": "batching, copies to the device, the engine" + (", answers back" if stand.answers else ""),
        "outside_latency": "tokenisation" + ("" if stand.answers else ", answers back"),
        **({"wait_ms": traffic.wait_ms, "limit_ms": traffic.limit_ms} if traffic.server else {}),
    }


def _book(found: dict[str, Any], outcome: Outcome) -> None:
    """The measurement, from LoadGen's words."""
    logs, read, tally = outcome.logs, outcome.read, outcome.tally
    found["attachments"] = [{"name": SUMMARY, "text": logs.summary}, {"name": DETAIL, "text": logs.detail}]
    if logs.accuracy and read is None and len(logs.accuracy) <= MOST_ATTACHED:
        found["attachments"].append({"name": ACCURACY, "text": logs.accuracy})
    found["padding_fraction"] = tally.padding
    if read is None:
        return
    if read.host is not None:
        found["host_reported"] = {name: value for name, value in asdict(read.host).items() if value is not None}
    rate = read.throughput_seq_s
    found |= {"throughput_seq_s": rate, "throughput_isolated": read.throughput_isolated}
    if rate is not None and tally.samples:
        found["tokens_s"] = rate * tally.true_tokens / tally.samples
    found |= {"energy_joules": outcome.energy.joules, "joules_per_seq": outcome.energy.per_sequence(tally.samples)}
    if outcome.energy.reason:
        found["telemetry"]["energy"] = outcome.energy.reason


def _tell(outcome: Outcome) -> dict[str, Any]:
    """What LoadGen and the batching say of the test that counts."""
    tally, read = outcome.tally, outcome.read
    told: dict[str, Any] = {
        "calls": tally.calls,
        "mean_batch": round(tally.samples / max(1, tally.calls), 3),
        "seconds": round(outcome.logs.seconds, 3),
        "qps": round(outcome.qps, 4),
    }
    if read is None:
        accuracy = outcome.logs.accuracy.encode()
        return told | {"accuracy_bytes": len(accuracy), "accuracy_sha256": hashlib.sha256(accuracy).hexdigest()}
    return told | {
        name: value for name, value in read.facts.items() if name not in (*told, "scenario", "target_latency_ms")
    }
