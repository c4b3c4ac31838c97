"""Windows of tokens and the answers that come out of their logits, against what BERT's SQuAD reference does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from benchrun.backends.catalogue import ModelError, named_spec
from benchrun.backends.checkpoints import find_tokenizer
from benchrun.backends.tokenisation import TextTokenizer, fingerprint
from benchrun.runner.accuracy.rows import Row, make_set
from benchrun.runner.accuracy.spans import best_places, choose, find_answers
from benchrun.runner.accuracy.squad_data import Question
from benchrun.runner.accuracy.windows import Span, WindowRules, check_room, cut, make_windows, most_context
from benchrun.runner.errors import UsageError
from tests.backends.minilm import MINILM

WORDS = " ".join(f"word{n}" for n in range(400))


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(MINILM)


def their_spans(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    """(start, length) as `convert_examples_to_features` of run_squad.py finds them."""
    spans, start = [], 0
    while start < length:
        span = min(length - start, room)
        spans.append((start, span))
        if start + span == length:
            break
        start += min(span, stride)
    return spans


def their_best(spans: list[tuple[int, int]], current: int, position: int) -> bool:
    """`_check_is_max_context` of run_squad.py."""
    best_score, best = None, None
    for place, (start, length) in enumerate(spans):
        end = start + length - 1
        if position < start or position > end:
            continue
        score = min(position - start, end - position) + 0.01 * length
        if best_score is None or score > best_score:
            best_score, best = score, place
    return current == best


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 80))
def test_spans_and_contexts_are_those_of_the_reference(length: int, room: int, stride: int) -> None:
    spans = cut(length, room, stride)
    theirs = their_spans(length, room, stride)
    assert [(each.start, each.stop - each.start) for each in spans] == theirs
    for place, (span, marks) in enumerate(zip(spans, most_context(spans), strict=True)):
        assert list(marks) == [their_best(theirs, place, token) for token in range(span.start, span.stop)]


def test_an_empty_passage_has_a_window_without_tokens() -> None:
    assert cut(0, 10, 5) == [Span(0, 0)] and most_context([Span(0, 0)]) == [()]


def test_a_tokenizer_is_parsed_once_until_its_files_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    really = tokenizers.Tokenizer.from_file

    class Counting:
        @staticmethod
        def from_file(path: str) -> tokenizers.Tokenizer:
            parsed.append(path)
            return really(path)

    monkeypatch.setattr(tokenizers, "Tokenizer", Counting)
    file = tmp_path / "tokenizer.json"
    file.write_bytes((MINILM / "tokenizer.json").read_bytes())
    pieces = [TextTokenizer(tmp_path).encode(["one two"])[0].ids for _ in range(2)]
    assert pieces[0] == pieces[1] and len(parsed) == 1
    file.write_bytes(file.read_bytes() + b" ")
    assert TextTokenizer(tmp_path).encode(["one two"])[0].ids == pieces[0] and len(parsed) == 2


def test_a_window_is_laid_out_as_the_model_was_trained(tokenizer: TextTokenizer) -> None:
    question = Question("q", "  Who was that? ", "Ingrid Åsberg was.", ("Ingrid",))
    (window,) = make_windows([question], tokenizer, WindowRules(seq=32))
    (asked,), (passage,) = tokenizer.encode(["Who was that?"]), tokenizer.encode([question.passage])
    assert window.row.ids == (101, *asked.ids, 102, *passage.ids, 102)
    assert window.row.types == (0,) * (len(asked.ids) + 2) + (1,) * (len(passage.ids) + 1)
    assert window.first == len(asked.ids) + 2 and window.offsets == passage.offsets and all(window.starts)
    start, stop = window.offsets[0]
    assert question.passage[start:stop] == "Ingrid"


def test_long_passages_take_steps_of_the_stride(tokenizer: TextTokenizer) -> None:
    rules = WindowRules(seq=128, stride=40, question=8)
    long = Question("q", "why " * 50, WORDS, ("word1",))
    windows = make_windows([long, Question("r", "who?", "short text", ("short",))], tokenizer, rules)
    own = [window for window in windows if window.asked == 0]
    assert len(own) > 3 and len(windows) == len(own) + 1
    assert [window.span.start for window in own] == [40 * n for n in range(len(own))]
    assert all(len(window.row.ids) == 128 for window in own[:-1]) and all(len(w.row.ids) <= 128 for w in own)
    assert own[0].first == 8 + 2  # the question is cut
    ids = tokenizer.encode([WORDS])[0].ids
    for window in own:
        assert window.row.ids[window.first : -1] == ids[window.span.start : window.span.stop]
    # each token may start an answer in one window, no more and no less
    allowed = [window.span.start + n for window in own for n, may in enumerate(window.starts) if may]
    assert sorted(allowed) == list(range(len(ids)))


def test_no_room(tokenizer: TextTokenizer) -> None:
    check_room(WindowRules(seq=68), 3)
    with pytest.raises(UsageError, match="--seq 67 leaves no room"):
        check_room(WindowRules(seq=67), 3)


def logits_for(windows: list[Any], seq: int, marks: dict[tuple[int, int, int], float]) -> Any:
    found = np.zeros((len(windows), 2, seq), dtype=np.float32)
    for (window, side, place), value in marks.items():
        found[window, side, place] = value
    return found


def test_the_rules_for_answers(tokenizer: TextTokenizer) -> None:
    passage = "alpha beta gamma delta epsilon zeta eta theta"
    question = Question("q", "what?", passage, ("beta",))
    rules = WindowRules(seq=32, answer=3)
    windows = make_windows([question], tokenizer, rules)
    first = windows[0].first
    pieces = [passage[a:b] for a, b in windows[0].offsets]
    at = {word: first + pieces.index(word) for word in ("alpha", "beta", "gamma", "delta")}

    def answer(**marks: tuple[int, float, float]) -> str:
        cells = {}
        for place, start, end in marks.values():
            cells[0, 0, place], cells[0, 1, place] = start, end
        return find_answers([question], windows, logits_for(windows, 32, cells), rules)[0].text

    assert answer(a=(at["beta"], 9, 0), b=(at["gamma"], 0, 9)) == "beta gamma"
    # an end before its start does not stand, so the next best pair wins
    assert answer(a=(at["gamma"], 9, 0), b=(at["beta"], 0, 9), c=(at["delta"], 0, 5)) == "gamma delta"
    # tokens of the question and special ones are no answer
    assert answer(a=(0, 99, 99), b=(1, 50, 50), c=(at["alpha"], 1, 1)) == "alpha"
    # nor is what lies at padding, or in the last separator
    assert answer(a=(len(windows[0].row.ids) - 1, 99, 99), b=(30, 99, 99), c=(at["alpha"], 1, 1)) == "alpha"
    # four tokens are too long
    assert answer(a=(at["alpha"], 9, 0), b=(at["delta"], 0, 9), c=(at["gamma"], 0, 5)) == "alpha beta gamma"


def test_of_several_windows_the_best_pair_wins_where_it_has_most_context(tokenizer: TextTokenizer) -> None:
    question = Question("q", "what?", WORDS, ("word1",))
    rules = WindowRules(seq=64, stride=20, question=8)
    windows = make_windows([question], tokenizer, rules)
    cells: dict[tuple[int, int, int], float] = {}
    token = next(
        n
        for n, may in enumerate(windows[1].starts)
        if may and not windows[0].starts[min(n + 20, len(windows[0].starts) - 1)]
    )
    place = windows[1].first + token
    cells[1, 0, place], cells[1, 1, place] = 50, 50
    # the same token in the window before, where it has less context: a higher score there does not count
    before = windows[0].first + token + 20
    cells[0, 0, before], cells[0, 1, before] = 90, 90
    start, stop = windows[1].offsets[token]
    (answer,) = find_answers([question], windows, logits_for(windows, 64, cells), rules)
    assert answer.text == WORDS[start:stop] and answer.score == 100.0
    assert answer.probability is not None and 0.9 < answer.probability <= 1


def test_nothing_qualifies(tokenizer: TextTokenizer) -> None:
    question = Question("q", "what?", "some text", ("x",))
    windows = make_windows([question], tokenizer, WindowRules(seq=32))
    broken = np.full((1, 2, 32), np.nan, dtype=np.float32)
    (answer,) = find_answers([question], windows, broken, WindowRules(seq=32))
    assert (answer.text, answer.score, answer.probability) == ("", None, None)
    assert choose("", []).text == ""


def test_the_twenty_best() -> None:
    values = np.array([1, 3, 3, np.nan, np.inf, 2], dtype=np.float32)
    assert best_places(values) == [1, 2, 5, 0]
    assert len(best_places(np.arange(50, dtype=np.float32))) == 20


def test_batches_are_padded_on_the_right_and_filled_up() -> None:
    shape = named_spec("tiny").shape
    inputs = make_set([Row((5, 6, 7), (0, 0, 1)), Row((8,), (0,))], 3, 5, shape)
    assert inputs.arrays["input_ids"].tolist() == [[5, 6, 7, 0, 0], [8, 0, 0, 0, 0], [5, 6, 7, 0, 0]]
    assert inputs.arrays["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]]
    assert inputs.arrays["token_type_ids"].tolist()[0] == [0, 0, 1, 0, 0]
    assert inputs.lengths == (3, 1, 3) and inputs.index < 0
    roberta = make_set([Row((0, 9, 2), (0, 0, 0))], 1, 4, named_spec("roberta-base").shape)
    assert roberta.arrays["input_ids"].tolist() == [[0, 9, 2, 1]] and "token_type_ids" not in roberta.arrays


def test_tokenizers_of_folders(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    source = MINILM
    assert tokenizer.size == 30522 and tokenizer.fingerprint == fingerprint(source)
    assert find_tokenizer([tmp_path, source / "model.safetensors"]) == source and find_tokenizer([tmp_path]) is None
    with pytest.raises(ModelError, match="has no tokenizer"):
        TextTokenizer(tmp_path)
    for name in ("vocab.txt", "config.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    slow = TextTokenizer(tmp_path)  # without tokenizer.json: made from the vocabulary
    text = ["Who carried Åsberg's oil up 212 steps?"]
    assert slow.encode(text) == tokenizer.encode(text) and slow.frame(pair=True) == tokenizer.frame(pair=True)
    assert slow.fingerprint != tokenizer.fingerprint
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer.json in .* cannot be read"):
        TextTokenizer(tmp_path)
