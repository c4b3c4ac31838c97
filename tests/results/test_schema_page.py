"""docs/schema.md: every table, column and export is on it, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchrun.results.exporters import FORMATS
from benchrun.results.schema import Base
from benchrun.results.store import open_store
from tests.results.conftest import NewMeasurement, NewPoint, NewRun

PAGE = (Path(__file__).parents[2] / "docs" / "schema.md").read_text("utf-8")


@pytest.mark.parametrize("table", Base.metadata.tables)
def test_every_table_and_column_is_described(table: str) -> None:
    section = PAGE.split(f"\n**{table}**")[1].split("\n**")[0].split("\n## ")[0]
    names = {
        column.name.removeprefix("host_").removeprefix("device_") for column in Base.metadata.tables[table].columns
    }
    assert names <= set(re.findall(r"`(\w+)`", section))


def test_every_export_is_described() -> None:
    assert all(f"`{each}`" in PAGE.split("## Exports")[1] for each in FORMATS)


def test_the_example_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    new_run: NewRun,
    new_point: NewPoint,
    new_measurement: NewMeasurement,
) -> None:
    monkeypatch.setenv("BENCHRUN_DB", str(tmp_path / "results.db"))
    with open_store() as store:
        store.add_run(new_run(), [new_point()], 1)
        store.add_measurement(new_run().id, None, new_measurement(samples=[2_000_000, 2_000_000]))
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(example, "docs/schema.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "20260301-123015-abcd a run 1 of 1 points ok",
        "00000000000000aa ok",
        "torch 1 128 2.0 2",
    ]
