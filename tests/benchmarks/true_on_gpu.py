"""Is the device clock right? By hand, on a machine with an NVIDIA GPU and PyTorch:

    python tests/benchmarks/true_on_gpu.py torch:cudagraph:1:128 torch:eager:1:128 ort:cuda:128:128 --model bert-base

For each engine:variant:batch:seq, five interleaved pairs of the runner's timed path and a bare loop of PyTorch's CUDA events
around the same call with the same synchronize per iteration. Prints the ratio of their medians, and host minus device time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

import torch

from benchrun.backends.cache import default_cache
from benchrun.backends.contract import Point, Session
from benchrun.backends.models import load_model, named_spec
from benchrun.backends.registry import load_backend
from benchrun.runner.bench import WorkerBuild
from benchrun.runner.clocks import open_device_clock
from benchrun.runner.inputs import make_inputs
from benchrun.runner.loops import Timer, quiet
from benchrun.runner.protocol import Protocol

PAIRS = 5


def bare_loop(session: Session, n: int) -> list[float]:
    """Device milliseconds of n calls, by PyTorch's own events on the session's stream."""
    stream = torch.cuda.ExternalStream(session.stream) if session.stream else torch.cuda.default_stream()
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    found = []
    for _ in range(n):
        session.synchronize()
        start.record(stream)
        session.enqueue()
        stop.record(stream)
        session.synchronize()
        found.append(start.elapsed_time(stop))
    return found


def compare(engine: str, model_name: str, head: str, dtype: str, n: int) -> dict[str, Any]:
    backend_name, variant, batch, seq = engine.split(":")
    point = Point(
        model_name,
        "random:0",
        head,
        backend_name,
        variant,
        "cuda:0",
        dtype,
        int(batch),
        int(seq),
        "padded",
        Protocol().id,
    )
    model = load_model(named_spec(model_name, head), point.seq)
    session = load_backend(backend_name)().prepare(model, point, WorkerBuild(default_cache(), [point]))
    inputs = make_inputs(model.spec.shape, head, point.batch, point.seq, 0)
    for each in inputs:
        session.bind(each)
    timer = Timer(session, inputs, open_device_clock("cuda:0"))
    ours, bare, gaps = [], [], []
    with quiet():
        for _ in range(50):
            timer.sample()
        for pair in range(PAIRS):
            for runner_first in ((True, False), (False, True))[pair % 2]:
                if runner_first:
                    taken = [timer.sample() for _ in range(n)]
                    ours.append(statistics.median(device for _, device in taken if device is not None) / 1e6)
                    gaps.append(statistics.median(host - device for host, device in taken if device is not None) / 1e6)
                else:
                    bare.append(statistics.median(bare_loop(session, n)))
    session.close()
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return {
        "engine": engine,
        "model": model_name,
        "dtype": dtype,
        "n": n,
        "pairs": PAIRS,
        "runner_p50_ms": statistics.median(ours),
        "bare_p50_ms": statistics.median(bare),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "host_minus_device_ms": statistics.median(gaps),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="+", help="engine:variant:batch:seq")
    parser.add_argument("--model", default="bert-base")
    parser.add_argument("--head", default="encoder")
    parser.add_argument("--dtype", default="fp16")
    parser.add_argument("-n", type=int, default=100, help="calls a block")
    options = parser.parse_args()
    for engine in options.engines:
        try:
            print(json.dumps(compare(engine, options.model, options.head, options.dtype, options.n)), flush=True)
        except Exception as error:
            print(json.dumps({"engine": engine, "error": f"{type(error).__name__}: {error}"}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
