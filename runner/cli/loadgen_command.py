"""`benchrun loadgen`: one of MLPerf's scenarios, by LoadGen itself, for each engine and layout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from benchrun.runner.cli import USAGE_ERROR
from benchrun.runner.errors import UsageError
from benchrun.runner.lists import parse_numbers
from benchrun.runner.loadgen.minima import Minima, choose_minima, longest_seconds
from benchrun.runner.loadgen.stand import IMPOSSIBLE
from benchrun.runner.loadgen.traffic import FIXED, LIMIT_MS, SCENARIOS, WAIT_MS, Traffic, parse_rate
from benchrun.runner.loadgen.trial import missing_loadgen
from benchrun.runner.plan import Plan, make_plan
from benchrun.runner.presets import OWN_SETTINGS, find_preset, make_request, read_config

if TYPE_CHECKING:
    from benchrun.results import Store

COMMAND = "loadgen"
HEAD = "qa"  # MLPerf's BERT answers questions
BATCH = "32"
QUERY_SAMPLES = 8  # MLPerf's MultiStream
TIMEOUT_S = 300.0  # for building and checking, as of every point
# what belongs to one scenario, as a later word would be ignored without a sound
ONLY = {
    "target-qps": ("server", "offline"),
    "latency-limit": ("server",),
    "max-wait": ("server",),
    "max-batch": ("server", "offline"),
    "samples-per-query": ("multi-stream",),
}
MINIMA = ("min-duration", "min-queries", "samples")  # of a preset, which --quick overrules
NOT_OURS = (
    "batch", "workload", "layout", "head", "iterations", "warmup", "max-time", "repeats", "energy", "db", "label",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoadgenOptions:
    """Where settings come from and where results go."""

    preset: str | None = None
    config: Path | None = None
    label: str | None = None
    resume: str | None = None
    db: str | None = None
    dry_run: bool = False
    as_json: bool = False


def measure_loadgen(settings: Mapping[str, Any], own: Mapping[str, Any], options: LoadgenOptions) -> int:
    """Measure; `settings` are those of a sweep, `own` the command's, both by option name, None where not given.

    Returns the exit status: 0 all valid, 1 a point failed or LoadGen called it INVALID, 2 nothing could meet what was asked for (no run
    is kept), 130 interrupted.
    """
    from benchrun.results import open_store
    from benchrun.runner.cli.output import open_output
    from benchrun.runner.cli.sweep_command import resume_run, start_run, text_of
    from benchrun.runner.estimate import estimate_seconds

    if absent := missing_loadgen():
        raise UsageError(absent)
    config = read_config(options.config, Path.cwd())
    preset = find_preset(options.preset, config, COMMAND).settings if options.preset else {}
    given = {name: value for name, value in {**settings, **own}.items() if value is not None and value is not False}
    db = options.db or text_of(preset.get("db", config.defaults.get("db")))
    output = open_output(options.as_json)
    if options.resume:
        if given or preset:
            raise UsageError("--resume goes on with a run as it was asked for: leave the other options out")
        with open_store(db) as store:
            return resume_run(store, options.resume, {}, output, _sweep_options(options))
    defaults = {name: value for name, value in config.defaults.items() if name not in NOT_OURS}
    plan = plan_loadgen(defaults, overrule(preset, given))
    if options.dry_run:
        output.dry_run(plan, estimate_seconds(plan, None))
        return 0
    label = options.label or text_of(preset.get("label", config.defaults.get("label"))) or ""
    with open_store(db) as store:
        held = _Held(output)
        run_id, status = start_run(plan, store, label, held)
        if sentence := find_impossible(store, run_id):
            store.remove_run(run_id)
            output.note(f"benchrun: {sentence}; no run was kept")
            return USAGE_ERROR
        held.show()
        return status


def overrule(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A preset with what was given on the command line over it: `--quick` takes the place of the preset's minima."""
    left_out = MINIMA if given.get("quick") else ()
    return {**{name: value for name, value in preset.items() if name not in left_out}, **given}


def plan_loadgen(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Plan:
    """The plan of one scenario, from settings by option name. Raises UsageError."""
    own = {name: given[name] for name in (*OWN_SETTINGS[COMMAND], "layout") if name in given}
    rest = {name: value for name, value in given.items() if name not in own and name not in ("db", "label")}
    scenario = own.get("scenario")
    if scenario not in SCENARIOS:
        raise UsageError(
            f"unknown scenario {scenario!r}: choose from {', '.join(SCENARIOS)}"
            if scenario
            else f"--scenario is missing: choose from {', '.join(SCENARIOS)}"
        )
    for name, scenarios in ONLY.items():
        if name in own and scenario not in scenarios:
            raise UsageError(f"--{name} is for --scenario {' or '.join(scenarios)}, not {scenario}")
    minima = read_own_minima(scenario, own)
    request = make_request({"head": HEAD}, defaults, rest)
    layouts = str(own.get("layout", "padded")).split(",")
    traffics = [read_traffic(scenario, own, layout.strip()) for layout in layouts]
    plan = make_plan(
        replace(
            request,
            batches=choose_batches(scenario, own),
            workloads=tuple(each.text for each in traffics),
            settings={**request.settings, **minima.to_settings()},
        )
    )
    if "timeout" in rest:
        return plan
    return replace(plan, request=replace(plan.request, timeout_s=TIMEOUT_S + math.ceil(longest_test(plan))))


def longest_test(plan: Plan) -> float:
    """What LoadGen's tests of the slowest point may take together, by the guess of its calls."""
    from benchrun.runner.estimate import call_seconds

    threads = plan.request.threads or 1
    return max(
        longest_seconds(each.point.workload, plan.request.settings, call_seconds(each, threads), each.point.batch)
        for each in plan.points
    )


def read_own_minima(scenario: str, own: Mapping[str, Any]) -> Minima:
    """The minima that the options say. Raises UsageError."""
    expected = parse_rate(str(own["target-qps"])) if scenario == "offline" and "target-qps" in own else None
    return choose_minima(
        scenario,
        quick=bool(own.get("quick", False)),
        duration_s=_number(own, "min-duration"),
        queries=_count(own, "min-queries"),
        samples=_count(own, "samples"),
        expected_qps=expected,
    )


def read_traffic(scenario: str, own: Mapping[str, Any], layout: str) -> Traffic:
    """The traffic that the options say, in one layout. Raises UsageError."""
    server = scenario == "server"
    return Traffic(
        scenario=scenario,
        mode=str(own.get("mode", "performance")),
        rate=parse_rate(str(own.get("target-qps", "auto"))) if server else None,
        limit_ms=_number(own, "latency-limit", LIMIT_MS),
        wait_ms=_number(own, "max-wait", WAIT_MS) if server else WAIT_MS,
        lengths=str(own.get("lengths", FIXED)).removeprefix("lengths:"),
        layout=layout,
    )


def choose_batches(scenario: str, own: Mapping[str, Any]) -> tuple[int, ...]:
    """The batches of the points: what a call may hold, or the samples of a MultiStream query."""
    if scenario == "single-stream":
        return (1,)
    if scenario == "multi-stream":
        return (_count(own, "samples-per-query") or QUERY_SAMPLES,)
    return parse_numbers(str(own.get("max-batch", BATCH)), "max-batch")


def find_impossible(store: Store, run_id: str) -> str | None:
    """The sentence where no point of a run could be done by any rate; None where one was measured or failed otherwise."""
    record = store.run(run_id)
    rows = [each.row for planned in record.points for each in record.by_point[planned.point.key]]
    if rows and all(IMPOSSIBLE in row.flags for row in rows):
        return "; ".join(dict.fromkeys(row.error or "" for row in rows))
    return None


class _Held:
    """An output that keeps its result back until it is known that the run stays."""

    def __init__(self, output: Any) -> None:
        self._output = output
        self._result: tuple[Any, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)

    def result(self, *given: Any) -> None:
        self._result = given

    def show(self) -> None:
        self._output.result(*self._result)


def _sweep_options(options: LoadgenOptions) -> Any:
    from benchrun.runner.cli.sweep_command import SweepOptions

    return SweepOptions(
        None, options.config, options.label, options.resume, options.db, options.dry_run, options.as_json
    )


@overload
def _number(own: Mapping[str, Any], name: str) -> float | None: ...
@overload
def _number(own: Mapping[str, Any], name: str, default: float) -> float: ...
def _number(own: Mapping[str, Any], name: str, default: float | None = None) -> float | None:
    value = own.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"--{name} takes a number, not {value!r}")
    return float(value)


def _count(own: Mapping[str, Any], name: str) -> int | None:
    value = _number(own, name)
    if value is not None and not (math.isfinite(value) and value == int(value) and value >= 1):
        raise UsageError(f"--{name} takes a whole number of at least 1, not {value:g}")
    return None if value is None else int(value)
