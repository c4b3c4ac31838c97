"""The pull request that brings a benchmark suite: its base measures nothing, for it has no suite yet. Whether that is so is
asked of git, never of the command: one that merely fails there is an error.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.checkouts import has_path, list_added
from benchrun.runner.gate.command_side import OUT, CommandFailed
from benchrun.runner.gate.preparation import Place
from benchrun.runner.gate.request import GateRequest


def may_adopt(request: GateRequest) -> bool:
    """Whether git can tell that the base has no suite: two commits, one command."""
    return bool(request.base.ref) and not request.new.python and request.base.command == request.new.command


def adopt(
    repository: Path,
    base: Place,
    new: Place,
    arguments: Sequence[str],
    failure: CommandFailed,
    benchmarks: Iterable[str],
) -> str:
    """What to say of a base that has no suite yet. Raises UsageError where it has one, or git does not say."""
    if not lacks_suite(repository, base.commit or "", new.commit or "", arguments, failure, benchmarks):
        raise nothing_to_compare(failure)
    return (
        f"the base has no benchmarks yet: git has none of their files in {base.label}, and there {failure}. "
        "Nothing was compared and every point is NEW; the gate begins with the first base that has them"
    )


def nothing_to_compare(failure: CommandFailed, other: CommandFailed | None = None) -> UsageError:
    """The error of a base command that gave nothing; `other`: the new one neither."""
    also = f"; nor did the new command: {other}" if other is not None else ""
    return UsageError(
        f"the base command measured nothing in its first run, so there is nothing to compare with: {failure}{also}. Mend "
        "what failed; if the benchmarks were moved, give each side its own command; if the base has none yet, merge them first, "
        "in a pull request without this gate"
    )


def lacks_suite(
    repository: Path, base: str, new: str, arguments: Sequence[str], failure: CommandFailed, benchmarks: Iterable[str]
) -> bool:
    """Whether commit `base` has none of the `benchmarks` that commit `new` measures with the same command.

    All of their files (pytest's names begin with them) were added since, none was moved. Where the command failed there,
    `base` also lacks every path that it names; where it ended well without a benchmark that is not asked. One that was
    killed or ran out of time tells nothing.
    """
    files = {each.partition("::")[0] for each in benchmarks}
    if failure.left not in ("failure", "nothing") or not files <= list_added(repository, base, new):
        return False
    named = [path for path in named_paths(arguments) if has_path(repository, new, path)]
    return failure.left == "nothing" or (bool(named) and not any(has_path(repository, base, path) for path in named))


def named_paths(arguments: Sequence[str]) -> list[str]:
    """What may be paths of the tree that a command starts in: its words but options, and a program only with its folder."""
    found = []
    for at, word in enumerate(arguments):
        path = posixpath.normpath(word.partition("::")[0])
        if word.startswith("-") or OUT in word or (at == 0 and os.sep not in word):
            continue
        if path.split("/")[0] not in (".", ".."):
            found.append(path)
    return found
