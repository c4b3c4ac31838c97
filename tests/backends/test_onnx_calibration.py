"""INT8 calibrated on a text: what goes in, what the graph is named by, and that real text is what it was calibrated on."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from benchrun.backends import onnx_calibration
from benchrun.backends.catalogue import ModelError, resolve_spec
from benchrun.backends.contract import BuildFailed, Point, Unsupported
from benchrun.backends.models import Model, load_model
from benchrun.backends.onnx_calibration import choose_inputs, read_text, spread, text_feeds
from benchrun.backends.onnx_export import FILE_NAME
from benchrun.backends.onnxruntime_build import obtain_graph
from benchrun.backends.tokenisation import TextTokenizer
from tests.backends.build_double import RecordingBuild
from tests.backends.minilm import MINILM

TEXT = "The cat sat.\n\n  When was it lit?\tThe lamp was lit in 1874.  \nÜberraschung: naïve café – 東京 is a city.\n"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(resolve_spec(str(MINILM), "encoder", None, {"num_hidden_layers": 1}), 64)


def make_point(model: Model, method: str = "static", text: str = "") -> Point:
    spec = model.spec
    options = {"quantisation": method, **({"calibration": text} if text else {})}
    return Point(
        spec.name, spec.weights, spec.head, "ort", "cpu", "cpu", "int8", 1, 16, "padded", "", (), tuple(sorted(options.items()))
    )  # fmt: skip


def write(path: Path, text: str) -> tuple[str, dict[str, Path]]:
    """What a text is called in a point, and where it lies."""
    path.write_text(text, encoding="utf-8")
    name = f"text@{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    return name, {name: path}


def test_lines_go_through_the_tokenizer_without_padding(model: Model) -> None:
    tokenizer = TextTokenizer(MINILM)
    one, pair = text_feeds(["The cat sat.", "When was it lit?\tThe lamp"], tokenizer, model.spec.shape)
    assert one["input_ids"].tolist() == [[101, 1996, 4937, 2938, 1012, 102]] and not one["token_type_ids"].any()
    # [CLS] when was it lit ? [SEP] the lamp [SEP]
    assert pair["input_ids"][0, [0, 6, 9]].tolist() == [101, 102, 102]
    assert pair["token_type_ids"].tolist() == [[0] * 7 + [1] * 3]
    assert all(feed["attention_mask"].all() and len(set(map(np.shape, feed.values()))) == 1 for feed in (one, pair))

    room = model.spec.shape.positions - 2
    long, asked = text_feeds(["word " * 999, f"{'ask ' * 999}\t{'word ' * 999}"], tokenizer, model.spec.shape)
    assert long["input_ids"].shape == asked["input_ids"].shape == (1, room)
    assert long["input_ids"][0, -1] == 102 and asked["token_type_ids"].sum() == room - 2 - (room - 3) // 2


def test_a_long_text_is_taken_evenly(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spread(list(range(10)), 3) == [0, 3, 6] and spread([1, 2], 9) == [1, 2]
    name, files = write(tmp_path / "long.txt", "\n".join(f"line {n}" for n in range(2000)))
    build = RecordingBuild.at(tmp_path / "cache")
    build.files |= files
    feeds, told = choose_inputs(model.spec, read_text(model.spec, make_point(model, text=name), build))
    assert len(feeds) == told["lines_used"] == onnx_calibration.LINES and told["lines"] == 2000
    monkeypatch.setattr(onnx_calibration, "TOKENS", 100)
    feeds, told = choose_inputs(model.spec, read_text(model.spec, make_point(model, text=name), build))
    assert told["tokens"] == sum(feed["input_ids"].size for feed in feeds) and 80 <= told["tokens"] <= 100
    assert told["text"] == f"sha256:{hashlib.sha256(files[name].read_bytes()).hexdigest()[:16]}"


def test_the_graph_is_named_by_the_texts_content(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read, plain = [], Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        read.append(path)
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    build = RecordingBuild.at(tmp_path / "cache")
    drawn, notes = obtain_graph(model, make_point(model), None, build)
    assert notes["calibrated_on"] == {"drawn": "token ids"}

    name, files = write(tmp_path / "text.txt", TEXT)
    build.files |= files
    point = make_point(model, text=name)
    first, notes = obtain_graph(model, point, None, build)
    assert notes["calibrated_on"]["lines"] == notes["calibrated_on"]["lines_used"] == 3 and not first.hit
    assert read.count(files[name]) == 2  # by `write` above, and once for its name and the graph together
    assert notes["calibrated_on"]["text"].startswith(f"sha256:{name.removeprefix('text@')}")
    moved = tmp_path / "moved.txt"
    shutil.copy(files[name], moved)
    build.files[name] = moved  # the same content elsewhere
    again, _ = obtain_graph(model, point, None, build)
    assert again.hit and again.key == first.key

    other, more = write(tmp_path / "text.txt", TEXT + "One more line.\n")
    build.files |= more
    changed, notes = obtain_graph(model, make_point(model, text=other), None, build)
    assert not changed.hit and len({drawn.key, first.key, changed.key}) == 3 and notes["calibrated_on"]["lines"] == 4
    assert scales(drawn.path / FILE_NAME) != scales(first.path / FILE_NAME) != scales(changed.path / FILE_NAME)


def scales(path: Path) -> list[float]:
    """The scales of the activations of a stored graph."""
    return [float(scale) for scale in scales_of(onnx.load(path))]


def scales_of(model: Any) -> npt.NDArray[np.float64]:
    """The same of a graph that was loaded."""
    constant = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    found = [float(constant[node.input[1]]) for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert found
    return np.array(found)


def test_static_ranges_are_those_of_the_text(tmp_path: Path, model: Model) -> None:
    """Each scale is the range, over the text's lines, of what the graph really quantises there; drawn ids have another one."""
    name, files = write(tmp_path / "text.txt", TEXT)
    build = RecordingBuild.at(tmp_path / "cache")
    build.files |= files
    point = make_point(model, text=name)
    feeds, _ = choose_inputs(model.spec, read_text(model.spec, point, build))
    found = {}
    for each in (point, make_point(model)):
        graph = onnx.load(obtain_graph(model, each, None, build)[0].path / FILE_NAME)
        quantised = [node.input[0] for node in graph.graph.node if node.op_type == "QuantizeLinear"]
        graph.graph.output.extend(onnx.helper.make_tensor_value_info(value, 1, None) for value in quantised)
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        seen = [session.run(quantised, dict(feed)) for feed in feeds]
        high = np.array([max(0.0, *(float(values.max()) for values in given)) for given in zip(*seen, strict=True)])
        low = np.array([min(0.0, *(float(values.min()) for values in given)) for given in zip(*seen, strict=True)])
        found[each.option("calibration")] = (high - low) / 255 / scales_of(graph)
    # the first activation comes before anything is rounded, later ones feel the rounding before them
    assert found[name][0] == pytest.approx(1, rel=1e-5) and found[name] == pytest.approx(1, rel=0.03)
    assert np.abs(found[None] - 1).max() > 0.1, found


def test_what_cannot_be_calibrated_on(tmp_path: Path, model: Model) -> None:
    name, files = write(tmp_path / "text.txt", TEXT)
    build, point = RecordingBuild.at(tmp_path), make_point(model, text=name)
    build.files |= files
    with pytest.raises(Unsupported, match="head layers starts from hidden states"):
        read_text(replace(model.spec, head="layers"), point, build)
    with pytest.raises(ModelError, match="needs the model's own tokenizer"):
        read_text(replace(model.spec, tokenizer=None), point, build)
    (tmp_path / "text.txt").write_text("something else")
    with pytest.raises(BuildFailed, match=r"^text\.txt has changed since this run was planned"):
        read_text(model.spec, point, build)
    (tmp_path / "text.txt").unlink()
    with pytest.raises(BuildFailed, match=r"^text\.txt cannot be read \(No such file or directory\)"):
        read_text(model.spec, point, build)
