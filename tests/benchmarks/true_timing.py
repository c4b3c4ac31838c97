"""Is the number true? By hand, on an otherwise idle machine (tests/runner/test_true_timing.py smokes it on the tiny model):

    python tests/benchmarks/true_timing.py loop            # (a) one process: timed path against a bare loop, blocks in turn
    python tests/benchmarks/true_timing.py process         # (b) whole launches against a plain script, ABBA, with a control
    python tests/benchmarks/true_timing.py cheap           # (c) wall time of a small sweep against its own samples

Prints one JSON document each.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BLOCK = 10
PLAIN = """
import statistics, sys, time
import torch
from benchrun.backends.models import load_model, named_spec
from benchrun.runner.inputs import make_inputs
torch.set_num_threads(int(sys.argv[3]))
model = load_model(named_spec(sys.argv[1]), 128)
inputs = make_inputs(model.spec.shape, "encoder", 1, 128, 0)[0]
tensors = [torch.from_numpy(inputs.arrays[name]) for name in model.input_names]
with torch.inference_mode():
    for _ in range(10):
        model.module(*tensors)
    taken = []
    for _ in range(int(sys.argv[2])):
        started = time.perf_counter_ns()
        model.module(*tensors)
        taken.append(time.perf_counter_ns() - started)
print(statistics.median(taken))
"""


def loop(model_name: str, blocks: int, threads: int) -> dict[str, Any]:
    """Ratio of the medians of two kinds of blocks that take turns in one process: the runner's timed path, and a bare loop."""
    import torch

    from benchrun.backends.contract import Point
    from benchrun.backends.models import load_model, named_spec
    from benchrun.backends.torch_sessions import EagerSession
    from benchrun.runner.inputs import make_inputs
    from benchrun.runner.loops import Timer, quiet
    from benchrun.runner.protocol import Protocol

    torch.set_num_threads(threads)
    model = load_model(named_spec(model_name), 128)
    point = Point(model_name, "random:0", "encoder", "torch", "eager", "cpu", "fp32", 1, 128, "padded", Protocol().id)
    session = EagerSession(model.module, point, torch.device("cpu"))
    inputs = make_inputs(model.spec.shape, "encoder", 1, 128, 0)
    timer = Timer(session, inputs, None)
    tensors = [torch.from_numpy(inputs[0].arrays[name]) for name in model.input_names]

    def bare() -> list[int]:
        taken = []
        with torch.inference_mode():
            for _ in range(BLOCK):
                started = time.perf_counter_ns()
                model.module(*tensors)
                taken.append(time.perf_counter_ns() - started)
        return taken

    def ours() -> list[int]:
        return [timer.sample()[0] for _ in range(BLOCK)]

    found: dict[str, list[int]] = {"ours": [], "bare": []}
    pairs: list[float] = []
    with quiet():
        for _ in range(3):
            ours()
            bare()
        for block in range(blocks):
            pair = (("ours", ours), ("bare", bare))
            for name, take in pair if block % 2 == 0 else pair[::-1]:
                found[name] += take()
            pairs.append(
                math.log(statistics.median(found["ours"][-BLOCK:]) / statistics.median(found["bare"][-BLOCK:]))
            )
    medians = {name: statistics.median(values) / 1e6 for name, values in found.items()}
    return {
        "what": "one process, blocks of 10 in turn",
        "model": model_name,
        "threads": threads,
        "blocks_each": blocks,
        "ours_p50_ms": medians["ours"],
        "bare_p50_ms": medians["bare"],
        "ratio": medians["ours"] / medians["bare"],
        "ratio_of_neighbours": interval(pairs),
    }


def process(model_name: str, pairs: int, iterations: int, threads: int) -> dict[str, Any]:
    """Whole launches against a plain script, in ABBA order; the plain script against itself beside it as a control."""
    ratios, control = [], []
    for pair in range(pairs):
        first_ours = pair % 2 == 0  # pairs in the order AB BA AB …, which is ABBA throughout
        ours, bare = take_pair(launch, plain, first_ours, model_name, iterations, threads)
        ratios.append(math.log(ours / bare))
        one, other = take_pair(plain, plain, first_ours, model_name, iterations, threads)
        control.append(math.log(one / other))
        print(f"pair {pair + 1}: ours/plain {ours / bare:.4f}, control {one / other:.4f}", file=sys.stderr)
    return {
        "what": "whole processes, ABBA",
        "model": model_name,
        "threads": threads,
        "pairs": pairs,
        "iterations": iterations,
        "ours_over_plain": interval(ratios),
        "control": interval(control),
        "limit": [1 / 1.03, 1.03],
    }


def take_pair(
    one: Callable[[str, int, int], float], other: Callable[[str, int, int], float], one_first: bool, *arguments: Any
) -> tuple[float, float]:
    """What `one` and `other` measure, taken in the asked order."""
    if one_first:
        first = one(*arguments)
        return first, other(*arguments)
    second = other(*arguments)
    return one(*arguments), second


def interval(logs: list[float]) -> dict[str, float]:
    """Mean ratio with its 95 % interval (Student's t on log ratios)."""
    from scipy.special import stdtrit

    mean, n = statistics.fmean(logs), len(logs)
    half = float(stdtrit(n - 1, 0.975)) * statistics.stdev(logs) / math.sqrt(n)
    return {"ratio": math.exp(mean), "low": math.exp(mean - half), "high": math.exp(mean + half)}


def launch(model_name: str, iterations: int, threads: int) -> float:
    """p50 in ms of a benchrun launch."""
    arguments = ["--model", model_name, "--iterations", str(iterations), "--max-time", "600", "--threads", str(threads)]
    return float(sweep(arguments)["points"][0]["host_ms"]["p50"])


def plain(model_name: str, iterations: int, threads: int) -> float:
    """Median in ms of the plain script."""
    command = [sys.executable, "-c", PLAIN, model_name, str(iterations), str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6


def sweep(arguments: list[str]) -> dict[str, Any]:
    """The document of a sweep into a database of its own."""
    with tempfile.TemporaryDirectory() as folder:
        code = "from benchrun.runner.cli import main; main()"
        command = [sys.executable, "-c", code, "run", "--json", "--db", str(Path(folder) / "true.db"), *arguments]
        found: dict[str, Any] = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        )
        return found


def read_seconds(database: Path) -> tuple[float, float]:
    """Seconds of all timed samples, and of the warm-ups, in a store.

    A point that the machine's state spoilt is measured again after the same warm-up, which its superseded rows tell once more.
    """
    import sqlite3

    query = (
        "SELECT sum(host_mean_ms * host_n) / 1e3, sum(warmup_s) FILTER (WHERE NOT superseded)"
        " FROM measurements WHERE status = 'ok'"
    )
    with sqlite3.connect(database) as connection:
        timed, warm = connection.execute(query).fetchone()
    return timed, warm


def cheap(model_name: str) -> dict[str, Any]:
    """Wall time of a sweep of four points against 1.25 × (its timed and warm-up samples) + 15 s."""
    import shutil

    folder = tempfile.mkdtemp()
    code = "from benchrun.runner.cli import main; main()"
    arguments = ["--model", model_name, "--batch", "1,2", "--seq", "32,128", "--iterations", "20", "--warmup", "3"]
    started = time.perf_counter()
    command = [sys.executable, "-c", code, "run", "--db", f"{folder}/cheap.db", *arguments]
    subprocess.run(command, check=True, capture_output=True)
    wall = time.perf_counter() - started
    timed, warm = read_seconds(Path(f"{folder}/cheap.db"))
    shutil.rmtree(folder)
    limit = 1.25 * (timed + warm) + 15
    return {
        "what": "cheap",
        "model": model_name,
        "wall_s": wall,
        "timed_s": timed,
        "warmup_s": warm,
        "limit_s": limit,
        "ok": wall <= limit,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("loop", "process", "cheap"))
    parser.add_argument("--model", default="bert-base")
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.what == "loop":
        result = loop(options.model, options.blocks, options.threads)
    elif options.what == "process":
        result = process(options.model, options.pairs, options.iterations, options.threads)
    else:
        result = cheap(options.model)
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
