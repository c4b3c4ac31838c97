"""Running a plan: launches of worker processes, their events turned into rows of the store as they happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.results.rows import Attachment, LaunchRow, MeasurementRow, Parity, PointRow, RunRow, Score
from benchrun.results.statistics import ReportedSummary, summarise
from benchrun.runner.flops import Work, least_work
from benchrun.runner.last_words import quote_last_words
from benchrun.runner.launcher import OWN, Exit, Interpreter, WorkerProcess, WorkerTimeout
from benchrun.runner.messages import Assignment, Task
from benchrun.runner.plan import Plan, Planned
from benchrun.runner.privacy import redact, redact_values
from benchrun.runner.workloads import percentiles

if TYPE_CHECKING:
    from benchrun.backends.contract import Point
    from benchrun.results import Store


@dataclass(frozen=True, slots=True)
class Update:
    """What the sweep is doing, for a progress display. `row` is set once, when a point has ended."""

    planned: Planned
    replicate: int
    phase: str
    n: int = 0
    last_ns: int = 0
    row: MeasurementRow | None = None


Listener = Callable[[Update], None]


@dataclass(frozen=True, slots=True)
class Turn:
    """A point in flight."""

    planned: Planned
    ordinal: int
    started: datetime
    phase: str = "build"


class Sweep:
    """Measures what a run still lacks. Each finished point is in the store before the next one starts."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        run_id: str,
        listener: Listener,
        progress_s: float = 0.0,
        interpreter: Interpreter = OWN,
    ) -> None:
        self._plan = plan
        self._store = store
        self._run = run_id
        self._listen = listener
        self._progress_s = progress_s
        self._interpreter = interpreter
        self._discards = False
        self._by_key = {planned.point.key: planned for planned in plan.points}
        self._ordinal = 0
        # (replicate, points that differ in batch only) → the least batch that ran out of memory
        self._oom: dict[tuple[int, str], int] = {}

    def measure(self, missing: list[tuple[str, int]]) -> None:
        """Measure (point key, replicate) pairs.

        On KeyboardInterrupt the point in flight gets its row before it is raised again.
        """
        for each in self._store.run(self._run).measurements:  # of a run that is resumed
            if each.row.status == "oom" and (known := self._by_key.get(each.row.point_key)):
                self._ran_out(each.row.replicate, known.point)
        for replicate in sorted({replicate for _, replicate in missing}):
            keys = {key for key, each in missing if each == replicate}
            groups = self._plan.groups(keys)
            shift = replicate % len(groups) if groups else 0
            for group in groups[shift:] + groups[:shift]:  # rotated, so that drift spreads over all engines
                self._measure_group(group, replicate)

    def measure_launch(self, points: Sequence[Planned], replicate: int, *, discard: bool = False) -> None:
        """Measure these points once, in this order, each worker's together. With `discard` no row is stored, the
        listener still sees each.
        """
        groups: dict[tuple[object, ...], list[Planned]] = {}
        for planned in points:
            groups.setdefault(planned.group, []).append(planned)
        self._discards = discard
        try:
            for group in groups.values():
                self._measure_group(group, replicate)
        finally:
            self._discards = False

    def _measure_group(self, group: list[Planned], replicate: int) -> None:
        """All points of one worker; a worker that ended early is followed by another for the rest."""
        queue = list(group)
        while queue:
            queue = [planned for planned in queue if not self._skip(planned, replicate)]
            if queue:
                queue = self._launch(queue, replicate)

    def _skip(self, planned: Planned, replicate: int) -> bool:
        """Store a `skipped` row for a point that cannot or need not be tried."""
        reason = planned.refusal
        batch = self._oom.get((replicate, memory_series(planned.point)))
        if reason is None and batch is not None and planned.point.batch > batch and not self._plan.request.try_all:
            reason = f"oom at b{batch}: larger batches are not tried without --try-all"
        if reason is None:
            return False
        turn = Turn(planned, self._next_ordinal(), now())
        self._store_row(None, replicate, turn, {"status": "skipped", "phase": "plan", "error": reason})
        return True

    def _launch(self, queue: list[Planned], replicate: int) -> list[Planned]:
        """One worker process for `queue`; returns the points it left untouched."""
        tasks = tuple(Task(planned.point, self._next_ordinal()) for planned in queue)
        by_ordinal = {task.ordinal: planned for task, planned in zip(tasks, queue, strict=True)}
        assignment = Assignment(
            spec=queue[0].spec,
            max_seq=max(planned.point.seq for planned in self._plan.points if planned.loaded == queue[0].loaded),
            tasks=tasks,
            protocol=self._plan.request.protocol,
            progress_s=self._progress_s,
            settings=self._plan.request.settings,
            sweep=self._plan.sharing(queue[0]),
        )
        request = self._plan.request
        turn: Turn | None = None
        with WorkerProcess(assignment, request.threads or 1, self._interpreter) as worker:
            launch = self._store.add_launch(self._run, LaunchRow(replicate, worker.pid, now()))
            try:
                try:
                    for event in worker.events(request.timeout_s):
                        turn = self._handle(event, worker, launch, replicate, by_ordinal, turn)
                    failure = died(worker.wait())
                except WorkerTimeout:
                    worker.kill()
                    worker.wait()
                    failure = {"status": "timeout", "error": f"took longer than --timeout {request.timeout_s:g} s"}
                if turn is None and len(by_ordinal) == len(queue):
                    # it took up nothing: its first point takes the blame, or the sweep would never end
                    turn = Turn(by_ordinal.pop(tasks[0].ordinal), tasks[0].ordinal, now())
                if turn is not None:
                    self._store_row(launch, replicate, turn, failure)
            except KeyboardInterrupt:
                worker.kill()
                worker.wait()
                if turn is not None and self._unfinished(turn, replicate):
                    interrupted = {"status": "interrupted", "error": "interrupted by Ctrl-C or SIGTERM"}
                    self._store_row(launch, replicate, turn, interrupted)
                raise
            finally:
                if worker.ended:
                    self._store.finish_launch(launch, worker.wait().text)
        return list(by_ordinal.values())

    def _handle(
        self,
        event: Mapping[str, Any],
        worker: WorkerProcess,
        launch: int,
        replicate: int,
        waiting: dict[int, Planned],
        turn: Turn | None,
    ) -> Turn | None:
        """Deal with one event; returns the point that is in flight afterwards."""
        kind = event["event"]
        if kind == "started":
            ordinal = int(event["ordinal"])
            turn = Turn(waiting.pop(ordinal), ordinal, now())
            self._listen(Update(turn.planned, replicate, "build"))
        elif kind == "progress" and turn is not None:
            turn = replace(turn, phase=event["phase"])
            self._listen(Update(turn.planned, replicate, event["phase"], event["n"], event["last_ns"]))
        elif kind in ("measured", "failed") and turn is not None:
            fields = {**event, **event["found"]}
            if kind == "measured":
                fields["status"] = "ok"
            for spoilt in fields.pop("spoilt", ()):  # kept with their samples, superseded by the one that counts
                self._keep(launch, make_row(turn, replicate, {**fields, **spoilt}, self._plan))
            self._store_row(launch, replicate, turn, fields)
            turn = None
        worker.answer()
        return turn

    def _store_row(self, launch: int | None, replicate: int, turn: Turn, fields: Mapping[str, Any]) -> None:
        row = make_row(turn, replicate, fields, self._plan)
        self._keep(launch, row)
        if row.status == "oom":
            self._ran_out(replicate, turn.planned.point)
        self._listen(Update(turn.planned, replicate, "done", row=row))

    def _keep(self, launch: int | None, row: MeasurementRow) -> None:
        if not self._discards:
            self._store.add_measurement(self._run, launch, row)

    def _unfinished(self, turn: Turn, replicate: int) -> bool:
        """Whether a point has no row yet: Ctrl-C may come when it has just been stored."""
        return (turn.planned.point.key, replicate) in self._store.missing(self._run)

    def _ran_out(self, replicate: int, point: Point) -> None:
        series = replicate, memory_series(point)
        self._oom[series] = min(point.batch, self._oom.get(series, point.batch))

    def _next_ordinal(self) -> int:
        self._ordinal += 1
        return self._ordinal - 1


def died(outcome: Exit) -> dict[str, Any]:
    """Fields of a row for a worker that ended without a word."""
    if outcome.oom_killed:
        return {"status": "oom", "error": "the kernel killed the worker: host memory ran out"}
    how = f"exited with status {outcome.text}" if outcome.text.isdigit() else f"was ended by {outcome.text}"
    return {"status": "crashed", "error": f"the worker {how}{quote_last_words(outcome.log)}"}


def make_row(turn: Turn, replicate: int, fields: Mapping[str, Any], plan: Plan) -> MeasurementRow:
    """A row of the store from a worker's fields."""
    point, request = turn.planned.point, plan.request
    host, device = (samples(fields.get(name)) for name in ("host_ns", "device_ns"))
    parity = fields.get("parity")
    reported = fields.get("host_reported")  # by a tool that keeps no samples: its own figures
    host_summary = summarise(host) if host is not None else ReportedSummary(**reported) if reported else None
    device_summary = summarise(device) if device is not None else None
    flags = set(fields.get("flags", ()))
    if any(each is not None and each.steady is False for each in (host_summary, device_summary)):
        flags.add("unsteady")
    same = (
        "throughput_seq_s", "throughput_batches", "throughput_window_s", "throughput_isolated", "settled", "timed_out",
        "warmup_n", "warmup_s", "export_s", "compile_s", "load_s", "build_s", "first_run_s", "artefact_bytes",
        "cache_hit", "padding_fraction", "peak_device_bytes", "peak_allocator_bytes", "peak_host_bytes", "energy_joules",
        "joules_per_seq", "telemetry",
    )  # fmt: skip
    rate = fields.get("throughput_seq_s")
    facts = redact_values(fields.get("facts", {}))
    captured = bool(facts.get("cuda_graph"))
    definition = percentiles(point.workload)
    # else the times hold waiting: no work of a call is theirs
    timed = reported is None and definition == request.protocol.percentiles
    # true ones: what engines do to padding is no work asked for
    lengths = fields.get("lengths") or (point.seq,) * point.batch
    work = least_work(turn.planned.spec.shape, point.head, point.dtype, lengths, captured=captured)
    if "work" in fields:  # of a call that is no single inference
        work = Work(*fields["work"])
    return MeasurementRow(
        point_key=point.key,
        replicate=replicate,
        ordinal=turn.ordinal,
        status=fields["status"],
        started=turn.started,
        phase=None if fields["status"] == "ok" else fields.get("phase", turn.phase),
        error=redact(fields["error"]) if fields.get("error") else None,
        host=host_summary,
        device=device_summary,
        tokens_s=fields.get("tokens_s", rate * sum(lengths) / len(lengths) if rate is not None else None),
        parity=Parity(**parity) if parity else None,
        flags=tuple(sorted(flags)),
        flops=work.flops if timed else None,
        least_bytes=work.least_bytes if timed else None,
        least_launches=work.launches if timed else None,
        facts=facts,
        settings={
            **replace(request.protocol, percentiles=definition).settings(),
            **redact_values(request.settings),
            "threads": request.threads,
            "timeout_s": request.timeout_s,
        },
        scores=tuple(Score(**each) for each in fields.get("scores", ())),
        attachments=tuple(Attachment(**each) for each in fields.get("attachments", ())),
        host_samples=host,
        device_samples=device,
        **{name: fields.get(name) for name in same},
    )


def open_run(store: Store, plan: Plan, label: str) -> str:
    """Book a new run of `plan`, made here and now, before its first launch; returns its id."""
    from benchrun.results.store import new_run_id
    from benchrun.runner.environment import benchrun_version, git_commit, read_environment
    from benchrun.runner.places import book_requests

    started = now()
    run = RunRow(
        id=new_run_id(started),
        label=redact(label),
        started=started,
        state="running",
        environment=read_environment(plan.request.device or "cpu"),
        request=book_requests([plan.request]),
        version=benchrun_version(),
        commit=git_commit(Path.cwd()),
    )
    store.add_run(run, [point_row(planned.point) for planned in plan.points], plan.request.launches)
    return run.id


def samples(values: list[int] | None) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    """Nanoseconds as an array; None where there are none."""
    return np.array(values, dtype=np.int64) if values else None


def memory_series(point: Point) -> str:
    """A key that two points share that differ in their batch only."""
    return replace(point, batch=1).key


def point_row(point: Point) -> PointRow:
    """The store's row of a point."""
    values: dict[str, Any] = {name: getattr(point, name) for name in PointRow.__dataclass_fields__}
    values |= {"overrides": dict(point.overrides), "options": dict(point.options)}
    return PointRow(**values)


def now() -> datetime:
    """The time of day, in UTC."""
    return datetime.now(UTC)
