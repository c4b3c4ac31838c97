"""A workload of the kind `lengths` as a string, and what it stands for.

On the command line `lengths:MIX[:LAYOUT]`, MIX being `uniform:32-384`, `lognormal:177:32-384[:SIGMA]`, the path of a file of lengths,
`text:` and the path of a text, or `squad:` and that of a file in SQuAD's v1.1 form. In the point a file is named by its content
(`lengths:file@1f2e3d4c:packed`), and the layout is always written; where the file lies is a setting (`files`: name → path).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchrun.backends.contract import LAYOUTS
from benchrun.runner.accuracy.squad_data import SquadData, read_squad
from benchrun.runner.errors import UsageError
from benchrun.runner.lengths.files import DIGITS, parse_lengths, parse_lines, read_text
from benchrun.runner.lengths.mixes import Mix, parse_mix

KIND = "lengths"
FILE, TEXT, SQUAD = "file", "text", "squad"
NAMED = re.compile(rf"(?:{FILE}|{TEXT}|{SQUAD})@[0-9a-f]{{{DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Lengths:
    """What the words of a workload mean. `source` is the mix as the point spells it; `path` is set where the command line named a file."""

    source: str
    layout: str
    mix: Mix | None = None
    path: Path | None = None

    @property
    def workload(self) -> str:
        """As the point has it."""
        return f"{KIND}:{self.source}:{self.layout}"

    @property
    def is_text(self) -> bool:
        """Whether the sequences are lines of a text."""
        return self.source.startswith(f"{TEXT}@")

    @property
    def is_squad(self) -> bool:
        """Whether the sequences are the windows of a SQuAD file."""
        return self.source.startswith(f"{SQUAD}@")


def parse_workload(text: str) -> Lengths:
    """A workload as the user or as the point spells it; a file it names is read and checked. Raises UsageError in one sentence."""
    kind, _, rest = text.partition(":")
    before, _, last = rest.rpartition(":")
    layout = "padded"
    if last in LAYOUTS:
        rest, layout = before, last
    if kind != KIND or not rest:
        raise UsageError(
            "lengths needs a mix: lengths:uniform:LOW-HIGH, lengths:lognormal:MEAN:LOW-HIGH, lengths:FILE, lengths:text:FILE or "
            f"lengths:squad:FILE, and behind it one of {', '.join(LAYOUTS)}"
        )
    if NAMED.fullmatch(rest):
        return Lengths(rest, layout)
    if rest.partition(":")[0] in ("uniform", "lognormal"):
        mix = parse_mix(rest)
        return Lengths(str(mix), layout, mix)
    word, _, named = rest.partition(":")
    given = word if word in (TEXT, SQUAD) and named else FILE
    path = Path(rest if given == FILE else named).expanduser()
    if given == SQUAD:
        digest = read_windowed(path).digest[:DIGITS]
    else:
        content, digest = read_text(path)
        (parse_lines if given == TEXT else parse_lengths)(content, path)
    return Lengths(f"{given}@{digest}", layout, None, path)


def read_windowed(path: Path) -> SquadData:
    """Questions and passages of a SQuAD file. Raises UsageError."""
    return read_squad(path, f"lengths:{SQUAD}:{path.name}")


def find_file(source: str, files: Mapping[str, Any]) -> Path:
    """Where the file that `source` names lies, by the settings. Raises UsageError where they do not say."""
    if source not in files:
        raise UsageError(f"lengths:{source} names a file by its content: give the path of the file instead")
    return Path(str(files[source])).expanduser()


def read_source(source: str, files: Mapping[str, Any]) -> tuple[str, Path]:
    """The content of the file that `source` names, from where the settings say that it lies. Raises UsageError where it has changed."""
    path = find_file(source, files)
    content, digest = read_text(path)
    check_unchanged(source, digest, path)
    return content, path


def read_squad_source(source: str, files: Mapping[str, Any]) -> SquadData:
    """The same for a SQuAD file: its questions and passages."""
    path = find_file(source, files)
    found = read_windowed(path)
    check_unchanged(source, found.digest[:DIGITS], path)
    return found


def check_unchanged(source: str, digest: str, path: Path) -> None:
    """Raises UsageError where a file's digest is not the one that it is named by."""
    if not source.endswith(f"@{digest}"):
        raise UsageError(f"{path} has changed since this run was planned: measure it in a new run")
