"""From an accuracy workload and its settings to a task: data read and checked, text tokenised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.backends import tokenisation
from benchrun.runner.accuracy import windows
from benchrun.runner.accuracy.naming import DIGITS, AskedTask
from benchrun.runner.accuracy.retrieval import built_in_digest, read_retrieval
from benchrun.runner.accuracy.squad_data import Question, SquadData, read_squad
from benchrun.runner.accuracy.tasks import Task, make_retrieval_task, make_squad_task
from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.backends.catalogue import ModelSpec
    from benchrun.backends.tokenisation import TextTokenizer


def open_tokenizer(asked: AskedTask, spec: ModelSpec) -> TextTokenizer:
    """The tokeniser that reads a task's text for a model. Raises ModelError where there is none that fits."""
    return tokenisation.open_tokenizer(
        spec, asked.workload, ", or name one that has them with --tokenizer (benchrun accuracy and answer)"
    )


def check_room(asked: AskedTask, tokenizer: TextTokenizer, seq: int) -> None:
    """Raises UsageError where sequences of `seq` tokens leave no room for text."""
    pair = asked.task != "retrieval"
    special = tokenizer.frame(pair=pair).size
    if pair:
        windows.check_room(asked.rules(seq), special)
    elif seq <= special:
        raise UsageError(f"--seq {seq} leaves no room for a text beside {special} special tokens")


def open_task(asked: AskedTask, settings: Mapping[str, Any], tokenizer: TextTokenizer, seq: int) -> Task:
    """The task for one model's tokeniser and length.

    `settings`: `data` is the file (None: what comes with benchrun); for `answer` instead of data `passage` and `question`. Raises
    UsageError.
    """
    if asked.task == "answer":
        one = Question("answer", str(settings["question"]), str(settings["passage"]), ())
        return make_squad_task(SquadData((one,), ""), tokenizer, asked.rules(seq))
    path = data_path(asked, settings)
    if asked.task == "retrieval":
        data = read_retrieval(path)
        check_digest(asked, data.digest)
        return make_retrieval_task(data, tokenizer, seq)
    assert path is not None  # the plan was checked
    squad = read_squad(path)
    check_digest(asked, squad.digest)
    if asked.first:
        squad = replace(squad, questions=squad.questions[: asked.first])
    return make_squad_task(squad, tokenizer, asked.rules(seq))


def data_path(asked: AskedTask, settings: Mapping[str, Any]) -> Path | None:
    """The data's file, where one was given."""
    given = settings.get("data")
    if given is None and asked.task == "retrieval" and not built_in_digest().startswith(asked.digest):
        raise UsageError(f"{asked.workload} is not the data that comes with this benchrun: give its --data FILE")
    return None if given is None else Path(str(given)).expanduser()


def check_digest(asked: AskedTask, digest: str) -> None:
    """Raises UsageError where the data is not what the workload was named after."""
    if not digest.startswith(asked.digest):
        raise UsageError(
            f"the data of {asked.workload} has changed since the run was planned (it is @{digest[:DIGITS]} now): plan a new run"
        )
