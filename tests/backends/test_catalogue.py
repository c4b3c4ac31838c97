from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from benchrun.backends import catalogue
from benchrun.backends.catalogue import HEADS, NAMED, OUTPUT_NAMES, ModelError, ModelSpec, named_spec, resolve_spec
from tests.backends.minilm import MINILM

CONFIG = {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 4}


def folder(path: Path, config: dict[str, Any] | None = None, *files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    for name in files:
        (path / name).write_bytes(name.encode())
    return path


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("bert-base", (30522, 768, 12, 12, 3072, 512, 2, 0)),
        ("bert-large", (30522, 1024, 24, 16, 4096, 512, 2, 0)),
        ("roberta-base", (50265, 768, 12, 12, 3072, 514, 1, 1)),
        ("roberta-large", (50265, 1024, 24, 16, 4096, 514, 1, 1)),
        ("tiny", (1024, 128, 2, 2, 512, 512, 2, 0)),
    ],
)
def test_named_models_have_the_published_sizes(name: str, sizes: tuple[int, ...]) -> None:
    shape = named_spec(name).shape
    assert sizes == (
        shape.vocab_size, shape.hidden_size, shape.layers, shape.heads, shape.intermediate_size, shape.positions, shape.token_types,
        shape.pad_token_id,
    )  # fmt: skip
    assert shape.hidden_act == "gelu"


@pytest.mark.parametrize("name", NAMED)
def test_the_table_of_names_agrees_with_transformers(name: str) -> None:
    from transformers import AutoConfig

    shape = named_spec(name).shape
    config = AutoConfig.for_model(**NAMED[name])
    assert (shape.vocab_size, shape.hidden_size, shape.positions) == (
        config.vocab_size,
        config.hidden_size,
        config.max_position_embeddings,
    )
    assert (shape.layers, shape.heads, shape.intermediate_size) == (
        config.num_hidden_layers, config.num_attention_heads, config.intermediate_size,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "head", "inputs"),
    [
        ("bert-base", "encoder", ("input_ids", "attention_mask", "token_type_ids")),
        ("roberta-base", "qa", ("input_ids", "attention_mask")),
        ("roberta-base", "layers", ("hidden_states", "attention_mask")),
    ],
)
def test_inputs_of_each_family(name: str, head: str, inputs: tuple[str, ...]) -> None:
    assert named_spec(name).shape.input_names(head) == inputs


def test_special_ids_open_and_close_a_sequence_where_there_are_any() -> None:
    assert named_spec("bert-base").shape.special_ids == (101, 102)
    assert named_spec("tiny").shape.special_ids == (101, 102)
    assert named_spec("roberta-base").shape.special_ids == (0, 2)
    assert named_spec("tiny", vocab_size=102).shape.special_ids is None
    assert set(OUTPUT_NAMES) == set(HEADS)


def test_overrides_are_part_of_the_spec_in_order() -> None:
    spec = resolve_spec("tiny", overrides={"num_hidden_layers": 1, "hidden_act": "relu"})
    assert spec.overrides == (("hidden_act", "relu"), ("num_hidden_layers", 1))
    assert spec.shape.layers == 1 and spec.shape.hidden_act == "relu"


def test_an_activation_has_one_spelling() -> None:
    fast, tanh = (resolve_spec("tiny", overrides={"hidden_act": name}) for name in ("fast_gelu", "gelu_pytorch_tanh"))
    assert fast == tanh and fast.shape.hidden_act == "gelu_pytorch_tanh"


@pytest.mark.parametrize(
    ("pruned", "said"),
    [
        ({"0": [0, 1, 2, 3]}, "pruned_heads of layer 0 are 0, 1, 2, 3: of 4 heads at least one has to stay"),
        ({"1": [4]}, "pruned_heads of layer 1 are 4"),
        ({"-1": [0]}, "pruned_heads of layer -1"),
        ({"first": [0]}, "has a size that is not a number"),
        ([1], "has a size that is not a number"),
    ],
)
def test_heads_that_cannot_be_missing(tmp_path: Path, pruned: Any, said: str) -> None:
    config = CONFIG | {"num_attention_heads": 4, "num_hidden_layers": 2, "pruned_heads": pruned}
    with pytest.raises(ModelError, match=said):
        resolve_spec(str(folder(tmp_path / "m", config)))


def test_missing_heads_of_layers_that_are_used_count(tmp_path: Path) -> None:
    config = CONFIG | {
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "pruned_heads": {"0": [1, 1], "2": [0, 3], "1": []},
    }
    path = str(folder(tmp_path / "m", config))
    assert resolve_spec(path).pruned_heads == {0: (1,), 2: (0, 3)}
    assert resolve_spec(path).shape.attention_width == pytest.approx(64 * 9 / 12)
    assert resolve_spec(path, overrides={"num_hidden_layers": 2}).shape.cut_heads == 1


def test_random_weights_are_named_by_their_seed() -> None:
    assert resolve_spec("tiny").weights == "random:0" and resolve_spec("tiny", seed=5).weights == "random:5"


def test_a_folder_is_named_by_its_content_and_not_by_its_path(tmp_path: Path) -> None:
    one = resolve_spec(str(folder(tmp_path / "a" / "mine", CONFIG)))
    same = resolve_spec(str(folder(tmp_path / "b" / "mine", CONFIG | {"_name_or_path": "/home/somebody/mine"})))
    other = resolve_spec(str(folder(tmp_path / "c" / "mine", CONFIG | {"num_hidden_layers": 2})))
    assert one.name == same.name != other.name and one.name.startswith("mine@") and "/" not in one.name
    assert one.weights == "random:0" and one.shape.hidden_size == 64
    file = resolve_spec(str(tmp_path / "a" / "mine" / "config.json"))
    assert file.name == one.name and file.weights == "random:0"


def test_weights_are_named_by_their_content(tmp_path: Path) -> None:
    one = resolve_spec(str(folder(tmp_path / "a", CONFIG, "model.safetensors")))
    moved = resolve_spec(str(folder(tmp_path / "b", CONFIG, "model.safetensors")))
    assert one.weights == moved.weights and one.weights.startswith("sha256:") and len(one.weights) == 7 + 16
    assert one.weights_path == str(tmp_path / "a")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"other")
    assert resolve_spec(str(tmp_path / "b")).weights != one.weights
    elsewhere = resolve_spec("tiny", weights=str(tmp_path / "a" / "model.safetensors"))
    assert elsewhere.weights == one.weights and elsewhere.name == "tiny"
    assert resolve_spec("tiny", weights=str(tmp_path / "a")).weights == one.weights
    assert resolve_spec(str(tmp_path / "a"), weights="random").weights_path is None


def test_a_real_checkpoint_is_found() -> None:
    spec = resolve_spec(str(MINILM))
    assert (spec.shape.layers, spec.shape.hidden_size, spec.shape.vocab_size) == (6, 384, 30522)
    assert spec.weights.startswith("sha256:") and spec.weights_path is not None


@pytest.mark.parametrize(
    "pickle", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "weights.pth", "x.ckpt", "x.pkl"]
)
def test_pickles_are_refused_unless_their_weights_are_not_wanted(tmp_path: Path, pickle: str) -> None:
    path = str(folder(tmp_path / "m", CONFIG, pickle))
    with pytest.raises(ModelError, match=f"{pickle}.*run code when opened.*--weights random"):
        resolve_spec(path)
    assert resolve_spec(path, weights="random").weights == "random:0"
    (tmp_path / "m" / "model.safetensors").write_bytes(b"x")
    assert resolve_spec(path).weights_path is not None  # beside safetensors they are not needed


@pytest.mark.parametrize(
    ("model", "weights", "said"),
    [
        ("nosuch", None, "unknown model 'nosuch': choose bert-base, .*, a folder with a config.json, or a hub id"),
        ("./nosuch/model", None, "unknown model './nosuch/model'"),
        ("tiny", "nosuch", "no weights at 'nosuch'"),
        ("tiny", "./no/such", "no weights at './no/such'"),
    ],
)
def test_names_that_lead_nowhere(model: str, weights: str | None, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        resolve_spec(model, weights=weights)


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    with pytest.raises(ModelError, match=r"notes.txt is a file but not a config.json"):
        resolve_spec(str(notes))
    with pytest.raises(ModelError, match=r"notes.txt is not a safetensors file"):
        resolve_spec("tiny", weights=str(notes))
    with pytest.raises(ModelError, match="has no safetensors file"):
        resolve_spec("tiny", weights=str(tmp_path))
    with pytest.raises(ModelError, match=r"has no config.json"):
        resolve_spec(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "config.json in m cannot be read as JSON"),
        ("[1]", "config.json in m is not a JSON object"),
        ('{"model_type": "gpt2"}', "is of type 'gpt2'; benchrun measures encoders of type bert, roberta, xlm-roberta"),
        ("{}", "is of type None"),
        ('{"model_type": "bert", "hidden_size": "wide"}', "a size that is not a number"),
        ('{"model_type": "bert", "vocab_size": null}', "a size that is not a number"),
        ('{"model_type": "bert", "hidden_size": 100}', "hidden_size 100 is not a multiple of num_attention_heads 12"),
    ],
)
def test_configurations_that_no_encoder_can_have(tmp_path: Path, text: str, said: str) -> None:
    path = folder(tmp_path / "m")
    (path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=said):
        resolve_spec(str(path))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"colour": 1}, "cannot override 'colour': choose from .*num_hidden_layers"),
        ({"num_hidden_layers": 0}, "takes a positive whole number, not 0"),
        ({"num_hidden_layers": "many"}, "takes a positive whole number, not 'many'"),
        ({"num_hidden_layers": True}, "takes a positive whole number, not True"),
        ({"pad_token_id": -1}, "takes a whole number from 0 on, not -1"),
        ({"hidden_act": "gelo"}, "takes one of gelu, fast_gelu, .*, not 'gelo'"),
        ({"hidden_act": 3}, "takes one of .*, not 3"),
        ({"hidden_dropout_prob": 1}, "takes a share from 0 to below 1, not 1"),
        ({"attention_probs_dropout_prob": "half"}, "takes a share from 0 to below 1, not 'half'"),
        ({"layer_norm_eps": 0}, "takes a number between 0 and 1, such as 1e-12, not 0"),
        ({"num_labels": 0}, "num_labels takes a positive whole number"),
        ({"num_attention_heads": 3}, "hidden_size 128 is not a multiple of num_attention_heads 3"),
        ({"num_attention_heads": 0}, "takes a positive whole number"),
    ],
)
def test_overrides_that_make_no_model(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        resolve_spec("tiny", overrides=overrides)


@pytest.mark.parametrize("name", ["num_attention_heads", "vocab_size", "max_position_embeddings"])
def test_sizes_of_nothing_in_a_configuration(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} is 0, it must be 1 or more"):
        resolve_spec(str(folder(tmp_path / "m", CONFIG | {name: 0})))


def test_a_head_that_is_none() -> None:
    with pytest.raises(ModelError, match="unknown head 'nosuch': choose one of layers"):
        resolve_spec("tiny", "nosuch")


def test_a_hub_id_is_downloaded_and_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str]]] = []

    def snapshot(hub_id: str, allow_patterns: list[str]) -> str:
        asked.append((hub_id, allow_patterns))
        return str(folder(tmp_path / "snapshot", CONFIG, "model.safetensors"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    spec = resolve_spec("some-org/some-model")
    assert spec.name == "some-org/some-model" and spec.weights.startswith("sha256:")
    assert resolve_spec("tiny", weights="some-org/some-model").weights == spec.weights
    assert asked[0][0] == "some-org/some-model" and not any(
        pattern.endswith((".bin", ".py", ".pt", "*")) for pattern in asked[0][1][:3]
    )
    assert "*.safetensors" in asked[0][1]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            LocalEntryNotFoundError("x"),
            r"cannot reach the hub for 'org/name' \(LocalEntryNotFoundError\): use bert-base",
        ),
        (OSError("no route"), r"cannot reach the hub for 'org/name' \(OSError\)"),
        (HFValidationError("x"), "'org/name' is no hub id"),
        (RepositoryNotFoundError.__new__(RepositoryNotFoundError), "the hub has no public model 'org/name'"),
    ],
)
def test_a_hub_that_does_not_deliver(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(hub_id: str, allow_patterns: list[str]) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(ModelError, match=said):
        resolve_spec("org/name")


def test_a_spec_is_hashable_data_that_pickles_nothing() -> None:
    spec = named_spec("tiny")
    assert isinstance(spec, ModelSpec) and json.loads(json.dumps(dict(spec.config))) == catalogue.NAMED["tiny"]
