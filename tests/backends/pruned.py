"""Smaller checkpoints made from all-MiniLM-L6-v2's weights: without some attention heads, or with fewer and narrower layers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.backends.minilm import MINILM

HEADS, HEAD_SIZE = 12, 32


def prune(folder: Path, cut: Mapping[int, Sequence[int]]) -> Path:
    """The checkpoint without the heads `cut` (layer → heads), as transformers 4's `prune_heads` and `save_pretrained` leave it."""
    tensors = load_file(MINILM / "model.safetensors")
    for layer, heads in cut.items():
        rows = torch.tensor([row for row in range(HEADS * HEAD_SIZE) if row // HEAD_SIZE not in heads])
        start = f"encoder.layer.{layer}.attention."
        for name in ("query", "key", "value"):
            for part in ("weight", "bias"):
                tensors[f"{start}self.{name}.{part}"] = tensors[f"{start}self.{name}.{part}"][rows].contiguous()
        weight = f"{start}output.dense.weight"
        tensors[weight] = tensors[weight][:, rows].contiguous()
    return _save(folder, tensors, {"pruned_heads": {str(layer): list(heads) for layer, heads in cut.items()}})


def narrow(folder: Path, layers: int, intermediate: int) -> Path:
    """The first `layers` layers with the first `intermediate` neurons of their feed-forward."""
    tensors = {}
    for name, tensor in load_file(MINILM / "model.safetensors").items():
        if ".layer." in name and int(name.split(".layer.")[1].split(".")[0]) >= layers:
            continue
        if ".intermediate.dense." in name:
            tensor = tensor[:intermediate]
        elif ".output.dense.weight" in name and "attention" not in name:
            tensor = tensor[:, :intermediate]
        tensors[name] = tensor.contiguous()
    return _save(folder, tensors, {"num_hidden_layers": layers, "intermediate_size": intermediate})


def _save(folder: Path, tensors: dict[str, torch.Tensor], changed: dict[str, object]) -> Path:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((MINILM / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changed), encoding="utf-8")
    return folder
