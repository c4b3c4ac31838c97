"""Reading questions and passages: what is good, and one clear sentence for each way to be bad."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchrun.runner.accuracy.retrieval import built_in_digest, read_retrieval
from benchrun.runner.accuracy.squad_data import read_squad
from benchrun.runner.errors import UsageError

GOOD: dict[str, Any] = {
    "version": "1.1",
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "Ingrid Åsberg lives in 東京.",
                    "qas": [
                        {
                            "id": "1",
                            "question": "Who lives there?",
                            "answers": [
                                {"text": "Ingrid Åsberg", "answer_start": 0},
                                {"text": "Åsberg", "answer_start": 7},
                            ],
                        },
                        {"id": "2", "question": "Where?", "answers": [{"text": "東京", "answer_start": 23}]},
                    ],
                }
            ],
        }
    ],
}


def write(folder: Path, value: Any) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def test_a_good_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    data = read_squad(path)
    assert [each.id for each in data.questions] == ["1", "2"]
    assert data.questions[0].answers == ("Ingrid Åsberg", "Åsberg") and data.questions[1].answers == ("東京",)
    assert data.digest == hashlib.sha256(path.read_bytes()).hexdigest() and data.off == 0


def changed(change: str) -> Any:  # noqa: C901 - one arm for each way to be wrong
    """GOOD with one thing wrong."""
    data = copy.deepcopy(GOOD)
    article = data["data"][0]
    paragraph = article["paragraphs"][0]
    question = paragraph["qas"][0]
    answer = question["answers"][0]
    match change:
        case "a list":
            return [data]
        case "no data":
            del data["data"]
        case "no questions":
            paragraph["qas"] = []
        case "article":
            data["data"][0] = "text"
        case "no paragraphs":
            del article["paragraphs"]
        case "no context":
            del paragraph["context"]
        case "question is text":
            paragraph["qas"][0] = "Who?"
        case "no id":
            del question["id"]
        case "blank question":
            question["question"] = " "
        case "no answers":
            del question["answers"]
        case "empty answers":
            question["answers"] = []
        case "answer is text":
            question["answers"] = ["Ingrid"]
        case "no start":
            del answer["answer_start"]
        case "start is text":
            answer["answer_start"] = "0"
        case "start is true":
            answer["answer_start"] = True
        case "off by one":
            answer["answer_start"] = 1
        case "negative":
            answer["answer_start"] = -27
        case "version 2":
            question |= {"is_impossible": True, "answers": []}
        case "same ids":
            paragraph["qas"][1]["id"] = "1"
        case _:
            raise AssertionError(change)
    return data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("a list", "is not a SQuAD file"),
        ("no data", "is not a SQuAD file"),
        ("no questions", "has no questions"),
        ("article", r"data\[0\] has no paragraphs"),
        ("no paragraphs", r"data\[0\] has no paragraphs"),
        ("no context", r"paragraphs\[0\] has no context"),
        ("question is text", "a question that is no object"),
        ("no id", "without an id"),
        ("blank question", "without an id or without text"),
        ("no answers", "question 1 has no answers"),
        ("empty answers", "question 1 has no answers"),
        ("answer is text", "lacks its text or answer_start"),
        ("no start", "lacks its text or answer_start"),
        ("start is text", "lacks its text or answer_start"),
        ("start is true", "lacks its text or answer_start"),
        ("off by one", "1 of 3 answers are not in their passage at answer_start"),
        ("negative", "1 of 3 answers are not in their passage at answer_start"),
        ("version 2", "v2.0"),
        ("same ids", "1 questions with an id that another one has"),
    ],
)
def test_what_is_not_squad(tmp_path: Path, change: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_squad(write(tmp_path, changed(change)))
    assert "data.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is a binary file"),
        (b"{}\0{}", "is a binary file"),
        (b"plain text", "is not JSON"),
        (b"", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b"3", "is not a SQuAD file"),
    ],
)
def test_files_that_hold_something_else(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "data.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read_squad(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_squad(tmp_path)


def test_a_slip_among_many_answers_is_counted_and_does_not_stop(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    qas = data["data"][0]["paragraphs"][0]["qas"]
    qas += [{**qas[1], "id": f"more {n}"} for n in range(150)]
    qas[5]["answers"] = [{"text": "東京", "answer_start": 22}]
    found = read_squad(write(tmp_path, data))
    assert found.off == 1 and len(found.questions) == 152


def test_the_data_that_comes_with_benchrun() -> None:
    data = read_retrieval(None)
    assert len(data.passages) >= 60 and len(data.questions) >= 60
    assert data.digest == built_in_digest() and all(len(right) == 1 for right in data.right.values())
    assert len(set(data.passages.values())) == len(data.passages)
    assert len(set(data.questions.values())) == len(data.questions)


RETRIEVAL: dict[str, Any] = {
    "passages": [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}],
    "questions": [
        {"id": "q", "question": "1?", "passage": "a"},
        {"id": "r", "question": "any?", "passage": ["a", "b"]},
    ],
}


def test_own_retrieval_data(tmp_path: Path) -> None:
    data = read_retrieval(write(tmp_path, RETRIEVAL))
    assert data.right == {"q": ("a",), "r": ("a", "b")} and data.passages == {"a": "one", "b": "two"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"passages": None}, "is no retrieval data"),
        ({"passages": [{"id": "a", "text": "one"}]}, "names no passage of this file"),
        (
            {"passages": [{"id": "a", "text": "one"}], "questions": [{"id": "q", "question": "1?", "passage": "a"}]},
            "two passages",
        ),
        ({"questions": []}, "two passages and a question"),
        ({"questions": [{"id": "q", "question": "1?", "passage": "c"}]}, "names no passage"),
        ({"questions": [{"id": "q", "question": "1?"}]}, "names no passage"),
        ({"questions": [{"id": "q", "question": "1?", "passage": [{"id": "a"}]}]}, "names no passage"),
        ({"questions": [{"id": "q", "question": "", "passage": "a"}]}, "without id or question"),
        ({"questions": ["q"]}, "without id or question"),
        ({"passages": [{"id": "a", "text": "1"}, {"id": "a", "text": "2"}]}, "two entries with the id 'a'"),
    ],
)
def test_what_is_no_retrieval_data(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_retrieval(write(tmp_path, RETRIEVAL | change))
