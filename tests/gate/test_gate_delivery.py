"""Where reports go."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchrun.runner.cli.gate_reports import ReportFiles, check_files, deliver
from benchrun.runner.errors import UsageError
from tests.gate.outcomes import hostile_outcome, make_outcome

FAILED = make_outcome(slower={"p3": 1.10})


def test_everything_that_was_asked_for_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ReportFiles(junit=tmp_path / "a.xml", markdown=tmp_path / "b.md", bencher=tmp_path / "c.json")
    check_files(files)
    deliver(FAILED, files, {})
    out, err = capsys.readouterr()
    assert out.startswith("FAIL: 1 of 6 points FAIL\nFAIL  point 3\n")
    assert "::" not in out
    assert err == ""
    assert "<testsuites" in (tmp_path / "a.xml").read_text()
    assert "## FAIL" in (tmp_path / "b.md").read_text()
    assert set(json.loads((tmp_path / "c.json").read_text())) == {f"point {j}" for j in range(6)}


def test_the_way_to_see_it_again_names_a_database_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    stored = replace(FAILED, db="/tmp/a b.db")
    deliver(stored, ReportFiles(), {}, "a b.db")
    deliver(stored, ReportFiles(), {})
    out = capsys.readouterr().out.splitlines()
    named, usual = [line for line in out if "show it again" in line]
    assert named == f"show it again: benchrun gate show {FAILED.id} --db '/tmp/a b.db'"
    assert usual == f"show it again: benchrun gate show {FAILED.id}"
    assert any(re.fullmatch(r"\d+ launches beside the discarded ones, \d+ (s|min)", line) for line in out)


def test_github_gets_a_summary_and_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("what other steps wrote\n")
    deliver(hostile_outcome(), ReportFiles(), {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)})
    assert summary.read_text().startswith("what other steps wrote\n\n## FAIL")
    commands = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::")]
    assert commands[0].startswith("::error title=benchrun gate::FAIL")
    assert all(line.split(" ")[0] in ("::error", "::warning", "::notice") for line in commands)


def test_json_is_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    deliver(FAILED, ReportFiles(as_json=True), {"GITHUB_ACTIONS": "true"})
    out, err = capsys.readouterr()
    assert json.loads(out)["exit_code"] == 1
    assert "FAIL  point 3" in err
    assert "::error" in err


def test_a_file_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "x.xml"):
        with pytest.raises(UsageError, match=r"--junit .*: name a file in a folder that exists"):
            check_files(ReportFiles(junit=path))


def test_a_disk_that_fills_up_does_not_lose_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    deliver(FAILED, ReportFiles(junit=Path("/dev/full")), {})
    out, err = capsys.readouterr()
    assert "FAIL  point 3" in out
    assert "benchrun: cannot write /dev/full: No space left on device" in err
