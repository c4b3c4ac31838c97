"""What a decision costs. In a process of its own: under coverage every line costs several times as much."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

DECISION_MS = 5.0  # most for 32 points and 50 launches
PATIENCE_S = 20.0  # a busy neighbour on the same core may slow down a second and more
PROGRAM = f"""
import json, time
from benchrun.runner.gate.decision import decide
from tests.benchmarks.test_speed import PLAN, finished_gate
launches, settings = finished_gate()
taken = [float("inf")]
end = time.monotonic() + {PATIENCE_S}
while min(taken) >= {DECISION_MS} and time.monotonic() < end:
    started = time.process_time_ns()
    decide(PLAN, launches, settings)
    taken.append((time.process_time_ns() - started) / 1e6)
print(json.dumps({{"launches": sum(each.stage > 0 for each in launches), "points": len(PLAN.points), "ms": sorted(taken)[:-1]}}))
"""


def test_deciding_32_points_of_50_launches_takes_less_than_5_ms() -> None:
    """Processor time of this process, the best of many: neighbours on a shared machine make it longer, never shorter."""
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env=unmeasured | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])},
    )
    figures = json.loads(found.stdout)
    assert (figures["points"], figures["launches"]) == (32, 50)
    assert figures["ms"][0] < DECISION_MS, figures["ms"]
