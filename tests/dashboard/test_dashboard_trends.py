"""Trends, and gates as marks on them and in the overview's table."""

from __future__ import annotations

import pytest

from tests.dashboard.conftest import Databases
from tests.dashboard.test_dashboard_pages import TINY, charts, open_page, said


def test_trends_mark_steps_and_environments(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchrun.dashboard.charts.figures import FIGURES
    from benchrun.dashboard.components.database import database
    from benchrun.dashboard.pages.trends import history, marks_of
    from tests.dashboard.stores import sweep

    test = open_page(
        "trends",
        str(databases("several")),
        monkeypatch,
        **TINY,
        batch="4",
        seq="32",
    )
    assert charts(test) == 1 and "Click on a dot" in said(test)
    opened = database()
    course = opened.read(history, f"{1:016x}", (sweep()[1].key,))
    marks = marks_of(opened, course, FIGURES["p50"])
    assert [(row.kind, row.run_id[-4:]) for row in marks.itertuples()] == [("environment", "r004")]


def test_trends_mark_a_new_level_where_it_begins(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rule of `benchrun history`, for each series drawn."""
    import pandas as pd

    from benchrun.dashboard.charts.figures import FIGURES
    from benchrun.dashboard.components.database import database
    from benchrun.dashboard.pages.trends import history, marks_of
    from tests.dashboard.stores import sweep

    open_page("trends", str(databases("several")), monkeypatch, model="tiny", hardware=f"{1:016x}/cpu")
    opened = database()
    first = opened.read(history, f"{1:016x}", (sweep()[1].key,)).iloc[:1]
    course = pd.concat([first.assign(run_id=f"r{place:03}", series="one") for place in range(20)], ignore_index=True)
    shown = FIGURES["p50"]
    course[shown.column] = 10.0 + 0.01 * (course.index % 3)
    other = course.assign(series="two")
    course.loc[12:, shown.column] *= 1.2
    marks = marks_of(opened, pd.concat([course, other], ignore_index=True), shown)
    (mark,) = [row for row in marks.itertuples() if row.kind == "step"]
    assert (mark.run_id, mark.text) == ("r012", "one level +20.0 %")


def test_gates_are_listed_and_open_verdicts_stand_out(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(open_page("overview", str(databases("gated")), monkeypatch))
    assert "2 open verdicts" in text and "6 PASS" in text and "3 of the FAILs accepted" in text
    assert "in progress" in text and "against a stored run" in text and "INCONCLUSIVE" in text
    assert "base=20260305-120000-r004&amp;new=20260308-120000-r007" in text
    assert "Gates" not in said(open_page("overview", str(databases("one")), monkeypatch))


def test_trends_mark_verdicts_and_draw_accepted_changes_apart(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchrun.dashboard.components.database import database
    from benchrun.dashboard.gates import mark_rows
    from benchrun.results.views.gates import gate_marks
    from tests.dashboard.stores import sweep

    test = open_page("trends", str(databases("gated")), monkeypatch, batch="1", seq="32")
    assert charts(test) == 1 and "a gate's verdict" in said(test)
    keys = tuple(each.key for each in sweep()[:2])
    verdicts = database().read(gate_marks, f"{1:016x}", keys)
    marks = [
        (each["run_id"][-4:], each["kind"], each["text"])
        for each in mark_rows(verdicts, dict(zip(keys, "ab", strict=True)))
    ]
    assert marks == [
        ("r002", "pass", "2 series gate PASS"),
        ("r004", "pass", "2 series gate PASS"),
        ("r005", "verdict", "2 series gate FAIL"),
        ("r006", "accepted", "2 series accepted: the price of a fix"),
        ("r007", "pass", "2 series gate PASS (stored base)"),
    ]
    one = mark_rows(verdicts[verdicts["point_key"] == keys[0]], {keys[0]: "a"})
    assert one[2]["text"] == "gate FAIL +30.0 %"
