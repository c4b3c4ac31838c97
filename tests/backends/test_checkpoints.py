"""What the headers of safetensors tell of a checkpoint, and files that are none."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from benchrun.backends.checkpoints import MOST_HEADER_BYTES, CheckpointSizes, read_shapes, read_sizes
from tests.backends.minilm import MINILM


def write(path: Path, header: Any) -> Path:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data)
    return path


def test_the_sizes_of_a_real_checkpoint_as_a_folder_and_as_a_file() -> None:
    sizes = {
        "vocab_size": 30522,
        "hidden_size": 384,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "intermediate_size": 1536,
    }
    found = read_sizes(MINILM)
    assert found is not None and (found.layers, dict(found.sizes)) == (6, sizes)
    assert read_sizes(MINILM / "model.safetensors") == found


def test_shards_are_read_together_whatever_stands_before_the_names(tmp_path: Path) -> None:
    layer = {"dtype": "F32", "shape": [8, 4], "data_offsets": [0, 128]}
    write(
        tmp_path / "a.safetensors",
        {"__metadata__": {"format": "pt"}, "bert.encoder.layer.0.intermediate.dense.weight": layer},
    )
    write(tmp_path / "b.safetensors", {"bert.encoder.layer.3.output.dense.bias": {"shape": [4]}})
    assert read_sizes(tmp_path) == CheckpointSizes(4, {"intermediate_size": 8})


@pytest.mark.parametrize("header", [b"{", [1], {"name": 1}, {"name": {"shape": "wide"}}, b"\xff\xfe", b""])
def test_what_is_no_safetensors_file_tells_nothing(tmp_path: Path, header: Any) -> None:
    assert read_shapes(write(tmp_path / "x.safetensors", header)) is None
    assert read_sizes(tmp_path) is None


def test_a_header_that_claims_too_much_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", MOST_HEADER_BYTES + 1) + b"{}")
    assert read_shapes(path) is None
    path.write_bytes(b"short")
    assert read_shapes(path) is None and read_shapes(tmp_path / "none.safetensors") == {}


def test_tensors_of_another_kind_of_model_tell_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {"transformer.h.0.weight": {"shape": [4, 4]}})
    assert read_shapes(path) == {"transformer.h.0.weight": (4, 4)} and read_sizes(path) is None
