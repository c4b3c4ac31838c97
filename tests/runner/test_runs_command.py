"""`benchrun runs`: what became of each run's points."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchrun.results import open_store
from benchrun.runner.cli.runs_command import list_runs
from tests.dashboard.stores import measurement, point, run


def test_what_an_engine_cannot_do_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path, about = tmp_path / "a.db", run(1)
    points = [point(batch=batch) for batch in (1, 2, 4, 8)]
    with open_store(path) as store:
        store.add_run(about, points, 1)
        for each, status in zip(points, ("ok", "unsupported", "unsupported", "oom"), strict=True):
            store.add_measurements(about.id, [(None, measurement(each.key, about.started, status=status))])
    assert list_runs(str(path), as_json=False, limit=5) == 0
    assert "1 of 4, 1 failed, 2 unsupported" in capsys.readouterr().out
