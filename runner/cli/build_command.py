"""`benchrun build`: what a sweep would have to export and compile, made ahead of time, here or for another GPU."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchrun.runner.errors import UsageError
from benchrun.runner.launcher import WorkerProcess, WorkerTimeout
from benchrun.runner.messages import Assignment, Task
from benchrun.runner.plan import Plan, Planned, make_plan
from benchrun.runner.presets import find_preset, make_request, read_config

MODULE = "benchrun.runner.ahead"
DONE = ("built", "cached")


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one point. `status` is `built`, `cached`, or that of a failure as a sweep has it.

    `bytes` counts what the point's engine or graph takes in the cache; `seconds` are those of this build alone, `export_s` and
    `compile_s` their parts.
    """

    engine: str
    model: str
    head: str
    dtype: str
    batch: int
    seq: int
    target: str
    status: str
    seconds: float | None = None
    export_s: float | None = None
    compile_s: float | None = None
    bytes: int | None = None
    error: str | None = None


def build(
    settings: Mapping[str, Any], target: str, preset: str | None, config_path: Path | None, *, as_json: bool
) -> int:
    """Build every point of a sweep; returns the exit status: 0 all there, 1 some failed."""
    config = read_config(config_path, Path.cwd())
    named = find_preset(preset, config).settings if preset else {}
    given = {**named, **{name: value for name, value in settings.items() if value is not None}}
    layers = [
        {name: value for name, value in each.items() if name not in ("db", "label")}
        for each in (config.defaults, given)
    ]
    request = make_request({"device": "cuda"} if target else {}, *layers)  # a target is a GPU, which need not be here
    try:
        plan = make_plan(request, ahead=True)
    except UsageError as error:
        hint = (
            ""
            if target or "not on cpu" not in str(error)
            else " (--target SM86, or another, builds for a GPU elsewhere)"
        )
        raise UsageError(f"{error}{hint}") from error
    log = Console(stderr=True)
    rows = []
    for row in build_plan(plan, target):
        rows.append(row)
        what = f"{row.engine} {row.model} {row.head} {row.dtype} b{row.batch} s{row.seq}"
        log.print(f"[{len(rows)}/{len(plan.points)}] {what}  {row.status}", highlight=False, markup=False)
    if as_json:
        print(json.dumps({"schema": 1, "target": target, "points": [asdict(row) for row in rows]}, indent=1))
    else:
        show(rows, Console())
    return 0 if all(row.status in DONE for row in rows) else 1


def build_plan(plan: Plan, target: str) -> Iterator[Row]:
    """Build the points of a plan, each group of them in a process of its own."""
    for group in plan.groups():
        waiting = {}
        for ordinal, planned in enumerate(group):
            if planned.refusal:
                yield _row(planned, target, "skipped", error=planned.refusal)
            else:
                waiting[ordinal] = planned
        while waiting:  # a process that died is followed by another for the rest
            yield from _launch(plan, group, waiting, target)


def _launch(plan: Plan, group: Sequence[Planned], waiting: dict[int, Planned], target: str) -> Iterator[Row]:
    """One process for the points that wait; takes out of `waiting` what it dealt with, at least one point."""
    from benchrun.runner.sweep import died

    assignment = Assignment(
        spec=group[0].spec,
        max_seq=max(planned.point.seq for planned in plan.points if planned.group[:4] == group[0].group[:4]),
        tasks=tuple(Task(planned.point, ordinal) for ordinal, planned in enumerate(group) if not planned.refusal),
        protocol=plan.request.protocol,
        settings=plan.request.settings,
        sweep=plan.sharing(group[0]),
    )
    arguments = (target, ",".join(map(str, waiting)))
    current: int | None = None
    untouched = len(waiting)
    with WorkerProcess(assignment, plan.request.threads or 1, module=MODULE, arguments=arguments) as worker:
        try:
            for event in worker.events(plan.request.timeout_s):
                if event["event"] == "started":
                    current = int(event["ordinal"])
                elif event["event"] == "built":
                    yield _built(waiting.pop(int(event["ordinal"])), target, event)
                    current = None
                elif event["event"] == "failed":
                    yield _row(waiting.pop(int(event["ordinal"])), target, event["status"], error=event["error"])
                    current = None
                worker.answer()
            failure = died(worker.wait())
        except WorkerTimeout:
            worker.kill()
            failure = {"status": "timeout", "error": f"took longer than --timeout {plan.request.timeout_s:g} s"}
        if current is None and len(waiting) == untouched:
            current = next(iter(waiting))  # it took up nothing: its first point takes the blame
        if current is not None:
            yield _row(waiting.pop(current), target, failure["status"], error=failure["error"])


def _built(planned: Planned, target: str, event: Mapping[str, Any]) -> Row:
    return _row(
        planned,
        target,
        "cached" if event["cache_hit"] else "built",
        seconds=event["seconds"],
        export_s=event.get("export_s", 0.0),
        compile_s=event.get("compile_s", 0.0),
        bytes=event["artefact_bytes"],
    )


def _row(planned: Planned, target: str, status: str, **more: Any) -> Row:
    p = planned.point
    return Row(p.engine, p.model, p.head, p.dtype, p.batch, p.seq, target or "this machine", status, **more)


def show(rows: Sequence[Row], console: Console) -> None:
    """A line a point, and below it each reason once."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("engine", "model", "dtype", "batch", "seq", "target", "status", "s", "MB"):
        table.add_column(name, justify="right" if name in ("batch", "seq", "s", "MB") else "left", no_wrap=True)
    for row in rows:
        style = "green" if row.status in DONE else "red"
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        size = "" if row.bytes is None else f"{row.bytes / 1e6:.1f}"
        shape = (str(row.batch), str(row.seq))
        table.add_row(
            row.engine, row.model, row.dtype, *shape, row.target, Text(row.status, style=style), seconds, size
        )
    console.print(table, highlight=False)
    for error in dict.fromkeys(row.error for row in rows if row.error):
        first = next(row for row in rows if row.error == error)
        console.print(Text.assemble((first.engine, "bold"), f": {error}"), highlight=False)
