from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchrun.backends.catalogue import named_spec
from benchrun.backends.contract import Point
from benchrun.runner.messages import Assignment, Task, clean_line, decode_assignment, encode_assignment
from benchrun.runner.plan import SweepRequest, make_plan
from benchrun.runner.protocol import Protocol

VALUES = st.one_of(st.text(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.booleans())
PAIRS = st.dictionaries(st.text(min_size=1), VALUES, max_size=4).map(lambda each: tuple(sorted(each.items())))


@given(PAIRS, PAIRS, st.text(), st.integers(1, 2**31), st.floats(0.001, 1e6))
def test_an_assignment_survives_the_pipe(
    overrides: tuple[tuple[str, object], ...], options: tuple[tuple[str, object], ...], name: str, batch: int, s: float
) -> None:
    point = Point(
        name,
        "random:0",
        "qa",
        "torch",
        "eager",
        "cpu",
        "fp32",
        batch,
        16,
        "padded",
        "v1",
        overrides,
        options,  # type: ignore[arg-type]
    )
    spec = named_spec("tiny", "qa", num_hidden_layers=1)
    assignment = Assignment(
        spec, 64, (Task(point, 3), Task(point, 4)), Protocol(max_time_s=s), progress_s=1.0, sweep=(point,)
    )
    line = encode_assignment(assignment)
    assert "\n" not in line
    again = decode_assignment(line)
    assert again == assignment
    assert [task.point.key for task in again.tasks] == [point.key, point.key]


def test_a_planned_point_survives_the_pipe() -> None:
    (planned,) = make_plan(
        SweepRequest(models=("tiny",), overrides={"num_hidden_layers": 1}, options={"attention": "eager"}, device="cpu")
    ).points
    line = encode_assignment(Assignment(planned.spec, 128, (Task(planned.point, 0),), Protocol()))
    found = decode_assignment(line)
    assert found.tasks[0].point == planned.point and found.spec == planned.spec
    newer = json.loads(line)
    newer["spec"]["something"] = "newer"
    assert decode_assignment(json.dumps(newer)).spec == planned.spec


def test_an_older_parent_that_names_no_tokenizer_means_the_one_beside_the_weights(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (tmp_path / name).touch()
    spec = replace(named_spec("tiny", "qa"), weights_path=str(tmp_path), tokenizer=str(tmp_path))
    line = json.loads(encode_assignment(Assignment(spec, 128, (), Protocol())))
    del line["spec"]["tokenizer"]
    assert decode_assignment(json.dumps(line)).spec == spec
    (tmp_path / "vocab.txt").unlink()
    assert decode_assignment(json.dumps(line)).spec.tokenizer is None


def test_somebody_elses_text_becomes_one_printable_line() -> None:
    assert clean_line("  two\nlines\tand \x1b[31mred\x00 \udcff text ", 100) == "two lines and [31mred text"
    assert clean_line("ä – 漢字", 100) == "ä – 漢字"
    assert clean_line("x" * 10_000_000, 10) == "xxxxxxx..."


@given(st.text(), st.integers(4, 50))
def test_a_clean_line_is_short_printable_and_can_be_stored(text: str, limit: int) -> None:
    line = clean_line(text, limit)
    assert len(line) <= limit and line.isprintable() and line == line.strip()
    line.encode()
