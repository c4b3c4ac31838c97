"""`benchrun gate` and `benchrun gate show`: what was asked for from command line and configuration, then run and told."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.runner.cli import INTERRUPTED
from benchrun.runner.cli.gate_reports import ReportFiles, check_files, deliver
from benchrun.runner.durations import describe_seconds
from benchrun.runner.errors import UsageError
from benchrun.runner.gate.launches import CONFIRM, WARMUP
from benchrun.runner.gate.limits import parse_limit
from benchrun.runner.gate.request import AcceptanceRequest, GateRequest, SideRequest, check_gate
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.lists import parse_names
from benchrun.runner.presets import Config, find_preset, parse_pairs, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from benchrun.runner.gate.session import GateUpdate
    from benchrun.runner.sweep import Update

OWN = ("metrics", "limits", "accept", "install", "seed", "baseline_launches")  # of [gate], beside the rule's constants
STAGES = {WARMUP: "discarded", CONFIRM: "confirming"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """The options of `benchrun gate` beside those of a sweep."""

    base_ref: str | None = None
    new_ref: str | None = None
    install: str | None = None
    base_python: str | None = None
    new_python: str | None = None
    base_opt: Sequence[str] = ()
    new_opt: Sequence[str] = ()
    base_cmd: str | None = None
    new_cmd: str | None = None
    cmd: str | None = None
    cmd_format: str = "pytest-benchmark"
    aa: bool = False
    baseline: str | None = None
    metric: str | None = None
    limit: Sequence[str] = ()
    accept: Sequence[str] = ()
    reason: Sequence[str] = ()
    until: Sequence[str] = ()
    constants: Sequence[str] = ()
    max_launches: int | None = None
    max_minutes: float | None = None
    seed: int | None = None
    preset: str | None = None
    config: Path | None = None
    label: str | None = None
    db: str | None = None
    files: ReportFiles = field(default_factory=ReportFiles)


def gate(settings: Mapping[str, Any], options: GateOptions) -> int:
    """Run a gate; returns its exit status: 0 pass, 1 fail, 3 missing or invalid, 4 inconclusive, 130 interrupted."""
    from benchrun.backends.cache import default_cache
    from benchrun.results import open_store
    from benchrun.runner.gate.running import Surroundings, run_gate

    config = read_config(options.config, Path.cwd())
    preset = find_preset(options.preset, config).settings if options.preset else {}
    request = make_gate_request(settings, options, config, preset)
    check_gate(request)
    check_files(options.files)
    db = options.db or preset.get("db") or config.defaults.get("db")
    with open_store(db) as store, _progress() as progress:
        around = Surroundings(
            folder=Path.cwd(),
            cache=default_cache().root,
            tell=progress.tell,
            warn=progress.warn,
            listen=progress.launch,
            listen_point=progress.point,
            progress_s=progress.interval_s,
        )
        outcome = run_gate(request, store, around)
    deliver(outcome, options.files, os.environ, db)
    if outcome.state == "interrupted":
        print(f"benchrun: interrupted; what was measured is kept as gate {outcome.id}", file=sys.stderr)
        return INTERRUPTED
    return outcome.exit_code


def show_gate(given: str, db: str | None, files: ReportFiles) -> int:
    """Decide a stored gate run again from its launches and tell it; returns its exit status."""
    from benchrun.results import open_store
    from benchrun.results.gates import load_gate, resolve_gate
    from benchrun.runner.gate.stored import find_difference, redecide

    check_files(files)
    with open_store(db, read_only=True) as store:
        record = load_gate(store, resolve_gate(store, given))
        outcome = redecide(store, record)
    deliver(outcome, files, {}, db)
    if difference := find_difference(record, outcome.verdict):
        print(f"benchrun: {difference}", file=sys.stderr)
    if outcome.state == "running":
        print(
            "benchrun: this gate has not ended (yet): what there is was decided as if it were stopped", file=sys.stderr
        )
    return outcome.exit_code


def list_gate_runs(db: str | None, *, limit: int, as_json: bool) -> int:
    """The latest gate runs, a line each."""
    import json

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from benchrun.results.gates import list_gates, load_gate
    from benchrun.runner.cli.runs_command import open_readable

    store = open_readable(db)
    found = []
    if store is not None:
        with store:
            for row in list_gates(store, limit):
                sides = load_gate(store, row.id).sides
                found.append((row, sides["base"].label, sides["new"].label))
    if as_json:
        entries = [
            {
                "id": row.id, "label": row.label, "started": row.started.isoformat(), "state": row.state,
                "kind": row.kind, "base": base, "new": new, "verdict": row.verdict, "exit_code": row.exit_code,
            }
            for row, base, new in found
        ]  # fmt: skip
        print(json.dumps({"schema": 1, "gates": entries}, indent=1))
        return 0
    if not found:
        print("no gate runs yet: compare something with 'benchrun gate --base-ref origin/main'")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("gate", "started (UTC)", "verdict", "base", "new", "label"):
        table.add_column(name, no_wrap=name in ("gate", "started (UTC)", "verdict"))
    for row, base, new in found:
        shown = row.verdict if row.state == "finished" else row.state
        table.add_row(row.id, f"{row.started:%Y-%m-%d %H:%M}", shown, Text(base), Text(new), Text(row.label))
    Console().print(table, highlight=False)
    return 0


def make_gate_request(
    settings: Mapping[str, Any], options: GateOptions, config: Config, preset: Mapping[str, Any]
) -> GateRequest:
    """What was asked for: the command line over the preset over the configuration. Raises UsageError."""
    section = dict(config.gate)
    own = {name: section.pop(name) for name in OWN if name in section}
    foreign = options.base_cmd or options.new_cmd or options.cmd
    alone = foreign or options.baseline is not None
    layers = [{} if alone else config.defaults, {} if alone else preset, settings]
    merged = {name: value for layer in layers for name, value in layer.items() if value is not None}
    sweep = {name: value for name, value in merged.items() if name not in ("db", "label")}
    given = {**section, **parse_pairs(list(options.constants), "set")}
    bounds = {"max_launches": options.max_launches, "max_minutes": options.max_minutes}
    given |= {name: value for name, value in bounds.items() if value is not None}
    limits = [*_texts(own.get("limits", ()), "limits"), *options.limit]
    metrics = options.metric if options.metric is not None else ",".join(_texts(own.get("metrics", ()), "metrics"))
    seed = options.seed if options.seed is not None else own.get("seed")
    return GateRequest(
        base=SideRequest(
            ref=options.base_ref,
            python=options.base_python,
            options=parse_pairs(list(options.base_opt), "base-opt"),
            command=options.base_cmd or options.cmd,
        ),
        new=SideRequest(
            ref=options.new_ref,
            python=options.new_python,
            options=parse_pairs(list(options.new_opt), "new-opt"),
            command=options.new_cmd or options.cmd,
        ),
        sweep=sweep,
        install=options.install if options.install is not None else own.get("install"),
        aa=options.aa,
        baseline=options.baseline,
        baseline_launches=int(own.get("baseline_launches", 5)),
        cmd_format=options.cmd_format,
        metrics=parse_names(metrics),
        limits=tuple(parse_limit(each) for each in limits),
        accepted=(*_accepted_here(options), *_accepted_there(own.get("accept", ()))),
        settings=GateSettings.read(given),
        seed=int(seed) if seed is not None else None,
        label=options.label or str(preset.get("label") or config.defaults.get("label") or ""),
    )


def _accepted_here(options: GateOptions) -> list[AcceptanceRequest]:
    """`--accept` with its `--reason` and, where given, its `--until`, in the order given; one reason may serve all."""
    points, reasons, until = list(options.accept), list(options.reason), list(options.until)
    if len(reasons) == 1:
        reasons *= len(points)
    if len(until) == 1:
        until *= len(points)
    if len(reasons) != len(points):
        raise UsageError("--accept and --reason go together: give one reason for all points, or one for each")
    if until and len(until) != len(points):
        raise UsageError("--until goes with --accept: give one commit for all points, or one for each")
    return [
        AcceptanceRequest(point=point, reason=reason, expiry=until[at] if until else "")
        for at, (point, reason) in enumerate(zip(points, reasons, strict=True))
    ]


def _accepted_there(tables: Any) -> list[AcceptanceRequest]:
    """`[[gate.accept]]` of the configuration."""
    found = []
    for each in tables if isinstance(tables, list | tuple) else [tables]:
        if not isinstance(each, Mapping) or set(each) - {"point", "reason", "until"} or "point" not in each:
            raise UsageError('[[gate.accept]] is a table like {point = "…", reason = "…", until = "COMMIT"}')
        found.append(
            AcceptanceRequest(
                point=str(each["point"]), reason=str(each.get("reason", "")), expiry=str(each.get("until", ""))
            )
        )
    return found


def _texts(value: Any, name: str) -> list[str]:
    """A list of texts, or one text."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
        raise UsageError(f'[gate] {name} is a list of texts, such as ["p95_ms=10"]')
    return list(values)


class GateProgress:
    """One line a launch on standard error; on a terminal also what is happening inside one."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live
        from rich.text import Text

        self._console = console
        self._live = Live(Text(""), console=console, auto_refresh=False, transient=True)
        self._head = ""

    @property
    def interval_s(self) -> float:
        """Seconds between two signs of life inside a point; 0 for none where nobody watches."""
        return 1.0 if self._console.is_terminal else 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The live line, on a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with self._live:
            yield

    def tell(self, text: str) -> None:
        """A remark."""
        self._console.print(text, highlight=False, markup=False)

    def warn(self, text: str) -> None:
        """A remark that asks for a decision."""
        self.tell(f"benchrun: {text}")

    def launch(self, update: GateUpdate) -> None:
        """A launch begins, or has ended."""
        order = update.order
        stage = STAGES.get(order.stage, "screening")
        count = f"{len(order.points)} point{'s' if len(order.points) > 1 else ''}"
        if update.launch is None:
            left = f", at least {update.left} to go{_lasting(update.left_s)}" if update.left > 1 else ""
            self._head = f"launch {update.taken + 1} · {stage} · {order.side} · {count}{left}"
            self._draw(self._head)
            return
        bad = [each for each in update.launch.readings if each.status != "ok"]
        told = f", {len(bad)} not ok: {bad[0].status} {bad[0].error}".rstrip() if bad else ""
        known = f" of at least {update.taken + update.left}" if update.left else ""
        went = f"{count} · {update.seconds:.1f} s"
        self.tell(f"launch {update.taken}{known} · {stage} · {order.side} · {went}{_lasting(update.left_s)}{told}")
        if update.warning:
            self.warn(update.warning)

    def point(self, update: Update) -> None:
        """A point inside a launch."""
        if update.row is None:
            samples = f" · {update.n} samples" if update.n else ""
            self._draw(f"{self._head} · {update.planned.point.engine} {update.phase}{samples}")

    def _draw(self, text: str) -> None:
        from rich.text import Text

        if self._console.is_terminal:
            self._live.update(Text(text, overflow="ellipsis", no_wrap=True), refresh=True)


def _lasting(seconds: float) -> str:
    """What is known to come takes about so long; empty where that is not known."""
    return f" · ~{describe_seconds(seconds)} left" if seconds >= 1 else ""


@contextmanager
def _progress() -> Iterator[GateProgress]:
    from rich.console import Console

    progress = GateProgress(Console(stderr=True))
    with progress.shown():
        yield progress
