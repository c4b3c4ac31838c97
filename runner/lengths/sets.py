"""The input sets of a mix of lengths: drawn from the seed, of the model's vocabulary or of a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.backends.catalogue import ModelError
from benchrun.runner.errors import UsageError
from benchrun.runner.inputs import make_mixed_inputs, make_text_inputs
from benchrun.runner.lengths.files import parse_lengths, parse_lines
from benchrun.runner.lengths.mixes import choose, draw
from benchrun.runner.lengths.naming import Lengths, read_source

if TYPE_CHECKING:
    from benchrun.backends.catalogue import ModelSpec
    from benchrun.backends.contract import Inputs
    from benchrun.backends.tokenisation import TextTokenizer


@dataclass(frozen=True, slots=True)
class Drawn:
    """Input sets that hold the same lengths in different orders; `cut` counts the sequences of a set that were longer than `seq`."""

    sets: list[Inputs]
    cut: int = 0


def make_sets(
    lengths: Lengths, spec: ModelSpec, head: str, batch: int, seq: int, seed: int, files: Mapping[str, Any]
) -> Drawn:
    """The sets of a point. `files` says where the files lie that `lengths` names by content. Raises UsageError."""
    shape = spec.shape
    if lengths.is_text:
        text, path = read_source(lengths.source, files)
        lines = parse_lines(text, path)
        rows, cut = encode(open_tokenizer(spec), [lines[place] for place in choose(len(lines), batch, seed)], seq)
        return Drawn(make_text_inputs(shape, rows, seq, seed), cut)
    return Drawn(make_mixed_inputs(shape, head, draw_lengths(lengths, batch, seed, files), seq, seed))


def draw_lengths(lengths: Lengths, batch: int, seed: int, files: Mapping[str, Any]) -> tuple[int, ...]:
    """`batch` lengths of a distribution or of a file of lengths. Raises UsageError."""
    if lengths.mix is not None:
        return draw(lengths.mix, batch, seed)
    found = parse_lengths(*read_source(lengths.source, files))
    return tuple(found[place] for place in choose(len(found), batch, seed))


def check_fit(lengths: Lengths, spec: ModelSpec, head: str, seq: int, files: Mapping[str, Any]) -> None:
    """Raises UsageError where a mix cannot be run at `seq` tokens, or has no tokenizer. Lines of a text are cut to `seq` instead."""
    if lengths.is_text:
        if head == "layers":
            raise UsageError(
                f"lengths:{lengths.source} has token ids, and head layers starts from hidden states: use another head"
            )
        open_tokenizer(spec)
        return
    longest = lengths.mix.high if lengths.mix is not None else max(parse_lengths(*read_source(lengths.source, files)))
    if longest > seq:
        raise UsageError(
            f"lengths:{lengths.source} has sequences of up to {longest} tokens, and --seq {seq} is what they are padded to: "
            f"pass --seq {longest} or more"
        )


def open_tokenizer(spec: ModelSpec) -> TextTokenizer:
    """The model's own tokenizer. Raises UsageError where its folder has none, or one that does not fit."""
    from benchrun.backends import tokenisation

    folder = tokenisation.find_tokenizer([Path(spec.weights_path).expanduser()] if spec.weights_path else [])
    if folder is None:
        raise UsageError(
            f"lengths:text needs the model's own tokenizer, and {spec.name} has none: give --model a checkpoint folder with "
            "tokenizer.json or vocab.txt"
        )
    try:
        return tokenisation.open_tokenizer(folder, spec.name, spec.shape.vocab_size)
    except ModelError as error:
        raise UsageError(str(error)) from error


def encode(tokenizer: TextTokenizer, lines: list[str], seq: int) -> tuple[list[tuple[list[int], list[int]]], int]:
    """(ids, token types) of each line between the model's special tokens, cut to `seq` tokens in all; and how many were cut."""
    frame = tokenizer.frame(pair=False)
    room = seq - frame.size
    if room < 1:
        raise UsageError(f"--seq {seq} has no room for text: the model puts {frame.size} tokens around it")
    rows, cut = [], 0
    for piece in tokenizer.encode(lines):
        inner = piece.ids[:room]
        cut += len(piece.ids) > room
        types = [*frame.frame_types[0], *[frame.types[0]] * len(inner), *frame.frame_types[2]]
        rows.append(([*frame.before, *inner, *frame.after], types))
    return rows, cut
