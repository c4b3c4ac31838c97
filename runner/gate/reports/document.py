"""The report as one JSON document, `benchrun gate --json`. `report.schema.json` is its JSON Schema."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from importlib.resources import files
from typing import Any

from benchrun.results.plain import plain_json
from benchrun.runner.gate.outcome import GateOutcome, GateSide
from benchrun.runner.gate.reports.wording import ended, explain, remarks, title, word
from benchrun.runner.gate.verdict import verdict_document

SCHEMA = "benchrun.gate-report/1"


def gate_document(outcome: GateOutcome) -> dict[str, Any]:
    """Plain JSON values; `decision` is the verdict as it is stored, with every figure. Points are in the plan's order."""
    decision = verdict_document(outcome.verdict)
    by_key = {each["point"]: each for each in decision["points"]}
    told = {each.point: {"word": word(each), "explanation": explain(each)} for each in outcome.points}
    decision["points"] = [by_key[each.point] | told[each.point] for each in outcome.points]
    document = {
        "schema": SCHEMA,
        "id": outcome.id,
        "label": outcome.label,
        "title": title(outcome),
        "outcome": ended(outcome),
        "exit_code": outcome.exit_code,
        "started": _time(outcome.started),
        "finished": _time(outcome.finished),
        "state": outcome.state,
        "kind": outcome.kind,
        "seed": outcome.seed,
        "version": outcome.version,
        "db": outcome.db,
        "metrics": list(outcome.plan.metrics),
        "base": _side(outcome.base),
        "new": _side(outcome.new),
        "limits": [each.text for each in outcome.limits],
        "acceptances": [asdict(each) for each in outcome.acceptances],
        "remarks": remarks(outcome),
        "decision": decision,
    }
    plain: dict[str, Any] = plain_json(document)
    return plain


def gate_json(outcome: GateOutcome) -> str:
    """The document as text, one line break at its end."""
    return json.dumps(gate_document(outcome), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def report_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the document."""
    schema: dict[str, Any] = json.loads(
        files("benchrun.runner.gate.reports").joinpath("report.schema.json").read_text("utf-8")
    )
    return schema


def _side(side: GateSide) -> dict[str, Any]:
    return {
        "label": side.label,
        "subject": side.subject,
        "commit": side.commit,
        "run": side.run_id,
        "details": dict(side.details),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
