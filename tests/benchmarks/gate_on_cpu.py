"""Does the gate keep its word on a real machine? By hand, on one that is otherwise idle, in pieces:

    python tests/benchmarks/gate_on_cpu.py FOLDER variance 24         # launches: s and the smallest detectable slowdown
    python tests/benchmarks/gate_on_cpu.py FOLDER aa 30               # gates of the suite against itself
    python tests/benchmarks/gate_on_cpu.py FOLDER injected 30         # gates with max(10 %, 1.5 · MDE) more work
    python tests/benchmarks/gate_on_cpu.py FOLDER summary

The work is one thread of NumPy, at least 20 ms a call, on one pinned core: the gate's own `--cmd` path with a fresh
process a launch. What is injected is real work inside the timed call. Each count is a total: a run that was ended goes
on where it stopped. Results are lines of JSON in FOLDER, every launch is in FOLDER/gates.db.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROUNDS = 40
TARGET_S = 0.025  # of a call without extra work
SIZE = 96  # of the matrices: small enough to stay in the cache
METRIC = "p50"


# --- the suite: what one launch runs ---


def run_suite(out: Path, calls: int, extra: int) -> None:
    """One launch: 40 rounds of `calls` + `extra` products, written as pytest-benchmark writes them."""
    import numpy as np

    rng = np.random.default_rng(0)
    one, other = rng.random((2, SIZE, SIZE))
    total = calls + extra

    def work() -> float:
        product = one
        for _ in range(total):
            product = (product @ other) * (2 / SIZE)
        return float(product[0, 0])

    for _ in range(5):
        work()
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    stats = {
        "min": min(taken), "max": max(taken), "mean": statistics.mean(taken), "stddev": statistics.stdev(taken),
        "median": statistics.median(taken), "rounds": ROUNDS, "iterations": 1, "data": taken,
    }  # fmt: skip
    document = {
        "machine_info": {"node": "here"}, "commit_info": {}, "version": "5.1.0",
        "datetime": "2026-01-01T00:00:00+00:00",
        "benchmarks": [{"name": "work", "fullname": "gate_on_cpu::work", "stats": stats}],
    }  # fmt: skip
    out.write_text(json.dumps(document))


def suite_command(calls: int, extra: int) -> str:
    """The command of one side. The extra work is a share of the calls, so it is inside what is timed."""
    return shlex.join([sys.executable, str(Path(__file__).resolve()), "suite", "{out}", str(calls), str(extra)])


def choose_calls(folder: Path) -> int:
    """Products a call, so that one takes at least 20 ms here; kept in the folder, for all gates are of one work."""
    kept = folder / "calls.json"
    if not kept.exists():
        sizes = (20, 2000)
        medians = []
        for calls in sizes:
            out = folder / "calibration.json"
            subprocess.run([each.replace("{out}", str(out)) for each in shlex.split(suite_command(calls, 0))],
                           check=True, env=one_thread())  # fmt: skip
            medians.append(json.loads(out.read_text())["benchmarks"][0]["stats"]["median"])
        each_s = (medians[1] - medians[0]) / (sizes[1] - sizes[0])
        kept.write_text(json.dumps({"calls": math.ceil(TARGET_S / each_s), "product_us": each_s * 1e6}))
    return int(json.loads(kept.read_text())["calls"])


def one_thread() -> dict[str, str]:
    """As the gate starts a command with one thread."""
    from benchrun.runner.launcher import worker_environment

    return worker_environment(1)


# --- variance ---


def measure_variance(folder: Path, launches: int) -> dict[str, Any]:
    """Noise between launches, by the product's own decomposition, and what a gate can find with it."""
    from benchrun.runner.gate.command_side import CommandSide, split_command
    from benchrun.runner.gate.preparation import choose_cores
    from benchrun.runner.gate.schedule import LaunchOrder
    from benchrun.runner.gate.settings import GateSettings
    from benchrun.runner.gate.variance import (
        SessionSeries,
        expect_launches,
        find_components,
        find_detectable,
        size_fresh,
    )
    from benchrun.runner.launcher import Interpreter

    calls = choose_calls(folder)
    y: list[float] = []
    levels = []
    side = CommandSide(
        None, "", split_command(suite_command(calls, 0), "suite"), folder, Interpreter(cores=choose_cores(1)),  # type: ignore[arg-type]
        threads=1, timeout_s=300,
    )  # fmt: skip
    points, problem = side.discover()  # the first launch is a warm-up
    assert not problem, problem
    side.open(points)
    names = tuple(points)
    for place in range(launches):
        # stage 0 is not stored: here the rows are all that is wanted
        ((_, row),) = side.take(LaunchOrder(place, "base", 0, place, names))
        assert row.host is not None and row.host.p50_ms is not None, row.error
        y.append(math.log(row.host.p50_ms))
        levels.append(row.host.p50_ms)
    found = find_components([SessionSeries("here", tuple(y))])
    settings = GateSettings()
    k2 = size_fresh(found.launch_sd, settings)
    return {
        "kind": "variance", "launches": launches, "calls": calls, "p50_ms": statistics.median(levels),
        "launch_sd": found.launch_sd, "launch_sd_low": found.launch_sd_low, "launch_sd_high": found.launch_sd_high,
        "drift": found.drift, "neighbours": found.neighbours, "paired_sd": found.paired_sd, "k2": k2,
        "detectable": find_detectable(found.launch_sd, k2, settings),
        "expected_launches": expect_launches(found.launch_sd, 1, settings, metrics=1),
    }  # fmt: skip


# --- gates ---


def run_gates(folder: Path, kind: str, count: int) -> None:
    """Gates up to a total of `count` of that kind, a line each."""
    from benchrun.results import open_store
    from benchrun.runner.gate.request import GateRequest, SideRequest
    from benchrun.runner.gate.running import Surroundings, run_gate

    calls = choose_calls(folder)
    extra = 0
    if kind == "injected":
        extra = math.ceil(calls * injected_share(folder))
    base, new = suite_command(calls, 0), suite_command(calls, extra)
    results = folder / f"{kind}.jsonl"
    done = len(read_lines(results))
    for number in range(done, count):
        request = GateRequest(
            base=SideRequest(command=base),
            new=SideRequest(command=new),
            sweep={"threads": 1},
            aa=kind == "aa",
            seed=number,
            label=f"{kind} {number}",
        )
        began = time.monotonic()
        with open_store(folder / "gates.db") as store:
            outcome = run_gate(request, store, Surroundings(folder=folder, cache=folder / "cache"))
        if outcome.state == "interrupted":
            print("interrupted: this gate does not count")
            return
        line = describe(outcome, kind, number, extra / calls, time.monotonic() - began)
        with results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def injected_share(folder: Path) -> float:
    """max(10 %, 1.5 · MDE) from the latest variance run."""
    lines = read_lines(folder / "variance.jsonl")
    if not lines:
        sys.exit("run 'variance' first: the size of the injected slowdown depends on it")
    return max(0.10, 1.5 * float(lines[-1]["detectable"]))


def describe(outcome: Any, kind: str, number: int, injected: float, seconds: float) -> dict[str, Any]:
    """One gate as a line."""
    (point,) = outcome.points
    metric = point.metrics[0]
    control = outcome.verdict.control
    return {
        "kind": kind, "number": number, "gate": outcome.id, "exit_code": outcome.exit_code, "verdict": point.verdict,
        "stage": metric.stage, "injected": injected, "ratio": plain(metric.ratio), "low": plain(metric.ratio_low),
        "high": plain(metric.ratio_high), "sd": plain(metric.sd), "launches": outcome.verdict.launches,
        "control": control.verdict, "control_ratio": plain(control.ratio), "reason": point.reason, "seconds": seconds,
    }  # fmt: skip


def plain(value: float) -> float | None:
    """NaN as null."""
    return round(value, 6) if math.isfinite(value) else None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summarise(folder: Path) -> dict[str, Any]:
    """What the gates of a folder came to."""
    found: dict[str, Any] = {"variance": (read_lines(folder / "variance.jsonl") or [None])[-1]}
    for kind in ("aa", "injected"):
        lines = read_lines(folder / f"{kind}.jsonl")
        names = ("PASS", "FAIL", "INVALID", "MISSING", "INCONCLUSIVE")
        found[kind] = {
            "gates": len(lines),
            **{name: sum(each["verdict"] == name for each in lines) for name in names},
            "mean_launches": statistics.mean(each["launches"] for each in lines) if lines else None,
            "median_sd": statistics.median(each["sd"] or 0 for each in lines) if lines else None,
            "injected": lines[-1]["injected"] if lines else None,
            "minutes": sum(each["seconds"] for each in lines) / 60,
        }
    return found


def main() -> None:
    if sys.argv[1:2] == ["suite"]:
        run_suite(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=("variance", "aa", "injected", "summary"))
    parser.add_argument("count", type=int, nargs="?", default=30)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    folder = given.folder.resolve()
    if given.what == "summary":
        print(json.dumps(summarise(folder), indent=1))
    elif given.what == "variance":
        line = measure_variance(folder, given.count)
        with (folder / "variance.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line, indent=1))
    else:
        run_gates(folder, given.what, given.count)


if __name__ == "__main__":
    main()
