"""Accuracy tasks: rows to run, what to keep of each batch of outputs, and the scores in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from benchrun.runner.accuracy import squad_scores
from benchrun.runner.accuracy.retrieval import RetrievalData, pool, rank
from benchrun.runner.accuracy.rows import Row, frame_row, make_set, split_rows
from benchrun.runner.accuracy.spans import find_answers
from benchrun.runner.accuracy.windows import Window, WindowRules, check_room, make_windows

if TYPE_CHECKING:
    from benchrun.backends.catalogue import ModelShape
    from benchrun.backends.contract import FloatArray, Inputs
    from benchrun.backends.tokenisation import TextTokenizer
    from benchrun.runner.accuracy.squad_data import SquadData

    Call = Callable[[Inputs], Mapping[str, FloatArray]]

LISTED = 10  # passages that are listed for each question of a retrieval


@dataclass(frozen=True, slots=True)
class Result:
    """What came out: percent by metric over `n` questions, and the predictions as plain JSON, by question id."""

    metrics: Mapping[str, float]
    n: int
    predictions: Mapping[str, Any]


class Task(Protocol):
    """A task on its data, tokenised for one model and length."""

    @property
    def rows(self) -> Sequence[Row]:
        """Sequences to run, in order."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """Counts of the data, stored with the measurement."""
        ...

    def keep(self, outputs: Mapping[str, FloatArray], lengths: Sequence[int]) -> FloatArray:
        """What is needed of the outputs of a batch whose rows have these lengths, a row each."""
        ...

    def finish(self, kept: FloatArray) -> Result:
        """The result, from what was kept of all rows in order."""
        ...


@dataclass(frozen=True, eq=False)
class SquadTask:
    """Question answering; without right answers it finds answers and scores nothing."""

    data: SquadData
    windows: Sequence[Window]
    rules: WindowRules
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> Sequence[Row]:
        """The windows' tokens."""
        return [window.row for window in self.windows]

    def keep(self, outputs: Mapping[str, FloatArray], lengths: Sequence[int]) -> FloatArray:  # noqa: ARG002 - spans know them
        """[rows, 2 (start, end), seq]."""
        return np.stack([outputs["start_logits"], outputs["end_logits"]], axis=1)

    def finish(self, kept: FloatArray) -> Result:
        """Exact match and F1; predictions in the form that the official evaluation reads: a text for each id."""
        questions = self.data.questions
        answers = find_answers(questions, self.windows, kept, self.rules)
        texts = {question.id: answer.text for question, answer in zip(questions, answers, strict=True)}
        if not all(question.answers for question in questions):
            details = {
                question.id: {"text": answer.text, "score": answer.score, "probability": answer.probability}
                for question, answer in zip(questions, answers, strict=True)
            }
            return Result({}, len(questions), details)
        scores = squad_scores.score(texts, questions)
        return Result({"f1": scores.f1, "exact_match": scores.exact_match}, scores.n, texts)


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Which passage answers a question: passages first, then questions."""

    data: RetrievalData
    rows: Sequence[Row]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def keep(self, outputs: Mapping[str, FloatArray], lengths: Sequence[int]) -> FloatArray:
        """Embeddings [rows, hidden]."""
        return pool(outputs["last_hidden_state"], lengths)

    def finish(self, kept: FloatArray) -> Result:
        """Top-1 and mean reciprocal rank; predictions are the best passages' ids, best first."""
        passages = len(self.data.passages)
        scores, ranked = rank(self.data, kept[passages:], kept[:passages])
        listed = {known: order[:LISTED] for known, order in ranked.items()}
        return Result({"mrr": scores.mrr, "top1": scores.top1}, scores.n, listed)


def make_squad_task(data: SquadData, tokenizer: TextTokenizer, rules: WindowRules) -> SquadTask:
    """Question answering on windows by `rules`. Raises UsageError where they leave no room for a passage."""
    check_room(rules, tokenizer.frame(pair=True).size)
    windows = make_windows(data.questions, tokenizer, rules)
    facts = {"questions": len(data.questions), "windows": len(windows), "answers_off": data.off}
    return SquadTask(data, windows, rules, facts)


def make_retrieval_task(data: RetrievalData, tokenizer: TextTokenizer, seq: int) -> RetrievalTask:
    """Retrieval with texts cut to `seq` tokens."""
    frame = tokenizer.frame(pair=False)
    pieces = tokenizer.encode([*data.passages.values(), *data.questions.values()])
    room = seq - frame.size
    facts = {
        "questions": len(data.questions),
        "passages": len(data.passages),
        "texts_cut": sum(len(piece.ids) > room for piece in pieces),
    }
    return RetrievalTask(data, [frame_row(frame, piece.ids[:room]) for piece in pieces], facts)


def run_task(task: Task, batch: int, seq: int, shape: ModelShape, call: Call) -> Result:
    """Run all rows through `call`, `batch` at a time, and score them."""
    kept = []
    for rows in split_rows(task.rows, batch):
        inputs = make_set(rows, batch, seq, shape)
        kept.append(task.keep(call(inputs), inputs.lengths)[: len(rows)])
    return task.finish(np.concatenate(kept))
