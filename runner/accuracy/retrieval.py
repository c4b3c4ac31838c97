"""Retrieval: which passage answers a question, by the cosine of their embeddings. Comes with data of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.runner.accuracy.squad_data import JsonFile, read_json
from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray

BUILT_IN = "retrieval.json"
FORM = 'retrieval data has "passages": [{"id", "text"}] and "questions": [{"id", "question", "passage": an id or a list of ids}]'


@dataclass(frozen=True, slots=True)
class RetrievalData:
    """Passages by id, questions by id, and for each question the ids of the passages that answer it."""

    passages: Mapping[str, str]
    questions: Mapping[str, str]
    right: Mapping[str, tuple[str, ...]]
    digest: str


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Percent of `n` questions: a right passage came first; mean reciprocal rank of the first right one."""

    top1: float
    mrr: float
    n: int


def built_in_digest() -> str:
    """SHA-256 of the data that comes with benchrun."""
    return hashlib.sha256(files("benchrun.runner.accuracy").joinpath(BUILT_IN).read_bytes()).hexdigest()


def read_retrieval(path: Path | None) -> RetrievalData:
    """Read and check a file; None is the data that comes with benchrun. Raises UsageError in one sentence."""
    if path is None:
        import json

        content = files("benchrun.runner.accuracy").joinpath(BUILT_IN).read_text("utf-8")
        return _check(JsonFile(json.loads(content), built_in_digest()), BUILT_IN)
    return _check(read_json(path, f"--data {path.name}"), path.name)


def _check(raw: JsonFile, name: str) -> RetrievalData:
    value = raw.value
    if not isinstance(value, Mapping) or not all(
        isinstance(value.get(part), list) for part in ("passages", "questions")
    ):
        raise UsageError(f"--data {name} is no retrieval data: {FORM}")
    passages = _texts(value["passages"], "text", name)
    questions = _texts(value["questions"], "question", name)
    right: dict[str, tuple[str, ...]] = {}
    for each in value["questions"]:
        given = each.get("passage")
        ids = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else ()
        if not ids or any(not isinstance(one, str) or one not in passages for one in ids):
            raise UsageError(f"--data {name}: question {each['id']} names no passage of this file; {FORM}")
        right[each["id"]] = ids
    if len(passages) < 2 or not questions:
        raise UsageError(f"--data {name} needs two passages and a question at least; {FORM}")
    return RetrievalData(passages, questions, right, raw.digest)


def _texts(entries: Sequence[Any], field: str, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in entries:
        known, text = (each.get("id"), each.get(field)) if isinstance(each, Mapping) else (None, None)
        if not isinstance(known, str) or not isinstance(text, str) or not text.strip():
            raise UsageError(f"--data {name} has an entry without id or {field}; {FORM}")
        if known in found:
            raise UsageError(f"--data {name} has two entries with the id {known!r}: ids must be unique")
        found[known] = text
    return found


def pool(states: FloatArray, lengths: Sequence[int]) -> FloatArray:
    """Embeddings [rows, hidden] of length 1: the mean over each row's own tokens of `states` [rows, seq, hidden]."""
    means = np.stack([row[:length].mean(axis=0, dtype=np.float64) for row, length in zip(states, lengths, strict=True)])
    sizes = np.linalg.norm(means, axis=1, keepdims=True)
    return np.asarray(means / np.where(sizes > 0, sizes, 1.0), dtype=np.float32)


def rank(
    data: RetrievalData, questions: FloatArray, passages: FloatArray
) -> tuple[RetrievalScores, dict[str, list[str]]]:
    """Scores, and for each question all passage ids, best first. Of equal similarities the earlier passage counts as better.

    An embedding that is not finite comes last, whatever it belongs to.
    """
    names = list(data.passages)
    similar = questions.astype(np.float64) @ passages.astype(np.float64).T
    similar = np.where(np.isfinite(similar), similar, -np.inf)
    ranked: dict[str, list[str]] = {}
    first = reciprocal = 0.0
    for known, row in zip(data.questions, similar, strict=True):
        order = [names[place] for place in np.argsort(-row, kind="stable")]
        ranked[known] = order
        wanted = set(data.right[known])
        place = next(place for place, name in enumerate(order, 1) if name in wanted)
        lost = not np.isfinite(row).any()  # nothing was compared: no credit for the order of the file
        first += place == 1 and not lost
        reciprocal += 0.0 if lost else 1 / place
    n = len(data.questions)
    return RetrievalScores(100.0 * first / n, 100.0 * reciprocal / n, n), ranked
