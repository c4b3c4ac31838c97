"""A benchmark suite that costs nothing: writes pytest-benchmark's JSON for points with settled noise, or misbehaves.

    python -I suite_double.py OUT STATE [RATIO] [FAULT]

STATE is a file that counts the runs, so that every launch differs; FAULT may be `fault@N`, from the N-th run on.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROUNDS = 12


def benchmark(name: str, level_s: float, seed: str, rounds: int = ROUNDS, iterations: int = 1) -> dict[str, Any]:
    rng = random.Random(seed)
    launch = level_s * (1 + rng.gauss(0, 0.002))
    data = [launch * (1 + abs(rng.gauss(0, 0.01))) for _ in range(rounds)]
    stats = {
        "min": min(data), "max": max(data), "mean": statistics.mean(data), "stddev": statistics.stdev(data),
        "median": statistics.median(data), "rounds": rounds, "iterations": iterations, "data": data,
    }  # fmt: skip
    return {"name": name, "fullname": f"bench.py::{name}", "stats": stats}


def main() -> None:
    out, state = Path(sys.argv[1]), Path(sys.argv[2])
    ratio = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0
    fault, _, since = (sys.argv[4] if len(sys.argv) > 4 else "").partition("@")
    count = int(state.read_text()) if state.exists() else 0
    state.write_text(str(count + 1))
    if since and count < int(since):
        fault = ""
    seed = f"{state.name}/{count}"
    if fault == "same":
        seed = "always"
    iterations = 100 if fault == "averaged" else 1
    rounds = 3 if fault == "short" else ROUNDS
    ratio *= 1000 if fault == "milliseconds" else 1
    found = [benchmark(name, level * ratio, f"{seed}/{name}", rounds, iterations) for name, level in
             (("test_one", 0.010), ("test_two", 0.020))]  # fmt: skip
    if fault == "dropped":
        found.pop()
    if fault == "more":
        found.append(benchmark("test_three", 0.005, f"{seed}/three"))
    if fault == "twice":
        found.append(found[0])
    machine = {"node": "here", "cpu": {"brand_raw": "other" if fault == "moved" else "one", "count": 2}}
    document = {"machine_info": machine, "commit_info": {}, "version": "5.1.0", "datetime": "2026-01-01T00:00:00+00:00",
                "benchmarks": found}  # fmt: skip
    if fault == "killed":
        os.kill(os.getpid(), 9)
    if fault == "silent":
        return
    if fault == "hangs":
        time.sleep(60)
    text = json.dumps(document)
    if fault == "empty":
        text = json.dumps({**document, "benchmarks": []})
    if fault == "blank":
        text = ""
    if fault == "nan":
        text = text.replace(str(found[0]["stats"]["data"][3]), "NaN")
    out.write_text(text)
    if fault == "exits":
        sys.exit("a test failed")


if __name__ == "__main__":
    main()
