"""Fixed batches: every sequence has the full length, nothing is padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.backends.contract import Point
    from benchrun.runner.bench import Bench
    from benchrun.runner.channel import Progress


def canonical(text: str) -> str:
    """`padded`, which takes no settings."""
    if text != "padded":
        raise UsageError(f"unknown workload {text!r}: padded takes no settings")
    return text


def measure(bench: Bench, point: Point, progress: Progress, found: dict[str, Any]) -> None:
    """Latency and throughput of one inference of `batch` sequences of `seq` tokens."""
    from benchrun.runner.bench import VERIFIED_TOKENS, first_rows, verify
    from benchrun.runner.inputs import make_inputs
    from benchrun.runner.workloads.timed import Trial, measure_trial

    inputs = make_inputs(bench.model.spec.shape, point.head, point.batch, point.seq, bench.protocol.input_seed)
    probe = first_rows(inputs[0], VERIFIED_TOKENS)
    exact, rounded = bench.answers.expected(probe, point.dtype)
    trial = Trial(
        inputs=inputs,
        prepare=lambda build: bench.backend.prepare(bench.model, point, build),
        verify=lambda session: verify(session, point, exact, rounded, len(probe.lengths)),
        facts={"parity_sequences": len(probe.lengths)},
    )
    found["padding_fraction"] = 0.0
    measure_trial(bench, point, progress, found, trial)
