"""A bank of real launches, and gates replayed from it by the product's own scheduler and decision core. By hand:

    python tests/benchmarks/gate_bank.py make BANK.jsonl --rounds 60 --minutes 25     # on the GPU; goes on where it ended
    python tests/benchmarks/gate_bank.py replay BANK.jsonl --gates 300                # anywhere
    python tests/benchmarks/gate_bank.py describe BANK.jsonl

A round is one launch of each side, in an order that turns from round to round: `base`, `same` (the base again), `slow5`
and `slow10`. What makes a side slower is real work: more encoder layers (19, 20, 21: about 5 and 10 %; `describe` tells
the ratios that were measured). A replayed gate draws whole rounds without replacement, keeps them in time order, and
takes the launches that the scheduler asks for from them: so what drifted while the bank was made drifts in the gate.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchrun.runner.gate.decision import decide
from benchrun.runner.gate.launches import GatePlan, Launch, PlannedPoint, Reading
from benchrun.runner.gate.schedule import LaunchOrder, next_batch
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.gate.verdict import GateVerdict

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


def make(path: Path, rounds: int, minutes: float, settings: Mapping[str, Any]) -> None:
    """Launches up to that many rounds, or for that long. A round that was cut short is taken again."""
    from benchrun.results import open_store
    from benchrun.results.rows import RunRow
    from benchrun.results.store import new_run_id
    from benchrun.runner.environment import read_environment
    from benchrun.runner.gate.control import ControlWorkload, summarise_control
    from benchrun.runner.gate.readings import to_reading
    from benchrun.runner.gate.sweep_side import SweepSide, plan_side
    from benchrun.runner.launcher import OWN
    from benchrun.runner.sweep import now, point_row

    began = time.monotonic()
    done = len({each.round for each in read_bank(path)}) if path.exists() else 0
    control = ControlWorkload()
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "bank.db") as store:
        runners = {}
        for side, layers in LAYERS.items():
            plan = plan_side(settings, {"override": f"num_hidden_layers={layers}"}, lambda *_: None)
            device = plan.request.device or "cpu"
            points = {f"b{each.point.batch} s{each.point.seq}": each for each in plan.points}
            run = RunRow(new_run_id(now()) + side, side, now(), "running", read_environment(device), origin="gate")
            store.add_run(run, [point_row(each.point) for each in plan.points], 1)
            runners[side] = SweepSide(store, run.id, plan, points, OWN), tuple(points)
        for number in range(done, rounds):
            if time.monotonic() - began > minutes * 60:
                print(f"{number} of {rounds} rounds: the time is over, run it again to go on", file=sys.stderr)
                return
            entries = []
            # turned and mirrored, so that no side is always first or next to the same one
            order = SIDES[number % 4 :] + SIDES[: number % 4]
            for side in order if number % 2 == 0 else order[::-1]:
                runner, keys = runners[side]
                shuffled = tuple(random.Random(number).sample(keys, len(keys)))
                before = control.run()
                rows = runner.take(LaunchOrder(number, "base", 0, 0, shuffled))
                taken = summarise_control(before + control.run())
                readings = {
                    key: to_reading(key, row, "device" if row.device is not None else "host") for key, row in rows
                }
                bad = [f"{key} {each.status} {each.error}" for key, each in readings.items() if each.status != "ok"]
                print(f"round {number} {side}: {'; '.join(bad) or 'ok'}", file=sys.stderr, flush=True)
                entries.append(Entry(number, side, runner.fingerprint(), taken, readings))
            with path.open("a") as file:  # a round at once
                file.write("".join(json.dumps(asdict(each)) + "\n" for each in entries))


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
    rounds = sorted(rng.sample(whole, NEEDED))
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
    parser.add_argument("bank", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--gates", type=int, default=300)
    parser.add_argument("--backend", default="torch:cudagraph")
    parser.add_argument("--model", default="bert-base")
    parser.add_argument("--batch", default="1,8,32")
    parser.add_argument("--seq", default="128,384")
    parser.add_argument("--dtype", default="fp16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--max-time", type=float, default=2.0)
    given = parser.parse_args()
    if given.what == "make":
        names = ("backend", "model", "batch", "seq", "dtype", "device")
        settings = {name: getattr(given, name) for name in names} | {"max-time": given.max_time}
        make(given.bank, given.rounds, given.minutes, settings)
    elif given.what == "describe":
        print(json.dumps(describe(read_bank(given.bank)), indent=1))
    else:
        for line in replay(read_bank(given.bank), given.gates):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
