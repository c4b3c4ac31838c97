"""What the TensorRT bindings say of the names that benchrun uses, and recordings of it for versions not installed.

The bindings are wheels of their own and need their libraries only to be loaded, not to be described. So

    python -m tests.backends.tensorrt_signatures WHEEL…

describes wheels of NVIDIA's bindings with empty libraries in the place of the real ones (compiled by `cc`), and writes
tensorrt_signatures.json anew. Nothing is built or run with those.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchrun.backends.tensorrt_names import FLAVOURS, Flavour, members

RECORDINGS = Path(__file__).with_name("tensorrt_signatures.json")
ENUMERATOR, READ_ONLY, WRITABLE = "enumerator", "property", "property, writable"
# all C functions that the bindings import from the libraries
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
OVERLOAD = re.compile(r"^(?:\d+\. )?{name}\((?P<parameters>.*)\) -> (?P<result>.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a function of the bindings."""

    name: str
    optional: bool


def describe(module: Any, flavour: Flavour) -> dict[str, list[str]]:
    """Each name in use, as `Class.name` → what it is: its signatures, or a word from above; empty if it is absent."""
    found = {}
    for class_name, protocols in flavour.protocols.items():
        owner = getattr(module, class_name, None)
        for protocol in protocols:
            for name in members(protocol):
                found[f"{class_name}.{name}"] = _describe(owner, name)
    return found


def _describe(owner: Any, name: str) -> list[str]:
    value = getattr(owner, name, None)
    if value is None:
        return []
    if name in getattr(owner, "__members__", {}):
        return [ENUMERATOR]
    if isinstance(value, property):
        return [READ_ONLY if value.fset is None else WRITABLE]
    if isinstance(value, type):
        return ["class"]
    pattern = re.compile(OVERLOAD.pattern.format(name=re.escape(name)), re.MULTILINE)
    overloads = [f"({match['parameters']}) -> {match['result']}" for match in pattern.finditer(value.__doc__ or "")]
    return [re.sub(r"\b\w+_bindings\.\w+\.|\btensorrt(_rtx)?\.tensorrt(_rtx)?\.", "", text) for text in overloads]


def parameters(signature: str) -> tuple[Parameter, ...]:
    """The parameters of a signature after `self`: `(self: Builder, flags: int = 0) -> X` has an optional `flags`."""
    inner = signature[1 : signature.rindex(") -> ")]
    found = [Parameter(text.partition(":")[0].strip(), " = " in text) for text in _split(inner)]
    return tuple(each for each in found if each.name != "self")


def _split(text: str) -> Iterator[str]:
    """Split at the commas that are in no bracket."""
    depth, start = 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and depth == 0:
            yield text[start:index]
            start = index + 1
    if text[start:].strip():
        yield text[start:]


def load_recordings() -> dict[str, dict[str, list[str]]]:
    """`tensorrt 10.0.1` → what `describe` found there. The file has each description once, with its versions."""
    stored: Mapping[str, Mapping[str, list[str]]] = json.loads(RECORDINGS.read_text(encoding="utf-8"))
    found: dict[str, dict[str, list[str]]] = {}
    for name, descriptions in stored.items():
        for description, versions in descriptions.items():
            for version in versions:
                found.setdefault(version, {})[name] = json.loads(description)
    return found


def save_recordings(found: Mapping[str, Mapping[str, list[str]]]) -> None:
    """The reverse of `load_recordings`."""
    stored: dict[str, dict[str, list[str]]] = {}
    for version, names in found.items():
        for name, description in names.items():
            stored.setdefault(name, {}).setdefault(json.dumps(description), []).append(version)
    RECORDINGS.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def record(wheel: Path, folder: Path) -> dict[str, list[str]]:
    """Describe the bindings in a wheel, in a process of its own, with empty libraries."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    package = next(folder.glob("tensorrt*_bindings"))
    extension = next(package.glob("*.so"))
    source = folder / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS), encoding="ascii")
    wanted = set(
        re.findall(rb"lib(?:nvinfer|nvonnxparser|nvinfer_plugin|tensorrt\w*)\.so\.\d+", extension.read_bytes())
    )
    for library in sorted(each.decode() for each in wanted):
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library), str(source)]
        subprocess.run(command, check=True)
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
    }
    command = [sys.executable, "-m", "tests.backends.tensorrt_signatures", "--describe", package.name]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    described: dict[str, list[str]] = json.loads(done.stdout)
    return described


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--describe"]:
        flavour = FLAVOURS["rtx" if "rtx" in arguments[1] else "tensorrt"]
        print(json.dumps(describe(importlib.import_module(arguments[1]), flavour)))
        return
    found = {}
    for path in map(Path, arguments):
        name, version = path.name.split("-")[:2]
        with tempfile.TemporaryDirectory() as folder:
            kind = "rtx" if "rtx" in name else "tensorrt"
            found[f"{kind} {version}"] = record(path, Path(folder))
    save_recordings(found)


if __name__ == "__main__":
    main(sys.argv[1:])
