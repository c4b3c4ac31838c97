"""Mixes of lengths: their spelling, what is drawn from them, files and texts, and what is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchrun.backends.catalogue import ModelError, ModelSpec, named_spec, resolve_spec
from benchrun.backends.tokenisation import TextTokenizer, open_tokenizer
from benchrun.runner.accuracy.squad_data import read_squad
from benchrun.runner.accuracy.tasks import make_squad_task
from benchrun.runner.accuracy.windows import WindowRules
from benchrun.runner.errors import UsageError
from benchrun.runner.inputs import make_mixed_inputs
from benchrun.runner.lengths import files
from benchrun.runner.lengths.mixes import Lognormal, Uniform, choose, draw, parse_mix
from benchrun.runner.lengths.naming import parse_workload
from benchrun.runner.lengths.sets import make_sets
from benchrun.runner.plan import SweepRequest, make_plan
from benchrun.runner.workloads import canonical
from tests.backends.minilm import MINILM

QUESTIONS = Path(__file__).parents[1] / "accuracy" / "questions.json"
TEXT = "\n".join(
    (
        "The cat sat.",
        "",
        "A benchmark is only as good as the question that it answers, and nobody asked it anything.",
        "Überraschung: naïve café – 東京 is a city.",
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
    )
)


# --- spelling ---


@pytest.mark.parametrize(
    ("asked", "spelled"),
    [
        ("lengths:uniform:32-384", "lengths:uniform:32-384:padded"),
        ("lengths:uniform:032-384:packed", "lengths:uniform:32-384:packed"),
        ("lengths:lognormal:177:32-384:bucketed", "lengths:lognormal:177:32-384:bucketed"),
        ("lengths:lognormal:177.0:32-384:0.5", "lengths:lognormal:177:32-384:padded"),
        ("lengths:lognormal:177.5:32-384:0.25:packed", "lengths:lognormal:177.5:32-384:0.25:packed"),
    ],
)
def test_a_workload_has_one_spelling(asked: str, spelled: str) -> None:
    assert canonical(asked) == spelled == canonical(spelled)


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    one, two = tmp_path / "a:b.txt", tmp_path / "two.txt"
    one.write_text("# lengths\n12\n\n 7\n")
    two.write_text("# lengths\n12\n\n 7\n")
    first, second = canonical(f"lengths:{one}:packed"), canonical(f"lengths:{two}:packed")
    assert first == second and first.startswith("lengths:file@") and first.endswith(":packed")
    assert canonical(f"lengths:text:{one}").startswith("lengths:text@")
    two.write_text("12\n8\n")
    assert canonical(f"lengths:{two}:packed") != first


BAD = {
    "lengths": "needs a mix: lengths:uniform:LOW-HIGH",
    "lengths:packed": "needs a mix",
    "lengths:uniform:32": "'32' is no range of lengths; write two whole numbers",
    "lengths:uniform:32-384:0.5": "write lengths:uniform:LOW-HIGH",
    "lengths:uniform:384-32": "the range 384-32 is impossible",
    "lengths:uniform:0-32": "the range 0-32 is impossible",
    "lengths:uniform:1-10000000": "impossible; it must go from 1 or more up to at most 1000000",
    "lengths:lognormal:177": "write lengths:lognormal:MEAN:LOW-HIGH",
    "lengths:lognormal:384:32-384": "a mean of 384 cannot come from lengths of 32 to 384",
    "lengths:lognormal:20:32-384": "a mean of 20 cannot come from",
    "lengths:lognormal:nan:32-384": "the mean 'nan' is no number",
    "lengths:lognormal:177:32-384:wide": "the spread of the logarithm 'wide' is no number",
    "lengths:lognormal:177:32-384:99": "the spread of the logarithm is 99; it must be from 0.01 to 10",
    "lengths:nosuch.txt": "nosuch.txt cannot be read (No such file or directory)",
    "lengths:text:nosuch.txt": "nosuch.txt cannot be read",
    "lengths:squad:nosuch.json": "lengths:squad:nosuch.json: there is no such file",
    "lengths:.": ". cannot be read (Is a directory)",
}


@pytest.mark.parametrize("asked", BAD)
def test_what_is_no_mix_is_said_in_one_sentence(asked: str) -> None:
    with pytest.raises(UsageError) as caught:
        canonical(asked)
    assert BAD[asked] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no lengths"),
        (b"# nothing\n", "holds no lengths"),
        (b"12\nabc\n", "line 2: 'abc' is no length"),
        (b"12.5\n", "line 1: '12.5' is no length"),
        (b"0\n", "line 1: '0' is no length"),
        (b"-4\n", "line 1: '-4' is no length"),
        (b"99999999999999999999\n", "is no length"),
        ("١٢\n".encode(), "is no length"),
        (b"\x00\x01\x02\xff", "is no text"),
        (b"12\n\xff\xfe\n", "is no text"),
    ],
)
def test_what_is_no_file_of_lengths_is_said(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "lengths.txt").write_bytes(content)
    with pytest.raises(UsageError, match=r"lengths\.txt") as caught:
        canonical(f"lengths:{tmp_path}/lengths.txt")
    assert said in str(caught.value)


def test_a_text_must_have_lines_and_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text.txt"
    path.write_text(" \n\n")
    with pytest.raises(UsageError, match="holds no text"):
        canonical(f"lengths:text:{path}")
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    with pytest.raises(UsageError, match="is no text"):
        canonical(f"lengths:text:{path}")
    monkeypatch.setattr(files, "LARGEST_BYTES", 4)
    with pytest.raises(UsageError, match="MiB"):
        canonical(f"lengths:{path}")


# --- drawing ---


@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("mean", [33.0, 60.0, 177.0, 300.0, 383.0])
def test_the_mean_is_that_of_what_the_cut_leaves(mean: float, sigma: float) -> None:
    mix = Lognormal(mean, 32, 384, sigma)
    weights = mix.weights()
    assert weights.sum() == pytest.approx(1) and weights.size == 353
    assert float(np.dot(np.arange(32, 385), weights)) == pytest.approx(mean, abs=1e-6)


def test_a_lognormal_has_its_shape() -> None:
    weights, lengths = Lognormal(177, 32, 384, 0.5).weights(), np.arange(32, 385)
    # the log-density is a parabola in the logarithm of the length, beside the 1/k
    logs = np.log(lengths)
    curve = np.polynomial.Polynomial.fit(logs, np.log(weights * lengths), 2).convert().coef
    assert curve[2] == pytest.approx(-1 / (2 * 0.5**2), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(0, 400), st.integers(1, 200), st.integers(0, 2**31))
def test_drawn_lengths_are_in_range_and_repeat_with_the_seed(low: int, width: int, batch: int, seed: int) -> None:
    mix = Uniform(low, low + width)
    found = draw(mix, batch, seed)
    assert len(found) == batch and all(low <= each <= low + width for each in found)
    assert found == draw(mix, batch, seed)
    if width > 100 and batch > 20:
        assert found != draw(mix, batch, seed + 1)


def test_a_batch_as_a_whole_follows_the_mix() -> None:
    mix = parse_mix("lognormal:177:32-384")
    means = [float(np.mean(draw(mix, 64, seed))) for seed in range(20)]
    assert max(abs(mean - 177) for mean in means) < 3  # 64 independent draws would stray by 10
    everything = np.concatenate([draw(mix, 50, seed) for seed in range(200)])
    expected = mix.weights()
    found = np.bincount(everything, minlength=385)[32:385] / everything.size
    assert float(np.abs(np.cumsum(found) - np.cumsum(expected)).max()) < 0.01


def test_lines_come_once_before_any_comes_again() -> None:
    assert sorted(choose(5, 5, 0)) == [0, 1, 2, 3, 4]
    assert sorted(np.bincount(choose(5, 13, 1))) == [2, 2, 3, 3, 3]
    assert list(choose(100, 20, 0)) != list(choose(100, 20, 1))


# --- input sets ---


@pytest.mark.parametrize("head", ["encoder", "layers"])
@pytest.mark.parametrize("name", ["tiny", "roberta-base"])
def test_sets_hold_the_same_lengths_in_other_orders(name: str, head: str) -> None:
    shape = named_spec(name).shape
    lengths = (1, 2, 9, 16, 12)
    sets = make_mixed_inputs(shape, head, lengths, 16, 0)
    assert sets[0].lengths == lengths and len({each.lengths for each in sets}) > 1
    for inputs in sets:
        assert sorted(inputs.lengths) == sorted(lengths) and not inputs.full
        for row, length in enumerate(inputs.lengths):
            assert inputs.arrays["attention_mask"][row].tolist() == [1] * length + [0] * (16 - length)
            if head == "layers":
                assert not inputs.arrays["hidden_states"][row, length:].any()
                continue
            ids = inputs.arrays["input_ids"][row]
            assert (ids[length:] == shape.pad_token_id).all() and shape.pad_token_id not in ids[:length]
            assert shape.special_ids is not None and ids[0] == shape.special_ids[0]
            if length > 1:
                assert ids[length - 1] == shape.special_ids[1]
            if shape.feeds_token_types:
                types = inputs.arrays["token_type_ids"][row]
                assert types.tolist() == [0] * (length // 2) + [1] * (length - length // 2) + [0] * (16 - length)


def minilm() -> ModelSpec:
    return resolve_spec(str(MINILM))


def test_a_text_goes_through_the_models_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    asked = parse_workload(f"lengths:text:{path}")
    drawn = make_sets(asked, minilm(), "encoder", 8, 12, 0, {asked.source: str(path)})
    assert len(drawn.sets) == 4
    assert drawn.facts == {
        "cut_to_seq": 6,
        "tokenizer": TextTokenizer(MINILM).fingerprint,
    }  # 3 of the 4 lines have more than 12 tokens, and each comes twice
    first = drawn.sets[0]
    assert sorted(first.lengths) == [6, 6, *[12] * 6]
    row = first.lengths.index(6)
    ids = first.arrays["input_ids"][row]
    assert ids[:6].tolist() == [101, 1996, 4937, 2938, 1012, 102] and not ids[6:].any()  # [CLS] the cat sat . [SEP]
    assert all(each.arrays["input_ids"].max() < 30522 for each in drawn.sets)
    assert {tuple(sorted(map(tuple, each.arrays["input_ids"].tolist()))) for each in drawn.sets} == {
        tuple(sorted(map(tuple, first.arrays["input_ids"].tolist())))
    }
    again = make_sets(parse_workload(asked.workload), minilm(), "encoder", 8, 12, 0, {asked.source: str(path)})
    assert (again.sets[0].arrays["input_ids"] == first.arrays["input_ids"]).all()


# --- windows of a SQuAD file ---


@pytest.fixture
def squad(tmp_path: Path) -> Path:
    """The questions of tests/accuracy, one of them about a passage of several windows."""
    raw = json.loads(QUESTIONS.read_text("utf-8"))
    first = raw["data"][0]["paragraphs"][0]
    first["context"] += " " + " ".join(f"word{n}" for n in range(300))
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


def test_a_squad_file_is_named_by_its_content(squad: Path, tmp_path: Path) -> None:
    other = tmp_path / "other:name.json"
    other.write_bytes(squad.read_bytes())
    named = canonical(f"lengths:squad:{squad}:packed")
    assert named == canonical(f"lengths:squad:{other}:packed") == canonical(named)
    assert named == f"lengths:squad@{hashlib.sha256(squad.read_bytes()).hexdigest()[:8]}:packed"
    assert canonical(f"loadgen:offline:squad:{squad}:packed").endswith(named.removeprefix("lengths:"))
    other.write_text(squad.read_text("utf-8") + "\n")
    assert canonical(f"lengths:squad:{other}:packed") != named


@pytest.mark.parametrize("seq", [384, 128])
def test_windows_are_those_of_the_accuracy_task(squad: Path, seq: int) -> None:
    asked, files = parse_workload(f"lengths:squad:{squad}"), {}
    files[asked.source] = str(squad)
    tokenizer = TextTokenizer(MINILM)
    task = make_squad_task(read_squad(squad), tokenizer, WindowRules(seq))
    rows = [(row.ids, row.types) for row in task.rows]
    assert task.facts["windows"] == len(rows) > task.facts["questions"] and max(len(ids) for ids, _ in rows) == seq

    drawn = make_sets(asked, minilm(), "encoder", len(rows), seq, 3, files)
    told = {"questions": task.facts["questions"], "windows": len(rows), "tokenizer": tokenizer.fingerprint}
    assert drawn.facts == told
    for inputs in drawn.sets:  # as many as there are: every window once
        found = [
            (tuple(ids[:n].tolist()), tuple(types[:n].tolist()))
            for ids, types, n in zip(
                inputs.arrays["input_ids"], inputs.arrays["token_type_ids"], inputs.lengths, strict=True
            )
        ]
        assert sorted(found) == sorted(rows)
        assert inputs.arrays["attention_mask"].sum(axis=1).tolist() == list(inputs.lengths)
    assert (make_sets(asked, minilm(), "qa", 5, seq, 3, files).sets[0].arrays["token_type_ids"].max(axis=1) == 1).all()
    states = make_sets(asked, minilm(), "layers", len(rows), seq, 3, files).sets[0]
    assert set(states.arrays) == {"hidden_states", "attention_mask"}
    assert sorted(states.lengths) == sorted(len(ids) for ids, _ in rows)


def test_what_windows_need_is_said_when_planning(squad: Path) -> None:
    def plan(model: str, seq: int, path: Path = squad) -> None:
        make_plan(SweepRequest(models=(model,), device="cpu", workloads=(f"lengths:squad:{path}",), seqs=(seq,)))

    plan(str(MINILM), 68)
    with pytest.raises(UsageError, match="and --seq is 67: pass --seq 68 or more"):
        plan(str(MINILM), 67)
    with pytest.raises(UsageError, match="lengths:squad needs the model's own tokenizer, and tiny has none"):
        plan("tiny", 384)
    asked = parse_workload(f"lengths:squad:{squad}")
    squad.write_text(squad.read_text("utf-8") + " ")
    with pytest.raises(UsageError, match="has changed since this run was planned"):
        make_sets(asked, minilm(), "qa", 2, 384, 0, {asked.source: str(squad)})
    with pytest.raises(UsageError, match="names a file by its content"):
        make_sets(asked, minilm(), "qa", 2, 384, 0, {})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"\x00\x01", "is a binary file"),
        (b"\xff\xfe{}", "is a binary file"),
        (b"12\n40\n", "is not JSON"),
        (b"[1, 2]", "is not a SQuAD file"),
        (b'{"data": []}', "has no questions"),
        (b'{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "1", "question": "b"}]}]}]}', "has no answers"),
    ],
)
def test_what_is_no_squad_file_is_said(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"^lengths:squad:bad\.json") as caught:
        canonical(f"lengths:squad:{tmp_path}/bad.json")
    assert said in str(caught.value) and "\n" not in str(caught.value) and "--data" not in str(caught.value)


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "lengths.txt"
    path.write_text("5\n9\n")
    asked = parse_workload(f"lengths:{path}")
    spec = named_spec("tiny")
    drawn = make_sets(asked, spec, "encoder", 3, 16, 0, {asked.source: str(path)})
    assert set(drawn.sets[0].lengths) == {5, 9}
    path.write_text("5\n8\n")
    with pytest.raises(UsageError, match="has changed since this run was planned"):
        make_sets(asked, spec, "encoder", 3, 16, 0, {asked.source: str(path)})
    with pytest.raises(UsageError, match="names a file by its content: give the path"):
        make_sets(asked, spec, "encoder", 3, 16, 0, {})


def test_the_tokenizer_must_be_the_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="lengths:text needs the model's own tokenizer, and tiny has none"):
        open_tokenizer(named_spec("tiny"), "lengths:text")
    (tmp_path / "tokenizer.json").write_text("{")
    spec = minilm()
    with pytest.raises(ModelError, match=r"tokenizer\.json in .* cannot be read"):
        open_tokenizer(replace(spec, tokenizer=str(tmp_path)), "lengths:text")
    with pytest.raises(ModelError, match=r"the tokenizer has 30522 tokens and .* knows 99"):
        open_tokenizer(replace(spec, config={**spec.config, "vocab_size": 99}), "lengths:squad")


# --- planning ---


def request(**changes: object) -> SweepRequest:
    return SweepRequest(models=("tiny",), device="cpu", backends=("torch:eager",), **changes)  # type: ignore[arg-type]


def test_layouts_multiply_the_workloads(tmp_path: Path) -> None:
    path = tmp_path / "lengths.txt"
    path.write_text("5\n9\n")
    plan = make_plan(
        request(workloads=("lengths:uniform:4-64", f"lengths:{path}"), layouts=("padded", "packed"), seqs=(64,))
    )
    found = [each.point.workload for each in plan.points]
    name = parse_workload(f"lengths:{path}").source
    mixes = ("uniform:4-64", name)
    assert found == [f"lengths:{mix}:{layout}" for mix in mixes for layout in ("padded", "packed")]
    assert plan.request.settings == {"files": {name: str(path)}} and plan.request.layouts == ()
    again = make_plan(SweepRequest.from_json(plan.request.to_json()))
    assert [each.point.key for each in again.points] == [each.point.key for each in plan.points]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"workloads": ("lengths:uniform:4-200",)}, "sequences of up to 200 tokens, and --seq 128 .* pass --seq 200"),
        ({"layouts": ("packed",)}, "--layout is for sequences of different lengths, and padded has none"),
        ({"workloads": ("lengths:uniform:4-64:packed",), "layouts": ("padded",)}, "names its layout already"),
        ({"workloads": ("lengths:uniform:4-64",), "layouts": ("loose",)}, "unknown layout 'loose': choose from padded"),
        ({"workloads": ("lengths:text@01234567",)}, "needs the model's own tokenizer, and tiny has none"),
        ({"workloads": ("lengths:text@01234567",), "heads": ("layers",)}, "head layers starts from hidden states"),
        ({"workloads": ("lengths:file@01234567",)}, "names a file by its content"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_plan(request(**changes))


def test_answers_are_kept_for_the_same_inputs_only() -> None:
    from benchrun.runner.bench import Answers

    class Counting:
        calls = 0

        def exact(self, inputs: object) -> dict[str, object]:
            self.calls += 1
            return {}

        def release(self) -> None:
            """Nothing is held."""

    reference = Counting()
    answers = Answers(reference)  # type: ignore[arg-type]
    shape = named_spec("tiny").shape
    full, mixed, other = (
        make_mixed_inputs(shape, "encoder", lengths, 8, 0, 1)[0] for lengths in ((8, 8), (8, 3), (3, 8))
    )
    for inputs, calls in ((full, 1), (full, 1), (mixed, 2), (mixed, 2), (other, 3), (full, 4)):
        answers.expected(inputs, "fp32")
        assert reference.calls == calls
