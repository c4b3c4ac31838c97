"""Stands in for the worker: speaks its side of the pipe without loading anything, and misbehaves as it is told.

`$DOUBLE` maps a batch to what its point does, as JSON; what is not named is measured. Assignments are appended to the file `$DOUBLE_LOG`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

EVENTS = os.fdopen(int(sys.argv[-1]), "w")
DEEDS = json.loads(os.environ.get("DOUBLE", "{}"))


def send(event: str, **fields: Any) -> None:
    EVENTS.write(json.dumps({"event": event, **fields}) + "\n")
    EVENTS.flush()


def ask(event: str, **fields: Any) -> None:
    send(event, **fields)
    sys.stdin.readline()


def measured(ordinal: int, deed: str) -> None:
    found: dict[str, Any] = {
        "host_ns": [1_000_000 + i for i in range(12)],
        "throughput_seq_s": 1000.0,
        "padding_fraction": 0.0,
        "settled": True,
        "timed_out": False,
    }
    if deed == "spoilt at first":
        found["spoilt"] = [{"host_ns": [3_000_000 + i for i in range(11)], "flags": ["noisy_host"]}]
    ask("measured", ordinal=ordinal, found=found)


def fail(ordinal: int, status: str) -> None:
    ask("failed", ordinal=ordinal, status=status, phase="measure", error=f"it is {status}", found={})


def sleep() -> None:
    time.sleep(600)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half_a_line() -> None:
    EVENTS.write('{"event": "measu')
    EVENTS.flush()
    die()


def leave_a_child() -> None:
    """A child that holds the pipe, and the end of the worker itself."""
    if os.fork() == 0:
        sleep()
    os._exit(3)


def interrupt() -> None:
    os.kill(os.getppid(), signal.SIGINT)
    sleep()


IN_BUILD: dict[str, Callable[[], None]] = {
    "hang": sleep,
    "die": die,
    "half": half_a_line,
    "child": leave_a_child,
    "interrupt": interrupt,
}


def main() -> None:
    line = sys.stdin.readline()
    assignment = json.loads(line)
    if log := os.environ.get("DOUBLE_LOG"):
        with open(log, "a") as file:  # noqa: PTH123
            file.write(line)
    if DEEDS.get("start") == "silent":
        return
    if DEEDS.get("start") == "hang":
        sleep()
    for task in assignment["tasks"]:
        ordinal, deed = task["ordinal"], DEEDS.get(str(task["point"]["batch"]), "measure")
        ask("started", ordinal=ordinal)
        if deed == "load for ever":
            sleep()
        ask("progress", ordinal=ordinal, phase="build", n=0, last_ns=0)
        IN_BUILD.get(deed, int)()
        ask("progress", ordinal=ordinal, phase="measure", n=0, last_ns=0)
        if deed in ("oom", "error", "unsupported"):
            fail(ordinal, deed)
            if deed != "unsupported":
                break
            continue
        measured(ordinal, deed)
        if deed == "die afterwards":
            die()
        if deed == "hang afterwards":
            sleep()
    send("done")
    if DEEDS.get("end") == "hang":
        sleep()


if __name__ == "__main__":
    main()
