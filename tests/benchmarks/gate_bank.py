"""A bank of real launches, and gates replayed from it by the product's own scheduler and decision core. By hand:

    python tests/benchmarks/gate_bank.py make BANK.jsonl --rounds 60 --minutes 25     # on the GPU; goes on where it ended
    python tests/benchmarks/gate_bank.py replay BANK.jsonl … --gates 300              # anywhere; each bank for itself
    python tests/benchmarks/gate_bank.py describe BANK.jsonl

A launch is a fresh worker; the next ones import their libraries and load the model meanwhile, on other cores, and touch
the device only when the one before has ended. A round is one launch of each side, in an order that turns from round to round: `base`,
`same` (the base again), `slow5` and `slow10`. What makes a side slower is real work: more encoder layers (19, 20, 21:
about 5 and 10 %; `describe` tells the ratios that were measured). A replayed gate draws whole rounds without
replacement, goes through them in time order from a random one on (after the last comes the first), and takes the launches
that the scheduler asks for from them: so what drifted while the bank was made drifts in the gate, and gates that are soon
decided are not all decided by the bank's first rounds.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from benchrun.runner.gate.decision import decide
from benchrun.runner.gate.launches import GatePlan, Launch, PlannedPoint, Reading
from benchrun.runner.gate.schedule import LaunchOrder, next_batch
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.verdict import GateVerdict

if TYPE_CHECKING:
    from benchrun.runner.gate.control import ControlWorkload
    from benchrun.runner.launcher import Interpreter
    from benchrun.runner.plan import Plan
    from benchrun.runner.sweep import Update

LAYERS = {"base": 19, "same": 19, "slow5": 20, "slow10": 21}
SIDES = tuple(LAYERS)
NEEDED = 42  # rounds a gate may ask for: 1 discarded, 3 + 32 and what may be replaced
KINDS = ("aa", "slow5", "slow10", "one5", "one10")


@dataclass(frozen=True)
class Entry:
    """One launch of the bank."""

    round: int
    side: str
    fingerprint: str
    control_ms: float
    readings: Mapping[str, Reading]


# --- making one ---


class Device:
    """The device, for one launch at a time, in the order of the bank. A worker may start its interpreter and import its
    libraries while the launch before is measured; then it waits here.
    """

    def __init__(self) -> None:
        self._next = 0
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, place: int) -> Iterator[None]:
        """Waits until all launches before `place` are over."""
        with self._changed:
            self._changed.wait_for(lambda: self._next == place)
        try:
            yield
        finally:
            with self._changed:
                self._next = place + 1
                self._changed.notify_all()


class Lane:
    """Takes launches of all sides, one after the other, into a store of its own that nobody keeps."""

    def __init__(self, settings: Mapping[str, Any], folder: Path, device: Device, control: ControlWorkload) -> None:
        from benchrun.results import open_store
        from benchrun.results.rows import RunRow
        from benchrun.results.store import new_run_id
        from benchrun.runner.environment import read_environment
        from benchrun.runner.gate.sweep_side import SweepSide, plan_side
        from benchrun.runner.sweep import now, point_row

        folder.mkdir()
        store = open_store(folder / "bank.db")
        self._device, self._control = device, control
        self._turn: tuple[ExitStack, int] | None = None
        self._before: list[float] = []
        self._held = 0.0  # since when the device is this lane's
        self._runners: dict[str, tuple[SweepSide, tuple[str, ...]]] = {}
        for side, layers in LAYERS.items():
            override = [*settings["override"], f"num_hidden_layers={layers}"]
            plan = plan_side(settings, {"override": override}, lambda *_: None)
            points = {f"b{each.point.batch} s{each.point.seq}": each for each in plan.points}
            environment = read_environment(plan.request.device or "cpu")
            run = RunRow(new_run_id(now()) + side, side, now(), "running", environment, origin="gate")
            store.add_run(run, [point_row(each.point) for each in plan.points], 1)
            runner = SweepSide(store, run.id, plan, points, prepared_interpreter(folder / side, plan), self._hear)
            self._runners[side] = runner, tuple(points)

    def take(self, place: int, number: int, side: str) -> Entry:
        """The launch at that place of the bank: a worker that has imported everything, its turn on the device, its end."""
        from benchrun.runner.gate.control import summarise_control
        from benchrun.runner.gate.readings import to_reading

        runner, keys = self._runners[side]
        shuffled = tuple(random.Random(number).sample(keys, len(keys)))
        started = time.monotonic()
        with ExitStack() as stack:
            self._turn = stack, place
            try:
                rows = runner.take(LaunchOrder(number, "base", 0, 0, shuffled))
                control = summarise_control(self._before + self._control.run())
            finally:
                self._begin()  # a worker that died early has not
        readings = {key: to_reading(key, row, "device" if row.device is not None else "host") for key, row in rows}
        bad = [f"{key} {each.status} {each.error}" for key, each in readings.items() if each.status != "ok"]
        ended = time.monotonic()
        took = f"{ended - started:.1f} s, {ended - self._held:.1f} s of it with the device"
        print(f"{number} {side}: {'; '.join(bad) or 'ok'} {took}", file=sys.stderr, flush=True)
        return Entry(number, side, runner.fingerprint(), control, readings)

    def _hear(self, _: Update) -> None:
        self._begin()  # the worker took up its first point, and waits for an answer

    def _begin(self) -> None:
        if self._turn is not None:
            (stack, place), self._turn = self._turn, None
            stack.enter_context(self._device.turn(place))
            self._held = time.monotonic()
            self._before = self._control.run()


def prepared_interpreter(folder: Path, plan: Plan) -> Interpreter:
    """This interpreter, with libraries imported and the plan's model loaded before a worker takes up its first point."""
    from benchrun.runner.launcher import Interpreter

    folder.mkdir()
    model = folder / "model"
    model.write_bytes(pickle.dumps((plan.points[0].spec, max(each.point.seq for each in plan.points))))
    script = folder / "python"
    prepared = Path(__file__).with_name("prepared_worker.py")
    script.write_text(f"""#!/bin/sh\nexec '{sys.executable}' -P '{prepared}' '{model}' "$@"\n""")
    script.chmod(0o755)
    return Interpreter(str(script))


def make(path: Path, rounds: int, minutes: float, settings: Mapping[str, Any], lanes: int = 2) -> None:
    """Launches up to that many rounds, or for that long. A round that was cut short is taken again."""
    from benchrun.runner.gate.control import ControlWorkload

    until = time.monotonic() + minutes * 60
    done = len({each.round for each in read_bank(path)}) if path.exists() else 0
    # turned and mirrored, so that no side is always first or next to the same one
    turned = {number: SIDES[number % 4 :] + SIDES[: number % 4] for number in range(done, rounds)}
    launches = [
        (number, side) for number, order in turned.items() for side in (order if number % 2 == 0 else order[::-1])
    ]
    device, control = Device(), ControlWorkload()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(lanes) as pool:
        idle: SimpleQueue[Lane] = SimpleQueue()
        for lane in range(lanes):
            idle.put(Lane(settings, Path(folder) / str(lane), device, control))

        def take(place: int, number: int, side: str) -> Entry | None:
            if time.monotonic() > until:
                with device.turn(place):
                    return None
            lane = idle.get()
            try:
                return lane.take(place, number, side)
            finally:
                idle.put(lane)

        taken = pool.map(take, range(len(launches)), *zip(*launches, strict=True)) if launches else ()
        for number, entries in zip(turned, batched(taken, len(SIDES)), strict=False):
            whole = [each for each in entries if each is not None]
            if len(whole) < len(SIDES):
                print(f"{number} of {rounds} rounds: the time is over, run it again to go on", file=sys.stderr)
                return
            with path.open("a") as file:  # a round at once
                file.write("".join(json.dumps(asdict(each)) + "\n" for each in whole))


def batched(entries: Iterable[Entry | None], size: int) -> Iterator[list[Entry | None]]:
    """Groups of `size`, in order (itertools has it from Python 3.12 on)."""
    walk = iter(entries)
    while group := list(islice(walk, size)):
        yield group


def read_bank(path: Path) -> list[Entry]:
    """All launches of a bank."""
    found = []
    for line in path.read_text().splitlines():
        raw = json.loads(line)
        raw["readings"] = {key: Reading(**each) for key, each in raw["readings"].items()}
        found.append(Entry(**raw))
    return found


# --- replaying it ---


def replay_gate(
    bank: Sequence[Entry], kind: str, seed: int, settings: GateSettings | None = None
) -> tuple[GateVerdict, dict[str, str]]:
    """One gate. `aa`: base against same; `slow5`, `slow10`: all points slower; `one5`, `one10`: one random point is, the
    others are those of `same`. Returns the verdict, and which points were slower.
    """
    settings = settings or GateSettings()
    rng = random.Random(f"{kind}/{seed}")
    by_round: dict[int, dict[str, Entry]] = {}
    for each in bank:
        by_round.setdefault(each.round, {})[each.side] = each
    whole = sorted(number for number, sides in by_round.items() if len(sides) == len(SIDES))
    if len(whole) < NEEDED:
        raise ValueError(f"the bank has {len(whole)} whole rounds, a gate may ask for {NEEDED}")
    rounds, first = sorted(rng.sample(whole, NEEDED)), rng.randrange(NEEDED)
    rounds = rounds[first:] + rounds[:first]
    keys = sorted(by_round[rounds[0]]["base"].readings)
    slow = choose_slow(kind, keys, rng)
    plan = GatePlan(base="base", new=kind, points=tuple(PlannedPoint(key=key, device_class="gpu") for key in keys))
    source = {"base": dict.fromkeys(keys, "base"), "new": {key: slow.get(key, "same") for key in keys}}
    used = {"base": iter(rounds), "new": iter(rounds)}
    launches: list[Launch] = []
    while True:
        batch = next_batch(plan, launches, settings, seed=seed)
        if not batch.launches:
            return decide(plan, launches, settings, stopped=batch.stopped), slow
        for order in batch.launches:
            entries = by_round[next(used[order.side])]
            chosen = {key: entries[source[order.side][key]] for key in order.points}
            shown = next(iter(chosen.values()))
            launches.append(
                Launch(
                    session="bank",
                    order=order.order,
                    side=order.side,
                    stage=order.stage,
                    pair=order.pair,
                    subject=plan.subject(order.side),
                    fingerprint=shown.fingerprint,
                    points=order.points,
                    readings=tuple(entry.readings[key] for key, entry in chosen.items() if key in entry.readings),
                    control_ms=shown.control_ms,
                )
            )


def choose_slow(kind: str, keys: Sequence[str], rng: random.Random) -> dict[str, str]:
    """Which points are slower, and from which side of the bank they come."""
    if kind.startswith("one"):
        return {rng.choice(list(keys)): f"slow{kind.removeprefix('one')}"}
    return dict.fromkeys(keys, kind) if kind != "aa" else {}


def replay(bank: Sequence[Entry], gates: int, settings: GateSettings | None = None) -> Iterator[dict[str, Any]]:
    """A line a kind: shares of exit codes, of what became of the slower points, and the mean cost."""
    for kind in KINDS:
        exits: dict[int, int] = {}
        points: dict[str, int] = {}
        cost = 0.0
        for seed in range(gates):
            verdict, slow = replay_gate(bank, kind, seed, settings)
            exits[verdict.exit_code] = exits.get(verdict.exit_code, 0) + 1
            cost += sum(each.launches_base + each.launches_new for each in verdict.points) / len(verdict.points)
            for each in verdict.points:
                if each.point in slow or not slow:
                    points[each.verdict] = points.get(each.verdict, 0) + 1
        total = sum(points.values())
        yield {
            "kind": kind,
            "gates": gates,
            "exit": {str(code): count / gates for code, count in sorted(exits.items())},
            "points": {name: count / total for name, count in sorted(points.items())},
            "launches_a_point": cost / gates,
        }


def describe(bank: Sequence[Entry]) -> dict[str, Any]:
    """What is in a bank: rounds, noise between launches, and the ratios that the slower sides really have."""
    found: dict[str, Any] = {"rounds": len({each.round for each in bank}), "points": {}}
    for key in sorted({key for each in bank for key in each.readings}):
        logs = {
            side: [
                math.log(each.readings[key].p50_ms or math.nan)
                for each in bank
                if each.side == side and key in each.readings and each.readings[key].status == "ok"
            ]
            for side in SIDES
        }
        found["points"][key] = {
            "p50_ms": math.exp(statistics.mean(logs["base"])),
            "launch_sd": statistics.stdev(logs["base"]) if len(logs["base"]) > 1 else None,
            **{side: math.exp(statistics.mean(logs[side]) - statistics.mean(logs["base"])) for side in SIDES[1:]},
            "launches": {side: len(logs[side]) for side in SIDES},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("make", "replay", "describe"))
    parser.add_argument("bank", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--gates", type=int, default=300)
    parser.add_argument("--backend", default="torch:cudagraph")
    parser.add_argument("--model", default="bert-base")
    parser.add_argument("--batch", default="1,8,32")
    parser.add_argument("--seq", default="128,384")
    parser.add_argument("--dtype", default="fp16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--override", action="append", default=[])
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--max-time", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lanes", type=int, default=2)
    given = parser.parse_args()
    if given.what == "make":
        names = ("backend", "model", "batch", "seq", "dtype", "device", "override", "iterations", "threads")
        settings = {name: getattr(given, name) for name in names} | {"max-time": given.max_time}
        make(given.bank[0], given.rounds, given.minutes, settings, given.lanes)
        return
    for path in given.bank:
        bank = read_bank(path)
        for line in [describe(bank)] if given.what == "describe" else replay(bank, given.gates):
            print(json.dumps({"bank": path.name} | line), flush=True)


if __name__ == "__main__":
    main()
