"""Questions and passages as windows of tokens, by the rules of BERT's SQuAD reference, which MLPerf's takes over.

A window is [CLS] question [SEP] part of the passage [SEP]. The question is cut to `question` tokens; the part has as many tokens as are
left of `seq`; the next window starts `stride` tokens later (so `stride` is a step, where Transformers' own option counts the overlap),
until one reaches the passage's end. A token that lies in several windows may start an answer only where it has most context: the
window with the largest min(tokens of the passage to the left, to the right) + 0.01 · tokens of the passage in the window.
Source: `convert_examples_to_features` and `_check_is_max_context` of google-research/bert, run_squad.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchrun.runner.accuracy.rows import Row, frame_row
from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.backends.tokenisation import Frame, Piece, TextTokenizer
    from benchrun.runner.accuracy.squad_data import Question

LENGTH_WEIGHT = 0.01


@dataclass(frozen=True, slots=True)
class WindowRules:
    """Sizes in tokens: of a window, of the step between two, of the longest question and of the longest answer."""

    seq: int = 384
    stride: int = 128
    question: int = 64
    answer: int = 30


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, stop) of a passage."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Window:
    """What the model is given, and what its tokens mean.

    `asked` is the place of the question in the data. Tokens from `first` on are those of `span`; `offsets` are their characters in the
    passage, `starts` says which of them may start an answer here.
    """

    asked: int
    row: Row
    first: int
    span: Span
    offsets: tuple[tuple[int, int], ...]
    starts: tuple[bool, ...]


def make_windows(questions: Sequence[Question], tokenizer: TextTokenizer, rules: WindowRules) -> list[Window]:
    """The windows of all questions, in order. Raises UsageError where a question leaves no room for a passage."""
    frame = tokenizer.frame(pair=True)
    passages = list(dict.fromkeys(each.passage for each in questions))
    tokens = dict(zip(passages, tokenizer.encode(passages), strict=True))
    asked = tokenizer.encode([each.text.strip() for each in questions])
    found: list[Window] = []
    for place, (question, piece) in enumerate(zip(questions, asked, strict=True)):
        found += _windows_of(place, piece.ids[: rules.question], tokens[question.passage], frame, rules)
    return found


def check_room(rules: WindowRules, special: int) -> None:
    """Raises UsageError where the longest question would leave no token for the passage."""
    if rules.seq - rules.question - special < 1:
        raise UsageError(
            f"--seq {rules.seq} leaves no room for a passage beside a question of up to {rules.question} tokens and {special} "
            "special ones: choose a longer --seq or a smaller --max-question"
        )


def cut(length: int, room: int, stride: int) -> list[Span]:
    """The parts of a passage of `length` tokens that windows of `room` tokens show, one at least."""
    spans = [Span(0, min(room, length))]
    while spans[-1].stop < length:
        last = spans[-1]
        start = last.start + min(last.stop - last.start, stride)
        spans.append(Span(start, min(start + room, length)))
    return spans


def most_context(spans: Sequence[Span]) -> list[tuple[bool, ...]]:
    """For each span, which of its tokens have nowhere more context; of equal ones the first span has it."""
    best: dict[int, tuple[float, int]] = {}
    for place, span in enumerate(spans):
        bonus = LENGTH_WEIGHT * (span.stop - span.start)
        for token in range(span.start, span.stop):
            context = min(token - span.start, span.stop - 1 - token) + bonus
            if token not in best or context > best[token][0]:
                best[token] = context, place
    return [
        tuple(best[token][1] == place for token in range(span.start, span.stop)) for place, span in enumerate(spans)
    ]


def _windows_of(
    place: int, question: tuple[int, ...], passage: Piece, frame: Frame, rules: WindowRules
) -> list[Window]:
    spans = cut(len(passage.ids), rules.seq - len(question) - frame.size, rules.stride)
    first = len(frame.before) + len(question) + len(frame.between)
    return [
        Window(
            asked=place,
            row=frame_row(frame, question, passage.ids[span.start : span.stop]),
            first=first,
            span=span,
            offsets=passage.offsets[span.start : span.stop],
            starts=starts,
        )
        for span, starts in zip(spans, most_context(spans), strict=True)
    ]
