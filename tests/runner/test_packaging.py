"""The wheel has all that the folders have: an unlisted package works in the checkout and is missing from the wheel."""

from __future__ import annotations

import importlib.util
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("backends", "runner", "results", "dashboard")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages() -> set[str]:
    """Packages by the folders that hold Python files."""
    folders = {path.parent.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    return {"benchrun." + ".".join(folder.parts) for folder in folders}


def test_every_folder_with_code_is_a_listed_package() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages()


@pytest.mark.parametrize("module", sorted(packages()))
def test_every_package_can_be_found_where_it_is_installed(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


def test_built_in_backends_come_through_the_entry_point_group() -> None:
    declared = PROJECT["project"]["entry-points"]["benchrun.backends"]
    installed = {entry.name: entry.value for entry in entry_points(group="benchrun.backends")}
    assert declared.items() <= installed.items()


def test_the_two_onnxruntime_packages_are_never_installed_together() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    together = " ".join(extras["all"])
    assert "ort," in together and "ort-gpu" not in together and "ort-migraphx" not in together
