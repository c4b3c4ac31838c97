"""An interpreter that costs nothing: introduces itself, and measures like a worker, with settled noise.

engine_double.py NAME RATIO FAULT -P -c QUESTION JSON      # who are you?
engine_double.py NAME RATIO FAULT -P -m benchrun.runner.worker FD
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Any

SAMPLES = 40
TOO_OLD = ("aged",)  # a benchrun that knows fewer settings
OLD_PROTOCOL = ["iterations", "warmup", "max_time_s", "transfers", "percentiles", "input_seed"]


def introduce(name: str, fault: str, asked: list[list[str]]) -> None:
    if fault == "mute":
        sys.exit("it is broken")
    told: dict[str, Any] = {"prefix": f"/{name}", "python": "3.11.2"}
    if fault == "bare":
        told["problem"] = "ModuleNotFoundError: No module named 'benchrun'"
    else:
        missing = {f"{backend}:{variant}": "torch is not installed" if fault == "lacking" else None
                   for backend, variant in asked}  # fmt: skip
        told |= {
            "version": "0.1.0",
            "libraries": {"torch": "2.12.0" if name == "old" else "2.13.0"},
            "missing": missing,
        }
        if fault in TOO_OLD:
            told["takes"] = {
                "assignment": ["spec", "max_seq", "tasks", "protocol", "settings"],
                "protocol": OLD_PROTOCOL,
            }
    print(json.dumps(told))


def work(name: str, ratio: float, fault: str) -> None:
    events = os.fdopen(int(sys.argv[-1]), "w")
    assignment = json.loads(sys.stdin.readline())
    if fault in TOO_OLD and (unknown := assignment["protocol"].keys() - set(OLD_PROTOCOL)):
        sys.exit(f"TypeError: Protocol.__init__() got an unexpected keyword argument {min(unknown)!r}")
    if fault in TOO_OLD and "progress_s" in assignment:
        sys.exit("TypeError: Assignment.__init__() got an unexpected keyword argument 'progress_s'")

    def ask(event: str, **fields: Any) -> None:
        events.write(json.dumps({"event": event, **fields}) + "\n")
        events.flush()
        sys.stdin.readline()

    for task in assignment["tasks"]:
        ask("started", ordinal=task["ordinal"])
        if fault == "dies":
            os.kill(os.getpid(), 9)
        rng = random.Random(f"{name}/{os.getpid()}/{task['ordinal']}")
        level = 10e6 * task["point"]["batch"] * ratio * (1 + rng.gauss(0, 0.002))
        host = [int(level * (1 + abs(rng.gauss(0, 0.01)))) for _ in range(10 if fault == "few" else SAMPLES)]
        parity = {"rel_l2": 0.0, "max_abs": 0.0, "cosine": 1.0, "gain": 1.0, "nan_share": 0.0, "ok": True, "reason": ""}
        found = {
            "host_ns": host, "device_ns": None, "throughput_seq_s": task["point"]["batch"] * 1e9 / level, "parity": parity,
            "flags": ["throttled"] if fault == "hot" else [], "facts": {}, "build_s": 0.1,
        }  # fmt: skip
        ask("measured", ordinal=task["ordinal"], found=found)
    events.write(json.dumps({"event": "done"}) + "\n")
    events.flush()


def main() -> None:
    name, ratio, fault, *arguments = sys.argv[1:]
    if "-c" in arguments:
        introduce(name, fault, json.loads(arguments[-1]))
    else:
        work(name, float(ratio), fault)


if __name__ == "__main__":
    main()
