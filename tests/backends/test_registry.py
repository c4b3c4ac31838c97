from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from benchrun.backends import registry
from benchrun.backends.contract import ENTRY_POINT_GROUP, Backend
from benchrun.backends.registry import UnknownBackend, backend_entries, find_missing, load_backend
from benchrun.backends.torch import TorchBackend


def test_built_in_and_third_party_backends_come_through_the_same_door() -> None:
    entries = backend_entries()
    assert list(entries) == sorted(entries)
    assert {"torch", "example", "hostile"} <= set(entries)
    assert {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)} == set(entries)
    assert load_backend("torch") is TorchBackend
    assert load_backend("example").description.name == "example"


@pytest.mark.parametrize("name", [name for name in backend_entries() if not name.startswith("hostile")])
def test_a_backend_is_described_without_its_engine(name: str) -> None:
    backend = load_backend(name)
    about = backend.description
    assert about.name == name and about.summary and about.install and about.variants
    for variant in about.variants:
        assert about.variant(variant.name) is variant and variant.devices and variant.dtypes
    assert about.variant("nosuch") is None
    assert isinstance(backend(), Backend)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownBackend, match=r"unknown backend 'nosuch': choose from .*example.*torch") as refused:
        load_backend("nosuch")
    assert "benchrun backends" in str(refused.value)


def test_a_module_that_cannot_be_imported_is_one_sentence() -> None:
    with pytest.raises(UnknownBackend) as refused:
        load_backend("hostile-broken")
    assert str(refused.value) == (
        "backend 'hostile-broken' (benchrun_hostile_broken:Backend) cannot be imported: "
        "libhostile.so.1: cannot open shared object file No such file or directory"
    )


def test_what_is_no_backend_is_refused() -> None:
    with pytest.raises(
        UnknownBackend, match=r"\(benchrun_hostile:Stranger\) is not a benchrun.backends.contract.Backend"
    ):
        load_backend("hostile-stranger")


def test_a_class_without_a_description_is_refused() -> None:
    with pytest.raises(UnknownBackend, match=r"^backend 'hostile-nameless' .*has no description: a .*Description is"):
        load_backend("hostile-nameless")


def test_a_check_that_fails_is_the_reason() -> None:
    assert find_missing("torch", "eager") is None
    assert find_missing("hostile-unsure", "behaved") == (
        "hostile-unsure:behaved cannot be asked whether it is installed, since its own check failed "
        "(RuntimeError: no licence for this question)"
    )
    with pytest.raises(UnknownBackend, match="nosuch"):
        find_missing("nosuch", "eager")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit(3)", "cannot be imported: 3"),
        ("raise MemoryError", "cannot be imported: MemoryError"),
        ("Thing = 3", "is not a benchrun.backends.contract.Backend"),
        ("", "cannot be imported: module 'benchrun_odd_.*' has no attribute 'Thing'"),
    ],
)
def test_whatever_a_module_does_when_it_is_imported(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"benchrun_odd_{abs(hash(code))}"
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("odd", f"{module}:Thing", ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    with pytest.raises(UnknownBackend, match=said):
        load_backend("odd")
    sys.modules.pop(module, None)
