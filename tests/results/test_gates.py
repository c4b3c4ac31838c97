"""Gate runs in the store: what goes in comes out, on every database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from benchrun.results.errors import StoreError
from benchrun.results.gate_rows import GateLaunchRow, GatePointRow, GateRow, GateSideRow, GateVerdictRow
from benchrun.results.gates import (
    add_gate,
    add_gate_launch,
    finish_gate,
    list_gates,
    load_gate,
    remove_gate,
    resolve_gate,
    stored_sessions,
)
from benchrun.results.store import Store, open_store
from tests.results.conftest import NewMeasurement, NewPoint, NewRun

MOMENT = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
GATE = GateRow(
    id="20260302-100000-gggg",
    label="a gate",
    started=MOMENT,
    state="running",
    kind="session",
    seed=2**40,
    settings={"alpha": 0.01, "max_launches": None},
    plan={"metrics": ["p50"], "aa": False, "foreign": True},
    request={"base": {"ref": "main"}},
    limits=({"column": "p95_ms", "value": 10.0},),
    acceptances=({"point": "p", "reason": "so", "expiry": "", "expired": False},),
    notes=("a note",),
    version="0.1.0",
)
POINT = GatePointRow(
    key="p", label="point", device_class="cpu", worker="w", in_base=True, in_new=True, base_key="k1", new_key="k2"
)
LAUNCH = GateLaunchRow(
    place=0, side="base", stage=0, pair=0, fingerprint="f", points=("p",), control_ms=1.5, started=MOMENT, finished=MOMENT
)  # fmt: skip
VERDICT = GateVerdictRow(
    point="p", metric="p50", verdict="FAIL", stage="confirm", reason="slow", launches=11, ratio=1.1, ratio_low=1.05,
    ratio_high=1.15, fresh_ratio=None, fresh_launches=8, p=1e-9, p_adjusted=2e-9, sd=0.01, excluded_slowdown=0.15,
    detectable_slowdown=0.02, base=1.0, new=1.1, improved=False, check_work=False,
)  # fmt: skip


def sides(base: str | None = None, new: str | None = None) -> list[GateSideRow]:
    return [
        GateSideRow(side="base", subject="commit a", label="main a", run_id=base, commit="a" * 40, details={"x": 1}),
        GateSideRow(side="new", subject="commit b", label="HEAD b", run_id=new),
    ]


def test_a_gate_comes_back_as_it_went_in(location: str) -> None:
    with open_store(location) as store:
        add_gate(store, GATE, sides(), [POINT, replace(POINT, key="o", in_base=False, base_key=None)])
        add_gate_launch(store, GATE.id, LAUNCH)
        add_gate_launch(store, GATE.id, replace(LAUNCH, place=1, side="new", control_ms=None))
        record = load_gate(store, GATE.id)
        assert record.gate == GATE
        assert list(record.sides.values()) == sides()
        assert [each.key for each in record.points] == ["p", "o"] and record.points[0] == POINT
        assert record.launches == (LAUNCH, replace(LAUNCH, place=1, side="new", control_ms=None))
        judged = replace(POINT, verdict="FAIL", reason="slow", accepted="so")
        ended = replace(GATE, state="finished", stopped="max_launches", verdict="FAIL", exit_code=1, document="{}\n",
                        finished=MOMENT + timedelta(minutes=5), notes=("a note", "another"))  # fmt: skip
        finish_gate(store, ended, [judged], [VERDICT])
        finish_gate(store, ended, [judged], [VERDICT])  # deciding twice is no second verdict
        record = load_gate(store, GATE.id)
        assert (record.gate, record.points[0], record.verdicts) == (ended, judged, (VERDICT,))
        assert list_gates(store) == [ended]
        remove_gate(store, GATE.id)
        assert list_gates(store) == []
        for act in (lambda: remove_gate(store, GATE.id), lambda: load_gate(store, GATE.id)):
            with pytest.raises(StoreError, match="there is no gate run"):
                act()


def test_gates_are_found_by_any_part_of_their_id(location: str) -> None:
    with open_store(location) as store:
        with pytest.raises(StoreError, match="holds no gate runs yet"):
            resolve_gate(store, "last")
        for tail, hours in (("gggg", 0), ("hhhh", 1)):
            row = replace(GATE, id=f"20260302-100000-{tail}", started=MOMENT + timedelta(hours=hours))
            add_gate(store, row, sides(), [])
        assert resolve_gate(store, "last") == "20260302-100000-hhhh"
        assert resolve_gate(store, "last~1") == GATE.id
        with pytest.raises(
            StoreError, match=r"no gate run 'last~7': .* holds fewer gate runs than that; 'benchrun gate ls' lists them"
        ):
            resolve_gate(store, "last~7")
        assert resolve_gate(store, "GGGG") == GATE.id == resolve_gate(store, GATE.id)
        with pytest.raises(StoreError, match="fits 2 gate runs"):
            resolve_gate(store, "2026")
        for text in ("nope", " "):
            with pytest.raises(StoreError, match="the latest are 20260302-100000-hhhh, 20260302-100000-gggg"):
                resolve_gate(store, text)
        assert [each.id[-4:] for each in list_gates(store, 1)] == ["hhhh"]


def test_a_removed_run_leaves_its_gate(location: str, new_run: NewRun, new_point: NewPoint) -> None:
    with open_store(location) as store:
        store.add_run(new_run(), [new_point()], 1)
        add_gate(store, GATE, sides(base=new_run().id), [POINT])
        store.remove_run(new_run().id)
        assert load_gate(store, GATE.id).sides["base"].run_id is None


def test_sessions_of_a_point(
    location: str, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement
) -> None:
    def add(store: Store, id: str, **changes: object) -> None:
        store.add_run(new_run(id, **changes), [new_point()], 2)
        store.add_measurement(id, None, new_measurement(samples=[1000, 2000]))

    with open_store(location) as store:
        add(store, "plain")
        add(store, "g-base", origin="gate", request={"gate": "g", "side": "base"})
        add(store, "g-new", origin="gate", request={"gate": "g", "side": "new"})
        failed = new_measurement(status="oom", replicate=1)
        store.add_measurement("plain", None, failed)
        fingerprint = new_run().environment.fingerprint
        found = stored_sessions(store, [new_point().key], fingerprint)
        assert [session for session, _ in found] == ["plain", "g"]
        assert all(row.host is not None and row.host.n == 2 for _, row in found)
        assert stored_sessions(store, [new_point().key], "elsewhere") == []
