"""Attention heads that were cut out of a checkpoint (`pruned_heads` in its config.json, as transformers 4 saved it).

Transformers 5 no longer knows them: it would ask for whole matrices. Here the cut matrices are filled up with zeros for loading, and
the loaded module is cut to what the checkpoint holds, so that every engine that starts from the module runs the smaller products.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import nn

if TYPE_CHECKING:
    import torch

Pruned = Mapping[int, tuple[int, ...]]  # layer → heads that are missing, by their numbers in the whole model


def kept_rows(pruned: tuple[int, ...], heads: int, head_size: int) -> list[int]:
    """The rows of a whole query, key or value matrix that the heads which are left have."""
    return [
        row for head in range(heads) if head not in pruned for row in range(head * head_size, (head + 1) * head_size)
    ]


def fill_up(source: Path, target: Path, pruned: Pruned, heads: int, head_size: int) -> None:
    """Write the tensors of `source` (a safetensors file or a folder of them) as one file, cut matrices filled up with zeros."""
    tensors: dict[str, torch.Tensor] = {}
    for file in [source] if source.is_file() else sorted(source.glob("*.safetensors")):
        tensors |= load_file(file)
    for name, tensor in tensors.items():
        for layer, cut in pruned.items():
            if f"encoder.layer.{layer}.attention." not in name:
                continue
            rows = kept_rows(cut, heads, head_size)
            whole = heads * head_size
            if name.endswith("attention.output.dense.weight") and tensor.shape[-1] == len(rows):
                filled = tensor.new_zeros((tensor.shape[0], whole))
                filled[:, rows] = tensor
                tensors[name] = filled
            elif ".self." in name and tensor.shape[0] == len(rows):
                filled = tensor.new_zeros((whole, *tensor.shape[1:]))
                filled[rows] = tensor
                tensors[name] = filled
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target, metadata={"format": "pt"})


def cut_heads(body: nn.Module, pruned: Pruned, heads: int, head_size: int) -> None:
    """Take the heads out of a loaded encoder, in place."""
    for index, cut in pruned.items():
        layer = body.get_submodule(f"encoder.layer.{index}.attention")
        rows = kept_rows(cut, heads, head_size)
        own: Any = layer.get_submodule("self")
        for name in ("query", "key", "value"):
            setattr(own, name, _narrow(own.get_submodule(name), rows, dim=0))
        output: Any = layer.get_submodule("output")
        output.dense = _narrow(output.get_submodule("dense"), rows, dim=1)
        own.num_attention_heads, own.all_head_size = heads - len(cut), len(rows)


def _narrow(whole: nn.Module, kept: list[int], dim: int) -> nn.Linear:
    """A linear layer with only these rows (dim 0) or columns (dim 1) of its matrix."""
    assert isinstance(whole, nn.Linear)
    weight = whole.weight.detach()
    weight = weight[kept] if dim == 0 else weight[:, kept]
    bias = whole.bias.detach()[kept] if dim == 0 else whole.bias.detach()
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight.contiguous()), nn.Parameter(bias.clone())
    return linear
