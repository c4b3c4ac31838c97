"""The input sets of a mix of lengths: drawn from the seed, of the model's vocabulary, of a text or of SQuAD's windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchrun.backends.tokenisation import open_tokenizer
from benchrun.runner.accuracy.windows import WindowRules, make_windows
from benchrun.runner.errors import UsageError
from benchrun.runner.inputs import make_mixed_inputs, make_text_inputs
from benchrun.runner.lengths.files import parse_lengths, parse_lines
from benchrun.runner.lengths.mixes import choose, draw
from benchrun.runner.lengths.naming import Lengths, read_source, read_squad_source

if TYPE_CHECKING:
    from benchrun.backends.catalogue import ModelSpec
    from benchrun.backends.contract import Inputs
    from benchrun.backends.tokenisation import TextTokenizer

    Tokens = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Input sets that hold the same lengths in different orders, and facts of the file that they came from.

    `cut_to_seq` counts the lines of a set that were longer than `seq`; `questions` and `windows` are those of the SQuAD file,
    `tokenizer` is the fingerprint of the one that read it.
    """

    sets: list[Inputs]
    facts: Mapping[str, Any] = field(default_factory=dict)


def make_sets(
    lengths: Lengths, spec: ModelSpec, head: str, batch: int, seq: int, seed: int, files: Mapping[str, Any]
) -> Drawn:
    """The sets of a point. `files` says where the files lie that `lengths` names by content. Raises UsageError."""
    shape = spec.shape
    if lengths.is_text:
        text, path = read_source(lengths.source, files)
        lines = parse_lines(text, path)
        tokenizer = open_tokenizer(spec, "lengths:text")
        rows, cut = encode(tokenizer, [lines[place] for place in choose(len(lines), batch, seed)], seq)
        return Drawn(make_text_inputs(shape, rows, seq, seed), {"cut_to_seq": cut, "tokenizer": tokenizer.fingerprint})
    if lengths.is_squad:
        windows, facts = find_windows(lengths, spec, seq, files)
        rows = [windows[place] for place in choose(len(windows), batch, seed)]
        if head == "layers":  # hidden states of these lengths: there is nothing to read
            return Drawn(make_mixed_inputs(shape, head, [len(ids) for ids, _ in rows], seq, seed), facts)
        return Drawn(make_text_inputs(shape, rows, seq, seed), facts)
    return Drawn(make_mixed_inputs(shape, head, draw_lengths(lengths, batch, seed, files), seq, seed))


def find_windows(
    lengths: Lengths, spec: ModelSpec, seq: int, files: Mapping[str, Any]
) -> tuple[list[Tokens], dict[str, Any]]:
    """(ids, token types) of all windows of a SQuAD file at `seq` tokens, in order, and how many there are. Raises UsageError."""
    data = read_squad_source(lengths.source, files)
    tokenizer = open_tokenizer(spec, "lengths:squad")
    windows = make_windows(data.questions, tokenizer, check_windows(seq, tokenizer))
    found: list[Tokens] = [(window.row.ids, window.row.types) for window in windows]
    return found, {"questions": len(data.questions), "windows": len(found), "tokenizer": tokenizer.fingerprint}


def check_windows(seq: int, tokenizer: TextTokenizer) -> WindowRules:
    """BERT's rules for windows of `seq` tokens. Raises UsageError where a question may leave no room for its passage."""
    rules = WindowRules(seq)
    special = tokenizer.frame(pair=True).size
    if (least := rules.question + special + 1) > seq:
        raise UsageError(
            f"lengths:squad has questions of up to {rules.question} tokens and {special} special ones beside the passage, and --seq is "
            f"{seq}: pass --seq {least} or more (384 is usual)"
        )
    return rules


def draw_lengths(lengths: Lengths, batch: int, seed: int, files: Mapping[str, Any]) -> tuple[int, ...]:
    """`batch` lengths of a distribution or of a file of lengths. Raises UsageError."""
    if lengths.mix is not None:
        return draw(lengths.mix, batch, seed)
    found = parse_lengths(*read_source(lengths.source, files))
    return tuple(found[place] for place in choose(len(found), batch, seed))


def check_fit(lengths: Lengths, spec: ModelSpec, head: str, seq: int, files: Mapping[str, Any]) -> None:
    """Raises UsageError where a mix cannot be run at `seq` tokens, ModelError where it needs a tokenizer and the model has none.

    Lines of a text are cut to `seq` instead, and windows are made for it.
    """
    if lengths.is_text:
        if head == "layers":
            raise UsageError(
                f"lengths:{lengths.source} has token ids, and head layers starts from hidden states: use another head"
            )
        open_tokenizer(spec, "lengths:text")
        return
    if lengths.is_squad:
        read_squad_source(lengths.source, files)
        check_windows(seq, open_tokenizer(spec, "lengths:squad"))
        return
    longest = lengths.mix.high if lengths.mix is not None else max(parse_lengths(*read_source(lengths.source, files)))
    if longest > seq:
        raise UsageError(
            f"lengths:{lengths.source} has sequences of up to {longest} tokens, and --seq {seq} is what they are padded to: "
            f"pass --seq {longest} or more"
        )


def encode(tokenizer: TextTokenizer, lines: Sequence[str], seq: int) -> tuple[list[Tokens], int]:
    """(ids, token types) of each line between the model's special tokens, cut to `seq` tokens in all; and how many were cut."""
    frame = tokenizer.frame(pair=False)
    room = seq - frame.size
    if room < 1:
        raise UsageError(f"--seq {seq} has no room for text: the model puts {frame.size} tokens around it")
    pieces = tokenizer.encode(lines)
    return [frame.around(piece.ids[:room]) for piece in pieces], sum(len(piece.ids) > room for piece in pieces)
