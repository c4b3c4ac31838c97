"""What the views read, on every kind of database that can be tested here."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchrun.dashboard.labels import add_series
from benchrun.results.published import load
from benchrun.results.published.comparison import compare
from benchrun.results.store import Store, open_store
from benchrun.results.views.catalogue import groups, machines
from benchrun.results.views.changes import latest_changes
from benchrun.results.views.environments import engine_evidence, environment_uses
from benchrun.results.views.failures import latest_failures
from benchrun.results.views.frames import record_frame, rows_of
from benchrun.results.views.freshness import freshness
from benchrun.results.views.history import environment_details, series_results
from benchrun.results.views.latest import latest_results, run_results
from benchrun.results.views.measured import conditions, facts_of, measured_points
from benchrun.results.views.runs import latest_outcomes, planned_count, run_before, run_entry, run_list, totals
from benchrun.results.views.sampling import samples_ms
from benchrun.results.views.summaries import summarise
from tests.dashboard.stores import BUILDS, PROTOCOL, cost, failure, measurement, point, run, store_run, sweep


@pytest.fixture
def several(store: Store) -> Store:
    BUILDS["several"](store)
    return store


def the_group(store: Store, **wanted: Any) -> Any:
    with store.reading() as connection:
        found = [entry.group for entry in groups(connection)]
    usual = {
        "fingerprint": f"{1:016x}",
        "device": "cpu",
        "model": "tiny",
        "head": "encoder",
        "workload": "padded",
        "protocol": PROTOCOL,
    } | wanted
    return next(group for group in found if all(getattr(group, name) == value for name, value in usual.items()))


def test_groups_are_what_may_share_an_axis(several: Store) -> None:
    with several.reading() as connection:
        found = groups(connection)
        counts = {
            (
                e.group.fingerprint[-1],
                e.group.device,
                e.group.model,
                e.group.head,
                e.group.workload,
                e.group.protocol == PROTOCOL,
            ): e.points
            for e in found
        }
    assert counts == {
        ("1", "cpu", "tiny", "encoder", "padded", True): 24,
        ("2", "cuda:0", "tiny", "encoder", "padded", True): 6,
        ("1", "cpu", "tiny", "encoder", "padded", False): 6,
        ("1", "cpu", "tiny", "encoder", "packed", True): 6,
        ("1", "cpu", "bert-base", "qa", "padded", True): 6,
    }
    assert found[0].group.model == "tiny" and found[0].last == max(entry.last for entry in found)


def test_latest_results_are_of_the_last_run(several: Store) -> None:
    group = the_group(several)
    with several.reading() as connection:
        frame = latest_results(connection, group)
    by_variant = frame.groupby("variant")["run_id"].agg(set)
    assert {name: {each[-3:] for each in found} for name, found in by_variant.items()} == {
        "eager": {"006"},
        "compile": {"006"},
        "cudagraph": {"010"},
    }
    points = summarise(frame)
    assert len(points) == 24 and set(points["status"]) == {"ok", "oom", "crashed", "invalid"}
    fine = points[points["status"] == "ok"]
    assert set(fine["launches"]) == {3} and fine["p50_ms"].between(0.5, 7).all()
    assert fine["threads"].eq(2).all() and fine["commit"].eq(f"{6:040x}").all()


def test_an_interrupted_launch_does_not_hide_an_outcome(store: Store) -> None:
    points = sweep()
    store_run(store, run(1), points, {each.key: [cost(each)] for each in points})
    store_run(store, run(2), points, {points[0].key: ["interrupted"], points[1].key: ["timeout"]}, state="interrupted")
    with store.reading() as connection:
        frame = summarise(latest_results(connection, the_group(store)))
        planned = summarise(run_results(connection, run(2).id))
    assert {row.point_key: (row.run_id[-1], row.status) for row in rows_of(frame)} == {
        each.key: ("2", "timeout") if each is points[1] else ("1", "ok") for each in points
    }
    assert planned["status"].tolist() == ["interrupted", "timeout", *["interrupted"] * 4]


def test_superseded_rows_do_not_count(store: Store) -> None:
    each = point()
    about = run(1)
    store_run(store, about, [each], {each.key: [5.0]})
    store.add_measurement(about.id, None, measurement(each.key, about.started + timedelta(hours=1), 7.0))
    with store.reading() as connection:
        for frame in (
            latest_results(connection, the_group(store)),
            run_results(connection, about.id),
            series_results(connection, f"{1:016x}", [each.key]),
        ):
            assert len(frame) == 1 and 6.5 < frame["host_p50_ms"].iloc[0] < 7.5


def test_a_record_gives_the_same_points(several: Store) -> None:
    for overview in several.runs():
        with several.reading() as connection:
            read = summarise(run_results(connection, overview.id))
        other = summarise(record_frame(several.run(overview.id)))
        same = [name for name in read.columns if name not in ("environment_id",)]
        for name in same:
            left, right = read[name].tolist(), other[name].tolist()
            assert [x if x == x else None for x in left] == [x if x == x else None for x in right], name


def test_changes_are_of_each_series_last_two_runs(several: Store) -> None:
    with several.reading() as connection:
        found = latest_changes(connection)
        few = latest_changes(connection, runs=2)
    cpu = found[found["fingerprint"] == f"{1:016x}"]
    assert set(cpu["run_id_new"].str[-3:]) == {"006"} and set(cpu["run_id_base"].str[-3:]) == {"005"}
    assert len(cpu) == 17  # 18 points, one never ran
    gpu = found[found["fingerprint"] == f"{2:016x}"]
    assert len(gpu) == 6 and set(gpu["word"]) <= {"same", "unclear"}
    assert cpu["status_new"].value_counts().to_dict() == {"ok": 16, "crashed": 1}
    assert few.empty


def test_a_slowdown_is_a_change(several: Store) -> None:
    with several.reading() as connection:
        several_runs = [each.id for each in run_list(connection)]
    for run_id in several_runs:
        if run_id[-3:] in ("006", "007", "008", "009", "010"):
            several.remove_run(run_id)
    with several.reading() as connection:
        found = latest_changes(connection)
    assert set(found["word"]) == {"slower"} and found["ratio"].between(1.25, 1.36).all()


def test_runs_their_outcomes_and_neighbours(several: Store) -> None:
    with several.reading() as connection:
        listed = run_list(connection)
        outcomes = latest_outcomes(connection, limit=5)
        assert [each.id[-3:] for each in listed] == [f"{n:03d}" for n in range(10, 0, -1)]
        assert run_entry(connection, listed[3].id) == listed[3] and run_entry(connection, "none") is None
        assert [each.id[-3:] for each in run_list(connection, "RUN 1")] == ["010", "001"]
        assert run_list(connection, "%") == [] and len(run_list(connection, limit=2)) == 2
        assert (run_before(connection, listed[4].id) or "")[-3:] == "005"
        assert run_before(connection, listed[9].id) is None and run_before(connection, "none") is None
        assert (run_before(connection, listed[2].id) or "")[-3:] == "007"  # the run between was on another machine
        assert run_before(connection, listed[0].id) is None  # nobody else planned its points
        assert planned_count(connection, listed[4].id) == 18
        sums = totals(connection)
    assert (sums.runs, sums.machines) == (10, 2) and sums.measurements == 6 * 54 + 2 * 12 + 18 + 6
    sixth = outcomes[4]
    assert (sixth.points, sixth.ok, sixth.failed) == (18, 16, 2)
    assert sixth.engines == (("torch", "compile"), ("torch", "eager")) and sixth.models == ("tiny",)


def test_failures_newest_first(several: Store) -> None:
    with several.reading() as connection:
        found = latest_failures(connection)
        assert found["status"].tolist()[:6] == ["invalid"] * 6
        assert found["run_started"].is_monotonic_decreasing and len(latest_failures(connection, limit=3)) == 3
        assert latest_failures(connection, runs=1)["parity_reason"].str.contains("L2").all()


def test_series_over_all_runs(several: Store) -> None:
    key = sweep()[1].key
    with several.reading() as connection:
        found = summarise(series_results(connection, f"{1:016x}", [key]))
        details = environment_details(connection, sorted(set(found["environment_id"])))
    assert [run_id[-3:] for run_id in found["run_id"]] == [f"{n:03d}" for n in range(1, 7)]
    medians = [row.p50_ms for row in rows_of(found)]
    assert medians[5] / medians[0] == pytest.approx(1.3, rel=0.02)
    assert [each["libraries"]["torch"] for each in details.values()] == ["2.13.0", "2.14.0"]


def test_samples_in_milliseconds(several: Store) -> None:
    with several.reading() as connection:
        frame = run_results(connection, run(7).id)
        ids = [int(each) for each in frame["measurement_id"]]
        host, device = (samples_ms(connection, ids, clock) for clock in ("host", "device"))
        first = host[ids[0]]
        assert first is not None and np.median(first) == pytest.approx(frame["host_p50_ms"].iloc[0])
        assert set(device) == set(ids) and samples_ms(connection, [-1], "host") == {}


def test_damaged_samples_are_none(tmp_path: Path) -> None:
    import sqlite3

    each = point()
    with open_store(tmp_path / "a.db") as opened:
        store_run(opened, run(1), [each], {each.key: [5.0]})
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("UPDATE samples SET data = x'00'")
    with open_store(tmp_path / "a.db") as opened, opened.reading() as reading:
        assert samples_ms(reading, [1], "host") == {1: None}


def test_machines_and_their_environments(several: Store) -> None:
    with several.reading() as connection:
        seen = machines(connection)
        assert [(m.fingerprint[-1], m.environments, m.runs) for m in seen] == [("1", 2, 8), ("2", 1, 2)]
        assert seen[0].details["libraries"]["torch"] == "2.13.0"  # that of the newest run
        uses = environment_uses(connection)
        assert sorted(use.runs for use in uses) == [2, 3, 5] and len(environment_uses(connection, f"{2:016x}")) == 1
        evidence = engine_evidence(connection, f"{1:016x}")
    rows = {(row.variant, row.dtype): row for row in rows_of(evidence)}
    assert rows["cudagraph", "fp32"].invalid == 6 and rows["cudagraph", "fp32"].ok == 0
    eager = rows["eager", "fp32"]
    assert eager.ok == eager.right and eager.other == 6 * 3 + 1 and eager.worst == pytest.approx(1e-6)


def test_freshness_changes_with_everything_that_is_shown(store: Store) -> None:
    seen = set()

    def token() -> Any:
        with store.reading() as connection:
            return freshness(connection)

    def changed() -> None:
        found = token()
        assert found == token() and found not in seen
        seen.add(found)

    changed()
    points = sweep()
    about = run(1)
    store.add_run(about, points, 1)
    changed()
    store.add_measurement(about.id, None, measurement(points[0].key, about.started))
    changed()
    store.add_measurement(about.id, None, failure(points[1].key, about.started, "oom"))
    changed()
    store.finish_run(about.id, "finished")
    changed()
    store.extend_run(about.id, points, 2)
    changed()
    store_run(store, run(2), points, {})
    changed()
    store.remove_run(about.id)
    changed()


def test_nothing_at_all(store: Store) -> None:
    with store.reading() as connection:
        assert not groups(connection) and not machines(connection)
        assert not run_list(connection) and not latest_outcomes(connection)
        assert latest_changes(connection).empty and latest_failures(connection).empty
        assert engine_evidence(connection, "none").empty and run_results(connection, "none").empty
        assert totals(connection).measurements == 0 and freshness(connection).runs == 0


@pytest.mark.parametrize("mix", ["lengths:uniform:1-8", "loadgen:offline:lognormal:177:32-384"])
def test_layouts_of_one_mix_share_an_axis(store: Store, mix: str) -> None:
    points = [point(workload=f"{mix}:{layout}", batch=batch) for layout in ("padded", "packed") for batch in (1, 8)]
    other = point(workload="padded")
    store_run(store, run(1), [*points, other], {each.key: [cost(each)] for each in (*points, other)})
    group = the_group(store, workload=mix)
    with store.reading() as connection:
        found = add_series(summarise(latest_results(connection, group)))
        assert {entry.group.workload: entry.points for entry in groups(connection)} == {mix: 4, "padded": 1}
        alone = add_series(summarise(latest_results(connection, the_group(store))))
    assert set(found["point_key"]) == {each.key for each in points}
    assert set(found["series"]) == {"torch:eager · padded", "torch:eager · packed"}
    assert set(alone["series"]) == {"torch:eager"}


def test_imported_points_are_groups_of_their_own(store: Store) -> None:
    BUILDS["imported"](store)
    with store.reading() as connection:
        (entry,) = groups(connection)
        assert entry.points == 3 and entry.group.model is None and entry.group.device is None
        points = summarise(latest_results(connection, entry.group))
        assert measured_points(points, "a machine", {}) == []
    assert sorted(points["mean_ms"].fillna(0)) == [0, 2, 2] and points["batch"].isna().all()


def test_our_points_beside_published_ones(several: Store) -> None:
    group = the_group(several, model="bert-base", head="qa")
    with several.reading() as connection:
        points = summarise(latest_results(connection, group))
        facts = facts_of(connection, sorted(set(points["run_id"])), points["point_key"].tolist())
    ours = measured_points(points, "Processor 1", facts)
    beside = compare(ours, load("demobert_trt7_t4"))
    assert len(ours) == 6 and {(row.measured.batch, row.published.seq) for row in beside} == {
        (1, 128),
        (4, 128),
        (16, 128),
    }
    assert any(text.startswith("hardware: published NVIDIA T4") for text in beside[0].differs)
    found = conditions(PROTOCOL, "padded", {"cuda_graph": True, "accumulate_dtype": "fp16"})
    assert (found.graph, found.transfers, found.mask, found.accumulation, found.percentile) == (
        "on",
        "excluded",
        "all ones",
        "fp16",
        "linear",
    )
    bare = conditions("import:trtexec", None, {})
    assert (bare.graph, bare.transfers, bare.timing, bare.inputs) == (None,) * 4
