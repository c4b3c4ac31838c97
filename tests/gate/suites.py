"""Gates whose sides are commands that cost nothing: real processes, real files, a real store."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchrun.results import Store
from benchrun.results.gates import load_gate
from benchrun.runner.gate.outcome import GateOutcome
from benchrun.runner.gate.request import GateRequest, SideRequest
from benchrun.runner.gate.running import Surroundings, run_gate
from benchrun.runner.gate.session import GateUpdate
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.stored import find_difference, redecide
from benchrun.runner.gate.verdict import verdict_json

DOUBLE = Path(__file__).with_name("suite_double.py")
QUIET = GateSettings(control=False)  # other tests run beside these: the control would tell of them


def command(folder: Path, side: str, ratio: float = 1.0, fault: str = "") -> str:
    """The command line of one side."""
    return shlex.join([sys.executable, "-I", "-S", str(DOUBLE), "{out}", str(folder / side), str(ratio), fault])


@dataclass(frozen=True, slots=True)
class SuiteGate:
    """Runs gates of two suites; `base` and `new` are (ratio, fault)."""

    store: Store
    folder: Path

    def __call__(
        self,
        new: tuple[float, str] = (1.0, ""),
        base: tuple[float, str] = (1.0, ""),
        listen: Callable[[GateUpdate], None] | None = None,
        side: SideRequest | None = None,
        base_side: SideRequest | None = None,
        around: Surroundings | None = None,
        **changes: Any,
    ) -> GateOutcome:
        request = GateRequest(
            base=base_side or SideRequest(command=command(self.folder, "base", *base)),
            new=side or SideRequest(command=command(self.folder, "new", *new)),
            settings=QUIET,
            seed=1,
        )
        around = around or Surroundings(folder=self.folder, cache=self.folder / "cache")
        if listen is not None:
            around = replace(around, listen=listen)
        return run_gate(replace(request, **changes), self.store, around)


def decided_alike(store: Store, outcome: GateOutcome) -> bool:
    """Whether the gate, read back from the store, decides to the same bytes."""
    record = load_gate(store, outcome.id)
    again = redecide(store, record)
    same = verdict_json(again.verdict) == record.gate.document == verdict_json(outcome.verdict)
    return same and find_difference(record, again.verdict) == ""
