"""How an accuracy workload is written: `accuracy:squad@1a2b3c4d:stride=64`. Pure.

After the task come 8 digits of the SHA-256 of its data, then what changes the quantity and is not at its default, by name:

    stride     tokens from one window to the next (128)
    question   tokens that a question is cut to (64)
    answer     tokens of the longest answer (30)
    first      only so many of the first questions (0: all)
    tokenizer  8 digits of a tokeniser that is not the model's own
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchrun.runner.accuracy.retrieval import built_in_digest
from benchrun.runner.accuracy.windows import WindowRules
from benchrun.runner.errors import UsageError

TASKS = ("squad", "retrieval", "answer")  # `answer`: one passage and question, without a score
HEADS = {"squad": "qa", "retrieval": "encoder", "answer": "qa"}
DEFAULTS: Mapping[str, int] = {"stride": 128, "question": 64, "answer": 30, "first": 0}
LARGEST = 1_000_000
DIGITS = 8
_DIGEST = re.compile(r"[0-9a-f]{8}\Z")


@dataclass(frozen=True, slots=True)
class AskedTask:
    """A task, the first 8 digits of its data's hash ("" for `answer`), and its settings where they differ from the default."""

    task: str
    digest: str = ""
    settings: Mapping[str, int] = field(default_factory=dict)
    tokenizer: str = ""

    @property
    def workload(self) -> str:
        """The workload that asks for it, in its one spelling."""
        at = f"@{self.digest}" if self.digest else ""
        given = {name: value for name, value in self.settings.items() if value != DEFAULTS[name]}
        texts = [f"{name}={value}" for name, value in sorted(given.items())]
        texts += [f"tokenizer={self.tokenizer}"] if self.tokenizer else []
        return ":".join(("accuracy", f"{self.task}{at}", *texts))

    @property
    def first(self) -> int:
        """Only so many of the first questions; 0 for all."""
        return self.settings.get("first", 0)

    def rules(self, seq: int) -> WindowRules:
        """The rules for windows of `seq` tokens."""
        merged = {**DEFAULTS, **self.settings}
        return WindowRules(seq, merged["stride"], merged["question"], merged["answer"])


def parse_workload(text: str) -> AskedTask:
    """The inverse of `AskedTask.workload`; `accuracy:retrieval` means the data that comes with benchrun. Raises UsageError."""
    kind, *rest = text.split(":")
    if kind != "accuracy" or not rest:
        raise UsageError(f"{text!r} is no accuracy workload: write accuracy:TASK@HASH, or use 'benchrun accuracy'")
    task, _, digest = rest[0].partition("@")
    if task not in TASKS:
        raise UsageError(f"unknown accuracy task {task!r}: choose from {', '.join(TASKS)}")
    if task == "retrieval" and not digest:
        digest = built_in_digest()[:DIGITS]
    if task != "answer" and not _DIGEST.match(digest):
        raise UsageError(
            f"{text!r} does not say which data: use 'benchrun accuracy --task {task} --data FILE', which writes {DIGITS} digits of its hash"
        )
    settings: dict[str, int] = {}
    tokenizer = ""
    for part in rest[1:]:
        name, _, value = part.partition("=")
        if name == "tokenizer" and _DIGEST.match(value):
            tokenizer = value
            continue
        if task == "retrieval" or name not in DEFAULTS or not value.isdecimal() or not value.isascii():
            raise UsageError(
                f"{text!r}: {part!r} is no setting of {task}: choose from {', '.join(allowed_settings(task))}"
            )
        settings[name] = check_setting(name, int(value))
    return AskedTask(task, digest, settings, tokenizer)


def allowed_settings(task: str) -> tuple[str, ...]:
    """Names of the settings that a task takes."""
    return ("tokenizer=HASH",) if task == "retrieval" else (*(f"{name}=N" for name in DEFAULTS), "tokenizer=HASH")


def check_setting(name: str, value: int) -> int:
    """The value. Raises UsageError where it is out of range."""
    least = 0 if name == "first" else 1
    if not least <= value <= LARGEST:
        raise UsageError(f"{name} {value} is out of range: it must be from {least} to {LARGEST}")
    return value
