"""A trained model end to end: every engine and dtype the same way, and faults that the gate must catch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchrun.runner.accuracy import tasks
from benchrun.runner.accuracy.naming import AskedTask
from benchrun.runner.accuracy.squad_data import read_squad
from benchrun.runner.accuracy.squad_scores import score
from benchrun.runner.accuracy.windows import Window, make_windows
from tests.accuracy.measuring import Measured, copy_folder, measure_point
from tests.accuracy.training import QUESTIONS, RULES, train_model

if TYPE_CHECKING:
    from tests.conftest import Bench

# training takes 20 s on an idle core, and more where others compute
pytestmark = pytest.mark.timeout(900)
ASKED = AskedTask("squad", read_squad(QUESTIONS).digest[:8], {"stride": RULES.stride})
DATA = {"data": str(QUESTIONS)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model's folder."""
    return train_model(tmp_path_factory.mktemp("trained") / "qa-model")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One artefact cache for the module: the fp32 reference is computed once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHRUN_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def fp32(trained: Path, cache: Path) -> Measured:
    """PyTorch in fp32."""
    return ask(trained)


def ask(model: Path, own: dict[str, Any] | None = None, **settings: Any) -> Measured:
    return measure_point(
        ASKED, {"model": str(model), "backend": "torch", "seq": RULES.seq} | settings, DATA | (own or {})
    )


def test_pytorch_in_fp32_is_the_reference(fp32: Measured) -> None:
    assert fp32.score("f1") >= 90
    assert [(each["task"], each["metric"]) for each in fp32.found["scores"]] == [
        ("squad", "f1"),
        ("squad", "exact_match"),
    ]
    questions = read_squad(QUESTIONS).questions
    for each in fp32.found["scores"]:
        assert each["reference"] == each["value"] and each["n"] == len(questions)
    assert fp32.facts["passes_99"] is True and fp32.facts["passes_99.9"] is True and not fp32.invalid
    assert not {"random_head", "accuracy_below_99"} & set(fp32.found["flags"])
    # the file holds what the official evaluation reads, and gives the same scores
    again = score(fp32.predictions, questions)
    assert (again.f1, again.exact_match) == (fp32.score("f1"), fp32.score("exact_match"))
    # the speed is that of the same session
    assert fp32.found["throughput_seq_s"] > 0 and len(fp32.found["host_ns"]) == 2
    share = fp32.found["tokens_s"] / (fp32.found["throughput_seq_s"] * RULES.seq)
    assert share == pytest.approx(1 - fp32.found["padding_fraction"]) and 0.3 < share < 1
    assert fp32.facts["windows"] > fp32.facts["questions"] == len(questions)


def test_onnx_runtime_gives_the_same_predictions(trained: Path, fp32: Measured) -> None:
    found = ask(trained, backend="ort:cpu")
    assert found.predictions == fp32.predictions and not found.invalid
    assert found.facts["reference"].endswith("cached") and found.facts["of_reference_percent"] == pytest.approx(100)


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_int8_gets_a_score(trained: Path, fp32: Measured, method: str) -> None:
    found = ask(trained, backend="ort:cpu", dtype="int8", opt=[f"quantisation={method}"])
    assert 50 < found.score("f1") <= 100 and found.found["facts"]["quantisation"] == method
    assert found.facts["of_reference_percent"] == pytest.approx(100 * found.score("f1") / fp32.score("f1"))


def test_bf16_gets_a_score(trained: Path, fp32: Measured) -> None:
    found = ask(trained, dtype="bf16")
    assert found.facts["of_reference_percent"] > 97 and found.found["scores"][0]["reference"] == fp32.score("f1")


def test_wrong_token_types_fail_the_gate(trained: Path, fp32: Measured, tmp_path: Path) -> None:
    folder = copy_folder(trained, tmp_path / "model")
    tokenizer = json.loads((trained / "tokenizer.json").read_text("utf-8"))
    for part in tokenizer["post_processor"]["pair"]:
        next(iter(part.values()))["type_id"] = 0
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    found = ask(folder, {"reference": fp32.score("f1")})
    assert found.facts["passes_99"] is False and "accuracy_below_99" in found.found["flags"]
    assert found.facts["reference"] == "given by --reference"


def shift(windows: list[Window], fault: str) -> list[Window]:
    """Windows whose tokens stand elsewhere than they say: by one, or, as with a stride that is off by one, by one more each time."""
    steps = [1 if fault == "offset" else each.span.start // RULES.stride for each in windows]
    return [
        replace(each, offsets=(*each.offsets[step:], *each.offsets[-1:] * step))
        for each, step in zip(windows, steps, strict=True)
    ]


@pytest.mark.parametrize("fault", ["stride", "offset"])
def test_what_is_off_by_one_fails_the_gate(
    trained: Path, fp32: Measured, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(tasks, "make_windows", lambda *given: shift(make_windows(*given), fault))
    found = ask(trained)
    assert found.facts["reference"].endswith("cached") and found.facts["passes_99"] is False
    changed = [name for name, text in found.predictions.items() if fp32.predictions[name] != text]
    assert changed and (
        fault == "offset" or all("-all-" in name for name in changed)
    )  # only where there are several windows


def test_the_command_and_a_model_one_layer_short_that_fails_the_gate(
    trained: Path, cache: Path, fp32: Measured, bench: Bench
) -> None:
    common = ("--data", str(QUESTIONS), "--model", str(trained), "--backend", "torch", "--seq", "96", "--stride", "48")
    quick = (
        "--batch",
        "16",
        "--iterations",
        "3",
        "--warmup",
        "0",
        "--max-time",
        "0.1",
        "--device",
        "cpu",
        "--threads",
        "1",
    )
    settings = {"BENCHRUN_CACHE": str(cache)}
    command = replace(bench, settings=settings)
    done = command("accuracy", *common, *quick, "--gate", "99.9", "--json")
    assert done.status == 0, done.err
    (point,) = done.document["points"]
    assert {each["metric"]: each["value"] for each in point["scores"]} == pytest.approx(
        {"f1": fp32.score("f1"), "exact_match": fp32.score("exact_match")}
    )
    assert (
        point["workload"] == ASKED.workload
        and point["head"] == "qa"
        and point["attachments"][0]["name"] == "predictions.json"
    )
    short = replace(bench, settings=settings | {"COLUMNS": "80"})
    failed = short("accuracy", *common, *quick, "--gate", "99", "--override", "num_hidden_layers=5", "--label", "short")
    assert failed.status == 1 and max(map(len, failed.out.splitlines())) <= 80
    assert "FAIL" in failed.out and "below the gate of 99 %" in failed.out.replace("\n", " ")
    assert "(num_hidden_layers=5)" in failed.out  # what is not the whole checkpoint is called so
    (shown,) = command("show", "last", "--json").document["points"]
    references = {each["metric"]: each["reference"] for each in shown["scores"]}  # of the whole checkpoint
    assert references == pytest.approx({"f1": fp32.score("f1"), "exact_match": fp32.score("exact_match")})
    assert shown["status"] == "ok" and "accuracy_below_99" in shown["flags"]  # an honest run of five layers
    assert shown["facts"]["accuracy"]["passes_99"] is False


def test_one_question(trained: Path, bench: Bench) -> None:
    question = read_squad(QUESTIONS).questions[0]
    asked = ("answer", "-p", question.passage, "-q", question.text, "--model", str(trained), "--backend", "torch")
    done = bench(*asked, "--seq", "96", "--device", "cpu", "--threads", "1")
    assert done.status == 0, done.err
    assert done.out.splitlines()[0].removeprefix("answer").strip() in question.answers
    assert "probability" in done.out and "ms a window" in done.out and not bench.db.exists()
