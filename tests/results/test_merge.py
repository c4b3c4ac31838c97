"""Merging databases: once, twice, halfway, from older ones, and killed at any moment."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchrun.results import Store, gates, open_store
from benchrun.results.ceilings import add_ceilings, load_ceilings
from benchrun.results.errors import NoDatabase, StoreError
from benchrun.results.gate_rows import GateLaunchRow, GatePointRow, GateRow, GateSideRow, GateVerdictRow
from benchrun.results.importers import import_files
from benchrun.results.merge import MergeReport, merge_database
from benchrun.results.merge_rows import gate_tables, part_tables
from benchrun.results.rows import (
    Attachment,
    CeilingRow,
    EnvironmentRow,
    LaunchRow,
    Score,
)
from benchrun.results.schema import Base
from benchrun.runner.cli import run as command
from tests.results.conftest import NewMeasurement, NewPoint, NewRun

NOW = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
DATA = Path(__file__).parent.parent / "importers" / "data"


@pytest.fixture
def fill(new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement) -> Callable[..., None]:
    """Puts runs into a store, each with launches, samples, a failure and a superseded row."""

    def put(store: Store, run_id: str, seed: int = 0, points: int = 3, replicates: int = 2) -> None:
        dice = np.random.default_rng(seed)
        environment = EnvironmentRow(f"{seed:016x}", {"hardware": {"cpu": f"cpu {seed}"}})
        plan = [new_point(f"{number:016x}", batch=number + 1) for number in range(points)]
        store.add_run(new_run(run_id, environment=environment), plan, replicates)
        for replicate in range(replicates):
            launch = store.add_launch(run_id, LaunchRow(replicate, 1000 + replicate, NOW))
            for ordinal, point in enumerate(plan):
                started = NOW + timedelta(seconds=replicate * 100 + ordinal)
                samples, device = dice.integers(10**6, 10**7, 50), dice.integers(10**6, 10**7, 50)
                both = {"samples": samples, "device": device}
                answers = {
                    "scores": (Score("squad", "f1", 90 + float(dice.random()), 4, 90.5),),
                    "attachments": (Attachment("log.txt", f"{run_id} {replicate}"), Attachment("more.txt", "")),
                }
                facts = {"n": [1, None]}
                row = new_measurement(point.key, replicate=replicate, started=started, facts=facts, **both, **answers)
                store.add_measurement(run_id, launch, row)
            store.finish_launch(launch, "0")
        again = new_measurement(plan[0].key, "oom", error="no memory", started=NOW + timedelta(hours=1))
        store.add_measurement(run_id, None, again)  # supersedes the first row
        store.finish_run(run_id, "finished")

    return put


def contents(path: str | Path) -> dict[str, Any]:
    """Everything a database holds, without the numbers that it gave out itself: equal for equal content."""
    found: dict[str, Any] = {}
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        environments = {row["id"]: row["digest"] for row in connection.execute("SELECT * FROM environments")}
        found["environments"] = sorted(environments.values())
        found["points"] = sorted(map(tuple, connection.execute("SELECT * FROM points")))
        found["run_points"] = sorted(map(tuple, connection.execute("SELECT * FROM run_points")))
        runs = [dict(row) for row in connection.execute("SELECT * FROM runs ORDER BY id")]
        found["runs"] = [row | {"environment_id": environments[row["environment_id"]]} for row in runs]
        launches = {row["id"]: tuple(row)[1:] for row in connection.execute("SELECT * FROM launches")}
        found["launches"] = sorted(map(repr, launches.values()))
        parts: dict[int, list[Any]] = {}
        for row in connection.execute("SELECT * FROM samples ORDER BY measurement_id, clock"):
            parts.setdefault(row["measurement_id"], []).append(
                (*tuple(row)[1:4], hashlib.sha256(row["data"]).hexdigest())
            )
        for table, order in (("scores", "task, metric"), ("attachments", "name")):
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY measurement_id, {order}"):
                parts.setdefault(row["measurement_id"], []).append(tuple(row)[1:])
        found["measurements"] = sorted(
            repr((
                {name: row[name] for name in row.keys() if name not in ("id", "launch_id")},  # noqa: SIM118 - a Row iterates its values
                launches.get(row["launch_id"]),
                parts.get(row["id"]),
            ))
            for row in connection.execute("SELECT * FROM measurements")
        )  # fmt: skip
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    return found


def outcomes(report: MergeReport) -> dict[str, str]:
    return {each.id: each.outcome for each in report.merged}


def test_runs_of_two_machines_come_together_and_again_adds_nothing(tmp_path: Path, fill: Callable[..., None]) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        with open_store(tmp_path / f"{name}.db") as store:
            fill(store, f"run-{name}", seed)
    parts = [contents(tmp_path / f"{name}.db") for name in ("a", "b")]
    before = hashlib.sha256((tmp_path / "b.db").read_bytes()).hexdigest()
    with open_store(tmp_path / "a.db") as store:
        assert outcomes(merge_database(store, tmp_path / "b.db", dry_run=True)) == {"run-b": "added"}
        assert [run.id for run in store.runs()] == ["run-a"]
        report = merge_database(store, tmp_path / "b.db")
        assert outcomes(report) == {"run-b": "added"} and report.measurements == 7
        assert outcomes(merge_database(store, tmp_path / "b.db")) == {"run-b": "known"}
        assert np.array_equal(store.run("run-b", samples=True).measurements[0].row.host_samples,  # type: ignore[arg-type]
                              _first_samples(tmp_path / "b.db", "run-b"))  # fmt: skip
    after = contents(tmp_path / "a.db")
    for name in ("environments", "run_points", "launches", "measurements"):
        assert after[name] == sorted([*parts[0][name], *parts[1][name]]), name
    assert after["runs"] == [*parts[0]["runs"], *parts[1]["runs"]] and len(after["measurements"]) == 14
    assert hashlib.sha256((tmp_path / "b.db").read_bytes()).hexdigest() == before


def _first_samples(path: Path, run_id: str) -> Any:
    with open_store(path, read_only=True) as store:
        return store.run(run_id, samples=True).measurements[0].row.host_samples


def test_into_and_out_of_each_kind_of_database(location: str, tmp_path: Path, fill: Callable[..., None]) -> None:
    first, back = tmp_path / "first.db", tmp_path / "back.db"
    with open_store(first) as store:
        fill(store, "r", 5)
        put_gate(store, "r")
    with open_store(location) as store:
        assert outcomes(merge_database(store, first)) == {"r": "added", "gate-1": "added"}
        assert outcomes(merge_database(store, first)) == {"r": "known", "gate-1": "known"}
    with open_store(back) as store:
        assert outcomes(merge_database(store, location)) == {"r": "added", "gate-1": "added"}
        assert outcomes(merge_database(store, first)) == {"r": "known", "gate-1": "known"}
    assert contents(back) == contents(first)


def test_a_run_that_went_on_after_it_was_copied(
    tmp_path: Path, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    there, here = tmp_path / "there.db", tmp_path / "here.db"
    with open_store(there) as store:
        store.add_run(new_run("r", state="running"), [new_point("a")], 1)
        first = store.add_launch("r", LaunchRow(0, 7, NOW))
        store.add_measurement("r", first, new_measurement("a", "interrupted", samples=[5, 6, 7]))
    with open_store(here) as store:
        merge_database(store, there)
    with open_store(there) as store:
        store.finish_launch(first, "SIGTERM")
        store.extend_run("r", [new_point("a"), new_point("b")], 2)
        launch = store.add_launch("r", LaunchRow(0, 8, NOW + timedelta(hours=1)))
        for replicate in range(2):
            for key in ("a", "b"):
                started = NOW + timedelta(hours=1, seconds=replicate)
                store.add_measurement(
                    "r", launch, new_measurement(key, replicate=replicate, samples=[1, 2], started=started)
                )
        store.finish_run("r", "finished")
    older = tmp_path / "older.db"
    shutil.copy(here, older)
    with open_store(here) as store:
        report = merge_database(store, there)
        assert outcomes(report) == {"r": "extended"} and report.measurements == 4
        assert store.missing("r") == [] and store.run("r").run.state == "finished"
        assert outcomes(merge_database(store, there)) == {"r": "known"}
        assert outcomes(merge_database(store, older)) == {"r": "known"}  # an older copy takes nothing back
    assert contents(here) == contents(there)


def test_what_both_sides_changed_is_reported_and_left_alone(
    tmp_path: Path, fill: Callable[..., None], new_measurement: NewMeasurement, new_point: NewPoint, new_run: NewRun,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, ms in (("a", 1), ("b", 2)):
        with open_store(tmp_path / f"{name}.db") as store:
            fill(store, "r")
            fill(store, f"own-{name}", 1)
            store.add_measurement(
                "r", None, new_measurement(f"{1:016x}", samples=[ms] * 20, started=NOW + timedelta(days=ms))
            )
            changed = new_point("same-key", model="bert-large" if name == "a" else "bert-base")
            store.add_run(new_run(f"other-{name}"), [changed], 1)
    before = contents(tmp_path / "a.db")
    assert command(["merge", str(tmp_path / "b.db"), "--db", str(tmp_path / "a.db")]) == 1
    told = capsys.readouterr()
    assert "run r was left as it is: 1 of its measurements are only here and 1 only there" in told.err
    assert "run other-b was left as it is: point same-key means something else here" in told.err
    assert "1 added, 0 extended, 0 there already, 2 in conflict" in told.out
    after = contents(tmp_path / "a.db")
    assert [row["id"] for row in after["runs"]] == sorted([*(row["id"] for row in before["runs"]), "own-b"])
    assert set(before["measurements"]) < set(after["measurements"])


def test_the_same_imported_file_on_two_machines(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        file = tmp_path / name / "summary.csv"
        file.parent.mkdir()
        shutil.copyfile(DATA / "csv/summary.csv", file)  # with a modification time of its own
        side = tmp_path / name / "side.toml"
        side.write_text((DATA / "csv/summary.toml").read_text() + ("# another\n" if name == "c" else ""))
        with open_store(tmp_path / f"{name}.db") as store:
            assert import_files(store, "csv", [file], side).added == 1
    with open_store(tmp_path / "a.db") as store:
        assert [each.outcome for each in merge_database(store, tmp_path / "b.db").merged] == ["known"]
        (found,) = merge_database(store, tmp_path / "c.db").merged
        assert (found.outcome, found.problem) == ("conflict", "it was imported with another sidecar there")


# --- gates ---


def put_gate(store: Store, run_id: str, state: str = "finished", launches: int = 2) -> None:
    gate = GateRow(
        id="gate-1", label="nightly", started=NOW, state="running", kind="session", seed=3, settings={}, plan={}
    )
    point = GatePointRow(key="p", label="p", device_class="cpu", worker="w", in_base=True, in_new=True)
    sides = [GateSideRow(side=side, subject=side, label="", run_id=run_id) for side in ("base", "new")]
    gates.add_gate(store, gate, sides, [point])
    for place in range(launches):
        launch = GateLaunchRow(place=place, side="base", stage=1, pair=place, fingerprint="f", points=("p",), control_ms=1.5,
                               started=NOW, finished=NOW)  # fmt: skip
        gates.add_gate_launch(store, "gate-1", launch)
    if state != "running":
        verdict = GateVerdictRow(
            point="p", metric="p50", verdict="PASS", stage="screen", reason="", launches=2, ratio=1.0, ratio_low=0.9, ratio_high=1.1,
            fresh_ratio=None, fresh_launches=0, p=0.5, p_adjusted=0.5, sd=0.01, excluded_slowdown=0.1, detectable_slowdown=0.05,
            base=1.0, new=1.0, improved=False, check_work=False,
        )  # fmt: skip
        gates.finish_gate(
            store, replace(gate, state=state, verdict="PASS", exit_code=0, finished=NOW), [point], [verdict]
        )


def test_gates_come_along(tmp_path: Path, fill: Callable[..., None]) -> None:
    with open_store(tmp_path / "a.db") as store:
        fill(store, "r")
        put_gate(store, "r", "running", launches=1)
    shutil.copy(tmp_path / "a.db", tmp_path / "early.db")
    with open_store(tmp_path / "b.db") as store:
        fill(store, "r")
        put_gate(store, "r")
        there = gates.load_gate(store, "gate-1")
    with open_store(tmp_path / "a.db") as store:
        report = merge_database(store, tmp_path / "b.db")
        assert outcomes(report) == {"r": "known", "gate-1": "extended"}
        assert gates.load_gate(store, "gate-1") == there
        assert set(outcomes(merge_database(store, tmp_path / "b.db")).values()) == {"known"}
        assert set(outcomes(merge_database(store, tmp_path / "early.db")).values()) == {"known"}
        gates.remove_gate(store, "gate-1")
        put_gate(store, "r", launches=3)
        assert outcomes(merge_database(store, tmp_path / "b.db"))["gate-1"] == "conflict"
        store.remove_run("r")
        gates.remove_gate(store, "gate-1")
    with open_store(tmp_path / "fresh.db") as store:
        assert outcomes(merge_database(store, tmp_path / "b.db")) == {"r": "added", "gate-1": "added"}
        assert gates.load_gate(store, "gate-1") == there


def test_every_table_is_carried() -> None:
    """A table that a later schema adds must be merged too: this says so."""
    of_gates = {table.name for table in gate_tables()}
    assert of_gates == {"gate_launches", "gate_points", "gate_sides", "gate_verdicts"}
    others = {
        "environments",
        "runs",
        "points",
        "run_points",
        "launches",
        "measurements",
        "gates",
        "ceilings",
    }
    of_measurements = {table.name for table in part_tables()}
    assert of_measurements == {"samples", "scores", "attachments"}
    assert set(Base.metadata.tables) == of_gates | of_measurements | others


@pytest.mark.parametrize(
    "change", ["UPDATE scores SET value = 0", "UPDATE attachments SET name = 'x' WHERE name = 'log.txt'"]
)
def test_another_score_or_file_is_another_measurement(tmp_path: Path, fill: Callable[..., None], change: str) -> None:
    with open_store(tmp_path / "a.db") as store:
        fill(store, "r")
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    with closing(sqlite3.connect(tmp_path / "b.db")) as connection, connection:
        connection.execute(change)
    with open_store(tmp_path / "a.db") as store:
        assert outcomes(merge_database(store, tmp_path / "b.db")) == {"r": "conflict"}


def test_ceilings_come_along(tmp_path: Path) -> None:
    matmul = CeilingRow("f", "cpu", "matmul", "fp32", 2, 1e11, 5, NOW, 0.01, {"n": 4096})
    rows = [matmul, replace(matmul, quantity="copy", dtype=None, value=1e10)]
    for name, taken in (("a", rows[:1]), ("b", rows)):
        with open_store(tmp_path / f"{name}.db") as store, store.writing() as connection:
            add_ceilings(connection, taken)
    with open_store(tmp_path / "a.db") as store:
        (found,) = merge_database(store, tmp_path / "b.db").merged
        assert (found.kind, found.id, found.outcome, found.measurements) == ("ceilings", "f", "added", 1)
        assert merge_database(store, tmp_path / "b.db").count("known") == 1
        with store.reading() as connection:
            assert len(load_ceilings(connection, "f")) == 2


# --- which databases ---


def test_an_older_schema_is_migrated_on_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of the first schema, as that benchrun wrote it."""
    from sqlalchemy import create_engine

    from benchrun.results import migrations

    old = tmp_path / "old.db"
    engine = create_engine(f"sqlite:///{old}")
    with engine.begin() as connection:
        migrations.upgrade(connection, "0001")
        connection.exec_driver_sql(
            "INSERT INTO environments (id, digest, fingerprint, details) VALUES (1, 'd', 'f', '{}')"
        )
        connection.exec_driver_sql(
            "INSERT INTO runs (id, label, started, state, environment_id, request, origin, version)"
            " VALUES ('old-run', '', '2026-01-01 00:00:00.000000', 'finished', 1, '{}', 'benchrun', '0.1')"
        )
    engine.dispose()
    before = old.read_bytes()
    with open_store(tmp_path / "new.db") as store:
        assert outcomes(merge_database(store, old)) == {"old-run": "added"}
        assert [run.id for run in store.runs()] == ["old-run"]
    assert old.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new.db", "old.db"]  # no backup beside it


def test_databases_that_cannot_be_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fill: Callable[..., None]
) -> None:
    here, newer, foreign, text, good = (
        tmp_path / name for name in ("here.db", "newer.db", "foreign.db", "text.db", "good.db")
    )
    for path in (here, newer, good):
        with open_store(path) as store:
            fill(store, f"run-{path.stem}")
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("UPDATE benchrun_version SET version_num = '9999'")
        connection.commit()
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE other (x)")
    text.write_text("no database")
    with open_store(here) as store:
        for path, message in (
            (newer, "was written by a newer benchrun"),
            (foreign, "belongs to another program"),
            (text, "is not a SQLite database"),
            (here, "cannot be merged into itself"),
        ):
            with pytest.raises(StoreError, match=message):
                merge_database(store, path)
        with pytest.raises(NoDatabase, match="there is no database at"):
            merge_database(store, tmp_path / "none.db")
    assert command(["merge", str(newer), str(good), "--db", str(here), "--json"]) == 1
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert told.err.count("\n") == 1 and "newer benchrun" in told.err
    assert [each["items"][0]["outcome"] for each in found["merged"]] == ["added"] and len(found["failed"]) == 1


def test_values_that_benchrun_cannot_have_written(tmp_path: Path, fill: Callable[..., None]) -> None:
    with open_store(tmp_path / "bad.db") as store:
        fill(store, "good")
        fill(store, "z-bad", 1)
    with closing(sqlite3.connect(tmp_path / "bad.db")) as connection:
        connection.execute("UPDATE measurements SET started = 'yesterday' WHERE run_id = 'z-bad'")
        connection.commit()
    with open_store(tmp_path / "here.db") as store:
        with pytest.raises(StoreError, match=r"bad\.db holds a value that benchrun cannot have written"):
            merge_database(store, tmp_path / "bad.db")
        assert [run.id for run in store.runs()] == ["good"]  # what came before it is whole


# --- killed ---

MERGER = """
import sys
from benchrun.results import open_store
from benchrun.results.merge import merge_database
with open_store(sys.argv[1]) as store:
    print("ready", flush=True)
    merge_database(store, sys.argv[2])
    print("done", flush=True)
"""


def test_killed_at_random_moments_and_repeated(tmp_path: Path, fill: Callable[..., None]) -> None:
    """SIGKILL while it writes, several times over: what is there afterwards is what an undisturbed merge gives."""
    there, here, own, undisturbed = (tmp_path / f"{name}.db" for name in ("there", "here", "own", "undisturbed"))
    with open_store(there) as store:
        for number in range(8):
            fill(store, f"run-{number}", number, points=12, replicates=3)
    with open_store(undisturbed) as store:
        fill(store, "own", 99)
    shutil.copy(undisturbed, own)
    shutil.copy(own, here)
    started = time.monotonic()
    with open_store(undisturbed) as store:
        merge_database(store, there)
    whole = time.monotonic() - started
    dice, halfway, longest = random.Random(7), 0, whole
    for kill in range(60):
        if kill >= 8 and halfway:
            break
        slept = dice.uniform(0, longest)
        with subprocess.Popen(
            [sys.executable, "-c", MERGER, str(here), str(there)], stdout=subprocess.PIPE, text=True
        ) as merger:
            assert merger.stdout is not None and merger.stdout.readline() == "ready\n"
            time.sleep(slept)
            merger.kill()
        with open_store(here, read_only=True) as store:
            there_now = len(store.runs())
        halfway += 1 < there_now < 9
        if there_now == 9 and not halfway:  # it had ended before: once more from the beginning, and sooner
            here, longest = tmp_path / f"here-{kill}.db", slept
            shutil.copy(own, here)
    with open_store(here) as store:
        assert outcomes(merge_database(store, there)).keys() == {f"run-{number}" for number in range(8)}
    assert halfway > 0, "no kill fell into the merge"
    assert contents(here) == contents(undisturbed)
