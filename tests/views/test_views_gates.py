"""Gates as the dashboard reads them: small cases, worked out by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from benchrun.results.gate_rows import GatePointRow, GateRow, GateSideRow, GateVerdictRow
from benchrun.results.gates import add_gate, finish_gate, remove_gate
from benchrun.results.store import Store
from benchrun.results.views.frames import rows_of
from benchrun.results.views.freshness import freshness
from benchrun.results.views.gates import gate_marks, latest_gates, open_verdicts
from tests.dashboard.stores import MOMENT, cost, environment, run, store_run, sweep

POINTS = sweep()


def metric(point: str, name: str, verdict: str, ratio: float | None) -> GateVerdictRow:
    names = ("fresh_ratio", "p", "p_adjusted", "sd", "excluded_slowdown", "detectable_slowdown", "base", "new")
    given: dict[str, Any] = dict.fromkeys(names)
    low, high = (None, None) if ratio is None else (ratio - 0.01, ratio + 0.01)
    return GateVerdictRow(
        point=point, metric=name, verdict=verdict, stage="confirm", reason="", launches=10, ratio=ratio, ratio_low=low, ratio_high=high,
        fresh_launches=0, improved=False, check_work=False, **given,
    )  # fmt: skip


def gate(
    store: Store,
    number: int,
    verdicts: dict[str, str],
    *,
    label: str = "main",
    accepted: str = "",
    state: str = "finished",
    machine: int = 1,
    metrics: tuple[GateVerdictRow, ...] = (),
) -> str:
    """A gate of two runs; point `a` is the first of POINTS in both runs, `b` the second and so on."""
    about = [run(2 * number + side, label=f"{label} {side}", environment=environment(machine)) for side in (0, 1)]
    for each in about:
        store_run(store, each, POINTS, {point.key: [cost(point)] for point in POINTS})
    started = about[1].started + timedelta(hours=1)
    row: dict[str, Any] = {"id": f"gate-{number}", "label": label, "started": started, "kind": "session", "seed": 1}
    settings: dict[str, Any] = {"settings": {}, "plan": {}}
    sides = [
        GateSideRow(side=side, subject=side, label=f"{label} {side}", run_id=each.id, commit=each.commit)
        for side, each in zip(("base", "new"), about, strict=True)
    ]
    keys = dict(zip("abcdef", (point.key for point in POINTS), strict=True))

    def points(given: dict[str, str]) -> list[GatePointRow]:
        return [
            GatePointRow(
                key=key, label=f"point {key}", device_class="cpu", worker="w", in_base=True, in_new=True, base_key=keys[key],
                new_key=keys[key], verdict=given.get(key), reason=f"why {key}" if key in given else "",
                accepted=accepted if given.get(key) == "FAIL" else "",
            )
            for key in verdicts
        ]  # fmt: skip

    add_gate(store, GateRow(**row, **settings, state="running"), sides, points({}))
    if state != "running":
        worst = next(word for word in ("FAIL", "INCONCLUSIVE", "PASS", "NEW") if word in verdicts.values())
        ended = GateRow(
            **row, **settings, state=state, verdict=worst, exit_code=0, finished=started + timedelta(hours=1)
        )
        finish_gate(store, ended, points(verdicts), metrics)
    return str(row["id"])


def test_latest_gates_first(store: Store) -> None:
    gate(store, 1, {"a": "PASS", "b": "FAIL", "c": "FAIL"}, accepted="known")
    gate(store, 2, {"a": "PASS"}, label="other", state="running")
    with store.reading() as connection:
        second, first = latest_gates(connection)
        assert [each.id for each in latest_gates(connection, limit=1)] == ["gate-2"]
    assert (first.id, first.verdict, first.state, first.points, first.accepted) == (
        "gate-1", "FAIL", "finished", {"PASS": 1, "FAIL": 2}, 2,
    )  # fmt: skip
    assert first.sides["new"].run_id == run(3).id and first.sides["base"].commit == f"{2:040x}"
    assert (second.verdict, second.finished, second.points) == (None, None, {None: 1})
    assert first.started == MOMENT + timedelta(days=3, hours=1)


def test_a_verdict_is_open_until_a_later_gate_of_its_label_decides(store: Store) -> None:
    def shown() -> list[tuple[str, str, str]]:
        with store.reading() as connection:
            return [(row.gate_id, row.key, row.verdict) for row in rows_of(open_verdicts(connection))]

    gate(store, 1, {"a": "FAIL", "b": "PASS", "c": "INCONCLUSIVE", "d": "NEW"})
    assert shown() == [("gate-1", "a", "FAIL"), ("gate-1", "c", "INCONCLUSIVE")]
    gate(store, 2, {"a": "PASS"}, label="other")  # another comparison says nothing of this one
    gate(store, 3, {"a": "PASS", "c": "PASS"}, state="running")  # nor does one that has not ended
    gate(store, 6, {"a": "PASS", "c": "PASS"}, machine=2)  # nor one on another machine
    assert shown() == [("gate-1", "a", "FAIL"), ("gate-1", "c", "INCONCLUSIVE")]
    gate(store, 4, {"c": "PASS", "b": "FAIL"})
    assert shown() == [("gate-4", "b", "FAIL"), ("gate-1", "a", "FAIL")]
    gate(store, 5, {"a": "FAIL"}, accepted="the price of a fix")
    assert shown() == [("gate-4", "b", "FAIL")]
    with store.reading() as connection:
        (row,) = rows_of(open_verdicts(connection))
        assert open_verdicts(connection, limit=0).empty
    assert (row.run_id_base, row.run_id_new, row.reason) == (run(8).id, run(9).id, "why b")
    store.remove_run(run(9).id)
    with store.reading() as connection:
        (row,) = rows_of(open_verdicts(connection))
    assert (row.run_id_base, row.run_id_new) == (run(8).id, None)
    remove_gate(store, "gate-4")
    assert shown() == [("gate-1", "c", "INCONCLUSIVE")]  # what it had decided is open again


def test_marks_lie_at_the_new_sides_run(store: Store) -> None:
    metrics = (
        metric("a", "latency", "FAIL", 1.05), metric("a", "p95", "FAIL", 1.2), metric("a", "throughput", "PASS", 1.5),
        metric("b", "latency", "PASS", 1.0), metric("c", "latency", "INCONCLUSIVE", None),
    )  # fmt: skip
    gate(store, 1, {"a": "FAIL", "b": "PASS", "c": "INCONCLUSIVE"}, metrics=metrics)
    gate(store, 2, {"a": "FAIL"}, accepted="known")
    gate(store, 3, {"a": "FAIL"}, machine=2)
    gate(store, 4, {"a": "PASS"}, state="interrupted")
    keys = [POINTS[0].key, POINTS[2].key]
    with store.reading() as connection:
        found = gate_marks(connection, f"{1:016x}", keys)
        assert gate_marks(connection, "none", keys).empty and gate_marks(connection, f"{1:016x}", []).empty
        opened = {row.key: row for row in rows_of(open_verdicts(connection))}
    rows = [(row.run_id, row.point_key, row.verdict, row.accepted, row.metric) for row in rows_of(found)]
    assert rows == [
        (run(3).id, keys[0], "FAIL", "", "p95"),
        (run(3).id, keys[1], "INCONCLUSIVE", "", "latency"),
        (run(5).id, keys[0], "FAIL", "known", None),
    ]
    assert (found["ratio"][0], found["ratio_high"][0]) == pytest.approx((1.2, 1.21)) and found["ratio"][1] is None
    assert set(opened) == {"a", "c"}  # a: on the other machine
    store.remove_run(run(3).id)
    with store.reading() as connection:
        assert gate_marks(connection, f"{1:016x}", keys)["run_id"].tolist() == [run(5).id]


def test_a_gate_changes_the_token(store: Store) -> None:
    seen = set()

    def token() -> int:
        with store.reading() as connection:
            seen.add(freshness(connection))
        return len(seen)

    gate(store, 1, {"a": "PASS"})
    assert token() == 1
    remove_gate(store, "gate-1")
    assert token() == 2 == token()


def test_without_gates(store: Store) -> None:
    with store.reading() as connection:
        assert latest_gates(connection) == [] and open_verdicts(connection).empty
