"""`benchrun run`: plan, say what is about to happen, measure, show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.runner.cli import INTERRUPTED
from benchrun.runner.errors import UsageError
from benchrun.runner.estimate import estimate_seconds
from benchrun.runner.plan import Plan, SweepRequest, make_plan
from benchrun.runner.presets import find_preset, make_request, read_config

if TYPE_CHECKING:
    from benchrun.results import Store
    from benchrun.results.records import RunRecord


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """Where a sweep's settings come from and where its results go."""

    preset: str | None
    config: Path | None
    label: str | None
    resume: str | None
    db: str | None
    dry_run: bool
    as_json: bool


def sweep(
    settings: Mapping[str, Any],
    options: SweepOptions,
    command: str = "run",
    as_sweep: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> int:
    """Measure a sweep; returns the exit status: 0 all ok, 1 some failed, 130 interrupted.

    A `command` of its own takes its own presets, and `as_sweep` turns what was given to it into settings of a sweep.
    """
    from benchrun.results import open_store
    from benchrun.runner.cli.output import open_output

    config = read_config(options.config, Path.cwd())
    preset = find_preset(options.preset, config, command).settings if options.preset else {}
    db = options.db or text_of(preset.get("db", config.defaults.get("db")))
    label = options.label or text_of(preset.get("label", config.defaults.get("label"))) or ""
    given = as_sweep({**preset, **{name: value for name, value in settings.items() if value is not None}})
    output = open_output(options.as_json)
    if options.resume:
        with open_store(db) as store:
            return resume_run(store, options.resume, given, output, options)
    plan = make_plan(make_request(_sweep_only(config.defaults), _sweep_only(given)))
    if options.dry_run:
        output.dry_run(plan, estimate_seconds(plan, None))
        return 0
    with open_store(db) as store:
        return start_run(plan, store, label, output)[1]


def start_run(plan: Plan, store: Store, label: str, output: Any) -> tuple[str, int]:
    """Say what is about to happen, book a run of the whole plan and measure it: the run's id and the exit status."""
    from benchrun.runner.sweep import open_run

    output.plan(plan, estimate_seconds(plan, None), store.shown)
    run_id = open_run(store, plan, label)
    return run_id, _measure(plan, [(plan, {planned.point.key for planned in plan.points})], store, run_id, output)


def resume_run(store: Store, text: str, given: Mapping[str, Any], output: Any, options: SweepOptions) -> int:
    """Go on with a run: what it was asked for, and what is asked for in addition."""
    from benchrun.runner.places import book_requests, read_requests
    from benchrun.runner.sweep import point_row

    if options.label is not None:
        raise UsageError("--label names a new run, and a run that is resumed keeps its name: leave --label out")
    run_id = store.resolve_run(text)
    record = store.run(run_id)
    if record.run.origin != "benchrun":
        raise UsageError(f"run {run_id} was imported ({record.run.origin}): there is nothing to resume")
    requests = read_requests(record.run.request)
    _check_same_machine(record, requests[0])
    if more := _sweep_only(given):
        added = make_request(_as_settings(requests[0]), more)
        requests.append(replace(added, settings={**requests[0].settings, **added.settings}))
    plans = [make_plan(request) for request in requests]
    owners = {planned.point.key: place for place, plan in enumerate(plans) for planned in plan.points}
    shares = [  # each point is measured as the latest request that names it says, among all that this request names
        (plan, {each.point.key for each in plan.points if owners[each.point.key] == place})
        for place, plan in enumerate(plans)
    ]
    launches = max(plan.request.launches for plan in plans)
    whole = tuple(planned for plan, own in shares for planned in plan.points if planned.point.key in own)
    plan = Plan(replace(plans[-1].request, launches=launches), whole)
    if unknown := {key for key, _ in store.missing(run_id)} - set(owners):
        raise UsageError(
            f"run {run_id} has {len(unknown)} points that can no longer be planned here (another model folder, other weights, other "
            "options or another version of benchrun): measure them in a new run"
        )
    keys = {planned.point.key for planned in plan.points} - _done(record, launches)
    if options.dry_run:
        output.dry_run(plan, estimate_seconds(plan, keys), store.shown, keys)
        return 0
    output.plan(plan, estimate_seconds(plan, keys), store.shown, keys)
    rows = [point_row(planned.point) for planned in plan.points]
    store.extend_run(run_id, rows, launches, book_requests(each.request for each in plans))
    return _measure(plan, shares, store, run_id, output)


def _done(record: RunRecord, launches: int) -> set[str]:
    """Keys of the points that need no further launch."""
    return {
        planned.point.key
        for planned in record.points
        if sum(each.row.status != "interrupted" for each in record.by_point[planned.point.key]) >= launches
    }


def _measure(plan: Plan, shares: Sequence[tuple[Plan, set[str]]], store: Store, run_id: str, output: Any) -> int:
    """Measure what the run lacks: of one plan after the other the points whose keys are beside it."""
    from benchrun.runner.sweep import Sweep

    state = "interrupted"
    interrupted = False
    try:
        missing = store.missing(run_id)
        with output.progress(plan, missing) as progress:
            for share, keys in shares:
                runner = Sweep(share, store, run_id, progress.update, progress.interval_s)
                runner.measure([(key, replicate) for key, replicate in missing if key in keys])
        state = "finished"
    except KeyboardInterrupt:
        interrupted = True
    finally:
        store.finish_run(run_id, state)
    record = store.run(run_id)
    output.result(record, store.shown)
    if interrupted:
        output.note(f"interrupted: all finished points are kept; go on with: benchrun --resume {run_id}")
        return INTERRUPTED
    return 0 if all(record.status(planned) == "ok" for planned in record.points) else 1


def _check_same_machine(record: RunRecord, request: SweepRequest) -> None:
    from benchrun.runner.environment import read_environment

    here = read_environment(request.device or "cpu")
    if here.fingerprint != record.run.environment.fingerprint:
        raise UsageError(
            f"run {record.run.id} was measured on other hardware ({record.run.environment.fingerprint}, here {here.fingerprint}): "
            "one run is one machine, so start a new run"
        )
    before, now = (each.details.get("libraries", {}) for each in (record.run.environment, here))
    changed = [
        f"{name} {before[name]}, here {now[name]}" for name in before if now.get(name, before[name]) != before[name]
    ]
    if changed:
        raise UsageError(
            f"run {record.run.id} was measured with other libraries ({'; '.join(changed)}): one run is one environment, so start a new run"
        )


def _sweep_only(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in ("db", "label")}


def _as_settings(request: SweepRequest) -> dict[str, Any]:
    """A stored request as settings by option name, the lowest layer under what is given in addition."""
    from benchrun.runner.presets import PROTOCOL_FIELDS, REQUEST_FIELDS

    found = {name: getattr(request, field) for name, (field, _) in REQUEST_FIELDS.items()}
    found |= {name: getattr(request.protocol, field) for name, (field, _) in PROTOCOL_FIELDS.items()}
    return {name: value for name, value in found.items() if value not in (None, ())}


def text_of(value: Any) -> str | None:
    """A setting as text; None where it was not given."""
    return None if value is None else str(value)
