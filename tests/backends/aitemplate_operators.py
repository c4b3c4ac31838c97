"""The operators of AITemplate's front end that the encoder uses, as its documentation defines them, computed by PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as nnf


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return x @ weight.T + bias


def permute(shape: tuple[int, int, int], layout: str = "20314") -> Callable[..., torch.Tensor]:
    """As AITemplate documents it for packed QKV: [B·S, 3·heads·D] → [3, B, heads, S, D]."""
    assert layout in ("20314", "m2n3")
    seq, three, heads = shape

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return (
            linear(x, weight, bias)
            .reshape(-1, seq, three, heads, weight.shape[0] // three // heads)
            .permute(2, 0, 3, 1, 4)
        )

    return run


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.softmax(query @ key.transpose(-1, -2) * scale, dim=-1) @ value


def flash(batch_size: int, dropout: int, max_seq_len: int, causal: bool) -> Callable[..., torch.Tensor]:
    """Packed [B·S, 3, heads, D] and the row at which each sequence starts → [B·S, heads, D]."""
    assert not dropout and not causal

    def run(packed: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        assert starts.tolist() == [index * max_seq_len for index in range(batch_size + 1)]
        query, key, value = packed.reshape(batch_size, max_seq_len, *packed.shape[1:]).permute(2, 0, 3, 1, 4)
        found = attend(query, key, value, packed.shape[-1] ** -0.5)
        return found.transpose(1, 2).reshape(packed.shape[0], *packed.shape[2:])

    return run


def mem_eff(causal: bool) -> Callable[..., torch.Tensor]:
    """[B, heads, S, D] three times → [B, S, heads, D]."""
    assert not causal
    return lambda q, k, v: attend(q, k, v, q.shape[-1] ** -0.5).transpose(1, 2)


def composable(shape: tuple[int], scale: float, causal: bool) -> Callable[..., torch.Tensor]:
    """[B·heads, S, D] three times → [B, S, heads, D]."""
    assert not causal
    return lambda q, k, v: attend(q, k, v, scale).reshape(-1, shape[0], *q.shape[1:]).transpose(1, 2)


def embed(
    ids: Any, types: Any, places: Any, words: Any, kinds: Any, positions: Any, weight: Any, bias: Any, eps: float
) -> Any:
    return nnf.layer_norm(words[ids] + kinds[types] + positions[places], weight.shape, weight, bias, eps)


OPS = SimpleNamespace(
    reshape=lambda: lambda x, shape: x.reshape(shape),
    split=lambda: lambda x, size, dim: torch.split(x, size, dim),
    layernorm=lambda: lambda x, weight, bias, shape, eps: nnf.layer_norm(x, shape, weight, bias, eps),
    gemm_rcr_bias=lambda: linear,
    gemm_rcr_bias_add=lambda: lambda x, weight, bias, other: linear(x, weight, bias) + other,
    gemm_rcr_bias_gelu=lambda: lambda *args: nnf.gelu(linear(*args)),
    gemm_rcr_bias_fast_gelu=lambda: lambda *args: nnf.gelu(linear(*args), approximate="tanh"),
    gemm_rcr_bias_permute=permute,
    flash_attention=flash,
    mem_eff_attention=mem_eff,
    bmm_softmax_bmm_permute=composable,
    bert_embeddings=lambda: embed,
)
