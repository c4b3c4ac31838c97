"""Small databases of every kind that the pages have to cope with, written through the store like real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchrun.results.gate_rows import GatePointRow, GateRow, GateSideRow, GateVerdictRow
from benchrun.results.gates import add_gate, finish_gate
from benchrun.results.rows import CeilingRow, EnvironmentRow, LaunchRow, MeasurementRow, Parity, PointRow, RunRow, Score
from benchrun.results.statistics import ReportedSummary, summarise
from benchrun.results.store import Store, open_store

MOMENT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PROTOCOL = "v1;sync=iteration;streams=1;transfers=exclude;cache=warm;inputs=uniform/4/seed0;percentiles=linear"
HOSTILE = (
    '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">\'"\\`**bold** [link](javascript:alert(1)) '
    "![i](http://example.invalid/i.png) :red[red] $x^2$ www.example.invalid https://example.invalid/x "
    "a@example.invalid 🐍 =cmd|' /C calc'!A0"
)
LONG = HOSTILE + "é" * 10_000
Build = Callable[[Store], None]


def environment(number: int = 1, torch: str = "2.13.0", **hardware: Any) -> EnvironmentRow:
    """A machine by number; `torch` makes another environment of it."""
    details = {
        "hardware": {"cpu": f"Processor {number}", "machine": "x86_64", "gpu": None} | hardware,
        "cores": {"visible": 2, "usable": 2},
        "memory_bytes": 8 * 2**30,
        "libraries": {"torch": torch, "numpy": "2.4.0"},
    }
    return EnvironmentRow(f"{number:016x}", details)


def point(**changes: Any) -> PointRow:
    """A point; its key follows from its other columns."""
    given: dict[str, Any] = {
        "model": "tiny",
        "weights": "random:0",
        "head": "encoder",
        "backend": "torch",
        "variant": "eager",
        "device": "cpu",
        "dtype": "fp32",
        "batch": 1,
        "seq": 32,
        "workload": "padded",
        "protocol": PROTOCOL,
    } | changes
    import hashlib

    key = hashlib.sha256(repr(sorted(given.items())).encode("utf-8", "replace")).hexdigest()[:16]
    return PointRow(key, **given)


def run(number: int, **changes: Any) -> RunRow:
    """A run, a day after the one before."""
    started = MOMENT + timedelta(days=number)
    given: dict[str, Any] = {
        "label": f"run {number}",
        "started": started,
        "state": "running",
        "environment": environment(),
        "version": "0.1.0",
        "commit": f"{number:040x}",
    }
    return RunRow(f"{started:%Y%m%d-%H%M%S}-r{number:03d}", **(given | changes))


def measurement(
    key: str,
    started: datetime,
    ms: float = 5.0,
    *,
    replicate: int = 0,
    n: int = 60,
    device: bool = False,
    **changes: Any,
) -> MeasurementRow:
    """An `ok` launch with samples around `ms`, always the same ones."""
    noise = np.random.default_rng([replicate, int(ms * 1000)])
    samples = (ms * 1e6 * np.exp(noise.normal(0, 0.02, n))).astype(np.int64)
    given: dict[str, Any] = {
        "status": "ok",
        "host": summarise(samples),
        "host_samples": samples,
        "throughput_seq_s": 1000 / ms,
        "throughput_isolated": not device,
        "tokens_s": 32_000 / ms,
        "padding_fraction": 0.0,
        "settled": True,
        "timed_out": False,
        "parity": Parity(1e-6, 1e-5, 1.0, 1.0, 0.0, True),
        "settings": {"threads": 2},
        "peak_host_bytes": 10**8,
    }
    if device:
        inner = (samples * 0.9).astype(np.int64)
        given |= {"device": summarise(inner), "device_samples": inner}
    return MeasurementRow(key, replicate, replicate, started=started, **(given | changes))


def failure(
    key: str, started: datetime, status: str, *, replicate: int = 0, error: str = "it did not work", **changes: Any
) -> MeasurementRow:
    """A launch without figures."""
    return MeasurementRow(
        key, replicate, replicate, status=status, started=started, phase="measure", error=error, **changes
    )


def store_run(
    store: Store,
    about: RunRow,
    points: Sequence[PointRow],
    times: Mapping[str, Sequence[float | str]],
    *,
    state: str = "finished",
    **changes: Any,
) -> None:
    """A run whose points have a launch for each entry of `times`: a median in ms, or the status it failed with. A point
    without an entry stays unmeasured."""
    launches = max((len(each) for each in times.values()), default=1)
    store.add_run(about, points, launches)
    for replicate in range(launches):
        launch = store.add_launch(about.id, LaunchRow(replicate, 1000 + replicate, about.started))
        rows: list[tuple[int | None, MeasurementRow]] = []
        for place, each in enumerate(points):
            wanted = times.get(each.key, ())
            if replicate < len(wanted):
                value, at = wanted[replicate], about.started + timedelta(seconds=60 * replicate + place)
                row = (
                    failure(each.key, at, value, replicate=replicate)
                    if isinstance(value, str)
                    else measurement(each.key, at, value, replicate=replicate, **changes)
                )
                rows.append((launch, replace(row, ordinal=place)))
        store.add_measurements(about.id, rows)
        store.finish_launch(launch, "0")
    if state != "running":
        store.finish_run(about.id, state)


def sweep(**changes: Any) -> list[PointRow]:
    """Six points: batch 1, 4, 16 at 32 and 128 tokens."""
    return [point(batch=batch, seq=seq, **changes) for seq in (32, 128) for batch in (1, 4, 16)]


def cost(each: PointRow, factor: float = 1.0) -> float:
    """A believable median for a point."""
    return factor * (0.5 + 0.02 * (each.batch or 1) * (each.seq or 1) / 32)


def build_empty(store: Store) -> None:
    """No run at all."""


def build_one(store: Store) -> None:
    """One finished run, one launch."""
    points = sweep()
    store_run(store, run(1), points, {each.key: [cost(each)] for each in points})


def build_failed(store: Store) -> None:
    """One run, every point failed in its own way."""
    points = sweep()
    statuses = ("oom", "timeout", "crashed", "build_failed", "error", "unsupported")
    store_run(store, run(1), points, {each.key: [status] for each, status in zip(points, statuses, strict=True)})


def build_running(store: Store) -> None:
    """A run in progress: half of it is measured."""
    points = sweep()
    store_run(store, run(1), points, {each.key: [cost(each)] for each in points[:3]}, state="running")


def build_planned(store: Store) -> None:
    """A run that has measured nothing yet."""
    store_run(store, run(1), sweep(), {}, state="running")


def build_several(store: Store) -> None:
    """Six runs of two engines on one machine (a slowdown in the fifth, a new torch in the fourth), two of another machine with a GPU, other
    protocols and workloads, wrong answers, an oom."""
    for number in range(1, 7):
        points = sweep() + sweep(variant="compile") + sweep(dtype="bf16")
        worse = 1.3 if number >= 5 else 1.0
        times: dict[str, Sequence[float | str]] = {
            each.key: [cost(each, worse * share) for share in (0.99, 1.0, 1.012)] for each in points
        }
        times[points[5].key] = ["oom", "oom", "oom"]
        if number == 6:
            times[points[4].key] = ["crashed", cost(points[4]), cost(points[4])]
        store_run(
            store, run(number, environment=environment(torch="2.13.0" if number < 4 else "2.14.0")), points, times
        )
    gpu = environment(2, gpu={"name": "Graphics 9000", "driver_major": "570"})
    for number in (7, 8):
        points = sweep(device="cuda:0")
        store_run(
            store,
            run(number, environment=gpu),
            points,
            {each.key: [cost(each, 0.1), cost(each, 0.101)] for each in points},
            device=True,
        )
    others = [
        *sweep(protocol=PROTOCOL.replace("exclude", "include")),
        *sweep(workload="packed"),
        *sweep(head="qa", model="bert-base"),
    ]
    store_run(store, run(9), others, {each.key: [cost(each)] for each in others})
    wrong = sweep(variant="cudagraph")
    about = run(10)
    store.add_run(about, wrong, 1)
    parity = Parity(0.4, 1.0, 0.8, 0.7, 0.0, False, "relative L2 error 0.4 is above 0.0001")
    store.add_measurements(
        about.id,
        [
            (
                None,
                measurement(
                    each.key, about.started, cost(each, 0.2), status="invalid", parity=parity, error=parity.reason
                ),
            )
            for each in wrong
        ],
    )
    store.finish_run(about.id, "finished")


def gate(
    store: Store,
    name: str,
    base: RunRow,
    new: RunRow,
    verdicts: Mapping[str, tuple[str, str]],
    *,
    label: str = "main against the branch",
    kind: str = "session",
    ratio: float = 1.3,
    point_label: str = "torch:eager tiny",
    reason: str = "30.0% slower on 10 fresh launches a side",
    state: str = "finished",
) -> None:
    """A gate of two stored runs; `verdicts` maps point key → (verdict, why it was accepted)."""
    started = new.started + timedelta(hours=1)
    about = GateRow(id=name, label=label, started=started, state="running", kind=kind, seed=1, settings={}, plan={})
    sides = [
        GateSideRow(side=side, subject=side, label=each.label, run_id=each.id, commit=each.commit)
        for side, each in (("base", base), ("new", new))
    ]
    points = [
        GatePointRow(
            key=key, label=f"{point_label} {place}", device_class="cpu", worker="w", in_base=True, in_new=True, base_key=key,
            new_key=key,
        )
        for place, key in enumerate(verdicts)
    ]  # fmt: skip
    add_gate(store, about, sides, points)
    if state == "running":
        return
    decided = [
        replace(each, verdict=verdicts[each.key][0], reason=reason, accepted=verdicts[each.key][1]) for each in points
    ]
    none: dict[str, Any] = dict.fromkeys(
        ("fresh_ratio", "p", "p_adjusted", "sd", "excluded_slowdown", "detectable_slowdown", "base", "new")
    )
    metrics = [
        GateVerdictRow(
            point=each.key, metric="latency p50", verdict=each.verdict or "", stage="confirm", reason=reason, launches=10, ratio=ratio,
            ratio_low=ratio * 0.98, ratio_high=ratio * 1.02, fresh_launches=10, improved=False, check_work=False, **none,
        )
        for each in decided
    ]  # fmt: skip
    worst = next(word for word in ("FAIL", "INCONCLUSIVE", "PASS") if word in {each.verdict for each in decided})
    finish_gate(store, replace(about, state=state, verdict=worst, exit_code=0, finished=started), decided, metrics)


def build_gated(store: Store) -> None:
    """Eight runs of one series that were gated: passed, open, undecided, accepted, against a stored run, in progress."""
    points = sweep()
    abouts = [run(number) for number in range(1, 9)]
    for place, about in enumerate(abouts):
        factor = 1.0 if place < 4 else 1.3
        store_run(
            store, about, points, {each.key: [cost(each, factor * share) for share in (0.99, 1.01)] for each in points}
        )
    keys = [each.key for each in points]
    every = dict.fromkeys(keys, ("PASS", ""))
    gate(store, "gate-1", abouts[0], abouts[1], every, ratio=1.0)
    gate(store, "gate-2", abouts[2], abouts[3], every | {keys[5]: ("INCONCLUSIVE", "")}, label="wide", ratio=1.01)
    gate(store, "gate-3", abouts[3], abouts[4], dict.fromkeys(keys, ("FAIL", "")))
    gate(store, "gate-4", abouts[3], abouts[5], every | dict.fromkeys(keys[:3], ("FAIL", "the price of a fix")))
    gate(store, "gate-5", abouts[3], abouts[6], every | {keys[4]: ("FAIL", "")}, label="nightly", kind="baseline")
    gate(store, "gate-6", abouts[6], abouts[7], every, label="now", state="running")


def build_roofed(store: Store) -> None:
    """A run with operation counts on a machine whose ceilings were measured."""
    points = [replace(each, options={"threads": 2}) for each in sweep()]
    about = run(1)
    given = {"flops": 2e9, "least_bytes": 5e7, "least_launches": 40}
    store_run(store, about, points, {each.key: [cost(each)] for each in points}, **given)
    machine: dict[str, Any] = {
        "fingerprint": about.environment.fingerprint,
        "device": "cpu",
        "n": 20,
        "measured": about.started,
    }
    quantities = (("matmul", "fp32", 2e11), ("matmul", "bf16", 4e11), ("copy", None, 2e10), ("launch", None, 2e-6))
    store.add_ceilings(
        [CeilingRow(quantity=name, dtype=dtype, threads=2, value=value, **machine) for name, dtype, value in quantities]
    )


def build_fifty(store: Store) -> None:
    """Fifty measurements: two runs of two engines."""
    points = (sweep() + sweep(variant="compile") + [point(batch=32)])[:13]
    for number, launches in ((1, 2), (2, 2)):
        shares = (0.99, 1.01)[:launches]
        kept = points[: 12 if number == 2 else 13]
        store_run(store, run(number), kept, {each.key: [cost(each, share) for share in shares] for each in kept})


def build_hostile(store: Store) -> None:
    """Script, quotes, emoji, Markdown, formulas and 10,000 characters in every text column, twice over, so that
    comparisons show them too."""
    for number in (1, 2):
        names = {
            "model": LONG,
            "weights": HOSTILE,
            "head": HOSTILE,
            "backend": HOSTILE,
            "variant": LONG,
            "dtype": HOSTILE,
            "workload": HOSTILE,
        }
        points = [
            point(
                **names,
                device=f"cpu{HOSTILE}",
                protocol=LONG,
                batch=batch,
                overrides={HOSTILE: HOSTILE},
                options={HOSTILE: LONG, "other": extra},
            )
            for batch in (1, 2)
            for extra in ("<b>a</b>", "_b_")
        ]
        details = {
            "hardware": {"cpu": LONG, "gpu": {"name": HOSTILE}},
            HOSTILE: [LONG, HOSTILE],
            "libraries": {HOSTILE: LONG},
        }
        about = run(
            number,
            label=LONG,
            commit=LONG,
            version=HOSTILE,
            origin=HOSTILE if number == 1 else "benchrun",
            environment=EnvironmentRow(HOSTILE, details | {"n": number}),
        )
        store.add_run(about, points, 2)
        rows: list[MeasurementRow] = []
        for replicate in range(2):
            rows += [
                measurement(
                    each.key,
                    about.started + timedelta(seconds=replicate),
                    number * cost(each, 1 + replicate / 99),
                    replicate=replicate,
                    flags=(HOSTILE, LONG),
                )
                for each in points[:3]
            ]
            wrong = Parity(1.0, 1.0, 0.0, 0.0, 0.0, False, LONG)
            rows.append(
                measurement(
                    points[3].key,
                    about.started,
                    3.0,
                    replicate=replicate,
                    status="invalid",
                    parity=wrong,
                    error=LONG,
                    phase=HOSTILE,
                )
            )
        store.add_measurements(about.id, [(None, row) for row in rows])
        store.finish_run(about.id, "finished")
    both = [run(number, label=LONG, commit=LONG) for number in (1, 2)]
    gate(
        store,
        "gate-hostile",
        *both,
        {points[0].key: ("FAIL", ""), points[1].key: ("FAIL", LONG), points[2].key: ("PASS", "")},
        label=LONG,
        point_label=HOSTILE,
        reason=LONG,
    )
    about = run(3, label=HOSTILE, environment=EnvironmentRow("f" * 16, {"hardware": HOSTILE}))
    points = sweep(model=HOSTILE)
    store.add_run(about, points, 1)
    store.add_measurements(about.id, [(None, failure(each.key, about.started, "error", error=LONG)) for each in points])
    store.finish_run(about.id, "finished")


def build_imported(store: Store) -> None:
    """A foreign file's run: hardly a column is known, figures without samples, and one without anything."""
    unknown = dict.fromkeys(("model", "weights", "head", "device", "dtype", "batch", "seq", "workload"))
    points = [
        point(**unknown, backend="trtexec", variant="", protocol="import:trtexec;version=11", options={"n": n})
        for n in range(3)
    ]
    about = run(1, origin="import:trtexec", label="", commit=None, environment=EnvironmentRow("unknown", {}))
    store.add_run(about, points, 1)
    some = ReportedSummary(mean_ms=2.0, p99_ms=3.0)
    whole = ReportedSummary(n=100, mean_ms=2.0, min_ms=1.5, max_ms=4.0, p50_ms=2.0, p90_ms=2.2, p95_ms=2.3, p99_ms=3.0)
    rows = [
        MeasurementRow(each.key, 0, 0, status="ok", started=about.started, host=summary)
        for each, summary in zip(points, (some, whole, None), strict=True)
    ]
    store.add_measurements(about.id, [(None, row) for row in rows])
    store.finish_run(about.id, "finished")


def build_workloads(store: Store) -> None:
    """Every kind of workload: a sweep, scores of the same artefacts, LoadGen (percentiles of its own, or a rate alone), training steps."""
    artefacts: list[dict[str, Any]] = [
        {},
        {"dtype": "bf16"},
        {"backend": "ort", "variant": "cpu", "dtype": "int8"},
        {"weights": "sha256:0123456789abcdef"},  # scored only
    ]
    for number in (1, 2):
        points = [each for changes in artefacts[:3] for each in sweep(head="qa", **changes)]
        store_run(store, run(number), points, {each.key: [cost(each), cost(each, 1.01)] for each in points})
    about = run(3)
    scored = [point(head="qa", workload="accuracy:squad", batch=8, **changes) for changes in artefacts]
    asked = PROTOCOL.replace("linear", "loadgen")
    single = point(head="qa", workload="loadgen:single-stream", protocol=asked)
    offline = point(head="qa", workload="loadgen:offline", protocol=asked)
    steps = point(head="qa", workload="train:adamw", dtype="bf16", batch=4)
    store.add_run(about, [*scored, single, offline, steps], 1)
    rows = [
        measurement(
            each.key,
            about.started,
            4.0 - place,
            status="invalid" if each.dtype == "int8" else "ok",
            scores=(
                Score("squad", "exact", 80.0 - place, 1000, 80.0),
                Score("squad", "f1", 90.0 - place, 1000, 90.0 if place < 3 else None),
            ),
        )
        for place, each in enumerate(scored)
    ]
    reported = ReportedSummary(n=1024, mean_ms=2.0, min_ms=1.0, max_ms=9.0, p50_ms=1.9, p90_ms=3.0, p99_ms=5.0)
    no_samples: dict[str, Any] = {"host_samples": None, "parity": None}
    rows += [
        measurement(single.key, about.started, host=reported, throughput_seq_s=500.0, **no_samples),
        measurement(offline.key, about.started, host=None, throughput_seq_s=900.0, tokens_s=None, **no_samples),
        measurement(steps.key, about.started, 50.0, parity=None, tokens_s=None),
    ]
    store.add_measurements(about.id, [(None, row) for row in rows])
    store.finish_run(about.id, "finished")


BUILDS: dict[str, Build] = {
    name.removeprefix("build_"): build for name, build in sorted(globals().items()) if name.startswith("build_")
}


def make(path: Path, name: str) -> Path:
    """The database of that name at `path`."""
    with open_store(path) as store:
        BUILDS[name](store)
    return path
