"""What a checkpoint holds: shapes, from the headers of its safetensors, and whose folder has a tokeniser. No tensor is read and no engine
imported.

A safetensors file starts with the length of its header (8 bytes, little-endian) and the header, JSON: name → dtype, shape, offsets.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKENIZER = "tokenizer.json"  # everything in one file, as Transformers saves it
VOCABULARIES = (TOKENIZER, "vocab.txt", "vocab.json", "sentencepiece.bpe.model")
MOST_HEADER_BYTES = 100_000_000  # the format's own limit
_LAYER = re.compile(r"(?:^|\.)encoder\.layer\.(\d+)\.(.+)$")
_WIDE = "intermediate.dense.weight"


@dataclass(frozen=True, slots=True)
class CheckpointSizes:
    """Sizes by the names of a configuration, as far as the tensors' shapes tell them."""

    layers: int
    sizes: Mapping[str, int]


def find_tokenizer(candidates: Iterable[Path | None]) -> Path | None:
    """The first folder of `candidates` (a file stands for its folder) that has a tokeniser; None where none has."""
    for each in candidates:
        if each is not None:
            folder = each if each.is_dir() else each.parent
            if any((folder / name).is_file() for name in VOCABULARIES):
                return folder
    return None


def read_shapes(path: Path) -> dict[str, tuple[int, ...]] | None:
    """Tensor name → shape over all safetensors of a folder, or of one file; None where one is no safetensors file."""
    found: dict[str, tuple[int, ...]] = {}
    for file in [path] if path.is_file() else sorted(path.glob("*.safetensors")):
        header = _read_header(file)
        if header is None:
            return None
        for name, entry in header.items():
            if name != "__metadata__":
                found[name] = tuple(entry.get("shape", ()))
    return found


def read_sizes(path: Path) -> CheckpointSizes | None:
    """The sizes of a BERT-like encoder; None where the files hold none that is recognised: loading will say what is wrong."""
    shapes = read_shapes(path)
    layers = {int(match[1]) for name in shapes or () if (match := _LAYER.search(name))}
    if not shapes or not layers:
        return None
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        if len(shape) != 2:
            continue
        if name.endswith("embeddings.word_embeddings.weight"):
            sizes |= {"vocab_size": shape[0], "hidden_size": shape[1]}
        elif name.endswith("embeddings.position_embeddings.weight"):
            sizes["max_position_embeddings"] = shape[0]
        elif name.endswith("embeddings.token_type_embeddings.weight"):
            sizes["type_vocab_size"] = shape[0]
        elif name.endswith(f"layer.0.{_WIDE}"):
            sizes["intermediate_size"] = shape[0]
    return CheckpointSizes(max(layers) + 1, sizes)


def _read_header(file: Path) -> dict[str, Any] | None:
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > MOST_HEADER_BYTES:
                return None
            header = json.loads(stream.read(length))
    except (OSError, ValueError, struct.error):
        return None
    entries = header.values() if isinstance(header, dict) else [None]
    fit = all(isinstance(each, dict) and isinstance(each.get("shape", []), list) for each in entries)
    return header if fit else None
