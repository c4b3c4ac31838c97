"""Tokenisers of model folders, for tasks with real text. Nothing is downloaded and no code of a model runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.backends.catalogue import ModelError
from benchrun.backends.checkpoints import TOKENIZER, VOCABULARIES, find_tokenizer

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from benchrun.backends.catalogue import ModelSpec

PARTS = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one text: ids, and for each the characters [start, end) of the text that it stands for."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a tokeniser puts around one text or two: ids before, between and after, each with its token types.

    `types` are those of the first and of the second text; `between` is empty for one text.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    frame_types: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    types: tuple[int, int]

    @property
    def size(self) -> int:
        """Special tokens in all."""
        return len(self.before) + len(self.between) + len(self.after)

    def around(
        self, first: tuple[int, ...], second: tuple[int, ...] | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids and token types of a whole sequence: one text, or two, with what goes around them."""
        before, between, after = self.frame_types
        ids = self.before + first + self.between + (second or ()) + self.after
        own = (self.types[0],) * len(first), (self.types[1],) * len(second or ())
        return ids, before + own[0] + between + own[1] + after


class TextTokenizer:
    """The tokeniser of a model folder. Raises ModelError where the folder has none that can be read."""

    def __init__(self, folder: Path) -> None:
        self._inner = _load(folder, _signature(folder))
        self._inner.no_truncation()
        self._inner.no_padding()
        self.fingerprint = fingerprint(folder)

    @property
    def size(self) -> int:
        """Number of tokens, those that were added included: every id is below it."""
        return int(max(self._inner.get_vocab(with_added_tokens=True).values(), default=-1)) + 1

    def encode(self, texts: Sequence[str]) -> list[Piece]:
        """The tokens of each text, without special ones."""
        found = self._inner.encode_batch(list(texts), add_special_tokens=False)
        return [Piece(tuple(each.ids), tuple(each.offsets)) for each in found]

    def frame(self, *, pair: bool) -> Frame:
        """What goes around one text, or a pair, as the model was trained: [CLS] … [SEP] … [SEP] of BERT."""
        encoded = self._inner.encode("a", "b") if pair else self._inner.encode("a")
        return frame_of(encoded)


def open_tokenizer(spec: ModelSpec, asking: str, otherwise: str = "") -> TextTokenizer:
    """The tokeniser of a model, for `asking`. Raises ModelError where the model has none (`otherwise` ends that sentence), or one with
    more tokens than the model knows.
    """
    if spec.tokenizer is None:
        raise ModelError(
            f"{asking} needs the model's own tokenizer, and {spec.name} has none: give --model a checkpoint folder with "
            f"tokenizer.json or vocab.txt{otherwise}"
        )
    found = TextTokenizer(Path(spec.tokenizer).expanduser())
    if found.size > spec.shape.vocab_size:
        raise ModelError(
            f"the tokenizer has {found.size} tokens and {spec.name} knows {spec.shape.vocab_size}: they do not belong together"
        )
    return found


def frame_of(encoded: Encoding) -> Frame:
    """The special tokens of an encoding, by their place."""
    sequences: list[int | None] = list(encoded.sequence_ids)
    places = [[place for place, each in enumerate(sequences) if each == number] for number in (0, 1)]
    if not places[0]:
        raise ModelError("the tokenizer of the model makes no token of a plain letter: it cannot be used for text")
    first, second = places
    last = (second or first)[-1]
    spans = (
        range(first[0]),
        range(first[-1] + 1, second[0]) if second else range(0),
        range(last + 1, len(sequences)),
    )
    ids = [tuple(encoded.ids[place] for place in span) for span in spans]
    kinds = [tuple(encoded.type_ids[place] for place in span) for span in spans]
    types = (encoded.type_ids[first[0]], encoded.type_ids[(second or first)[0]])
    return Frame(ids[0], ids[1], ids[2], (kinds[0], kinds[1], kinds[2]), types)


def text_lines(text: str) -> tuple[str, ...]:
    """The sequences of a text: its lines that are not blank."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def fingerprint(folder: Path) -> str:
    """16 digits of SHA-256 over the files that make the tokeniser."""
    names = (TOKENIZER,) if (folder / TOKENIZER).is_file() else PARTS
    digest = hashlib.sha256()
    for name in names:
        if (folder / name).is_file():
            digest.update(name.encode() + (folder / name).read_bytes())
    return digest.hexdigest()[:16]


def _signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, time and size of the files that make the tokeniser: what tells whether it is still the one that was read."""
    files = (folder / name for name in (TOKENIZER, *PARTS))
    return tuple((each.name, each.stat().st_mtime_ns, each.stat().st_size) for each in files if each.is_file())


@lru_cache(maxsize=4)  # a plan opens it for each workload and length
def _load(folder: Path, _as_it_is: tuple[tuple[str, int, int], ...]) -> Tokenizer:
    from tokenizers import Tokenizer

    shown = folder.name
    if (folder / TOKENIZER).is_file():
        try:
            return Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the library raises plain Exception for whatever it cannot parse
            raise ModelError(f"{TOKENIZER} in {shown} cannot be read: {error}") from None
    if find_tokenizer([folder]) is None:
        raise ModelError(
            f"{shown} has no tokenizer ({', '.join(VOCABULARIES)}): copy it there from where the checkpoint came from"
        )
    from transformers import AutoTokenizer

    try:
        slow: Any = AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True, trust_remote_code=False)
        return slow.backend_tokenizer  # type: ignore[no-any-return]
    except Exception as error:  # its many files fail in many ways
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the tokenizer in {shown} cannot be loaded: {first}") from None
