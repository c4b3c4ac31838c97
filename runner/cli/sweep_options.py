"""The sweep options of `benchrun run` for other commands that measure a sweep, so that they are declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, get_type_hints

OF_A_SWEEP = (
    "backend", "model", "head", "weights", "override", "batch", "seq", "dtype", "device", "workload", "layout", "opt",
    "iterations", "warmup", "max_time", "timeout", "threads", "transfers", "try_all",
    "engine_per_point",
)  # fmt: skip


def with_sweep_options(
    run: Callable[..., int], without: tuple[str, ...] = ()
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command the options of `run` that say what to measure and how; its parameter `settings` receives them
    by their names on the command line, those not given as None. `without` names options that the command has no use for.
    """
    parameters = inspect.signature(run).parameters
    if "workload" in without:  # what lays out the workloads has none to lay out there
        without = (*without, "layout")
    names = [name for name in OF_A_SWEEP if name not in without]
    shared = [parameters[name] for name in names]
    hints = get_type_hints(run, include_extras=True)

    def extend(command: Callable[..., int]) -> Callable[..., int]:
        own = get_type_hints(command, include_extras=True)
        kept = [each for name, each in inspect.signature(command).parameters.items() if name != "settings"]

        @wraps(command)
        def extended(**given: Any) -> int:
            asked = {name.replace("_", "-"): given.pop(name) for name in names}
            settings = {name: None if value == [] else value for name, value in asked.items()}
            return command(settings=settings, **given)

        named = [
            *(each.replace(annotation=hints[each.name], kind=each.KEYWORD_ONLY) for each in shared),
            *(each.replace(annotation=own[each.name], kind=each.KEYWORD_ONLY) for each in kept),
        ]
        # Typer reads both; wraps() set what inspect.signature would follow back to the command itself
        extended.__annotations__ = {each.name: each.annotation for each in named} | {"return": int}
        extended.__signature__ = inspect.Signature(named, return_annotation=int)  # type: ignore[attr-defined]
        del extended.__wrapped__
        return extended

    return extend
