"""Engine options that are text files: named by content in points, found again by --resume, and refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchrun.backends.contract import BuildFailed, Point
from benchrun.runner.bench import WorkerBuild
from benchrun.runner.errors import UsageError
from benchrun.runner.plan import Plan, SweepRequest, make_plan
from tests.backends.minilm import MINILM
from tests.conftest import Bench
from tests.runner.conftest import Inside

TEXT = "The cat sat.\nWhen was it lit?\tThe lamp was lit in 1874.\n"
QUICK = (
    "--override", "num_hidden_layers=1", "--backend", "ort:cpu", "--dtype", "int8", "--device", "cpu", "--threads", "1", "--batch", "1",
    "--seq", "8", "--iterations", "2", "--warmup", "0", "--max-time", "1",
)  # fmt: skip


def plan(given: object, model: str = str(MINILM), option: str = "ort.calibration", **more: Any) -> Plan:
    asked = SweepRequest(
        backends=("ort:cpu",), models=(model,), dtypes=("int8",), device="cpu", options={option: str(given)}, **more
    )
    return make_plan(asked, missing=lambda *_: None)


def text_of(found: Plan) -> object:
    (planned,) = found.points
    return planned.point.option("calibration")


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text(TEXT)
    two.write_text(TEXT)
    found = plan(one)
    assert text_of(found) == text_of(plan(two, option="calibration")) and str(text_of(found)).startswith("text@")
    assert found.request.settings["files"] == {text_of(found): str(one)}
    assert found.points[0].point.key == plan(two).points[0].point.key
    again = make_plan(SweepRequest.from_json(found.request.to_json()), missing=lambda *_: None)  # as --resume does
    assert again.points == found.points and again.request.settings["files"] == found.request.settings["files"]
    two.write_text(TEXT + "And more.\n")
    assert text_of(plan(two)) != text_of(found)
    one.write_text("other")
    with pytest.raises(UsageError, match="has changed since this run was planned"):
        make_plan(SweepRequest.from_json(found.request.to_json()), missing=lambda *_: None)


def test_lengths_and_an_option_may_both_name_files(tmp_path: Path) -> None:
    text, lengths = tmp_path / "text.txt", tmp_path / "lengths.txt"
    text.write_text(TEXT)
    lengths.write_text("5\n9\n")
    found = plan(text, workloads=(f"lengths:{lengths}",))
    assert set(found.request.settings["files"].values()) == {str(text), str(lengths)}
    without = make_plan(SweepRequest(device="cpu"), missing=lambda *_: None)
    assert "files" not in without.request.settings


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "text.txt cannot be read (No such file or directory): give ort.calibration= a UTF-8 text file"),
        (b"", "text.txt holds no text: write one sequence a line"),
        (b" \n\t\n", "text.txt holds no text"),
        (b"\x89PNG\r\n\x00", "text.txt is no text: give a UTF-8 file"),
        (b"caf\xe9\n", "text.txt is no text"),
    ],
)
def test_what_is_no_text_is_said(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        plan(path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_model_must_be_able_to_read(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    with pytest.raises(UsageError, match=r"ort\.calibration needs the model's own tokenizer, and tiny has none"):
        plan(path, model="tiny")
    with pytest.raises(UsageError, match=r"ort\.calibration is a text, and head layers starts from hidden states"):
        plan(path, heads=("layers",))
    with pytest.raises(UsageError, match=r"is no text|cannot be read \(Is a directory\)"):
        plan(tmp_path)
    with pytest.raises(UsageError, match="text@0123abcd cannot be read"):  # a name by content that nobody placed
        plan("text@0123abcd")


def test_a_worker_says_where_a_file_lies(tmp_path: Path) -> None:
    point = Point("m", "w", "encoder", "ort", "cpu", "cpu", "int8", 1, 8, "padded", "p")
    cache: Any = None
    build = WorkerBuild(cache, (point,), {"files": {"text@0123abcd": str(tmp_path)}})
    assert build.file("text@0123abcd") == tmp_path
    with pytest.raises(BuildFailed, match="nothing says where it lies"):
        WorkerBuild(cache, (point,)).file("text@0123abcd")


def test_from_the_command_line_to_the_store(bench: Bench, inside: Inside) -> None:
    text = bench.folder / "own text.txt"
    text.write_text(TEXT)
    given = ("--model", str(MINILM), *QUICK)
    built = bench("build", *given[:-6], "--opt", f"ort.calibration={text}", "--json")
    assert [each["status"] for each in json.loads(built.out)["points"]] == ["built"], built.err
    found = bench("run", *given, "--opt", f"ort.calibration={text}", "--json")
    (point,) = found.document["points"]
    assert point["status"] in ("ok", "invalid") and point["cache_hit"] is True, point["error"]
    assert point["options"]["calibration"].startswith("text@")
    told = point["facts"]["calibrated_on"]
    assert (told["lines"], told["lines_used"], told["tokens"]) == (2, 2, 21)
    assert str(bench.folder) not in found.out.replace(found.document["run"]["db"], "")
    text.write_text("changed\n")
    changed = inside(bench, "run", "--resume", found.document["run"]["id"])
    assert changed.status == 2 and "has changed since this run was planned" in " ".join(changed.err.split())
    missing = inside(bench, "run", *given, "--opt", "ort.calibration=nosuch.txt")
    assert missing.status == 2 and "nosuch.txt cannot be read" in " ".join(missing.err.split()) and not missing.out
    assert "Traceback" not in missing.err
    idle = inside(bench, "run", *given, "--dtype", "fp32", "--opt", f"ort.calibration={text}")
    assert idle.status == 2 and not idle.out
    assert "--opt ort.calibration changes nothing in fp32: ask for --dtype int8 too" in " ".join(idle.err.split())


def test_options_that_are_files_are_listed(bench: Bench, inside: Inside) -> None:
    shown = " ".join(inside(bench, "backends", "--options").out.split())
    assert "ort.calibration = none (default), or another value FILE that int8 is calibrated on" in shown
