"""A workload of the kind `lengths` as a string, and what it stands for.

On the command line `lengths:MIX[:LAYOUT]`, MIX being `uniform:32-384`, `lognormal:177:32-384[:SIGMA]`, the path of a file of lengths, or
`text:` and the path of a text. In the point a file is named by its content (`lengths:file@1f2e3d4c:packed`), and the layout is always
written; where the file lies is a setting (`files`: name → path).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchrun.backends.contract import LAYOUTS
from benchrun.runner.errors import UsageError
from benchrun.runner.lengths.files import parse_lengths, parse_lines, read_text
from benchrun.runner.lengths.mixes import Mix, parse_mix

KIND = "lengths"
NAMED = re.compile(r"(?:file|text)@[0-9a-f]{8}")
TEXT = "text"


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


def parse_workload(text: str) -> Lengths:
    """A workload as the user or as the point spells it; a file it names is read and checked. Raises UsageError in one sentence."""
    kind, _, rest = text.partition(":")
    before, _, last = rest.rpartition(":")
    layout = "padded"
    if last in LAYOUTS:
        rest, layout = before, last
    if kind != KIND or not rest:
        raise UsageError(
            "lengths needs a mix: lengths:uniform:LOW-HIGH, lengths:lognormal:MEAN:LOW-HIGH, lengths:FILE or lengths:text:FILE, "
            f"and behind it one of {', '.join(LAYOUTS)}"
        )
    if NAMED.fullmatch(rest):
        return Lengths(rest, layout)
    if rest.partition(":")[0] in ("uniform", "lognormal"):
        mix = parse_mix(rest)
        return Lengths(str(mix), layout, mix)
    is_text = rest.startswith(f"{TEXT}:")
    path = Path(rest.removeprefix(f"{TEXT}:") if is_text else rest).expanduser()
    content, digest = read_text(path)
    if is_text:
        parse_lines(content, path)
    else:
        parse_lengths(content, path)
    return Lengths(f"{TEXT if is_text else 'file'}@{digest}", layout, None, path)


def read_source(source: str, files: Mapping[str, Any]) -> tuple[str, Path]:
    """The content of the file that `source` names, from where the settings say that it lies. Raises UsageError where it has changed."""
    if source not in files:
        raise UsageError(f"lengths:{source} names a file by its content: give the path of the file instead")
    path = Path(str(files[source])).expanduser()
    content, digest = read_text(path)
    if not source.endswith(f"@{digest}"):
        raise UsageError(f"{path} has changed since this run was planned: measure it in a new run")
    return content, path
