"""Answers out of start and end logits, by the rules of BERT's SQuAD reference (`write_predictions` of run_squad.py).

In each window the 20 best starts meet the 20 best ends. A pair stands where both are tokens of the passage, the start has most context
here, the end is not before it and the answer has at most `answer` tokens. Of all windows of a question the pair with the largest sum of
logits wins. Two things differ from the original, and hardly ever show: padding does not take up places among the 20, and the answer's text
is cut out of the passage by the tokeniser's offsets, as Transformers does it, where the original aligns normalised text with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray
    from benchrun.runner.accuracy.squad_data import Question
    from benchrun.runner.accuracy.windows import Window, WindowRules

BEST = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """The text, the sum of its two logits, and its probability among the question's best candidates.

    Empty with no score where no pair stands.
    """

    text: str
    score: float | None = None
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair that stands: its characters [start, stop) in the passage."""

    score: float
    start: int
    stop: int


def find_answers(
    questions: Sequence[Question], windows: Sequence[Window], logits: FloatArray, rules: WindowRules
) -> list[Answer]:
    """The answer to each question from `logits` [windows, 2 (start, end), seq]."""
    found: list[list[Candidate]] = [[] for _ in questions]
    for window, (starts, ends) in zip(windows, logits, strict=True):
        found[window.asked] += candidates(window, starts, ends, rules.answer)
    return [choose(question.passage, each) for question, each in zip(questions, found, strict=True)]


def candidates(window: Window, start_logits: FloatArray, end_logits: FloatArray, longest: int) -> list[Candidate]:
    """The pairs of one window that stand."""
    length = len(window.row.ids)
    starts, ends = (best_places(logits[:length]) for logits in (start_logits, end_logits))
    last = window.first + len(window.offsets)
    found = []
    for start in starts:
        if not window.first <= start < last or not window.starts[start - window.first]:
            continue
        for end in ends:
            if start <= end < last and end - start < longest:
                score = float(start_logits[start]) + float(end_logits[end])
                characters = window.offsets[start - window.first][0], window.offsets[end - window.first][1]
                found.append(Candidate(score, *characters))
    return found


def best_places(logits: FloatArray) -> list[int]:
    """Places of the 20 largest finite values, largest first; of equal ones the first."""
    order = np.argsort(-logits, kind="stable")
    return [int(place) for place in order[:BEST] if np.isfinite(logits[place])]


def choose(passage: str, found: Sequence[Candidate]) -> Answer:
    """The best candidate, with its share among the 20 best different texts (softmax over their scores)."""
    texts: dict[str, float] = {}
    for each in sorted(found, key=lambda one: -one.score):
        text = passage[each.start : each.stop]
        if len(texts) < BEST:
            texts.setdefault(text, each.score)
    if not texts:
        return Answer("")
    best, score = next(iter(texts.items()))
    total = float(np.sum(np.exp(np.array(list(texts.values())) - score)))
    return Answer(best, score, 1.0 / total)
