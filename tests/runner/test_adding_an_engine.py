"""docs/adding-an-engine.md shows what is installed here, and what it shows can be measured."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

import benchrun_example
import pytest

from benchrun.backends import contract
from benchrun.backends.contract import Backend, BackendError, Session
from benchrun.runner.worker import classify
from tests.conftest import Bench

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-an-engine.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_shows_the_example_as_it_is() -> None:
    folder = ROOT / "tests" / "plugins" / "benchrun-example"
    assert blocks("python") == [(folder / "benchrun_example.py").read_text()]
    assert blocks("toml") == [(folder / "pyproject.toml").read_text()]
    assert Path(benchrun_example.__file__).read_text() == blocks("python")[0]
    (entry,) = distribution("benchrun-example").entry_points.select(group=contract.ENTRY_POINT_GROUP)
    assert (entry.name, entry.load()) == ("example", benchrun_example.ExampleBackend)


def test_every_part_of_the_contract_is_on_the_page() -> None:
    for abstract in (*Backend.__abstractmethods__, *(f"Session.{name}" for name in Session.__abstractmethods__)):
        assert f"`{abstract}(" in PAGE
    for optional in ("Session.stream", "Session.poison()", "description"):
        assert f"`{optional}`" in PAGE


@pytest.mark.parametrize("name", ["Unsupported", "BuildFailed", "OutOfMemory", "WrongVariant"])
def test_the_page_says_which_status_an_exception_is(name: str) -> None:
    kind = getattr(contract, name)
    assert issubclass(kind, BackendError)
    assert f"| `{name}` | `{classify(kind('x'), 'measure')}` |" in PAGE


def test_the_example_is_measured_beside_pytorch(bench: Bench) -> None:
    (sweep,) = re.findall(r"^benchrun (--backend .*)$", blocks("sh")[0], re.MULTILINE)
    outcome = bench(*sweep.split(), "--iterations", "20", "--warmup", "0", "--threads", "1", "--json")
    assert outcome.status == 0, outcome.err
    points = outcome.document["points"]
    assert [(each["backend"], each["variant"], each["batch"]) for each in points] == [
        ("example", "export", 1), ("example", "export", 8), ("torch", "eager", 1), ("torch", "eager", 8),
    ]  # fmt: skip
    for point in points[:2]:
        assert point["parity"]["ok"] and point["facts"]["compute_dtypes"] == {"matmul": "fp32"}
        assert point["export_s"] is not None and 0 < point["export_s"] <= point["build_s"]
