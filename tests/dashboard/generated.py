"""Large databases made up for tests: everything is arithmetic on row numbers, so the same size gives the same database.

Nothing here is a measurement. Six machines, each with three environments; a run sweeps three engines and two dtypes of one
model and head over 40 shapes (240 points) in two launches; three points of a hundred fail.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchrun.results.samples import FORMAT, encode
from benchrun.results.store import open_store

PROTOCOL = "v1;sync=iteration;streams=1;transfers=exclude;cache=warm;inputs=uniform/4/seed0;percentiles=linear"
MACHINES = (
    ("AMD EPYC 9654", None),
    ("Intel Xeon 8480+", None),
    ("AMD EPYC 9654", "NVIDIA H200"),
    ("Intel Xeon 8480+", "NVIDIA A100-SXM4-80GB"),
    ("AMD EPYC 7763", "AMD Instinct MI250X"),
    ("AMD EPYC 7763", "NVIDIA L40S"),
)
MODELS = ("bert-base", "bert-large", "roberta-base", "roberta-large", "minilm", "tiny")
HEADS = ("encoder", "layers")
ENGINES = (("torch", "eager"), ("torch", "compile"), ("ort", "default"))
DTYPES = ("fp32", "fp16")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
SEQS = (32, 64, 128, 256, 384)
SHAPES = len(ENGINES) * len(DTYPES) * len(BATCHES) * len(SEQS)
LAUNCHES = 2
START = datetime(2025, 1, 1, tzinfo=UTC)


def generate(path: Path, measurements: int, sampled: int = 0) -> None:
    """A database at `path` with about that many measurements, the last `sampled` of them with 200 samples."""
    with open_store(path):
        pass
    runs = max(1, round(measurements / (SHAPES * LAUNCHES)))
    connection = sqlite3.connect(path)
    connection.create_function("noise", 2, _noise, deterministic=True)
    indexes = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'measurements' AND sql IS NOT NULL"
    ).fetchall()
    connection.execute("PRAGMA synchronous = OFF")
    with connection:
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        _add_environments(connection)
        _add_points(connection)
        _add_runs(connection, runs)
        _add_measurements(connection)
        for _, sql in indexes:
            connection.execute(sql)
        _add_samples(connection, sampled)
    connection.close()


def _noise(number: int, salt: int) -> float:
    """A number in [0, 1) that looks random."""
    return ((number * 2654435761 + salt * 40503) % 1000003) / 1000003


def _add_environments(connection: sqlite3.Connection) -> None:
    rows = []
    for number, version in itertools.product(range(len(MACHINES)), range(3)):
        cpu, gpu = MACHINES[number]
        details = {
            "hardware": {
                "cpu": cpu,
                "machine": "x86_64",
                "gpu": {"kind": "cuda", "name": gpu, "driver_major": "570"} if gpu else None,
            },
            "cores": {"visible": 64, "usable": 64},
            "libraries": {"torch": f"2.{10 + version}.0", "onnxruntime": f"1.{20 + version}.0"},
        }
        text = json.dumps(details)
        rows.append((number * 3 + version + 1, hashlib.sha256(text.encode()).hexdigest(), _fingerprint(number), text))
    connection.executemany("INSERT INTO environments (id, digest, fingerprint, details) VALUES (?, ?, ?, ?)", rows)


def _fingerprint(machine: int) -> str:
    return hashlib.sha256(f"machine {machine}".encode()).hexdigest()[:16]


def _device(machine: int) -> str:
    return "cuda:0" if MACHINES[machine][1] else "cpu"


def _points() -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for device, model, head in itertools.product(("cpu", "cuda:0"), MODELS, HEADS):
        for place, (engine, dtype, seq, batch) in enumerate(itertools.product(ENGINES, DTYPES, SEQS, BATCHES)):
            key = hashlib.sha256(f"{device}{model}{head}{engine}{dtype}{seq}{batch}".encode()).hexdigest()[:16]
            found.append(
                (
                    key,
                    model,
                    "random:0",
                    head,
                    *engine,
                    device,
                    dtype,
                    batch,
                    seq,
                    "padded",
                    PROTOCOL,
                    "{}",
                    "{}",
                    place,
                )
            )
    return found


def _add_points(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TEMP TABLE block (key TEXT, device TEXT, model TEXT, head TEXT, place INTEGER)")
    points = _points()
    connection.executemany(f"INSERT INTO points VALUES ({', '.join('?' * 14)})", [point[:14] for point in points])
    connection.executemany(
        "INSERT INTO block VALUES (?, ?, ?, ?, ?)", [(p[0], p[6], p[1], p[3], p[14]) for p in points]
    )
    connection.execute("CREATE INDEX temp.block_index ON block (device, model, head)")


def _add_runs(connection: sqlite3.Connection, runs: int) -> None:
    connection.execute(
        "CREATE TEMP TABLE sweep (run_id TEXT, number INTEGER, device TEXT, model TEXT, head TEXT, fingerprint TEXT, started REAL)"
    )
    rows, sweeps = [], []
    for number in range(runs):
        machine, model, head = number % 6, MODELS[number // 6 % 6], HEADS[number // 36 % 2]
        started = START + timedelta(minutes=250 * number)
        environment = machine * 3 + min(2, 3 * number // runs) + 1
        run_id = f"{started:%Y%m%d-%H%M%S}-{number:04d}"
        commit = hashlib.sha1(str(number // 6).encode()).hexdigest()
        ended = started + timedelta(minutes=40)
        rows.append(
            (
                run_id,
                f"nightly {model}",
                _time(started),
                _time(ended),
                "finished",
                environment,
                "{}",
                "benchrun",
                "0.1.0",
                commit,
            )
        )
        sweeps.append((run_id, number, _device(machine), model, head, _fingerprint(machine), started.timestamp()))
    names = "id, label, started, finished, state, environment_id, request, origin, version, git_commit"
    connection.executemany(f"INSERT INTO runs ({names}) VALUES ({', '.join('?' * 10)})", rows)
    connection.executemany("INSERT INTO sweep VALUES (?, ?, ?, ?, ?, ?, ?)", sweeps)
    connection.execute(
        "INSERT INTO run_points (run_id, point_key, ordinal, replicates) SELECT s.run_id, b.key, b.place, ? "
        "FROM sweep s JOIN block b ON b.device = s.device AND b.model = s.model AND b.head = s.head ORDER BY s.number, b.place",
        (LAUNCHES,),
    )
    connection.executemany(
        "INSERT INTO launches (id, run_id, replicate, pid, started, exit) "
        "SELECT number * 2 + ? + 1, run_id, ?, 1000, datetime(started, 'unixepoch'), '0' FROM sweep",
        [(replicate, replicate) for replicate in range(LAUNCHES)],
    )


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


def _add_measurements(connection: sqlite3.Connection) -> None:
    """All launches of all planned points. The median grows with batch and length, differs by engine, dtype and machine,
    and moves by 6 % in mid-history."""
    connection.execute(
        """
        CREATE TEMP TABLE outcome AS
        SELECT s.number * 480 + b.place * 2 + r.replicate + 1 AS id, s.run_id, b.key AS point_key,
            s.number * 2 + r.replicate + 1 AS launch_id,
            s.fingerprint, r.replicate, b.place * 2 + r.replicate AS ordinal, s.started + b.place * 5 + r.replicate * 1200 AS at,
            noise(s.number * 480 + b.place, 7) AS luck, p.device,
            (0.3 + 0.02 * p.batch * p.seq / 32.0)
                * (CASE p.dtype WHEN 'fp16' THEN 0.6 ELSE 1.0 END) * (CASE p.variant WHEN 'compile' THEN 0.8 ELSE 1.0 END)
                * (1 + 0.06 * (s.number > 1000)) * (1 + 0.1 * (s.number % 6))
                * (1 + 0.02 * noise(s.number * 480 + b.place * 2 + r.replicate, 3)) AS ms, p.batch, p.seq
        FROM sweep s JOIN block b ON b.device = s.device AND b.model = s.model AND b.head = s.head
        JOIN points p ON p.key = b.key, (SELECT 0 AS replicate UNION ALL SELECT 1) r
        ORDER BY id
        """
    )
    fine = "luck >= 0.03"
    columns: dict[str, str] = {
        **{name: name for name in ("id", "run_id", "point_key", "launch_id", "fingerprint", "replicate", "ordinal")},
        "superseded": "0",
        "status": f"CASE WHEN {fine} THEN 'ok' WHEN luck < 0.01 THEN 'oom' WHEN luck < 0.02 THEN 'timeout' ELSE 'invalid' END",
        "phase": f"CASE WHEN {fine} THEN NULL ELSE 'measure' END",
        "error": f"CASE WHEN {fine} THEN NULL ELSE 'made up for a test' END",
        "started": "strftime('%Y-%m-%d %H:%M:%f', at, 'unixepoch') || '000'",
        **_summary("host", "luck >= 0.03 OR luck >= 0.02", 1.0),
        **_summary("device", "luck >= 0.02 AND device <> 'cpu'", 0.97),
        "throughput_seq_s": "CASE WHEN luck >= 0.02 THEN 1000.0 * batch / ms END",
        "throughput_batches": "200",
        "throughput_window_s": "0.5",
        "throughput_isolated": "device = 'cpu'",
        "tokens_s": "CASE WHEN luck >= 0.02 THEN 1000.0 * batch * seq / ms END",
        "padding_fraction": "0.0",
        "parity_ok": "luck >= 0.03",
        "parity_rel_l2": "1e-6",
        "parity_cosine": "1.0",
        "parity_gain": "1.0",
        "parity_nan_share": "0.0",
        "settled": "1",
        "timed_out": "0",
        "warmup_n": "20",
        "build_s": "1.5",
        "peak_host_bytes": "400000000 + 1000 * batch * seq",
        "flags": "CASE WHEN luck > 0.97 THEN '[\"unsteady\"]' ELSE '[]' END",
        "facts": '\'{"compute_dtypes":{"gelu":"fp32","layernorm":"fp32","matmul":"fp32"},"attention":"sdpa","threads":64}\'',
        "settings": '\'{"iterations":200,"warmup":10,"max_time_s":20.0,"transfers":"exclude","threads":64}\'',
    }
    connection.execute(
        f"INSERT INTO measurements ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM outcome ORDER BY id"
    )


def _summary(clock: str, where: str, factor: float) -> dict[str, str]:
    shares = {
        "mean_ms": 1.02, "std_ms": 0.03, "min_ms": 0.95, "max_ms": 1.5, "mad_ms": 0.01,
        "p50_ms": 1.0, "p90_ms": 1.05, "p95_ms": 1.1, "p99_ms": 1.3,
        "p99_9_ms": 1.48, "p50_low_ms": 0.995, "p50_high_ms": 1.005, "p90_upper_ms": 1.1, "p95_upper_ms": 1.2,
    }  # fmt: skip
    columns = {f"{clock}_{name}": f"CASE WHEN {where} THEN ms * {share * factor} END" for name, share in shares.items()}
    fixed = {"n": "200", "autocorrelation": "0.1", "drift": "0.002", "steady": "1"}
    return columns | {f"{clock}_{name}": f"CASE WHEN {where} THEN {value} END" for name, value in fixed.items()}


def _add_samples(connection: sqlite3.Connection, count: int) -> None:
    rows: Sequence[tuple[int, float]] = connection.execute(
        "SELECT id, host_p50_ms FROM measurements WHERE host_n IS NOT NULL ORDER BY id DESC LIMIT ?", (count,)
    ).fetchall()
    generator = np.random.default_rng(1)
    shapes = [np.exp(generator.normal(0, 0.02, 200)) for _ in range(50)]
    sets = [
        (row[0], "host", 200, FORMAT, encode((shapes[row[0] % 50] * row[1] * 1e6).astype(np.int64))) for row in rows
    ]
    connection.executemany("INSERT INTO samples (measurement_id, clock, n, version, data) VALUES (?, ?, ?, ?, ?)", sets)
