"""Every TensorRT name and signature in use, against the installed bindings and recordings of others."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import benchrun.backends.tensorrt_names as names
from benchrun.backends.contract import Unsupported
from benchrun.backends.tensorrt_names import FLAVOURS, RTX, TENSORRT, Flavour, load_bindings, members, missing_names
from tests.backends.tensorrt_signatures import (
    ENUMERATOR,
    READ_ONLY,
    WRITABLE,
    describe,
    load_recordings,
    parameters,
)

ROOM = Path(inspect.getfile(names)).parent
MODULES = [path for path in sorted(ROOM.glob("tensorrt*.py")) if path.name != "tensorrt_names.py"]
# names that the bindings' classes in use have, and that here belong to other objects
OWN = {"value": "a number of ctypes", "node": "what an ONNX graph consists of"}


def installed_flavours() -> list[Flavour]:
    found = []
    for flavour in FLAVOURS.values():
        try:
            load_bindings(flavour)
        except Unsupported:
            continue
        found.append(flavour)
    return found


INSTALLED = installed_flavours()
RECORDED = load_recordings()
DESCRIPTIONS = {f"{each.name} installed": describe(load_bindings(each), each) for each in INSTALLED} | RECORDED


def test_tensorrt_rtx_is_installed_for_these_tests() -> None:
    assert RTX in INSTALLED


def test_both_major_versions_of_tensorrt_are_recorded() -> None:
    assert {version.split()[1].split(".")[0] for version in RECORDED if version.startswith("tensorrt ")} >= {"10", "11"}


@pytest.mark.parametrize("version", DESCRIPTIONS)
def test_names_and_signatures_are_as_the_adapter_uses_them(version: str) -> None:
    found = DESCRIPTIONS[version]
    problems = []
    for class_name, protocols in FLAVOURS[version.split()[0]].protocols.items():
        for protocol in protocols:
            for name, use in members(protocol).items():
                if problem := difference(use, found[f"{class_name}.{name}"], protocol):
                    problems.append(f"{class_name}.{name}: {problem}")
    assert not problems


def difference(use: object, found: list[str], protocol: type) -> str | None:
    """How a name of the bindings differs from its use; None where it does not."""
    if not found:
        return "absent"
    if isinstance(use, property):
        return None if found[0] in (READ_ONLY, WRITABLE) else f"{found}, used as a property"
    if use is None:
        wanted = WRITABLE if protocol.__name__.startswith(("I", "Rtx")) and found[0] != ENUMERATOR else ENUMERATOR
        return None if found[0] in (wanted, "class") else f"{found}, used as {wanted}"
    given = [name for name in inspect.signature(use).parameters if name != "self"]  # type: ignore[arg-type]
    return None if any(fits(given, overload) for overload in found) else f"takes {found}, used with {given}"


def fits(given: list[str], overload: str) -> bool:
    taken = parameters(overload)
    return [each.name for each in taken[: len(given)]] == given and all(each.optional for each in taken[len(given) :])


@pytest.mark.parametrize(
    ("given", "overload", "expected"),
    [
        (["flags"], "(self: Builder, flags: int = 0) -> INetworkDefinition", True),
        ([], "(self: Builder, flags: int = 0) -> INetworkDefinition", True),
        ([], "(self: Builder, flags: int) -> INetworkDefinition", False),
        (["flags", "more"], "(self: Builder, flags: int) -> INetworkDefinition", False),
        (["flag"], "(self: Builder, flags: int) -> INetworkDefinition", False),
        (["a", "b"], "(self: X, a: Sequence[Tuple[int, int]], b: E = <E.A: 0>) -> Dict[str, int]", True),
    ],
)
def test_a_signature_fits_or_not(given: list[str], overload: str, expected: bool) -> None:
    assert fits(given, overload) is expected


def test_the_recording_of_the_installed_version_is_what_is_installed() -> None:
    bindings = load_bindings(RTX)
    assert RECORDED[f"rtx {bindings.__version__}"] == describe(bindings, RTX)


def test_the_adapter_uses_no_name_of_the_bindings_that_is_not_listed() -> None:
    """mypy holds the adapter to the protocols; this finds what would slip past it, where a type is not known."""
    module = import_module("tensorrt_rtx_bindings")
    protocols = RTX.protocols
    theirs = {name for each in protocols for name in vars(getattr(module, each)) if not name.startswith("_")}
    theirs |= {name for name in vars(module) if name[0].isupper()}
    listed = set(protocols) | {name for found in protocols.values() for each in found for name in members(each)}
    found = {
        name for path in MODULES for name in attributes(path.read_text(encoding="utf-8")) if name in theirs - listed
    }
    assert found == set(OWN)
    assert {"max_threads", "INFO"} <= theirs - listed  # such a use would be found
    assert attributes("builder.max_threads = bindings.ILogger.INFO") == {"max_threads", "ILogger", "INFO"}


def attributes(source: str) -> set[str]:
    return {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}


def test_only_one_place_imports_the_bindings() -> None:
    for path in MODULES:
        source = path.read_text(encoding="utf-8")
        assert "import_module" not in source
        assert not any(
            isinstance(node, ast.Import) and any(alias.name in ("tensorrt", "tensorrt_rtx") for alias in node.names)
            for node in ast.walk(ast.parse(source))
        )


def test_a_library_that_is_not_there_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchrun.backends.tensorrt_names.importlib.import_module", absent)
    with pytest.raises(
        Unsupported, match=r"TensorRT is not installed: pip install tensorrt .*NVIDIA's own package index"
    ):
        load_bindings(TENSORRT)
    with pytest.raises(Unsupported, match="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13-bindings"):
        load_bindings(RTX)


def absent(name: str) -> ModuleType:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libnvinfer.so.11: cannot open shared object file: No such file or directory"),
        ModuleNotFoundError("No module named 'tensorrt_libs'", name="tensorrt_libs"),
    ],
)
def test_bindings_without_their_libraries_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, error: ImportError
) -> None:
    def broken(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr("benchrun.backends.tensorrt_names.importlib.import_module", broken)
    with pytest.raises(
        Unsupported, match=r"is installed but cannot be imported \(.*(libnvinfer|tensorrt_libs).*\): pip install"
    ):
        load_bindings(TENSORRT)


def test_the_second_module_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def only_bindings(name: str) -> ModuleType:
        asked.append(name)
        return absent(name) if name == "tensorrt_rtx" else import_module(name)

    monkeypatch.setattr("benchrun.backends.tensorrt_names.importlib.import_module", only_bindings)
    assert load_bindings(RTX).__version__
    assert asked == ["tensorrt_rtx", "tensorrt_rtx_bindings"]


def test_a_version_that_lacks_a_name_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = import_module("tensorrt_rtx_bindings")
    old = SimpleNamespace(**{name: getattr(real, name) for name in dir(real) if name != "EngineInspector"})
    old.ICudaEngine = type("ICudaEngine", (), {})
    assert "EngineInspector" in missing_names(old, RTX)  # type: ignore[arg-type]
    assert "ICudaEngine.get_tensor_name" in missing_names(old, RTX)  # type: ignore[arg-type]
    old.__version__ = "0.9"
    monkeypatch.setattr("benchrun.backends.tensorrt_names.importlib.import_module", lambda name: old)
    with pytest.raises(
        Unsupported, match=r"TensorRT-RTX 0\.9 lacks EngineInspector, ICudaEngine\.\w+, .*which benchrun uses"
    ):
        load_bindings(RTX)
