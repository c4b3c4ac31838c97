"""Engine options that are text files: read and checked when a sweep is planned, and named by content in its points.

`--opt ort.calibration=FILE` becomes the option `calibration = text@1a2b3c4d` of the points, as lengths name their files: two machines
with the same file measure the same series, and a changed one makes another point. Where the file lies is a setting (`files`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from benchrun.backends.catalogue import ModelSpec
    from benchrun.backends.contract import Description, OptionValue

ALLOWED = "give {name}= a UTF-8 text file with one sequence a line"


def name_files(
    options: Mapping[str, OptionValue], settings: Mapping[str, Any], descriptions: Sequence[Description]
) -> tuple[dict[str, OptionValue], dict[str, Any]]:
    """Options with each text file named by content, and the settings with where they lie. Raises UsageError."""
    named, files = dict(options), dict(settings.get("files", {}))
    for asked, _ in _asked(options, descriptions):
        named[asked], where = _name(asked, str(options[asked]), files)
        files[str(named[asked])] = where
    return named, {**settings, **({"files": files} if files else {})}


def check_files(
    options: Mapping[str, OptionValue], descriptions: Sequence[Description], specs: Iterable[ModelSpec]
) -> None:
    """Raises UsageError where a head starts from hidden states and so reads no text, ModelError where a model has no tokenizer."""
    for asked, backend in _asked(options, descriptions):
        from benchrun.backends.tokenisation import open_tokenizer

        name = f"{backend}.{asked.rpartition('.')[2]}"
        for spec in specs:
            if spec.head == "layers":
                raise UsageError(f"{name} is a text, and head layers starts from hidden states: use another head")
            open_tokenizer(spec, name)


def _asked(options: Mapping[str, OptionValue], descriptions: Sequence[Description]) -> Iterator[tuple[str, str]]:
    """(name as it was given, backend) of each option that is a file and was given."""
    for about in {each.name: each for each in descriptions}.values():
        for option in about.options:
            for name in (f"{about.name}.{option.name}", option.name):
                if option.is_text_file and name in options and options[name] != option.default:
                    yield name, about.name


def _name(asked: str, value: str, files: Mapping[str, str]) -> tuple[str, str]:
    """What a file is called in a point, and where it lies."""
    from benchrun.runner.lengths.files import parse_lines, read_text
    from benchrun.runner.lengths.naming import NAMED, TEXT, read_source

    if NAMED.fullmatch(value) and value in files:  # a request that was planned before
        read_source(value, files)
        return value, files[value]
    path = Path(value).expanduser().absolute()
    content, digest = read_text(path, ALLOWED.format(name=asked))
    parse_lines(content, path)
    return f"{TEXT}@{digest}", str(path)
