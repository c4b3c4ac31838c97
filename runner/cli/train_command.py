"""`benchrun train`: training steps as a sweep; its own options become workloads."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from benchrun.runner.cli.sweep_command import SweepOptions, sweep
from benchrun.runner.errors import UsageError
from benchrun.runner.lists import parse_names, parse_numbers
from benchrun.runner.presets import OWN_SETTINGS

COMMAND = "train"
HEAD = "qa"
# --dropout on is the default and no part of the workload; a settings file may say it as a truth value
DROPOUT = {"on": "", "off": ":dropout=off", "true": "", "false": ":dropout=off"}


def train(settings: Mapping[str, Any], own: Mapping[str, Any], options: SweepOptions) -> int:
    """Measure training steps; `settings` are those of a sweep, `own` the command's, both by option name, None where not given.

    Returns the exit status: 0 all ok, 1 some failed, 130 interrupted.
    """
    return sweep({**settings, **own}, options, COMMAND, as_sweep)


def as_sweep(given: Mapping[str, Any]) -> dict[str, Any]:
    """The command's settings as those of a sweep. Raises UsageError naming the option."""
    if "workload" in given:
        raise UsageError(
            "benchrun train makes its workload from --optimizer, --accumulate, --clip and --dropout: leave workload out"
        )
    optimizers = parse_names(_listed(given.get("optimizer", "adamw")))
    accumulates = parse_numbers(_listed(given.get("accumulate", 1)), "accumulate")
    if not optimizers:
        raise UsageError("--optimizer is empty: give adamw or lamb")
    clip = f":clip={given['clip']}" if "clip" in given else ""
    dropout = str(given.get("dropout", "on")).lower()
    if dropout not in DROPOUT:
        raise UsageError(f"--dropout {given['dropout']}: choose from on, off")
    found = {name: value for name, value in given.items() if name not in OWN_SETTINGS[COMMAND]}
    found["workload"] = [
        f"train:{optimizer}:accumulate={accumulate}{clip}{DROPOUT[dropout]}"
        for optimizer, accumulate in product(optimizers, accumulates)
    ]
    if "steps" in given:
        found["iterations"] = _steps(given["steps"])
    return {"head": HEAD, **found}


def _listed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _steps(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"--steps {value}: give a whole number of steps, at least 1")
    return value
