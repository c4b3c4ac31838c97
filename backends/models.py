"""Loading a transformer encoder: Hugging Face modules behind one calling convention, in fp32 on the CPU.

Every engine starts from the same `Model`, so that all are measured on the same weights.
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from benchrun.backends.catalogue import OUTPUT_NAMES, ModelError, ModelSpec, named_spec, resolve_spec
from benchrun.backends.checkpoints import read_sizes
from benchrun.backends.pruning import cut_heads, fill_up

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["Encoder", "Model", "ModelError", "ModelSpec", "load_model", "named_spec", "resolve_spec"]

INIT_STD = 0.02


class PassThrough(nn.Module):
    """Stands in for the embeddings of head `layers`: hidden states come in as they are."""

    def forward(self, *, inputs_embeds: torch.Tensor, **_: object) -> torch.Tensor:
        return inputs_embeds


class Encoder(nn.Module):
    """A Hugging Face module with positional inputs (in the order of `input_names`) and a tuple of outputs.

    `attention_mask` may be None where every sequence has full length: then no mask is applied.
    """

    def __init__(self, inner: nn.Module, input_names: tuple[str, ...], output_names: tuple[str, ...]) -> None:
        super().__init__()
        self.inner = inner
        self.input_names = input_names
        self.output_names = output_names

    @property
    def config(self) -> Any:
        """The configuration that the inner module reads when it runs."""
        return self.inner.config

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return int(self.config.hidden_size)

    def forward(self, *inputs: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        named = dict(zip(self.input_names, inputs, strict=True))
        if "hidden_states" in named:
            named["inputs_embeds"] = named.pop("hidden_states")
        found = self.inner(**named)
        return tuple(getattr(found, name) for name in self.output_names)


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model. `module` is fp32, in eval mode, on the CPU: engines copy it before they change it."""

    spec: ModelSpec
    config: PretrainedConfig
    module: Encoder
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return self.module.input_names

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return self.module.output_names

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 over names, shapes and bytes of the tensors that were really loaded."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def load_model(spec: ModelSpec, max_seq: int) -> Model:
    """Load `spec` with position embeddings for at least `max_seq` tokens.

    Raises ModelError where the checkpoint lacks tensors of the encoder or their shapes differ from the config's.
    """
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    settings: dict[str, Any] = dict(spec.config) | dict(spec.overrides)
    settings["attn_implementation"] = "sdpa"
    for stale in (
        "pruned_heads",  # transformers knows none: `pruning` does
        "torch_dtype",
        "dtype",
        "auto_map",
        "_name_or_path",
    ):  # weights are made fp32; remote code is never used
        settings.pop(stale, None)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    if spec.weights_path is None:
        inner = _automatic(spec.head).from_config(config, **_head_options(spec.head))
        _randomise(inner, set(inner.state_dict()), spec.seed)
        random: list[str] = ["all"]
    else:
        inner, missing = _load_checkpoint(spec, config)
        _randomise(inner, missing, spec.seed)
        random = sorted(missing)
    inner = inner.float().eval()
    cut_heads(inner.base_model, spec.pruned_heads, *_head_sizes(spec))
    facts: dict[str, Any] = {}
    if spec.pruned_heads:
        config.pruned_heads = spec.pruned_heads  # for engines that build the layers themselves
        facts["pruned_heads"] = {str(layer): list(cut) for layer, cut in spec.pruned_heads.items()}
    if random != ["all"] and random:
        facts["random_tensors"] = random
    held = read_sizes(Path(spec.weights_path)) if spec.weights_path else None
    if held is not None and held.layers > spec.shape.layers:
        facts["layers"] = f"the first {spec.shape.layers} of the {held.layers} that the weights have"
    if spec.head == "layers":
        inner.embeddings = PassThrough()
    else:
        facts |= _extend_positions(inner, config, max_seq)
    for parameter in inner.parameters():
        parameter.requires_grad_(False)
    encoder = Encoder(inner, spec.shape.input_names(spec.head), OUTPUT_NAMES[spec.head])
    return Model(spec, config, encoder.eval(), facts)


def _automatic(head: str) -> Any:
    from transformers import AutoModel, AutoModelForQuestionAnswering, AutoModelForSequenceClassification

    return {"qa": AutoModelForQuestionAnswering, "classification": AutoModelForSequenceClassification}.get(
        head, AutoModel
    )


def _head_options(head: str) -> dict[str, Any]:
    return {} if head in ("qa", "classification") else {"add_pooling_layer": head == "pooler"}


def _load_checkpoint(spec: ModelSpec, config: PretrainedConfig) -> tuple[Any, set[str]]:
    """The checkpoint's module and the names of its tensors that the files did not have (head tensors only)."""
    from safetensors import SafetensorError

    with warnings.catch_warnings(), _as_folder(spec) as folder:
        warnings.simplefilter("ignore")  # a head that the checkpoint lacks is reported below, by name
        try:
            inner, info = _automatic(spec.head).from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **_head_options(spec.head),
            )
        except (OSError, SafetensorError) as error:
            raise ModelError(f"the weights of {spec.name} cannot be read: {error}") from error
    wrong = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"])
    if wrong:
        raise ModelError(
            f"{len(wrong)} tensors of the weights have other shapes than {spec.name} wants, e.g. {wrong[0]}"
        )
    missing = set(info["missing_keys"])
    body = sorted(
        name for name in missing if not name.startswith(("qa_outputs", "classifier", "pooler", "bert.pooler"))
    )
    if body:
        raise ModelError(f"the weights lack {len(body)} tensors that {spec.name} needs, e.g. {body[0]}")
    return inner, missing


@contextmanager
def _as_folder(spec: ModelSpec) -> Iterator[Path]:
    """A folder that transformers can load from: that of the weights itself, for a single file one with a link to it, for weights without
    some heads one with whole matrices.
    """
    path = Path(spec.weights_path or "")
    if path.is_dir() and not spec.pruned_heads:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="benchrun-weights-") as folder:
        file = Path(folder) / "model.safetensors"
        if spec.pruned_heads:
            fill_up(path, file, spec.pruned_heads, *_head_sizes(spec))
        else:
            file.symlink_to(path)
        yield Path(folder)


def _head_sizes(spec: ModelSpec) -> tuple[int, int]:
    """Attention heads of a whole layer, and the size of one."""
    return spec.shape.heads, spec.shape.hidden_size // spec.shape.heads


def _randomise(module: nn.Module, names: set[str], seed: int) -> None:
    """Fill the named tensors from N(0, 0.02²), layer-norm scales around 1; each from its own seed, so that neither order nor
    library version changes them. Biases are random too: an engine that drops one must not pass the parity check."""
    for name, tensor in module.state_dict().items():
        if name not in names or not tensor.is_floating_point():
            continue
        own = int.from_bytes(hashlib.sha256(f"{seed}:{_plain(name)}".encode()).digest()[:8], "little") % 2**63
        generator = torch.Generator().manual_seed(own)
        tensor.normal_(0.0, INIT_STD, generator=generator)
        if name.endswith("LayerNorm.weight"):
            tensor += 1.0


def _plain(name: str) -> str:
    """The tensor's name without the prefix that head classes put before the encoder's."""
    return name.removeprefix("bert.").removeprefix("roberta.")


def _extend_positions(inner: Any, config: PretrainedConfig, max_seq: int) -> dict[str, Any]:
    """Lengthen the position table to hold `max_seq` tokens by repeating its rows; says so in the facts."""
    base = inner.base_model
    embeddings = base.embeddings
    table: nn.Embedding = embeddings.position_embeddings
    offset = 0 if table.padding_idx is None else table.padding_idx + 1  # RoBERTa counts positions from 2
    rows = table.num_embeddings
    if max_seq + offset <= rows:
        return {}
    usable = rows - offset
    index = torch.arange(max_seq) % usable + offset
    weight = torch.cat([table.weight[:offset], table.weight[index]]).detach().clone()
    longer = nn.Embedding(max_seq + offset, table.embedding_dim, padding_idx=table.padding_idx)
    longer.weight = nn.Parameter(weight, requires_grad=False)
    embeddings.position_embeddings = longer
    embeddings.position_ids = torch.arange(max_seq + offset).unsqueeze(0)
    embeddings.token_type_ids = torch.zeros((1, max_seq + offset), dtype=torch.long)
    config.max_position_embeddings = max_seq + offset
    return {"positions": {"table": usable, "extended_to": max_seq, "by": "repeating rows"}}


def copy_module(model: Model, device: torch.device, dtype: torch.dtype) -> Encoder:
    """An independent copy of the module on a device, in a dtype."""
    return copy.deepcopy(model.module).to(device=device, dtype=dtype)
