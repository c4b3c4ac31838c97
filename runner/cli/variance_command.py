"""`benchrun variance`: a sweep in many launches, and what its noise means for a gate on this machine."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.runner.cli import INTERRUPTED
from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.results import Store
    from benchrun.results.records import RunRecord
    from benchrun.results.series import SeriesLaunch
    from benchrun.runner.cli.output import Output
    from benchrun.runner.gate.noise import NoiseReport

LAUNCHES = 20
FEWEST = 3


@dataclass(frozen=True, slots=True)
class VarianceOptions:
    """`run` names a stored run to look at instead of measuring one."""

    launches: int
    run: str | None
    preset: str | None
    config: Path | None
    label: str | None
    db: str | None
    as_json: bool


def measure_variance(settings: Mapping[str, Any], options: VarianceOptions) -> int:
    """0: told; 1: some points could not be told; 130: interrupted. The launches are stored as an ordinary run."""
    from benchrun.results import open_store
    from benchrun.runner.cli.output import open_output

    output = open_output(options.as_json)
    given = {name: value for name, value in settings.items() if value is not None}
    if options.run is not None:
        if given:
            raise UsageError(f"--run looks at a stored run, so leave out --{min(given)}")
        with open_store(options.db, read_only=True) as store:
            return _tell(store, store.resolve_run(options.run), output)
    if options.launches < FEWEST:
        raise UsageError(
            f"--launches {options.launches} is too small: noise takes at least {FEWEST}, better {LAUNCHES}"
        )
    return _measure(given, options, output)


def _measure(given: Mapping[str, Any], options: VarianceOptions, output: Output) -> int:
    from benchrun.results import open_store
    from benchrun.runner.estimate import estimate_seconds
    from benchrun.runner.gate.preparation import choose_cores
    from benchrun.runner.launcher import Interpreter
    from benchrun.runner.plan import make_plan
    from benchrun.runner.presets import find_preset, make_request, read_config
    from benchrun.runner.sweep import Sweep, open_run

    config = read_config(options.config, Path.cwd())
    preset = find_preset(options.preset, config).settings if options.preset else {}
    layers = [
        {name: value for name, value in each.items() if name not in ("db", "label")}
        for each in (config.defaults, preset)
    ]
    plan = make_plan(make_request(*layers, given, {"launches": options.launches + 1}))  # the first one warms up
    db = options.db or preset.get("db") or config.defaults.get("db")
    with open_store(db) as store:
        where = f" --db {shlex.quote(store.shown)}" if db else ""
        output.plan(plan, estimate_seconds(plan, None), store.shown)
        output.note("the first launch warms the machine up and is left out of the figures")
        run_id = open_run(store, plan, options.label or "variance")
        state = "interrupted"
        try:
            with output.progress(plan, store.missing(run_id)) as progress:
                pinned = Interpreter(cores=choose_cores(plan.request.threads or 1))  # as a gate pins them
                sweep = Sweep(plan, store, run_id, progress.update, progress.interval_s, pinned)
                sweep.measure(store.missing(run_id))
            state = "finished"
        except KeyboardInterrupt:
            output.note(
                f"interrupted: go on with 'benchrun --resume {run_id}{where}', "
                f"then see 'benchrun variance --run {run_id}{where}'"
            )
            return INTERRUPTED
        finally:
            store.finish_run(run_id, state)
        status = _tell(store, run_id, output)
        if not options.as_json:
            output.note(f"stored as run {run_id}; tell it again with 'benchrun variance --run {run_id}{where}'")
        return status


def _tell(store: Store, run_id: str, output: Output) -> int:
    from benchrun.runner.gate.reports.variance import variance_document, variance_parts

    report = read_noise(store, run_id)
    if output.as_json:
        json.dump(variance_document(report), sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
    else:
        for each in variance_parts(report, output.tables.width):
            output.tables.print(each, highlight=False)
    return 1 if any(point.reason for point in report.points) else 0


def read_noise(store: Store, run_id: str) -> NoiseReport:
    """The noise of a stored run. Earlier runs of the same points, versions and commit on the same hardware are the other
    sessions.
    """
    from benchrun.results.series import point_launches
    from benchrun.runner.cli.tables import point_name
    from benchrun.runner.gate.noise import report_noise
    from benchrun.runner.gate.readings import NOISY

    record = store.run(run_id)
    if record.run.origin == "gate":
        raise UsageError(
            f"run {run_id} is one side of a gate: what that gate could find is told by 'benchrun gate show "
            f"{record.run.request.get('gate', 'ID')}'; to measure this machine's noise, leave --run out and give the options of a sweep"
        )
    if record.run.origin != "benchrun":
        raise UsageError(f"run {run_id} was imported ({record.run.origin}): its launches are not known")
    names = {
        planned.point.key: (point_name(planned.point), (planned.point.device or "cpu").partition(":")[0])
        for planned in record.points
    }
    with store.reading() as connection:
        launches = point_launches(connection, list(names), record.run.environment.fingerprint)
    alike = [each for each in launches if each.run_id == run_id or _is_alike(each, record, launches)]
    report = report_noise(run_id, names, alike, launch_s=_launch_seconds(record))
    noisy, all_told = sum(NOISY in each.row.flags for each in record.measurements), len(record.measurements)
    blame = (
        f"the CPU was not ours alone during {noisy} of {all_told} measurements: a quieter one finds smaller slowdowns"
    )
    return replace(report, notes=(*report.notes, blame)) if noisy else report


def _is_alike(launch: SeriesLaunch, record: RunRecord, launches: list[SeriesLaunch]) -> bool:
    own = next((each for each in launches if each.run_id == record.run.id), None)
    return (
        own is not None
        and (launch.version, launch.environment_id, launch.commit) == (own.version, own.environment_id, own.commit)
        and launch.run_started < record.run.started
    )


def _launch_seconds(record: RunRecord) -> float:
    """Seconds that one launch takes for one point, all in all; NaN where the run was not measured in one go."""
    measured = len(record.measurements)
    if record.run.finished is None or not measured or record.run.state != "finished":
        return math.nan
    return (record.run.finished - record.run.started).total_seconds() / measured
