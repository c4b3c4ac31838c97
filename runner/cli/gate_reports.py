"""Where the reports of a gate run go: terminal or `--json`, files that were asked for, and what a CI service reads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.runner.gate.outcome import GateOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFiles:
    """Files to write; None for none. `as_json` puts the document on standard output, and the table on standard error."""

    junit: Path | None = None
    markdown: Path | None = None
    bencher: Path | None = None
    as_json: bool = False


def check_files(files: ReportFiles) -> None:
    """Refuse files that cannot be written before anything is measured. Raises UsageError."""
    for option, path in (("junit", files.junit), ("markdown", files.markdown), ("bencher", files.bencher)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UsageError(f"--{option} {path}: name a file in a folder that exists")


def deliver(outcome: GateOutcome, files: ReportFiles, environment: Mapping[str, str], db: str | None = None) -> None:
    """Tell a finished gate run everywhere. In GitHub Actions it is also appended to the job's summary and annotated. `db`:
    the database that was asked for, None for the usual one.
    """
    from rich.console import Console

    from benchrun.runner.gate.reports.annotations import gate_annotations
    from benchrun.runner.gate.reports.bencher import bencher_json
    from benchrun.runner.gate.reports.document import gate_json
    from benchrun.runner.gate.reports.junit import junit_xml
    from benchrun.runner.gate.reports.markdown import gate_markdown
    from benchrun.runner.gate.reports.terminal import print_gate

    print_gate(Console(stderr=files.as_json), outcome, outcome.db if db else "")
    if files.as_json:
        sys.stdout.write(gate_json(outcome))
        sys.stdout.flush()
    written: tuple[tuple[Path | None, Callable[[GateOutcome], str]], ...] = (
        (files.junit, junit_xml),
        (files.markdown, gate_markdown),
        (files.bencher, bencher_json),
    )
    for path, make in written:
        if path is not None:
            _write(path, make(outcome), "w")
    if summary := environment.get("GITHUB_STEP_SUMMARY"):
        _write(Path(summary), gate_markdown(outcome), "a")
    if environment.get("GITHUB_ACTIONS") == "true":
        for line in gate_annotations(outcome):
            print(line, file=sys.stderr if files.as_json else sys.stdout, flush=True)


def _write(path: Path, text: str, mode: str) -> None:
    """The gate has run, so a full disk is a remark and not the end: its verdict stands."""
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        print(f"benchrun: cannot write {path}: {error.strerror}", file=sys.stderr)
