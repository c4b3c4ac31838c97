"""docs/sweeps.md: its settings file and its commands are taken as they are written."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import Bench

PAGE = Path(__file__).parents[2] / "docs" / "sweeps.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_settings_file_and_the_commands_of_the_page(bench: Bench) -> None:
    (settings,) = blocks("toml")
    (bench.folder / "benchrun.toml").write_text(settings, encoding="utf-8")
    plan = bench("--preset", "nightly", "--dtype", "fp32", "--dry-run", "--json").document["plan"]
    assert len(plan["points"]) == 12 and plan["request"]["threads"] == 2 and plan["request"]["dtypes"] == ["fp32"]
    for block in blocks(""):
        for line in block.strip().splitlines():
            command, *arguments = line.split()
            outcome = bench(*arguments, *(() if "--dry-run" in arguments else ("--dry-run",)))
            assert command == "benchrun" and outcome.status == 0, outcome.err


def test_each_preset_of_the_page_exists(bench: Bench) -> None:
    from benchrun.runner.presets import BUILT_IN

    assert re.findall(r"^\| `([\w-]+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE) == list(BUILT_IN)
