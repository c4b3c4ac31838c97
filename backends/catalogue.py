"""Which models can be measured: resolving a name, a folder or a hub id to a `ModelSpec`. Imports no engine.

Weights come from safetensors files only: a pickle checkpoint runs code when it is opened, so it is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchrun.backends.checkpoints import find_tokenizer, read_sizes
from benchrun.backends.contract import HEADS, BackendError, OptionValue
from benchrun.backends.overrides import spell_overrides

BERT: dict[str, Any] = {"model_type": "bert"}  # BertConfig's defaults are bert-base-uncased
ROBERTA: dict[str, Any] = {
    "model_type": "roberta",
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
NAMED: dict[str, dict[str, Any]] = {
    "bert-base": BERT,
    "bert-large": BERT | LARGE,
    "roberta-base": ROBERTA,
    "roberta-large": ROBERTA | LARGE,
    "tiny": BERT
    | {
        "vocab_size": 1024,
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 512,
    },
}
# the shape of a config that says nothing else: BertConfig's own defaults
DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "hidden_act": "gelu",
}
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert")
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class ModelError(BackendError):
    """A model that cannot be used as asked, in one sentence."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What to load. `config` is the model's configuration as plain JSON, `weights_path` a folder or file of safetensors
    (None: seeded random), `weights` the id that goes into the point key. `tokenizer` is the folder of the one that reads text for it (None:
    there is none): beside the config, else beside the weights, unless the user named another."""

    name: str
    head: str
    config: Mapping[str, Any]
    weights: str = "random:0"
    weights_path: str | None = None
    overrides: tuple[tuple[str, OptionValue], ...] = ()
    seed: int = 0
    tokenizer: str | None = None

    @property
    def shape(self) -> ModelShape:
        """Sizes that inputs, FLOPs and tables need."""
        merged = DEFAULTS | dict(self.config) | dict(self.overrides)
        return ModelShape(
            family=str(merged["model_type"]),
            vocab_size=int(merged["vocab_size"]),
            hidden_size=int(merged["hidden_size"]),
            layers=int(merged["num_hidden_layers"]),
            heads=int(merged["num_attention_heads"]),
            intermediate_size=int(merged["intermediate_size"]),
            positions=int(merged["max_position_embeddings"]),
            token_types=int(merged["type_vocab_size"]),
            pad_token_id=int(merged["pad_token_id"] or 0),
            hidden_act=str(merged["hidden_act"]),
            cut_heads=sum(map(len, self.pruned_heads.values())),
        )

    @property
    def pruned_heads(self) -> dict[int, tuple[int, ...]]:
        """Layer → attention heads that were cut out of it, by their numbers in the whole model; for the layers that are used."""
        layers = int((DEFAULTS | dict(self.config) | dict(self.overrides))["num_hidden_layers"])
        found = {
            int(layer): tuple(sorted(set(heads))) for layer, heads in (self.config.get("pruned_heads") or {}).items()
        }
        return {layer: heads for layer, heads in sorted(found.items()) if heads and layer < layers}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a transformer encoder."""

    family: str
    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    positions: int
    token_types: int
    pad_token_id: int
    hidden_act: str
    cut_heads: int = 0  # attention heads that are missing, over all layers

    @property
    def attention_width(self) -> float:
        """Width of queries, keys and values, on average over the layers: the hidden size where no head is missing."""
        return self.hidden_size * (1 - self.cut_heads / (self.layers * self.heads))

    @property
    def feeds_token_types(self) -> bool:
        """RoBERTa has a single token type and is not fed any."""
        return self.family == "bert"

    def input_names(self, head: str) -> tuple[str, ...]:
        """Names of the inputs, in the order in which the model takes them."""
        if head == "layers":
            return ("hidden_states", "attention_mask")
        if self.feeds_token_types:
            return ("input_ids", "attention_mask", "token_type_ids")
        return ("input_ids", "attention_mask")

    @property
    def special_ids(self) -> tuple[int, int] | None:
        """Ids that open and close a sequence, where the family's vocabulary has them."""
        if self.family != "bert":
            return (0, 2)
        return (101, 102) if self.vocab_size > 102 else None


# what the heads with a loss are trained towards, int64: [batch] each
LABEL_NAMES: dict[str, tuple[str, ...]] = {"qa": ("start_positions", "end_positions"), "classification": ("labels",)}
OUTPUT_NAMES: dict[str, tuple[str, ...]] = {
    "layers": ("last_hidden_state",),
    "encoder": ("last_hidden_state",),
    "pooler": ("last_hidden_state", "pooler_output"),
    "qa": ("start_logits", "end_logits"),
    "classification": ("logits",),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model was found: a display name, the config, its folder (None: built in), and the safetensors if there are any."""

    name: str
    config: Mapping[str, Any]
    folder: Path | None = None
    weights_path: Path | None = None
    pickles: tuple[str, ...] = field(default=())


def resolve_spec(
    model: str,
    head: str = "encoder",
    weights: str | None = None,
    overrides: Mapping[str, OptionValue] | None = None,
    seed: int = 0,
) -> ModelSpec:
    """Find `model` (a name of `NAMED`, a folder, a config.json or a hub id) and its weights.

    Raises ModelError: unknown name, folder without config.json, pickle checkpoint, unreachable hub, unusable shape.
    """
    if head not in HEADS:
        raise ModelError(f"unknown head {head!r}: choose one of {', '.join(HEADS)}")
    source = find_source(model)
    family = source.config.get("model_type")
    if family not in FAMILIES:
        raise ModelError(
            f"model {model!r} is of type {family!r}; benchrun measures encoders of type {', '.join(FAMILIES)}"
        )
    weights_path = source.weights_path
    if weights is not None and weights != "random":
        weights_path = find_weights(weights)
    elif weights == "random":
        weights_path = None
    elif source.pickles:
        raise ModelError(
            f"{model}: its weights are pickle files ({source.pickles[0]}), which run code when opened; convert them to "
            "safetensors (save_pretrained of transformers does it), or pass --weights random"
        )
    try:
        pairs = spell_overrides(overrides or {})
    except ValueError as error:
        raise ModelError(str(error)) from None
    tokenizer = find_tokenizer((source.folder, weights_path))
    spec = ModelSpec(
        name=source.name,
        head=head,
        config=source.config,
        weights=weights_id(weights_path) if weights_path else f"random:{seed}",
        weights_path=str(weights_path) if weights_path else None,
        overrides=pairs,
        seed=seed,
        tokenizer=str(tokenizer) if tokenizer else None,
    )
    check_shape(spec)
    if weights_path is not None:
        check_weights(spec, weights_path)
    return spec


def named_spec(name: str, head: str = "encoder", **overrides: OptionValue) -> ModelSpec:
    """A built-in model with seeded random weights."""
    return resolve_spec(name, head, overrides=overrides)


def check_shape(spec: ModelSpec) -> None:
    """Refuse a configuration that no encoder can have."""
    try:
        shape = spec.shape
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the config of {spec.name} has a size that is not a number: {error}") from None
    sizes = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.token_types,
    }
    for name, size in sizes.items():
        if size < 1:
            raise ModelError(f"{spec.name}: {name} is {size}, it must be 1 or more")
    if shape.hidden_size % shape.heads:
        raise ModelError(
            f"{spec.name}: hidden_size {shape.hidden_size} is not a multiple of num_attention_heads {shape.heads}"
        )
    for layer, cut in spec.pruned_heads.items():
        if layer < 0 or min(cut) < 0 or max(cut) >= shape.heads or len(cut) >= shape.heads:
            raise ModelError(
                f"{spec.name}: pruned_heads of layer {layer} are {', '.join(map(str, cut))}: of {shape.heads} heads at least one "
                "has to stay"
            )


def check_weights(spec: ModelSpec, path: Path) -> None:
    """Refuse overrides (or another model's configuration) that the weights do not fit. Fewer layers are fine: the first ones are taken.

    What the files' headers do not tell is left to the loading of the model.
    """
    held, shape = read_sizes(path), spec.shape
    if held is None:
        return
    wanted = dict(spec.config) | dict(spec.overrides)
    if shape.family == "bert":  # the other families have defaults of their own
        wanted = DEFAULTS | wanted
    if shape.layers > held.layers:
        raise ModelError(
            f"the weights of {spec.name} have {held.layers} layers, not {shape.layers}: take at most as many (the first ones "
            "are used), or pass --weights random"
        )
    for name, size in held.sizes.items():
        if int(wanted.get(name, size)) != size:
            raise ModelError(
                f"the weights of {spec.name} have {name} {size}, not {wanted[name]}: only a model with random weights can have "
                "other sizes (--weights random)"
            )
    made = int(spec.config.get("num_attention_heads", DEFAULTS["num_attention_heads"]))
    if shape.heads != made:
        raise ModelError(
            f"the weights of {spec.name} were made for {made} attention heads, and {shape.heads} would compute something else: "
            "only a model with random weights can have another number (--weights random)"
        )


def find_source(model: str) -> Source:
    """A named model, a folder, a config file, or (with a network) a hub id."""
    if model in NAMED:
        return Source(model, NAMED[model])
    path = Path(model).expanduser()
    if path.is_dir():
        return _folder(path, model)
    if path.is_file():
        if path.suffix != ".json":
            raise ModelError(
                f"{model} is a file but not a config.json: pass a folder, a config.json, or one of {_names()}"
            )
        config = _read_config(path)
        return Source(_local_name(path.parent.name or "config", config), config, path.resolve().parent)
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        folder = _download(model)
        found = _folder(folder, model)
        return replace(found, name=model)
    raise ModelError(
        f"unknown model {model!r}: choose {_names()}, a folder with a config.json, or a hub id like org/name"
    )


def find_weights(text: str) -> Path:
    """A safetensors file, a folder that has some, or (with a network) a hub id."""
    path = Path(text).expanduser()
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ModelError(
                f"{text} is not a safetensors file: only safetensors are read, since pickles run code when opened"
            )
        return path.resolve()
    if not path.is_dir():
        if text.count("/") == 1 and not text.startswith((".", "/", "~")):
            path = _download(text)
        else:
            raise ModelError(f"no weights at {text!r}: pass a folder or file of safetensors, or a hub id like org/name")
    if not list(path.glob("*.safetensors")):
        raise ModelError(
            f"{text} has no safetensors file: only safetensors are read, since pickles run code when opened"
        )
    return path.resolve()


def weights_id(path: Path) -> str:
    """`sha256:` and 16 digits of the hash over the names and bytes of the safetensors at `path`."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:16]}"


def _folder(path: Path, shown: str) -> Source:
    config_file = path / "config.json"
    if not config_file.is_file():
        raise ModelError(f"{shown} has no config.json: pass a checkpoint folder as transformers saves it")
    config = _read_config(config_file)
    tensors = list(path.glob("*.safetensors"))
    pickles = () if tensors else tuple(sorted(f.name for pattern in PICKLES for f in path.glob(pattern)))
    whole = path.resolve()
    return Source(_local_name(whole.name, config), config, whole, whole if tensors else None, pickles)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} in {path.parent.name} cannot be read as JSON: {error}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path.name} in {path.parent.name} is not a JSON object")
    return config


def _local_name(folder: str, config: Mapping[str, Any]) -> str:
    """A name without its path (paths are private), told apart by the config's content."""
    content = json.dumps({k: v for k, v in config.items() if k != "_name_or_path"}, sort_keys=True)
    return f"{folder}@{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        folder = snapshot_download(
            hub_id,
            allow_patterns=[
                "config.json",
                "*.safetensors",
                "*.safetensors.index.json",
                "tokenizer*",
                "vocab*",
                "merges.txt",
            ],
        )
    except RepositoryNotFoundError:
        raise ModelError(
            f"the hub has no public model {hub_id!r}: check the name, or log in if it is private"
        ) from None
    except HFValidationError:
        raise ModelError(f"{hub_id!r} is no hub id: it looks like org/name") from None
    except Exception as error:  # the hub client raises a family of network errors that changes between versions
        raise ModelError(
            f"cannot reach the hub for {hub_id!r} ({type(error).__name__}): use {_names()} or a local folder, or check the network"
        ) from error
    return Path(folder)


def _names() -> str:
    return ", ".join(NAMED)
