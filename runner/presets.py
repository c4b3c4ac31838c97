"""Presets and configuration files: named sweep settings, merged under what the command line says.

Built-in presets reproduce published sweeps. A user's own are in `benchrun.toml`, or in `[tool.benchrun]` of `pyproject.toml`::

    device = "cuda:0"              # defaults for every sweep

    [presets.nightly]
    backend = "torch,ort"
    batch = [1, 8, 32]
    seq = "128,384"
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchrun.runner.errors import UsageError
from benchrun.runner.lists import parse_names, parse_numbers
from benchrun.runner.plan import SweepRequest
from benchrun.runner.protocol import Protocol

CONFIG_FILES = ("benchrun.toml", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Preset:
    """Named settings, as `--preset` takes them. `summary` says what they reproduce and what differs.

    `command` is the one that they are for: `run` is every command that takes a sweep (gate, variance, build).
    """

    name: str
    summary: str
    settings: Mapping[str, Any]
    command: str = "run"


BUILT_IN: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "quick",
            "a first look in under a minute: the tiny model, few shapes",
            {"model": "tiny", "batch": "1,8", "seq": "32,128", "iterations": 50, "max-time": 5},
        ),
        Preset(
            "nvidia-trt-bert",
            "the sweep of NVIDIA's TensorRT BERT demo: base and large, question answering, 200 iterations",
            {
                "model": "bert-base,bert-large",
                "head": "qa",
                "batch": "1,2,4,8,12,16,24,32,64,128",
                "seq": "128,384",
                "dtype": "fp16,fp32",
                "iterations": 200,
            },
        ),
        Preset(
            "aitemplate-bert",
            "the sweep of AITemplate's BERT example: base, encoder layers only, up to 4096 tokens",
            {
                "model": "bert-base",
                "head": "layers",
                "batch": "1..256*2",
                "seq": "64,128,384,1024,4096",
                "dtype": "fp16",
            },
        ),
        Preset(
            "deeplearningexamples-bert",
            "the inference benchmark of NVIDIA's DeepLearningExamples: base and large, SQuAD head, 1024 iterations",
            {
                "model": "bert-base,bert-large",
                "head": "qa",
                "batch": "1,2,4,8",
                "seq": "128,384",
                "dtype": "fp16,fp32",
                "iterations": 1024,
                "max-time": 120,
            },
        ),
        Preset(
            "deeplearningexamples-train",
            "SQuAD fine-tuning as NVIDIA's DeepLearningExamples times it on one GPU: large, 384 tokens, batch 32 (docs/training.md)",
            {
                "backend": "torch:eager,torch:compile",
                "model": "bert-large",
                "head": "qa",
                "batch": "32",
                "seq": "384",
                "dtype": "fp16-amp,bf16,tf32",
                "optimizer": "adamw",
                "clip": 1.0,
                "steps": 100,
                "max-time": 60,
            },
            command="train",
        ),
        *(
            Preset(
                f"mlperf-bert-{short}",
                f"MLPerf Inference's BERT in {scenario}: large, 384 tokens, the official minima, on random samples (docs/loadgen.md)",
                {"scenario": name, "model": "bert-large", "head": "qa", "seq": "384", **settings},
                command="loadgen",
            )
            for short, name, scenario, settings in (
                ("offline", "offline", "Offline", {"min-duration": 600, "min-queries": 10833, "samples": 10833}),
                (
                    "server",
                    "server",
                    "Server",
                    {
                        "min-duration": 600,
                        "min-queries": 100,
                        "samples": 10833,
                        "latency-limit": 130,
                        "target-qps": "auto",
                    },
                ),
                (
                    "singlestream",
                    "single-stream",
                    "SingleStream",
                    {"min-duration": 600, "min-queries": 1024, "samples": 10833},
                ),
            )
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration file: defaults for every sweep, presets, and what `[gate]` says."""

    path: Path | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)


def read_config(path: Path | None, folder: Path) -> Config:
    """The file at `path`, or the first configuration found in `folder`. Raises UsageError where it cannot be used."""
    if path is not None:
        if not path.is_file():
            raise UsageError(f"--config {path}: there is no such file")
        return _parse(path)
    for name in CONFIG_FILES:
        if (folder / name).is_file():
            found = _parse(folder / name)
            if found.defaults or found.presets or found.gate or name == "benchrun.toml":
                return found
    return Config()


def _parse(path: Path) -> Config:
    try:
        raw: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}") from error
    if path.name == "pyproject.toml":
        for section in ("tool", "benchrun"):
            raw = raw.get(section, {})
            if not isinstance(raw, dict):
                raise UsageError(f"{path}: {section} must be a table, as in [tool.benchrun]")
    sections = {"presets", "gate"}
    presets = raw.get("presets", {})
    if not isinstance(presets, dict) or not all(isinstance(each, dict) for each in presets.values()):
        raise UsageError(f"{path}: presets are tables like [presets.nightly]")
    gate = raw.get("gate", {})
    if not isinstance(gate, dict):
        raise UsageError(f"{path}: [gate] is a table, not {gate!r}")
    defaults = {name: value for name, value in raw.items() if name not in sections}
    _check_names(path, "top level", defaults, SETTINGS)
    return Config(path, defaults, {name: _read_preset(path, name, each) for name, each in presets.items()}, gate)


def _read_preset(path: Path, name: str, table: Mapping[str, Any]) -> Preset:
    """A user's preset; `command = "train"` says that it is for another command than `benchrun run`."""
    where, command = f"presets.{name}", table.get("command", "run")
    if command not in OWN_SETTINGS:
        raise UsageError(f"{path}, {where}: unknown command {command!r}; choose from {', '.join(OWN_SETTINGS)}")
    settings = {key: value for key, value in table.items() if key != "command"}
    _check_names(path, where, settings, (*SETTINGS, *OWN_SETTINGS[command]))
    return Preset(name, f"from {path.name}", settings, command)


def find_preset(name: str, config: Config, command: str = "run") -> Preset:
    """A user's preset of that name, else a built-in one. Raises UsageError for a preset of another command."""
    known = BUILT_IN | dict(config.presets)
    found = known.get(name)
    if found is None:
        choices = sorted(each.name for each in known.values() if each.command == command)
        raise UsageError(f"unknown preset {name!r}: choose from {', '.join(choices)}")
    if found.command != command:
        raise UsageError(f"preset {name} is for 'benchrun {found.command}': benchrun {found.command} --preset {name}")
    return found


def make_request(*layers: Mapping[str, Any]) -> SweepRequest:
    """A sweep request from settings by option name, later layers over earlier ones; None counts as not given.

    Numbers may be numbers, lists or text as on the command line. Raises UsageError naming the option.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged |= {name: value for name, value in layer.items() if value is not None}
    protocol = {field: _number(merged, name, kind) for name, (field, kind) in PROTOCOL_FIELDS.items() if name in merged}
    request = {field: read(merged, name) for name, (field, read) in REQUEST_FIELDS.items() if name in merged}
    if ENGINE_PER_POINT in merged and _truth(merged, ENGINE_PER_POINT):
        if not any(name.partition(":")[0] == "trt" for name in request.get("backends", ())):
            raise UsageError(f"--{ENGINE_PER_POINT} is for the engine trt, which is not in --backend")
        request["options"] = {**request.get("options", {}), "trt.engine_per_point": "on"}
    return SweepRequest(**request, protocol=Protocol(**protocol))


def parse_pairs(value: Any, name: str) -> dict[str, str | int | float | bool]:
    """`NAME=VALUE` texts (or a table) as a mapping; values become numbers or truth values where they look like one."""
    texts = [value] if isinstance(value, str) else value
    if isinstance(value, Mapping):
        if odd := [key for key, given in value.items() if not isinstance(given, str | int | float)]:
            raise UsageError(f"{name} {odd[0]}: give a text, a number, true or false, not {value[odd[0]]!r}")
        return dict(value)
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{name} takes texts like NAME=VALUE or a table, not {value!r}")
    found: dict[str, str | int | float | bool] = {}
    for text in texts:
        key, equals, given = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--{name} {text}: write it as NAME=VALUE")
        found[key.strip()] = _value(given.strip())
    return found


def _value(text: str) -> str | int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _number(settings: Mapping[str, Any], name: str, kind: type) -> Any:
    value = settings[name]
    if kind is str:
        return str(value)
    if kind is bool:
        return _truth(settings, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} takes a number, not {value!r}")
    if kind is int and not (math.isfinite(value) and value == int(value)):
        raise UsageError(f"{name} takes a number, not {value!r}")
    return kind(value)


def _numbers(settings: Mapping[str, Any], name: str) -> tuple[int, ...]:
    value = settings[name]
    return parse_numbers(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value), name)


def _names(settings: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = settings[name]
    found = parse_names(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
    if not found:
        raise UsageError(f"--{name} is empty: give at least one")
    return found


def _text(settings: Mapping[str, Any], name: str) -> str:
    return str(settings[name])


def _whole(settings: Mapping[str, Any], name: str) -> int:
    return int(_number(settings, name, int))


def _seconds(settings: Mapping[str, Any], name: str) -> float:
    return float(_number(settings, name, float))


def _truth(settings: Mapping[str, Any], name: str) -> bool:
    if not isinstance(settings[name], bool):
        raise UsageError(f"{name} takes true or false, not {settings[name]!r}")
    return bool(settings[name])


def _pairs(settings: Mapping[str, Any], name: str) -> dict[str, str | int | float | bool]:
    return parse_pairs(settings[name], name)


PROTOCOL_FIELDS: dict[str, tuple[str, type]] = {
    "iterations": ("iterations", int),
    "warmup": ("warmup", int),
    "max-time": ("max_time_s", float),
    "transfers": ("transfers", str),
    "repeats": ("repeats", int),
    "energy": ("energy", bool),
}
REQUEST_FIELDS: dict[str, tuple[str, Any]] = {
    "backend": ("backends", _names),
    "model": ("models", _names),
    "head": ("heads", _names),
    "weights": ("weights", _text),
    "override": ("overrides", _pairs),
    "opt": ("options", _pairs),
    "batch": ("batches", _numbers),
    "seq": ("seqs", _numbers),
    "dtype": ("dtypes", _names),
    "device": ("device", _text),
    "workload": ("workloads", _names),
    "layout": ("layouts", _names),
    "threads": ("threads", _whole),
    "launches": ("launches", _whole),
    "timeout": ("timeout_s", _seconds),
    "try-all": ("try_all", _truth),
}
ENGINE_PER_POINT = "engine-per-point"  # short for an option of one engine that many sweeps want
SETTINGS = (*REQUEST_FIELDS, *PROTOCOL_FIELDS, ENGINE_PER_POINT)


# what a command takes besides the settings of a sweep, which its own module turns into those
OWN_SETTINGS: dict[str, tuple[str, ...]] = {
    "run": (),
    "train": ("optimizer", "accumulate", "dropout", "clip", "steps"),
    "loadgen": (
        "scenario",
        "mode",
        "target-qps",
        "latency-limit",
        "max-wait",
        "max-batch",
        "samples-per-query",
        "lengths",
        "min-duration",
        "min-queries",
        "samples",
        "quick",
    ),
}


def _check_names(path: Path, where: str, settings: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in settings:
        if name not in known and name not in ("db", "label"):
            raise UsageError(f"{path}, {where}: unknown setting {name!r}; choose from {', '.join(known)}, db, label")
