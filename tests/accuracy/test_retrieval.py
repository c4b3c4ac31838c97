"""Retrieval with all-MiniLM-L6-v2 and the data that comes with benchrun; ranks by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchrun.runner.accuracy.naming import parse_workload
from benchrun.runner.accuracy.retrieval import RetrievalData, pool, rank
from tests.accuracy.measuring import measure_point
from tests.accuracy.test_accuracy_data import GOOD, write
from tests.backends.minilm import MINILM

DATA = RetrievalData(
    {"a": "", "b": "", "c": ""}, {"q": "", "r": "", "s": ""}, {"q": ("a",), "r": ("a", "c"), "s": ("b",)}, ""
)


def test_ranks_by_hand() -> None:
    passages = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    questions = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    scores, ranked = rank(DATA, questions, passages)
    # q finds a first; r finds b first, then c, which is right; s finds c, then b (0.8 before 0.6)
    assert ranked == {"q": ["a", "c", "b"], "r": ["b", "c", "a"], "s": ["c", "b", "a"]}
    assert scores.top1 == pytest.approx(100 / 3) and scores.mrr == pytest.approx(100 * (1 + 1 / 2 + 1 / 2) / 3)
    assert scores.n == 3


def test_what_is_not_finite_earns_nothing() -> None:
    passages = np.full((3, 2), np.nan, dtype=np.float32)
    scores, _ = rank(DATA, np.ones((3, 2), dtype=np.float32), passages)
    assert (scores.top1, scores.mrr) == (0, 0)
    passages = np.array([[1, 0], [np.nan, 0], [0, 1]], dtype=np.float32)
    _, ranked = rank(DATA, np.array([[0, 1], [1, 0], [1, 1]], dtype=np.float32), passages)
    assert ranked["q"] == ["c", "a", "b"]


def test_embeddings_are_means_over_own_tokens_of_length_one() -> None:
    states = np.array([[[3, 4], [100, 100]], [[1, 0], [0, 1]], [[0, 0], [9, 9]]], dtype=np.float32)
    half = 1 / np.sqrt(2)
    assert pool(states, (1, 2, 1)).tolist() == pytest.approx(np.array([[0.6, 0.8], [half, half], [0, 0]]))


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCHRUN_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("cache")
def test_minilm_finds_its_passages() -> None:
    asked = parse_workload("accuracy:retrieval")
    found = measure_point(asked, {"model": str(MINILM), "backend": "torch", "seq": 48})
    assert found.score("top1") >= 85 and found.score("mrr") >= 90 and not found.invalid
    assert found.facts["passes_99.9"] is True and found.facts["texts_cut"] == 0
    assert found.predictions["q-breads-1"][0] == "breads-1" and len(found.predictions["q-breads-1"]) == 10
    assert {each["task"] for each in found.found["scores"]} == {"retrieval"}


@pytest.mark.usefixtures("cache")
def test_own_data_and_a_random_model(tmp_path: Path) -> None:
    """What the numbers of a model with random weights mean is said: nothing."""
    data = {
        "passages": [{"id": name, "text": f"{name} is {name}"} for name in ("red", "green", "blue")],
        "questions": [{"id": name, "question": f"what is {name}?", "passage": name} for name in ("red", "blue")],
    }
    path = write(tmp_path, data)
    settings = {
        "model": str(MINILM),
        "weights": "random",
        "override": ["num_hidden_layers=1"],
        "backend": "torch",
        "seq": 8,
    }
    found = measure_point(parse_workload("accuracy:retrieval@" + digest_of(path)), settings, {"data": str(path)})
    assert "random_head" in found.found["flags"] and found.found["scores"][0]["n"] == 2
    assert json.loads(found.found["attachments"][0]["text"]).keys() == {"red", "blue"}


@pytest.mark.usefixtures("cache")
def test_a_random_question_answering_head_is_flagged(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    settings = {"model": str(MINILM), "override": ["num_hidden_layers=1"], "backend": "torch", "seq": 96, "batch": 2}
    found = measure_point(parse_workload("accuracy:squad@" + digest_of(path)), settings, {"data": str(path)})
    assert "random_head" in found.found["flags"] and found.found["facts"]["model_random_tensors"]


def digest_of(path: Path) -> str:
    from benchrun.runner.accuracy.squad_data import read_json

    return read_json(path, "").digest[:8]
