"""Exact match and F1 as the official SQuAD v1.1 evaluation defines them (Rajpurkar et al., 2016, arXiv:1606.05250, section 6.1).

An answer is compared after it was put in lower case and freed of ASCII punctuation, the articles a, an, the, and extra whitespace, in
that order. F1 is that of the two bags of words; the best over all right answers counts; scores are means over all questions, times 100.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchrun.runner.accuracy.squad_data import Question

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True, slots=True)
class SquadScores:
    """Percent of `n` questions."""

    exact_match: float
    f1: float
    n: int


def normalise_answer(text: str) -> str:
    """The text as it is compared."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(prediction: str, truth: str) -> bool:
    """Whether the two are equal once normalised."""
    return normalise_answer(prediction) == normalise_answer(truth)


def f1(prediction: str, truth: str) -> float:
    """Harmonic mean of precision and recall over words, 0 to 1; 0 where they share none, two empty texts included."""
    given, right = normalise_answer(prediction).split(), normalise_answer(truth).split()
    shared = (Counter(given) & Counter(right)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(given), shared / len(right)
    return 2 * precision * recall / (precision + recall)


def score(predictions: Mapping[str, str], questions: Sequence[Question]) -> SquadScores:
    """Scores of predictions by question id; a question without a prediction counts as wrong."""
    exact = total = 0.0
    for each in questions:
        given = predictions.get(each.id)
        if given is not None:
            exact += max(exact_match(given, truth) for truth in each.answers)
            total += max(f1(given, truth) for truth in each.answers)
    n = len(questions)
    return SquadScores(100.0 * exact / n, 100.0 * total / n, n)
