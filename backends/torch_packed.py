"""Packed execution by PyTorch: sequences of different lengths one after the other in a single row of tokens, without padding.

The Hugging Face layers run on [1, T] tokens, T of all sequences together. All in a transformer but attention works token by token, so only
attention must know where a sequence ends: it gets cumulated lengths, [0, l₁, l₁+l₂, …], and a kernel for sequences of variable length.

A session for the layout `packed` takes padded input sets like any other (`Inputs`: [n, seq] arrays, true lengths) and gives padded outputs
back, zeros at the padding; what comes between is packed. `bind` takes

    any number of sequences n ≤ the point's batch, each of 1 … point.seq tokens, padded on the right,
    any number of tokens in `torch:eager`; up to `Point.with_capacity(tokens)` in `torch:compile` and `torch:cudagraph`, whose shapes are
    static: tokens that a set leaves free are computed and belong to no sequence (without a capacity there is room for batch · seq).

`bind` packs on the host and copies; a set with index ≥ 0 is packed once and kept, a set with index < 0 is not kept. `outputs` holds as many
sequences as were bound last: [n, seq, …] for what is told for each token, [n, …] for what is told for each sequence.

Attention kernels (facts: `attention_kernel`): on CUDA in fp16 and bf16 `torch.nn.attention.varlen.varlen_attn`, or where this PyTorch
lacks it the operator behind it; on CUDA in fp32 and tf32 the memory-efficient kernel with cumulated lengths; on a CPU
`scaled_dot_product_attention` for one sequence after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from benchrun.backends.contract import PACKED_TOKENS, BackendError, Inputs, Point, Unsupported
from benchrun.backends.torch_sessions import CompileSession, EagerSession, GraphSession

varlen: Any = find_spec("torch.nn.attention.varlen") and import_module(
    "torch.nn.attention.varlen"
)  # PyTorch 2.10 has it

if TYPE_CHECKING:
    from benchrun.backends.contract import Array, FloatArray
    from benchrun.backends.models import Encoder

    Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]

PACKED = "benchrun_packed"  # name of the attention in transformers' registry
PER_SEQUENCE = ("pooler_output", "logits")  # outputs that are told for each sequence, the others are for each token
FLASH_MULTIPLE, FLASH_LARGEST = 8, 256  # head sizes that the flash kernel takes


@torch.library.custom_op(
    "benchrun::packed_attention",
    mutates_args=(),
    schema="(Tensor query, Tensor key, Tensor value, Tensor cumulated, int longest) -> Tensor",
)
def attend_one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cumulated: torch.Tensor, longest: int
) -> torch.Tensor:
    """Attention within each sequence, one after the other. [T, heads, size] each; an operator of its own, so that a compiler need
    not know the lengths. Tokens behind the last sequence get zeros."""
    ends = cumulated.tolist()
    out = torch.zeros_like(query)
    for start, end in pairwise(ends):
        if end > start:
            one, two, three = (each[start:end].transpose(0, 1).unsqueeze(0) for each in (query, key, value))
            out[start:end] = nn.functional.scaled_dot_product_attention(one, two, three)[0].transpose(0, 1)
    return out


@attend_one_by_one.register_fake
def _(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cumulated: torch.Tensor, longest: int
) -> torch.Tensor:
    return torch.empty_like(query)


def attend_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cumulated: torch.Tensor, longest: int
) -> torch.Tensor:
    """PyTorch's attention for variable lengths (2.10 and later), by the flash kernel."""
    found = varlen.varlen_attn(query, key, value, cumulated, cumulated, longest, longest)
    return found if isinstance(found, torch.Tensor) else found[0]


def attend_flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cumulated: torch.Tensor, longest: int
) -> torch.Tensor:
    """The operator behind `varlen_attn`, for releases without that."""
    found: torch.Tensor = torch.ops.aten._flash_attention_forward(
        query, key, value, cumulated, cumulated, longest, longest, 0.0, False, False
    )[0]
    return found


def attend_efficient(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cumulated: torch.Tensor, longest: int
) -> torch.Tensor:
    """The memory-efficient kernel, which computes in fp32 too."""
    batched = (each.unsqueeze(0) for each in (query, key, value))
    found: torch.Tensor = torch.ops.aten._efficient_attention_forward(
        *batched, None, cumulated, cumulated, longest, longest, 0.0, 0
    )[0]
    return found.squeeze(0)


KERNELS: dict[str, Kernel] = {
    "one by one": attend_one_by_one,
    "varlen_attn": attend_varlen,
    "flash": attend_flash,
    "efficient": attend_efficient,
}


def choose_kernel(device: str, dtype: torch.dtype, head_size: int) -> str:
    """Name of the attention kernel (a key of KERNELS) for a kind of torch device. Raises Unsupported where none fits."""
    if device == "cpu":
        return "one by one"
    if torch.version.hip:
        raise Unsupported("packed execution is written for CUDA and the CPU, not for ROCm: use the layout bucketed")
    if dtype == torch.float32:
        return "efficient"
    if head_size % FLASH_MULTIPLE or head_size > FLASH_LARGEST:
        raise Unsupported(
            f"the flash kernel for variable lengths takes head sizes in multiples of {FLASH_MULTIPLE} up to {FLASH_LARGEST}, "
            f"not {head_size}: use the layout bucketed"
        )
    return "flash" if varlen is None else "varlen_attn"


class PackedEncoder(nn.Module):
    """The layers and the head of a Hugging Face module on packed tokens.

    Inputs, in the order of `input_names`: `input_ids`, `position_ids` and, where the model has them, `token_type_ids`, each [1, T], or
    `hidden_states` [1, T, hidden]; then `cumulated` int32 [batch + 1]. Outputs: [T, …] for each token, [batch, …] for each sequence.
    Positions count from the start of each sequence. `longest` bounds the length of a sequence.
    """

    def __init__(self, encoder: Encoder, longest: int, kernel: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.longest = longest
        self.kernel = kernel
        self.output_names = encoder.output_names
        given = tuple(name for name in encoder.input_names if name != "attention_mask")
        self.input_names = (*given, *(() if "hidden_states" in given else ("position_ids",)), "cumulated")

    @property
    def config(self) -> Any:
        """The configuration that the inner module reads when it runs."""
        return self.encoder.config

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return self.encoder.hidden_size

    @property
    def first_position(self) -> int:
        """What the family counts positions from: 0, RoBERTa from the one behind its padding index."""
        table = getattr(self.encoder.inner.base_model.embeddings, "position_embeddings", None)  # type: ignore[union-attr]
        padding = None if table is None else table.padding_idx
        return 0 if padding is None else int(padding) + 1

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        named = dict(zip(self.input_names, inputs, strict=True))
        cumulated = named.pop("cumulated")
        if "hidden_states" in named:
            named["inputs_embeds"] = named.pop("hidden_states")
        inner: Any = self.encoder.inner
        base = inner.base_model
        states = base.encoder(
            base.embeddings(**named),
            cu_seq_lens_q=cumulated,
            max_length_q=self.longest,
            benchrun_kernel=self.kernel,
        ).last_hidden_state
        found: dict[str, torch.Tensor] = {"last_hidden_state": states[0]}
        if "start_logits" in self.output_names:
            answers = inner.qa_outputs(states)[0]
            found |= {"start_logits": answers[:, 0], "end_logits": answers[:, 1]}
        elif self.output_names[-1] in PER_SEQUENCE:
            # the first token of each sequence; sequences that a set leaves out begin behind the last token
            firsts = states[0].index_select(0, cumulated[:-1].clamp(max=states.shape[1] - 1).long()).unsqueeze(1)
            pooled = None if base.pooler is None else base.pooler(firsts)
            if "logits" in self.output_names:
                found["logits"] = inner.classifier(firsts if pooled is None else pooled)
            elif pooled is not None:
                found["pooler_output"] = pooled
        return tuple(found[name] for name in self.output_names)


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    benchrun_kernel: str,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: [1, heads, T, size] in, [1, T, heads, size] out. The scale is size^-½ as in all BERTs."""
    one, two, three = (each.transpose(1, 2).squeeze(0) for each in (query, key, value))
    return KERNELS[benchrun_kernel](one, two, three, cu_seq_lens_q, max_length_q).unsqueeze(0), None


def register_packed_attention() -> str:
    """Name of the packed attention, registered through transformers' own interface."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, lambda *_, **__: None)
    return PACKED


def pack(inputs: Inputs, names: tuple[str, ...], batch: int, tokens: int | None, first_position: int) -> Inputs:
    """The set as a packed module takes it: arrays [1, T], `cumulated` int32 [batch + 1].

    T is `tokens`, or where that is None the number of true tokens; what is beyond the true ones is zero.
    """
    lengths = np.array(inputs.lengths, dtype=np.int64)
    true = int(lengths.sum())
    width = next(iter(inputs.arrays.values())).shape[1]
    at = np.nonzero(np.arange(width)[None, :] < lengths[:, None])
    size = true if tokens is None else tokens
    arrays: dict[str, Array] = {}
    for name in names:
        if name == "cumulated":
            ends = np.full(batch + 1, true, dtype=np.int32)
            ends[: len(lengths) + 1] = np.concatenate(([0], np.cumsum(lengths)))
            arrays[name] = ends
            continue
        found = at[1] + first_position if name == "position_ids" else inputs.arrays[name][at]
        row = np.zeros((1, size, *found.shape[1:]), dtype=found.dtype)
        row[0, :true] = found
        arrays[name] = row
    return Inputs(inputs.index, arrays, inputs.lengths)


def unpack(packed: FloatArray, lengths: tuple[int, ...], seq: int, *, per_token: bool) -> FloatArray:
    """Packed outputs as padded ones, zeros at the padding: [T, …] → [n, seq, …], and of [batch, …] the first n."""
    if not per_token:
        return packed[: len(lengths)]
    whole = np.zeros((len(lengths), seq, *packed.shape[1:]), dtype=np.float32)
    true = np.arange(seq)[None, :] < np.array(lengths)[:, None]
    whole[true] = packed[: sum(lengths)]
    return whole


class _Packing(EagerSession):
    """What packed sessions share: padded sets in, padded answers out. `tokens` of a call are static where it is a number."""

    _tokens: int | None = None
    _module: Any

    def __init__(self, module: PackedEncoder, point: Point, device: torch.device) -> None:
        self._kept: dict[int, Inputs] = {}
        self._lengths: tuple[int, ...] = ()
        self._width = point.seq
        super().__init__(module, point, device)  # type: ignore[arg-type]  # it has what a session asks of an encoder

    def bind(self, inputs: Inputs) -> None:
        packed = self._kept.get(inputs.index)
        if packed is None:
            self._check(inputs)
            names, first = self._module.input_names, self._module.first_position
            packed = pack(inputs, names, self._point.batch, self._tokens, first)
            if inputs.index >= 0:
                self._kept[inputs.index] = packed
        self._lengths = inputs.lengths
        self._width = next(iter(inputs.arrays.values())).shape[1]
        super().bind(packed)

    def outputs(self) -> Mapping[str, FloatArray]:
        return {
            name: unpack(array, self._lengths, self._width, per_token=name not in PER_SEQUENCE)
            for name, array in super().outputs().items()
        }

    def facts(self) -> Mapping[str, Any]:
        return {
            **super().facts(),
            "attention_kernel": self._module.kernel,
            "attention_mask": "none: packed",
            "attention_implementation": PACKED,
            "layout": "packed",
            "tokens": sum(self._lengths) if self._tokens is None else self._tokens,
        }

    def close(self) -> None:
        super().close()
        self._kept.clear()

    @property
    def packed(self) -> bool:
        return True

    def _check(self, inputs: Inputs) -> None:
        point, tokens = self._point, sum(inputs.lengths)
        room = point.batch * point.seq if self._tokens is None else self._tokens
        if len(inputs.lengths) > point.batch or max(inputs.lengths) > point.seq or tokens > room:
            raise BackendError(
                f"this session has room for {point.batch} sequences of {point.seq} tokens, {room} together, not for "
                f"{len(inputs.lengths)} of up to {max(inputs.lengths)}, {tokens} together"
            )


class PackedEagerSession(_Packing):
    """Operator by operator, on as many tokens as there are."""


class _StaticPacking(_Packing):
    """With inputs at fixed addresses, for a fixed number of tokens."""

    def __init__(self, module: PackedEncoder, point: Point, device: torch.device) -> None:
        self._tokens = self._room = int(point.option(PACKED_TOKENS) or point.batch * point.seq)
        super().__init__(module, point, device)

    def _buffer(self, name: str) -> torch.Tensor:
        if name == "cumulated":  # until something is bound: sequences of equal length
            each = min(self._point.seq, self._room // self._point.batch)
            return torch.arange(self._point.batch + 1, dtype=torch.int32, device=self._device) * each
        if name == "hidden_states":
            weights = next(self._module.parameters())
            shape = (1, self._room, self._module.hidden_size)
            return torch.zeros(shape, dtype=weights.dtype, device=self._device)
        return torch.zeros((1, self._room), dtype=torch.long, device=self._device)


class PackedCompileSession(_StaticPacking, CompileSession):
    """torch.compile on packed tokens."""


class PackedGraphSession(_StaticPacking, GraphSession):  # pragma: no cover - needs a GPU
    """The eager kernels on packed tokens, captured in a CUDA graph."""


def open_packed(encoder: Encoder, point: Point, device: torch.device) -> EagerSession:
    """The packed session of a torch variant. Raises Unsupported where no attention kernel fits."""
    dtype = next(encoder.parameters()).dtype
    size = int(encoder.config.hidden_size) // int(encoder.config.num_attention_heads)
    module = PackedEncoder(encoder, point.seq, choose_kernel(device.type, dtype, size)).eval()
    kinds = {"eager": PackedEagerSession, "compile": PackedCompileSession, "cudagraph": PackedGraphSession}
    return kinds[point.variant](module, point, device)
