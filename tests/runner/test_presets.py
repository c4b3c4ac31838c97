from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchrun.runner.errors import UsageError
from benchrun.runner.plan import SweepRequest, make_plan
from benchrun.runner.presets import BUILT_IN, SETTINGS, find_preset, make_request, parse_pairs, read_config
from benchrun.runner.protocol import Protocol


@pytest.mark.parametrize(
    ("name", "points", "iterations"),
    [
        ("quick", 2 * 2, 50),
        ("nvidia-trt-bert", 2 * 2 * 2 * 10, 200),  # base and large, fp16 and fp32, two lengths, ten batches
        ("aitemplate-bert", 9 * 5, 200),
        ("deeplearningexamples-bert", 2 * 2 * 2 * 4, 1024),
    ],
)
def test_built_in_presets_are_the_published_sweeps(name: str, points: int, iterations: int) -> None:
    plan = make_plan(make_request(BUILT_IN[name].settings, {"device": "cpu"}))
    assert len(plan.points) == points
    assert plan.request.protocol.iterations == iterations
    assert not any(planned.refusal for planned in plan.points)


def test_the_shapes_of_the_published_sweeps() -> None:
    nvidia, ait = (make_request(BUILT_IN[name].settings) for name in ("nvidia-trt-bert", "aitemplate-bert"))
    assert nvidia.batches == (1, 2, 4, 8, 12, 16, 24, 32, 64, 128) and nvidia.seqs == (128, 384)
    assert (nvidia.heads, nvidia.models, nvidia.dtypes) == (("qa",), ("bert-base", "bert-large"), ("fp16", "fp32"))
    assert ait.batches == (1, 2, 4, 8, 16, 32, 64, 128, 256) and ait.seqs == (64, 128, 384, 1024, 4096)
    assert (ait.heads, ait.dtypes) == (("layers",), ("fp16",))


def test_later_layers_win_and_none_counts_as_not_given() -> None:
    request = make_request({"batch": "1,2", "iterations": 5, "device": "cpu"}, {"batch": [4, 8], "iterations": None})
    assert request.batches == (4, 8) and request.protocol.iterations == 5 and request.device == "cpu"
    assert make_request() == SweepRequest()


def test_every_setting_reaches_the_request() -> None:
    given: dict[str, Any] = {
        "backend": "torch,ort:cpu,trt", "model": ["tiny", "bert-base"], "head": "qa", "weights": "folder",
        "override": ["num_hidden_layers=2", "hidden_act=relu"], "opt": {"torch.attention": "eager"}, "batch": "1..4*2", "seq": 32,
        "dtype": "fp32", "device": "cpu", "workload": "padded", "layout": "packed", "threads": 3,
        "launches": 2, "timeout": 7, "try-all": True,
        "iterations": 11, "warmup": 0, "max-time": 1, "transfers": "exclude", "repeats": 2, "energy": False,
        "engine-per-point": True,
    }  # fmt: skip
    assert set(given) == set(SETTINGS)
    assert make_request(given) == SweepRequest(
        backends=("torch", "ort:cpu", "trt"),
        models=("tiny", "bert-base"),
        heads=("qa",),
        weights="folder",
        overrides={"num_hidden_layers": 2, "hidden_act": "relu"},
        options={"torch.attention": "eager", "trt.engine_per_point": "on"},
        batches=(1, 2, 4),
        seqs=(32,),
        dtypes=("fp32",),
        device="cpu",
        workloads=("padded",),
        layouts=("packed",),
        threads=3,
        launches=2,
        timeout_s=7.0,
        try_all=True,
        protocol=Protocol(11, 0, 1.0, "exclude", energy=False),
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"iterations": "many"}, "iterations takes a number, not 'many'"),
        ({"iterations": 2.5}, "iterations takes a number, not 2.5"),
        ({"threads": True}, "threads takes a number, not True"),
        ({"timeout": "300"}, "timeout takes a number, not '300'"),
        ({"batch": "a"}, "--batch a: 'a' is not a number"),
        ({"batch": [1, "x"]}, "'x' is not a number"),
        ({"backend": " , "}, "--backend is empty: give at least one"),
        ({"opt": ["attention"]}, "--opt attention: write it as NAME=VALUE"),
        ({"override": "=3"}, "--override =3: write it as NAME=VALUE"),
        ({"override": 3}, "override takes texts like NAME=VALUE or a table, not 3"),
        ({"override": [3]}, "override takes texts like NAME=VALUE or a table"),
        ({"opt": {"attention": ["eager"]}}, r"opt attention: give a text, a number, true or false, not \['eager'\]"),
        ({"iterations": float("nan")}, "iterations takes a number, not nan"),
        ({"threads": float("inf")}, "threads takes a number, not inf"),
        ({"try-all": "false"}, "try-all takes true or false, not 'false'"),
    ],
)
def test_settings_that_are_none_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_request(settings)


def test_values_of_pairs_become_what_they_look_like() -> None:
    texts = ["a=1", "b=1.5", "c=true", "d=false", "e=x=y", "f = g "]
    assert parse_pairs(texts, "opt") == {"a": 1, "b": 1.5, "c": True, "d": False, "e": "x=y", "f": "g"}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_configuration_gives_defaults_and_presets(tmp_path: Path) -> None:
    write(
        tmp_path,
        "benchrun.toml",
        'device = "cpu"\nlabel = "ours"\n[presets.nightly]\nbatch = [1, 8]\n[presets.quick]\nmodel = "bert-base"\n',
    )
    config = read_config(None, tmp_path)
    assert config.defaults == {"device": "cpu", "label": "ours"}
    assert find_preset("nightly", config).settings == {"batch": [1, 8]}
    assert find_preset("quick", config).settings == {"model": "bert-base"}  # one's own come before built-in ones
    assert find_preset("aitemplate-bert", config) is BUILT_IN["aitemplate-bert"]
    with pytest.raises(UsageError, match=r"unknown preset 'nosuch': choose from aitemplate-bert, .*nightly"):
        find_preset("nosuch", config)


def test_a_preset_belongs_to_its_command(tmp_path: Path) -> None:
    write(tmp_path, "benchrun.toml", '[presets.tuned]\ncommand = "train"\noptimizer = "lamb"\nbatch = 8\n')
    config = read_config(None, tmp_path)
    own = find_preset("tuned", config, "train")
    assert (own.command, own.settings) == ("train", {"optimizer": "lamb", "batch": 8})
    with pytest.raises(UsageError, match=r"^preset tuned is for 'benchrun train': benchrun train --preset tuned$"):
        find_preset("tuned", config)
    with pytest.raises(UsageError, match=r"^preset quick is for 'benchrun run': benchrun run --preset quick$"):
        find_preset("quick", config, "train")
    with pytest.raises(UsageError, match=r"^unknown preset 'nosuch': choose from deeplearningexamples-train, tuned$"):
        find_preset("nosuch", config, "train")


def test_pyproject_is_read_where_it_has_a_section(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", '[project]\nname = "x"\n')
    assert read_config(None, tmp_path).path is None
    write(tmp_path, "pyproject.toml", "[tool.benchrun]\niterations = 5\n[tool.benchrun.gate]\nanything = 1\n")
    assert read_config(None, tmp_path).defaults == {"iterations": 5}
    write(tmp_path, "benchrun.toml", "iterations = 6\n")
    assert read_config(None, tmp_path).defaults == {"iterations": 6}
    assert read_config(tmp_path / "pyproject.toml", tmp_path).defaults == {"iterations": 5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch = [1,", "cannot be read as TOML"),
        ("colour = 1", "top level: unknown setting 'colour'; choose from backend, model"),
        ("[presets.a]\ncolour = 1", "presets.a: unknown setting 'colour'"),
        ('[presets.a]\noptimizer = "lamb"', "presets.a: unknown setting 'optimizer'"),
        ('[presets.a]\ncommand = "fly"', "presets.a: unknown command 'fly'; choose from run, train"),
        ("presets = 1", r"presets are tables like \[presets.nightly\]"),
        ("[presets]\na = 1", "presets are tables"),
    ],
)
def test_a_broken_configuration_is_refused_with_its_name(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, "benchrun.toml", text)
    with pytest.raises(UsageError, match=said) as refused:
        read_config(None, tmp_path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("text", ["tool = 1", "[tool]\nbenchrun = 1"])
def test_a_section_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "pyproject.toml", text)
    with pytest.raises(UsageError, match=r"must be a table, as in \[tool.benchrun\]") as refused:
        read_config(None, tmp_path)
    assert str(path) in str(refused.value)


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        read_config(tmp_path / "nosuch.toml", tmp_path)
    assert read_config(None, tmp_path).defaults == {}
