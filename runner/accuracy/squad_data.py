"""Reading question–answer data in SQuAD's v1.1 form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchrun.runner.errors import UsageError

FORM = "a SQuAD v1.1 file has data[] > paragraphs[] > context, qas[] > id, question, answers[] > text, answer_start"
# The official dev set is not free of slips, and its rules never look at answer_start. A file where more than this share is off is wrong.
MOST_OFF = 0.01


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a passage, with every answer that counts as right."""

    id: str
    text: str
    passage: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SquadData:
    """Questions in the file's order. `digest` is the SHA-256 of the file; `off` counts answers that are not where the file says."""

    questions: tuple[Question, ...]
    digest: str
    off: int = 0


def read_squad(path: Path, shown: str = "") -> SquadData:
    """Read and check a file. Raises UsageError in one sentence for whatever is not SQuAD v1.1; `shown` starts it (`--data NAME`)."""
    shown = shown or f"--data {path.name}"
    raw = read_json(path, shown)
    if not isinstance(raw.value, Mapping) or not isinstance(raw.value.get("data"), list):
        raise UsageError(f"{shown} is not a SQuAD file: {FORM}")
    questions: list[Question] = []
    answers = off = 0
    for context, each, where in _entries(raw.value["data"], shown):
        question, wrong = _question(context, each, where)
        questions.append(question)
        answers += len(question.answers)
        off += wrong
    if not questions:
        raise UsageError(f"{shown} has no questions: {FORM}")
    doubled = len(questions) - len({each.id for each in questions})
    if doubled:
        raise UsageError(f"{shown} has {doubled} questions with an id that another one has: ids must be unique")
    if off > MOST_OFF * answers:
        raise UsageError(
            f"{shown}: {off} of {answers} answers are not in their passage at answer_start: the file is damaged "
            "or its passages were edited"
        )
    return SquadData(tuple(questions), raw.digest, off)


@dataclass(frozen=True, slots=True)
class JsonFile:
    """A JSON file's value, and the SHA-256 of its bytes."""

    value: Any
    digest: str


def read_json(path: Path, shown: str) -> JsonFile:
    """A JSON file. Raises UsageError in one sentence: missing, unreadable, binary, or not JSON. `shown` starts it."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{shown}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {error.strerror or error}") from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{shown} is a binary file: give a JSON file in UTF-8") from None
    if "\0" in text:
        raise UsageError(f"{shown} is a binary file: give a JSON file in UTF-8")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{shown} is not JSON: {error}") from None
    return JsonFile(value, hashlib.sha256(content).hexdigest())


def _entries(data: list[Any], shown: str) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Passage, question and its place, for each question."""
    for a, article in enumerate(data):
        paragraphs = article.get("paragraphs") if isinstance(article, Mapping) else None
        if not isinstance(paragraphs, list):
            raise UsageError(f"{shown} is not a SQuAD file: data[{a}] has no paragraphs; {FORM}")
        for p, paragraph in enumerate(paragraphs):
            where = f"{shown}: data[{a}].paragraphs[{p}]"
            context = paragraph.get("context") if isinstance(paragraph, Mapping) else None
            if not isinstance(context, str) or not isinstance(paragraph.get("qas"), list):
                raise UsageError(f"{where} has no context or no qas; {FORM}")
            for each in paragraph["qas"]:
                if not isinstance(each, Mapping):
                    raise UsageError(f"{where} has a question that is no object; {FORM}")
                yield context, each, where


def _question(context: str, raw: Mapping[str, Any], where: str) -> tuple[Question, int]:
    """One question, and how many of its answers are not at their place."""
    known, text = raw.get("id"), raw.get("question")
    if not isinstance(known, str) or not isinstance(text, str) or not text.strip():
        raise UsageError(f"{where} has a question without an id or without text; {FORM}")
    if raw.get("is_impossible"):
        raise UsageError(
            f"{where}: question {known} has no answer (is_impossible), which SQuAD v2.0 allows: benchrun scores by the rules of v1.1, "
            "so give a v1.1 file"
        )
    answers = raw.get("answers")
    if not isinstance(answers, list) or not answers:
        raise UsageError(f"{where}: question {known} has no answers, so that nothing could be scored; {FORM}")
    texts: list[str] = []
    wrong = 0
    for answer in answers:
        words, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, Mapping) else (None, None)
        if not isinstance(words, str) or isinstance(start, bool) or not isinstance(start, int):
            raise UsageError(f"{where}: an answer of question {known} lacks its text or answer_start; {FORM}")
        texts.append(words)
        wrong += start < 0 or context[start : start + len(words)] != words
    return Question(known, text, context, tuple(texts)), wrong
