"""Sequences of real lengths: padded to the longest allowed, bucketed by length, or packed without padding. See docs/lengths.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchrun.runner.errors import UsageError
from benchrun.runner.lengths.naming import parse_workload

if TYPE_CHECKING:
    from benchrun.backends.catalogue import ModelSpec
    from benchrun.backends.contract import Build, Point, Session
    from benchrun.runner.bench import Bench
    from benchrun.runner.channel import Progress

GRAIN = 8  # static packed shapes are multiples of this: else the compiler weighs padding each matrix product


def canonical(text: str) -> str:
    """`lengths:MIX:LAYOUT`, files by their content; see `runner.lengths.naming`."""
    return parse_workload(text).workload


def with_layout(text: str, layout: str) -> str:
    """The workload in another layout. Raises UsageError where it names one already."""
    found = parse_workload(text)
    if text.endswith(f":{found.layout}"):
        raise UsageError(f"{text} names its layout already: leave out --layout, or {found.layout} there")
    return f"{text}:{layout}"


def settings(text: str) -> Mapping[str, Any]:
    """Where the files lie that the workload names by content."""
    found = parse_workload(text)
    return {} if found.path is None else {"files": {found.source: str(found.path.absolute())}}


def check_point(workload: str, spec: ModelSpec, head: str, seq: int, asked: Mapping[str, Any]) -> None:
    """Raises UsageError where the mix cannot be run at this length or by this model. `asked` are the settings of the request."""
    from benchrun.runner.lengths.sets import check_fit

    check_fit(parse_workload(workload), spec, head, seq, asked.get("files", {}))


def measure(bench: Bench, point: Point, progress: Progress, found: dict[str, Any]) -> None:
    """Latency and throughput of one inference of `batch` sequences of drawn lengths."""
    from benchrun.backends.contract import Unsupported
    from benchrun.runner.bench import VERIFIED_TOKENS, first_rows, verify
    from benchrun.runner.lengths.buckets import open_buckets, plan_buckets
    from benchrun.runner.lengths.sets import make_sets
    from benchrun.runner.workloads.timed import Trial, measure_trial

    lengths = parse_workload(point.workload)
    files = bench.assignment.settings.get("files", {})
    seed = bench.protocol.input_seed
    drawn = make_sets(lengths, bench.model.spec, point.head, point.batch, point.seq, seed, files)
    first = drawn.sets[0]
    true, padded = sum(first.lengths), point.batch * point.seq
    buckets = plan_buckets(first.lengths, point.seq)
    computed = {"padded": padded, "bucketed": sum(each.rows * each.edge for each in buckets), "packed": true}

    def prepare(build: Build) -> Session:
        if lengths.layout == "bucketed":
            return open_buckets(lambda each, own: bench.backend.prepare(bench.model, each, own), point, buckets, build)
        asked = point.with_capacity(-(-true // GRAIN) * GRAIN) if lengths.layout == "packed" else point
        session = bench.backend.prepare(bench.model, asked, build)
        if lengths.layout == "packed" and not session.packed:
            session.close()
            raise Unsupported(f"{point.engine} has no packed execution: use the layout padded or bucketed")
        return session

    probe = first_rows(first, VERIFIED_TOKENS)
    exact, rounded = bench.answers.expected(probe, point.dtype)
    facts = {
        "parity_sequences": len(probe.lengths),
        "layout": lengths.layout,
        "true_tokens": true,
        "computed_tokens": computed[lengths.layout],
        "padding_when_padded": 1 - true / padded,
        "lengths": {"min": min(first.lengths), "mean": true / point.batch, "max": max(first.lengths)},
        **drawn.facts,
    }
    found["padding_fraction"] = 1 - true / computed[lengths.layout]
    found["lengths"] = list(first.lengths)
    trial = Trial(
        inputs=drawn.sets,
        prepare=prepare,
        verify=lambda session: verify(session, point, exact, rounded, len(probe.lengths), first.lengths),
        facts=facts,
    )
    measure_trial(bench, point, progress, found, trial)
