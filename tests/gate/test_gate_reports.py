from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from benchrun.runner.gate.acceptance import Acceptance
from benchrun.runner.gate.outcome import CROSS_SESSION, GateOutcome
from benchrun.runner.gate.reports.annotations import command, gate_annotations
from benchrun.runner.gate.reports.bencher import bencher_document, bencher_json
from benchrun.runner.gate.reports.document import gate_document, gate_json, report_schema
from benchrun.runner.gate.reports.junit import junit_xml
from benchrun.runner.gate.reports.markdown import gate_markdown
from benchrun.runner.gate.reports.terminal import terminal_text
from benchrun.runner.gate.reports.wording import (
    clean_name,
    explain,
    explain_metric,
    percent,
    point_names,
    remarks,
    sides,
    title,
    word,
)
from benchrun.runner.gate.settings import GateSettings
from tests.gate.builders import make_plan
from tests.gate.outcomes import HOSTILE, hostile_outcome, make_outcome

QUIET = make_outcome()
FAILED = make_outcome(slower={"p3": 1.10})
LOST = make_outcome(lost=("p1",), throttled=("p2",))
UNTOLD = make_outcome(sd=0.12)
STOPPED = make_outcome(slower={"p3": 1.10}, settings=GateSettings(max_launches=8))
ACCEPTED = make_outcome(slower={"p3": 1.10}, acceptances=(Acceptance("point 3", "the new kernel is exact"),))
LIMITED = make_outcome(limits=("p50_ms=5",))
WITH_NEW = replace(
    QUIET.verdict, points=(replace(QUIET.verdict.points[0], verdict="NEW", metrics=()), *QUIET.verdict.points[1:])
)
CASES = {
    "quiet": QUIET,
    "failed": FAILED,
    "lost": LOST,
    "untold": UNTOLD,
    "stopped": STOPPED,
    "accepted": ACCEPTED,
    "limited": LIMITED,
    "hostile": hostile_outcome(),
    "running": replace(QUIET, finished=None, state="running"),
    "baseline": replace(QUIET, kind="baseline"),
}
every_case = pytest.mark.parametrize("outcome", CASES.values(), ids=CASES)


def test_cases_are_what_they_are_called() -> None:
    codes = {name: outcome.exit_code for name, outcome in CASES.items()}
    assert codes == {
        "quiet": 0, "failed": 1, "lost": 3, "untold": 4, "stopped": 4, "accepted": 0, "limited": 1, "hostile": 1,
        "running": 0, "baseline": 0,
    }  # fmt: skip


# --- what all of them say


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (QUIET, "PASS: 6 of 6 points checked, none is 5 % slower"),
        (FAILED, "FAIL: 1 of 6 points FAIL"),
        (LOST, "NOT VALID: 1 of 6 points missing; 1 of 6 points invalid"),
        (STOPPED, "INCONCLUSIVE: 1 of 6 points undecided"),
        (ACCEPTED, "PASS: 1 of 6 points slower, accepted"),
        (make_outcome(make_plan(1)), "PASS: the one point checked, none is 5 % slower"),
        (
            replace(QUIET, verdict=WITH_NEW),
            "PASS: 5 of 6 points checked, none is 5 % slower; 1 of 6 points NEW, not compared",
        ),
    ],
)
def test_titles(outcome: GateOutcome, said: str) -> None:
    assert title(outcome) == said


@every_case
def test_failures_are_in_the_first_lines(outcome: GateOutcome) -> None:
    if outcome.exit_code == 0:
        return
    bad = [each for each in outcome.points if each.verdict not in ("PASS", "NEW")]
    names = point_names(outcome.points)
    for text in (terminal_text(outcome), gate_markdown(outcome)):
        lines = [line for line in text.splitlines() if line.strip()]
        assert title(outcome) in re.sub(r"\\|##? ", "", lines[0])
        assert bad[0].verdict in lines[1] or bad[0].verdict in lines[2]
    first = gate_annotations(outcome)[0]
    assert first.startswith("::error" if outcome.exit_code != 4 else "::warning")
    text = terminal_text(outcome)
    head = text[: text.index(" (base) against ")]
    for point in bad:
        assert names[point.point].replace("##[", "## [") in head


def test_what_could_not_be_told_is_said() -> None:
    for text in (
        terminal_text(UNTOLD, 200),
        gate_markdown(UNTOLD),
        junit_xml(UNTOLD),
        "".join(gate_annotations(UNTOLD)),
    ):
        assert re.search(r"only slowdowns above \d+\.\d ?(%|%25) are ruled out", text)
        assert re.search(r"so many launches find [\d.]+ ?(%|%25) or more", text)
    for outcome in (QUIET, FAILED, UNTOLD):
        assert "found in 95 of 100 such runs: a slowdown of" in terminal_text(outcome, 300)


def test_a_change_is_told_as_time_beside_its_figures() -> None:
    """A rate that falls by 9 % is 10 % more time: the sentence must not read as if the rate rose."""
    point = next(each for each in FAILED.points if each.verdict == "FAIL")
    p50, rate = point.metrics
    for text in (terminal_text(FAILED, 300), junit_xml(FAILED), "".join(gate_annotations(FAILED)).replace("%25", "%")):
        assert f"p50 {p50.base:.4g} → {p50.new:.4g} ms, time +{100 * (p50.ratio - 1):.1f} %" in text
        assert f"throughput {rate.base:.4g} → {rate.new:.4g} seq/s, time +{100 * (rate.ratio - 1):.1f} %" in text
    assert f"{p50.base:.4g} → {p50.new:.4g} ms, +{100 * (p50.ratio - 1):.1f} % (" in gate_markdown(FAILED)
    passed = ElementTree.fromstring(junit_xml(QUIET)).find(".//testcase[@name='point 0']/system-out")
    assert passed is not None and passed.text is not None
    assert re.fullmatch(r"p50 [\d.]+ → [\d.]+ ms, time .*\nthroughput [\d.]+ → [\d.]+ seq/s, time .*", passed.text)
    unknown = replace(p50, base=math.nan, reason="")
    assert explain_metric(unknown).startswith("p50 time +")


def test_launches_that_are_missing_find_nothing() -> None:
    """Few launches that look alike say little: no figure may look as if they found half a percent."""
    assert "0 of 8 fresh launches a side, ended by max_launches" in terminal_text(STOPPED, 300)
    for text in (terminal_text(STOPPED, 300), gate_markdown(STOPPED), junit_xml(STOPPED)):
        assert "so many launches find" not in text


def test_what_is_missing_for_both_metrics_is_told_once() -> None:
    bare = [
        replace(each, verdict="INCONCLUSIVE", reason="1 of 3 launches", ratio=math.nan)
        for each in QUIET.points[0].metrics
    ]
    point = replace(QUIET.points[0], verdict="INCONCLUSIVE", metrics=tuple(bare))
    assert explain(point) == ["1 of 3 launches"]


def test_remarks_are_told_once_each() -> None:
    twice = replace(CASES["baseline"], notes=(CROSS_SESSION, "a note", "a note"))
    assert remarks(twice).count(CROSS_SESSION) == remarks(twice).count("a note") == 1


def test_equal_sides_are_named_once() -> None:
    equal = replace(QUIET, verdict=replace(QUIET.verdict, aa=True), new=replace(QUIET.new, label=QUIET.base.label))
    assert sides(equal) == f"{QUIET.base.label} (base) against itself (new)"


def test_one_figure_is_told_once() -> None:
    (said,) = [each for each in remarks(make_outcome(make_plan(1))) if "95 of 100" in each]
    assert re.fullmatch(r"found in 95 of 100 such runs: a slowdown of [\d.]+ %; below 3 % nothing FAILs", said)


@every_case
def test_a_number_keeps_its_unit_on_the_line(outcome: GateOutcome) -> None:
    for width in (40, 80):
        for line in terminal_text(outcome, width).splitlines():
            assert not re.match(r"\W*(%|ms|seq/s)(\W|$)", line), line


def test_what_ended_a_run_early_is_said() -> None:
    assert "ended by max_launches: what had too few" in terminal_text(STOPPED, 200)
    assert "ended by max\\_launches: what had too few" in gate_markdown(STOPPED)


def test_another_session_is_said() -> None:
    for text in (terminal_text(CASES["baseline"], 200), gate_markdown(CASES["baseline"]), gate_json(CASES["baseline"])):
        assert CROSS_SESSION.partition(":")[0] in text


def test_accepted_slowdowns_stay_visible() -> None:
    assert [word(each) for each in ACCEPTED.points if each.verdict == "FAIL"] == ["accepted"]
    for text in (terminal_text(ACCEPTED, 200), gate_markdown(ACCEPTED), junit_xml(ACCEPTED), gate_json(ACCEPTED)):
        assert "the new kernel is exact" in text
    (note,) = [line for line in gate_annotations(ACCEPTED) if "point 3" in line]
    assert note.startswith("::notice title=accepted point 3::")


def test_names_that_two_points_share_are_told_apart() -> None:
    names = point_names(CASES["hostile"].points)
    assert len(set(names.values())) == len(names)
    assert clean_name("\n\x00") == "(a name without printable characters)"


# --- terminal


@every_case
@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits(outcome: GateOutcome, width: int) -> None:
    text = terminal_text(outcome, width)
    table = text[text.index("verdict ") :].splitlines()
    assert all(len(line) <= width for line in table)
    rows = [
        line for line in table if re.match(r"(FAIL|accepted|MISSING|INVALID|INCONCLUSIVE|IMPROVED|PASS|NEW) ", line)
    ]
    assert [line.split()[0] for line in rows] == sorted(
        [word(each) for each in outcome.points],
        key=["FAIL", "accepted", "MISSING", "INVALID", "INCONCLUSIVE", "IMPROVED", "PASS", "NEW"].index,
    )


def test_the_table_has_the_figures() -> None:
    row = next(line for line in terminal_text(FAILED).splitlines() if line.startswith("FAIL") and "%" in line)
    point = next(each for each in FAILED.points if each.verdict == "FAIL")
    for metric in point.metrics:
        assert f"{100 * (metric.ratio - 1):+.1f} %" in row
    assert f" {point.metrics[0].launches} " in row
    assert "% interval" in terminal_text(FAILED, 120)


@every_case
def test_no_line_of_the_log_is_a_command(outcome: GateOutcome) -> None:
    """The runner reads `::` at the beginning of a line, blanks before it or not, and `##[` too."""
    for width in (40, 80, 120):
        for line in terminal_text(outcome, width).splitlines():
            assert not line.lstrip().startswith("::")
            assert "##[" not in line
            assert line.isprintable()


def test_long_names_are_cut_in_the_table_only() -> None:
    long = "x" * 250
    plan = make_plan(2)
    plan = replace(plan, points=(replace(plan.points[0], label=long), plan.points[1]))
    text = terminal_text(make_outcome(plan, slower={"p0": 1.2}))
    assert long in text
    assert "…" in text[text.index("verdict ") :]


def test_what_all_names_share_is_said_once() -> None:
    plan = make_plan(3)
    for labels, shared, differs in (
        ([f"bench/test_a.py::test_{i}" for i in "xyz"], "bench/test_a.py::…", ["test_x", "test_y", "test_z"]),
        ([f"torch:eager tiny b{i} s8" for i in (1, 2, 4)], "torch:eager tiny s8", ["b1", "b2", "b4"]),
        (["one", "two words", "three"], "", ["one", "two words", "three"]),
    ):
        points = tuple(replace(p, label=label) for p, label in zip(plan.points, labels, strict=True))
        text = terminal_text(make_outcome(replace(plan, points=points)))
        assert f"all points: {shared}" in text or not shared
        table = text[text.index("verdict ") :]
        for name in differs:
            assert re.search(rf"^PASS +{name} ", table, re.MULTILINE)


def test_percentages_are_plain_numbers() -> None:
    shown = [percent(each) for each in (0.0044, 0.05, 0.0999, 0.123, 4.3, float("nan"))]
    assert shown == ["0.44 %", "5 %", "10 %", "12 %", "430 %", "–"]


# --- JSON


@every_case
def test_the_document_fits_its_schema(outcome: GateOutcome) -> None:
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(gate_json(outcome))
    jsonschema.validate(document, schema)
    assert document == gate_document(outcome)
    assert document["exit_code"] == outcome.exit_code == document["decision"]["exit_code"]
    assert [each["point"] for each in document["decision"]["points"]] == [each.key for each in outcome.plan.points]


def test_the_schema_refuses_what_is_wrong() -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"exit_code": 2},
        {"schema": "benchrun.gate-report/2"},
        {"metrics": []},
        {"surplus": 1},
        {"base": {"label": "x"}},
    )
    for change in changes:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(gate_document(QUIET) | change, report_schema())


# --- JUnit


@every_case
def test_junit_is_read_by_a_parser(outcome: GateOutcome) -> None:
    text = junit_xml(outcome)
    (suite,) = JUnitXml.fromstring(text.encode())
    cases = {case.name: case for case in suite}
    names = point_names(outcome.points)
    wanted = {"FAIL": Failure, "MISSING": Error, "INVALID": Error, "INCONCLUSIVE": Skipped, "NEW": Skipped}
    for point in outcome.points:
        kinds = [type(each) for each in cases[names[point.point]].result]
        expected = Skipped if point.accepted else wanted.get(point.verdict)
        assert kinds == ([expected] if expected else [])
    results = [each for case in suite for each in case.result]
    assert suite.tests == len(cases) == len(outcome.points) + 1
    assert suite.failures == sum(isinstance(each, Failure) for each in results)
    assert suite.errors == sum(isinstance(each, Error) for each in results)
    assert suite.skipped == sum(isinstance(each, Skipped) for each in results)
    assert bool(suite.failures or suite.errors) == (outcome.exit_code in (1, 3))


def test_junit_without_a_control_and_with_a_bad_one() -> None:
    control = QUIET.verdict.control
    absent = replace(QUIET, verdict=replace(QUIET.verdict, control=replace(control, verdict="not measured")))
    assert "control workload" not in junit_xml(absent)
    bad = replace(QUIET, verdict=replace(QUIET.verdict, control=replace(control, verdict="INVALID", reason="it moved")))
    case = ElementTree.fromstring(junit_xml(bad)).find(".//testcase[@name='control workload']/error")
    assert case is not None
    assert case.get("message") == "it moved"
    assert "it moved" in terminal_text(bad)


# --- Markdown


def cells_of(row: str) -> list[str]:
    return [each.strip() for each in re.split(r"(?<!\\)\|", row)[1:-1]]


@every_case
def test_markdown_has_a_whole_table(outcome: GateOutcome) -> None:
    lines = gate_markdown(outcome).splitlines()
    rows = [cells_of(line) for line in lines if line.startswith("| ")]
    assert len(rows) == len(outcome.points) + 2
    assert {len(row) for row in rows} == {4 + len(outcome.plan.metrics)}
    shown = [row[0].split()[-1] for row in rows[2:]]
    assert sorted(shown) == sorted(word(each) for each in outcome.points)
    assert lines[0] == lines[-1] == ""


def test_hostile_names_stay_text_in_markdown() -> None:
    text = gate_markdown(CASES["hostile"])
    for forbidden in ("<script", "@everyone", "http://", "\x1b", "\u202e", " *b*", " `code`"):
        assert forbidden not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert "alert(" in text


def test_a_large_gate_stays_below_the_limit_of_a_summary() -> None:
    point = FAILED.points[3]
    many = tuple(replace(point, point=f"q{i}", label="n" * 300 + str(i)) for i in range(700))
    plan = replace(FAILED.plan, points=tuple(replace(FAILED.plan.points[0], key=each.point) for each in many))
    large = replace(FAILED, plan=plan, verdict=replace(FAILED.verdict, points=many))
    text = gate_markdown(large)
    assert len(text.encode()) < 2**20
    assert "200 more points" in text
    annotations = gate_annotations(large)
    assert len(annotations) == 10
    assert "692 more points" in annotations[-1]


# --- annotations


def read_command(line: str) -> tuple[str, dict[str, str], str]:
    """A workflow command as the runner reads it (ActionCommand.TryParseV2)."""
    assert line.startswith("::")
    end = line.index("::", 2)
    head, data = line[2:end], line[end + 2 :]
    name, _, rest = head.partition(" ")
    properties = dict(each.split("=", 1) for each in rest.split(",") if each)

    def plain(text: str, *, of_property: bool) -> str:
        for escaped, meant in (("%0D", "\r"), ("%0A", "\n"), *((("%3A", ":"), ("%2C", ",")) if of_property else ())):
            text = text.replace(escaped, meant)
        return text.replace("%25", "%")

    return (
        name,
        {key: plain(value, of_property=True) for key, value in properties.items()},
        plain(data, of_property=False),
    )


@every_case
def test_annotations_are_one_command_each(outcome: GateOutcome) -> None:
    names = point_names(outcome.points)
    found = [read_command(line) for line in gate_annotations(outcome)]
    assert all(set(properties) == {"title"} for _, properties, _ in found)
    told = [data.split("\n")[0] for _, _, data in found[1:]]
    assert told == [names[each.point] for each in sorted_bad(outcome)]
    assert not any("\n" in line or "\r" in line for line in gate_annotations(outcome))
    levels = {read_command(line)[0] for line in gate_annotations(outcome)}
    assert levels <= {"error", "warning", "notice"}


def sorted_bad(outcome: GateOutcome) -> list[Any]:
    order = ["FAIL", "accepted", "MISSING", "INVALID", "INCONCLUSIVE"]
    return sorted((each for each in outcome.points if word(each) in order), key=lambda each: order.index(word(each)))


@pytest.mark.parametrize("text", [*HOSTILE, "100 %", "%0A", "a,b:c"])
def test_commands_survive_any_text(text: str) -> None:
    name, properties, data = read_command(command("error", text, text))
    assert (name, properties, data) == ("error", {"title": text}, text)


# --- Bencher

BMF = {
    "type": "object",
    "patternProperties": {
        ".+": {
            "type": "object",
            "patternProperties": {
                ".+": {
                    "type": "object",
                    "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")},
                    "required": ["value"],
                    "additionalProperties": False,
                }
            },
            "additionalProperties": False,
        }
    },
    "additionalProperties": False,
}


@every_case
def test_bencher_takes_it(outcome: GateOutcome) -> None:
    document = json.loads(bencher_json(outcome))
    jsonschema.validate(document, BMF)  # their schema of August 2026, made strict
    sound = [each for each in outcome.points if each.verdict not in ("MISSING", "INVALID")]
    assert len(document) == len(sound)
    for measures, point in zip(document.values(), sound, strict=True):
        by_name = {each.metric: each.new for each in point.metrics}
        assert measures["latency"]["value"] == pytest.approx(by_name["p50"] * 1e6)
        assert measures["throughput"]["value"] == pytest.approx(by_name["throughput"])


def test_bencher_names() -> None:
    plan = make_plan(3, metrics=("p95",))
    labels = ("x" * 2000, "quiet-bencher-ignore", "plain")
    plan = replace(plan, points=tuple(replace(p, label=name) for p, name in zip(plan.points, labels, strict=True)))
    names = list(bencher_document(make_outcome(plan)))
    assert all(len(name) <= 1024 for name in names)
    assert not any(name.endswith("-bencher-ignore") for name in names)
    assert set(bencher_document(make_outcome(plan))["plain"]) == {"p95-latency"}
