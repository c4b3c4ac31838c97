"""Exact match and F1: worked out by hand, and by another implementation of the same definition."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchrun.runner.accuracy.squad_data import Question
from benchrun.runner.accuracy.squad_scores import exact_match, f1, normalise_answer, score

# prediction, right answers, exact match, F1: F1 is 2·shared / (words given + words right) of the best right answer
CASES: list[tuple[str, tuple[str, ...], bool, float]] = [
    ("Denver Broncos", ("Denver Broncos",), True, 1.0),
    ("the Denver Broncos!", ("Denver Broncos",), True, 1.0),
    ("Broncos", ("Denver Broncos",), False, 2 / 3),
    ("Broncos", ("Denver Broncos", "The Broncos"), True, 1.0),
    ("in 1874 or so", ("1874", "in 1874"), False, 2 * 2 / (4 + 2)),
    ("a  b\tc", ("b c",), True, 1.0),  # an article and white space
    ("anthem", ("them",), False, 0.0),  # `an` within a word is no article
    ("a-the", ("athe",), True, 1.0),  # punctuation goes first, so what it held together is no article any more
    ("U.S.", ("US", "United States"), True, 1.0),
    ("don't", ("dont",), True, 1.0),
    ("l’été", ("l'été",), False, 0.0),  # only ASCII punctuation is taken out: l’été and lété share no word
    ("ÅSBERG", ("åsberg",), True, 1.0),
    ("東京 is big", ("東京",), False, 2 * 1 / (3 + 1)),
    ("naïve", ("naive",), False, 0.0),  # accents count
    ("b b c", ("b c c",), False, 2 * 2 / (3 + 3)),  # bags: b once and c once are shared
    ("$5,000", ("5000",), True, 1.0),
    ("", ("something",), False, 0.0),
    ("the", ("a",), True, 0.0),  # both are empty once normalised: they match, and share no word
    ("", ("",), True, 0.0),
    ("ﬁve", ("five",), False, 0.0),
    ("one two three", ("three two one",), False, 1.0),
]


@pytest.mark.parametrize(("given", "right", "exact", "overlap"), CASES)
def test_tricky_cases_by_hand(given: str, right: tuple[str, ...], exact: bool, overlap: float) -> None:
    assert max(exact_match(given, each) for each in right) is exact
    assert max(f1(given, each) for each in right) == pytest.approx(overlap)
    result = score({"q": given}, [Question("q", "?", "", right)])
    assert (result.exact_match, result.n) == (100.0 * exact, 1) and result.f1 == pytest.approx(100 * overlap)


def test_a_question_without_a_prediction_counts_as_wrong() -> None:
    questions = [Question("a", "?", "", ("x",)), Question("b", "?", "", ("y",)), Question("c", "?", "", ("",))]
    result = score({"a": "x"}, questions)
    assert result.n == 3 and result.exact_match == pytest.approx(100 / 3) == result.f1


def test_normalised_text() -> None:
    assert normalise_answer("  The  quick, brown—fox's AN a ") == "quick brown—foxs"


# not those that are empty once normalised: there torchmetrics follows the rules of SQuAD v2.0
TEXTS = st.text(st.sampled_from("ab theAN.,-'é東\n\t 1"), max_size=20).filter(lambda text: bool(normalise_answer(text)))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=5))
def test_torchmetrics_agrees(asked: list[tuple[str, list[str]]]) -> None:
    theirs = reference(asked)
    questions = [Question(str(place), "?", "", tuple(right)) for place, (_, right) in enumerate(asked)]
    ours = score({str(place): given for place, (given, _) in enumerate(asked)}, questions)
    assert ours.exact_match == pytest.approx(theirs["exact_match"], abs=1e-4)
    assert ours.f1 == pytest.approx(theirs["f1"], abs=1e-4)


def test_torchmetrics_agrees_on_the_tricky_cases() -> None:
    asked = [(given, list(right)) for given, right, _, _ in CASES if all(map(normalise_answer, (given, *right)))]
    assert len(asked) >= len(CASES) - 3
    theirs = reference(asked)
    by_hand = [(exact, overlap) for given, right, exact, overlap in CASES if (given, list(right)) in asked]
    assert theirs["exact_match"] == pytest.approx(100 * sum(exact for exact, _ in by_hand) / len(asked), abs=1e-4)
    assert theirs["f1"] == pytest.approx(100 * sum(overlap for _, overlap in by_hand) / len(asked), abs=1e-4)


def reference(asked: list[tuple[str, list[str]]]) -> dict[str, float]:
    from torchmetrics.functional.text import squad

    predictions: Any = [{"prediction_text": given, "id": str(place)} for place, (given, _) in enumerate(asked)]
    targets: Any = [
        {"answers": {"answer_start": [0] * len(right), "text": right}, "id": str(place)}
        for place, (_, right) in enumerate(asked)
    ]
    return {name: float(value) for name, value in squad(predictions, targets).items()}
