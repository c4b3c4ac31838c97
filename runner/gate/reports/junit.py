"""The report as JUnit XML, in the shape that Jenkins, GitLab and GitHub's viewers read: a test case a point.

FAIL is a failure, MISSING and INVALID are errors. INCONCLUSIVE, NEW and an accepted FAIL are skipped with a message:
the format has no word for "could not be told", and none of them passed.
"""

from __future__ import annotations

from xml.etree import ElementTree

from benchrun.runner.gate.outcome import GateOutcome
from benchrun.runner.gate.reports.wording import explain, explain_metric, point_names, remarks, sides, title
from benchrun.runner.gate.verdict import PointVerdict

_TAGS = {"FAIL": "failure", "MISSING": "error", "INVALID": "error", "INCONCLUSIVE": "skipped", "NEW": "skipped"}


def junit_xml(outcome: GateOutcome) -> str:
    """An XML document with one suite; the control workload is a test case of its own where it was measured."""
    cases = [_case(point, name) for point, name in _named(outcome)]
    control = outcome.verdict.control
    if control.verdict != "not measured":
        case = ElementTree.Element("testcase", classname="benchrun.gate", name="control workload", time="0")
        if control.verdict == "INVALID":
            _tell(case, "error", "INVALID", control.reason, [control.reason])
        cases.append(case)
    counts = {tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error", "skipped")}
    totals = {
        "tests": str(len(cases)),
        "failures": str(counts["failure"]),
        "errors": str(counts["error"]),
        "time": f"{outcome.seconds or 0:.3f}",
    }
    root = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        totals
        | {
            "name": "benchrun gate",
            "skipped": str(counts["skipped"]),
            "timestamp": f"{outcome.started:%Y-%m-%dT%H:%M:%S}",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (
        ("gate", outcome.id),
        ("sides", sides(outcome)),
        ("outcome", title(outcome)),
        *(("remark", each) for each in remarks(outcome)),
    ):
        ElementTree.SubElement(properties, "property", name=name, value=value)
    suite.extend(cases)
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _named(outcome: GateOutcome) -> list[tuple[PointVerdict, str]]:
    names = point_names(outcome.points)
    return [(each, names[each.point]) for each in outcome.points]


def _case(point: PointVerdict, name: str) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname="benchrun.gate", name=name, time="0")
    told = explain(point)
    tag = "skipped" if point.accepted else _TAGS.get(point.verdict)
    if tag is not None:
        _tell(case, tag, point.verdict, told[0] if told else point.verdict, told)
    else:
        figures = [explain_metric(each) for each in point.metrics]
        ElementTree.SubElement(case, "system-out").text = "\n".join(
            [*figures, *(each for each in told if each not in figures)]
        )
    return case


def _tell(case: ElementTree.Element, tag: str, kind: str, message: str, lines: list[str]) -> None:
    """Skipped elements carry a message only, the others a type and a text too."""
    if tag == "skipped":
        ElementTree.SubElement(case, tag, message=f"{kind}: {'; '.join(lines) or message}")
    else:
        ElementTree.SubElement(case, tag, type=kind, message=message).text = "\n".join(lines)
