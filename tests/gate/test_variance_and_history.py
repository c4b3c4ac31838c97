"""`benchrun variance` and `benchrun history`: the real command, real launches, real stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from benchrun.results.gate_rows import GateLaunchRow, GateRow, GateSideRow
from benchrun.results.gates import add_gate, add_gate_launch
from benchrun.results.series import measured_points, point_launches
from benchrun.results.store import Store, open_store
from benchrun.runner.cli import run as run_command
from benchrun.runner.cli.history_command import find_point
from benchrun.runner.cli.tables import point_name
from benchrun.runner.cli.variance_command import read_noise
from benchrun.runner.errors import UsageError
from tests.conftest import Bench
from tests.dashboard.stores import environment, point, run, store_run

SWEEP = ("--model", "tiny", "--threads", "1", "--seq", "8", "--iterations", "40", "--max-time", "2")


@pytest.fixture(scope="module")
def measured(make_bench: Callable[[], Bench]) -> Bench:
    """A variance run of 3 launches, after the one that warms up."""
    bench = make_bench()
    found = bench("variance", *SWEEP, "--launches", "3", "--json")
    assert found.status == 0, found.err
    document = json.loads(found.out)
    assert document["schema"] == "benchrun.variance/1"
    (only,) = document["points"]
    assert only["label"].startswith("torch:eager tiny")
    assert only["launches"] == 4
    assert only["figures"][0]["components"]["launches"] == 3
    assert 0 < only["figures"][0]["sd"] < 1
    assert document["gate"]["seconds"] > document["gate"]["launch_s"] > 0
    assert "the first launch warms the machine up" in found.err
    return bench


def test_variance_is_stored_as_an_ordinary_run(measured: Bench) -> None:
    with open_store(measured.db, read_only=True) as store:
        record = store.run(store.resolve_run("last"))
    assert record.run.label == "variance"
    assert record.run.state == "finished"
    assert [each.row.status for each in record.measurements] == ["ok"] * 4
    assert measured("show", "last").status == 0


def test_variance_of_a_stored_run(measured: Bench) -> None:
    found = measured("variance", "--run", "last")
    assert found.status == 0
    assert "Between launches: p50 " in found.out
    assert "Between sessions: unknown" in found.out
    assert "torch:eager tiny" in found.out


def test_variance_says_where_the_machine_was_shared(tmp_path: Path) -> None:
    with open_store(tmp_path / "runs.db") as store:
        for number, flags in ((1, ("noisy_host",)), (2, ())):
            store_run(store, run(number), [point()], {point().key: [5.0, 5.1, 5.2, 5.1]}, flags=flags)
        noisy, quiet = (read_noise(store, run(number).id).notes for number in (1, 2))
    assert noisy[-1] == "the CPU was not ours alone during 4 of 4 measurements: a quieter one finds smaller slowdowns"
    assert noisy[:-1] == quiet


def test_history_of_what_variance_measured(measured: Bench) -> None:
    found = measured("history", "torch:eager", "tiny", "s8")
    assert found.status == 0
    assert "commits: 1; a change needs at least 3 on either side" in found.out


def test_variance_of_a_side_of_a_gate_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "runs.db"
    with open_store(db) as store:
        about = replace(run(1, origin="gate"), request={"gate": "20260101-000000-abcd", "side": "new"})
        store_run(store, about, [point()], {point().key: [5.0, 5.1, 5.2]})
    assert run_command(["variance", "--run", "last", "--db", str(db)]) == 2
    assert f"'last' means one; the latest of gates and imports are {about.id}" in capsys.readouterr().err
    assert run_command(["variance", "--run", about.id, "--db", str(db)]) == 2
    said = capsys.readouterr().err
    assert f"run {about.id} is one side of a gate" in said
    assert "'benchrun gate show 20260101-000000-abcd'" in said and "leave --run out" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("variance", "--launches", "2"), "--launches 2 is too small: noise takes at least 3, better 20"),
        (("variance", "--run", "last", "--seq", "8"), "--run looks at a stored run, so leave out --seq"),
        (("variance", "--backend", "nothing"), "nothing"),
        (("history", "x", "--metric", "p95"), "unknown metric 'p95': choose from p50, throughput"),
    ],
)
def test_wrong_usage(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BENCHRUN_DB", str(tmp_path / "none.db"))
    monkeypatch.chdir(tmp_path)
    assert run_command(list(arguments)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1


# --- stores made up


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def fill(db: Path, *, slower_from: int = 8, runs: int = 14, **changes: object) -> None:
    with open_store(db) as store:
        for number in range(runs):
            ms = 5.0 * (1.08 if number >= slower_from else 1.0) * (1 + 0.002 * (number % 3))
            points = [point(seq=seq) for seq in (32, 128)]
            times = {each.key: [ms * 1.2, ms, ms * 1.001, ms * 0.999] for each in points}
            store_run(store, run(number, **changes), points, times)


def test_variance_takes_runs_of_the_same_versions_as_sessions(db: Path) -> None:
    fill(db, runs=4, slower_from=99, commit="c" * 40)
    with open_store(db) as store:
        points = [point(seq=seq) for seq in (32, 128)]
        other = {each.key: [9.0, 9.0, 9.1, 9.2] for each in points}
        store_run(store, run(5, commit="d" * 40), points, other)
        store_run(store, run(6, environment=environment(torch="2.12.0"), commit="c" * 40), points, other)
        store_run(store, run(7, environment=environment(2), commit="c" * 40), points, other)
        report = read_noise(store, run(3).id)
        assert report.sessions == 4
        assert report.launch_s > 0
        assert all(each.components.sessions == 4 for each in report.points[0].figures)
        # a run does not take later ones for its past
        assert read_noise(store, run(0).id).sessions == 1


def test_history_finds_the_commit(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(db)
    assert run_command(["history", "tiny", "s32", "--db", str(db), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "benchrun.history/1"
    (change,) = document["changes"]
    assert change["commit"] == run(8).commit
    assert change["ratio"] == pytest.approx(1.08, abs=0.01)
    assert len(document["commits"]) == 14
    assert run_command(["history", point(seq=32).key[:6], "--db", str(db)]) == 0
    out = capsys.readouterr().out
    assert out.count("% slower since") == 1
    assert "← +" in out
    assert "from here" in out
    assert all(len(line) <= 80 for line in out.splitlines()[3:])


def test_history_shows_new_versions(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(db, runs=2)
    with open_store(db) as store:
        new = run(9, environment=environment(torch="2.14.0"))
        store_run(store, new, [point(seq=32)], {point(seq=32).key: [5.0, "timeout"]})
    assert run_command(["history", "s32", "--db", str(db), "--metric", "throughput"]) == 0
    out = capsys.readouterr().out
    assert "torch 2.13.0 → 2.14.0" in " ".join(out.split())
    assert "1 (1 failed)" in out


def test_points_are_found_as_users_name_them(db: Path) -> None:
    fill(db, runs=1)
    with open_store(db) as store:
        store_run(store, run(5, environment=environment(2)), [point(seq=32)], {point(seq=32).key: [5.0]})
        with store.reading() as connection:
            points = measured_points(connection)
    key = point(seq=32).key
    for text in (key, key[:5], "tiny s32", "TORCH eager S32", point_name(point(seq=32))):
        found, others = find_point(points, text, None)
        assert (found.point.key, found.fingerprint, others) == (key, environment(2).fingerprint, 1)
    assert find_point(points, key, environment(1).fingerprint[:16])[0].fingerprint == environment(1).fingerprint
    with pytest.raises(UsageError, match=r"'tiny' fits 2 points: .*s32.*; .*s128.*; say more of the name, or the key"):
        find_point(points, "tiny", None)
    with pytest.raises(UsageError, match=r"no measured point fits 'large'; the latest are: .*s32"):
        find_point(points, "large", None)
    with pytest.raises(UsageError, match="was not measured on hardware 'abc': choose from 0000"):
        find_point(points, key, "abc")
    with pytest.raises(UsageError, match="there are no measured points yet"):
        find_point([], "tiny", None)
    with pytest.raises(UsageError, match="name a point"):
        find_point(points, "  ", None)


def test_points_of_one_name_are_told_apart_by_their_settings(db: Path) -> None:
    plain = point(seq=32)
    eager = replace(plain, key="e" * 16, options={**plain.options, "attention": "eager"})
    with open_store(db) as store:
        store_run(store, run(0), [plain, eager], {plain.key: [5.0], eager.key: [6.0]})
        with store.reading() as connection:
            points = measured_points(connection)
    with pytest.raises(UsageError, match=r"fits 2 points: .*attention=(eager|unset) \(.*attention=(eager|unset) \("):
        find_point(points, "tiny s32", None)
    assert find_point(points, "tiny s32 attention=eager", None)[0].point.key == eager.key
    assert find_point(points, "tiny s32 attention=unset", None)[0].point.key == plain.key


def test_long_lists_of_candidates_are_cut(db: Path) -> None:
    with open_store(db) as store:
        points = [point(seq=seq) for seq in range(1, 31)]
        store_run(store, run(0), points, {each.key: [5.0] for each in points})
        with store.reading() as connection, pytest.raises(UsageError, match="and 20 more; say more"):
            find_point(measured_points(connection), "tiny", None)


def test_launches_that_a_gate_took_to_warm_up_are_left_out(db: Path) -> None:
    with open_store(db) as store:
        about, measured = run(1, origin="gate"), point()
        store_run(store, about, [measured], {measured.key: [9.0, 5.0, 5.1]})
        add_warm_up(store, about.id)
        with store.reading() as connection:
            launches = point_launches(connection, [measured.key], about.environment.fingerprint)
    assert [each.replicate for each in launches] == [1, 2]


def add_warm_up(store: Store, run_id: str) -> None:
    moment = run(1).started
    gate = GateRow(id="g1", label="", started=moment, state="finished", kind="session", seed=1, settings={}, plan={})
    sides = [
        GateSideRow(side=side, subject=side, label=side, run_id=run_id if side == "new" else None)
        for side in ("base", "new")
    ]
    add_gate(store, gate, sides, [])
    for place, stage in ((0, 0), (1, 1)):
        launch = GateLaunchRow(
            place=place, side="new", stage=stage, pair=0, fingerprint="f", points=(), control_ms=None,
            started=moment, finished=moment + timedelta(seconds=1),
        )  # fmt: skip
        add_gate_launch(store, "g1", launch)
