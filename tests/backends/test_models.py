from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from benchrun.backends.catalogue import HEADS, ModelError, ModelShape, named_spec, resolve_spec
from benchrun.backends.models import INIT_STD, Model, copy_module, load_model
from tests.backends.minilm import MINILM
from tests.backends.pruned import narrow, prune

SEQ = 16


def inputs_of(model: Model, batch: int = 2, seq: int = SEQ) -> tuple[torch.Tensor, ...]:
    shape: ModelShape = model.spec.shape
    generator = torch.Generator().manual_seed(0)
    given = {
        "input_ids": torch.randint(3, shape.vocab_size, (batch, seq), generator=generator),
        "attention_mask": torch.ones((batch, seq), dtype=torch.int64),
        "token_type_ids": torch.zeros((batch, seq), dtype=torch.int64),
        "hidden_states": torch.randn((batch, seq, shape.hidden_size), generator=generator),
    }
    return tuple(given[name] for name in model.input_names)


def call(model: Model, seq: int = SEQ) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return dict(zip(model.output_names, model.module(*inputs_of(model, seq=seq)), strict=True))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("name", "overrides"), [("tiny", {}), ("roberta-base", {"num_hidden_layers": 1, "vocab_size": 500})]
)
def test_every_head_of_every_family(name: str, overrides: dict[str, int], head: str) -> None:
    model = load_model(named_spec(name, head, **overrides), SEQ)
    hidden = model.spec.shape.hidden_size
    shapes = {
        "layers": {"last_hidden_state": (2, SEQ, hidden)},
        "encoder": {"last_hidden_state": (2, SEQ, hidden)},
        "pooler": {"last_hidden_state": (2, SEQ, hidden), "pooler_output": (2, hidden)},
        "qa": {"start_logits": (2, SEQ), "end_logits": (2, SEQ)},
        "classification": {"logits": (2, 2)},
    }
    found = call(model)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == shapes[head]
    assert all(torch.isfinite(tensor).all() for tensor in found.values())
    assert all(
        p.dtype == torch.float32 and p.device.type == "cpu" and not p.requires_grad for p in model.module.parameters()
    )
    assert not model.module.training and not any(module.training for module in model.module.modules())
    assert model.facts == {}


def test_random_weights_depend_on_the_seed_and_nothing_else() -> None:
    first, again, other = (load_model(resolve_spec("tiny", seed=seed), SEQ) for seed in (0, 0, 1))
    assert first.weights_hash == again.weights_hash != other.weights_hash
    # a change here makes figures of different versions incomparable
    assert first.weights_hash.startswith("57ddda06e14731b3")


def test_heads_share_the_encoders_weights() -> None:
    bodies = []
    for head in ("encoder", "pooler", "qa", "classification"):
        state = load_model(named_spec("tiny", head), SEQ).module.inner.base_model.state_dict()
        bodies.append({name: tensor for name, tensor in state.items() if "pooler" not in name})
    for body in bodies[1:]:
        assert body.keys() == bodies[0].keys()
        assert all(torch.equal(tensor, bodies[0][name]) for name, tensor in body.items())


def test_random_weights_are_drawn_so_that_every_one_matters() -> None:
    state = load_model(named_spec("tiny"), SEQ).module.state_dict()
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        centre = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        assert tensor.mean().item() == pytest.approx(centre, abs=4 * INIT_STD / tensor.numel() ** 0.5)
        assert tensor.std().item() == pytest.approx(INIT_STD, rel=0.35)  # biases, too: none is zero
    assert not torch.equal(
        state["inner.encoder.layer.0.attention.self.query.weight"],
        state["inner.encoder.layer.1.attention.self.query.weight"],
    )


@pytest.mark.parametrize("name", ["tiny", "roberta-base"])
def test_longer_sequences_extend_the_position_table_and_say_so(name: str) -> None:
    overrides = {"num_hidden_layers": 1, "vocab_size": 500}
    short, long = (load_model(named_spec(name, **overrides), seq) for seq in (512, 700))
    assert short.facts == {}
    assert long.facts == {"positions": {"table": 512, "extended_to": 700, "by": "repeating rows"}}
    table = long.module.inner.embeddings.position_embeddings.weight
    before = short.module.inner.embeddings.position_embeddings.weight
    offset = before.shape[0] - 512  # RoBERTa counts positions from 2
    assert table.shape[0] == 700 + offset and torch.equal(table[: 512 + offset], before)
    assert torch.equal(table[512 + offset :], before[offset : offset + 188])
    assert call(long, 700)["last_hidden_state"].shape == (2, 700, long.spec.shape.hidden_size)
    # what fits the table is answered as without the extension
    torch.testing.assert_close(call(long, 512)["last_hidden_state"], call(short, 512)["last_hidden_state"])


def test_the_layers_head_needs_no_positions() -> None:
    model = load_model(named_spec("tiny", "layers", num_hidden_layers=1), 4096)
    assert model.facts == {} and model.input_names == ("hidden_states", "attention_mask")


def test_a_mask_of_ones_and_no_mask_are_the_same() -> None:
    model = load_model(named_spec("tiny"), SEQ)
    ids, mask, types = inputs_of(model)
    with torch.inference_mode():
        masked, unmasked = model.module(ids, mask, types)[0], model.module(ids, None, types)[0]
        part = model.module(ids, torch.cat([mask[:, :9], 0 * mask[:, 9:]], dim=1), types)[0]
        short = model.module(ids[:, :9], None, types[:, :9])[0]
    torch.testing.assert_close(masked, unmasked)
    torch.testing.assert_close(part[:, :9], short)
    assert not torch.allclose(part, unmasked)


def test_copies_are_independent() -> None:
    model = load_model(named_spec("tiny"), SEQ)
    before = model.module.state_dict()["inner.embeddings.word_embeddings.weight"].clone()
    half = copy_module(model, torch.device("cpu"), torch.float16)
    assert next(half.parameters()).dtype == torch.float16
    with torch.no_grad():
        next(half.parameters()).zero_()
    assert torch.equal(model.module.state_dict()["inner.embeddings.word_embeddings.weight"], before)


# --- checkpoints ---


def test_a_real_checkpoint_is_what_transformers_loads() -> None:
    model = load_model(resolve_spec(str(MINILM)), SEQ)
    theirs = AutoModel.from_pretrained(MINILM, attn_implementation="sdpa").eval()
    with torch.inference_mode():
        ids, mask, types = inputs_of(model)
        expected = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
    torch.testing.assert_close(call(model)["last_hidden_state"], expected)
    assert model.facts == {}


def test_a_head_that_the_checkpoint_lacks_is_random_and_named() -> None:
    model = load_model(resolve_spec(str(MINILM), "qa"), SEQ)
    assert model.facts == {"random_tensors": ["qa_outputs.bias", "qa_outputs.weight"]}
    encoder = load_model(resolve_spec(str(MINILM)), SEQ)
    body, qa_body = encoder.module.inner.state_dict(), model.module.inner.base_model.state_dict()
    assert all(torch.equal(tensor, qa_body[name]) for name, tensor in body.items())


def test_weights_from_elsewhere_fill_a_named_model(tmp_path: Path) -> None:
    source = load_model(resolve_spec("tiny", seed=3), SEQ)
    file = tmp_path / "model.safetensors"
    save_file(dict(source.module.inner.state_dict()), file)
    for given in (file, tmp_path):
        spec = resolve_spec("tiny", weights=str(given))
        assert load_model(spec, SEQ).weights_hash == source.weights_hash


def test_a_configuration_that_asks_for_remote_code_gets_none(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.mkdir()
    config = AutoConfig.for_model(
        "bert", num_hidden_layers=1, hidden_size=32, num_attention_heads=2, vocab_size=200
    ).to_dict()
    config |= {
        "auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Config"},
        "torch_dtype": "float16",
        "dtype": "float16",
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "evil.py").write_text("raise SystemExit('remote code ran')")
    model = load_model(resolve_spec(str(path)), SEQ)
    assert type(model.module.inner).__name__ == "BertModel" and next(model.module.parameters()).dtype == torch.float32


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "minilm"
    path.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(MINILM / name, path / name)
    return path


def test_a_checkpoint_without_a_tensor_of_the_encoder_is_refused(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    lacking = {name: tensor for name, tensor in tensors.items() if "layer.3.output.dense" not in name}
    assert len(lacking) == len(tensors) - 2
    save_file(lacking, file, metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"the weights lack 2 tensors that minilm@\w+ needs, e.g. .*layer.3.output.dense"
    ):
        load_model(resolve_spec(str(checkpoint)), SEQ)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"intermediate_size": 768}, "have intermediate_size 1536, not 768: only a model with random weights can"),
        ({"hidden_size": 768}, "have hidden_size 384, not 768"),
        ({"vocab_size": 100}, "have vocab_size 30522, not 100"),
        ({"max_position_embeddings": 1024}, "have max_position_embeddings 512, not 1024"),
        ({"num_hidden_layers": 7}, r"have 6 layers, not 7: take at most as many .the first ones are used., or pass"),
        ({"num_attention_heads": 6}, "were made for 12 attention heads, and 6 would compute something else"),
    ],
)
def test_overrides_that_the_weights_do_not_fit_are_refused(
    checkpoint: Path, overrides: dict[str, int], said: str
) -> None:
    with pytest.raises(ModelError, match=rf"the weights of minilm@\w+ {said}"):
        resolve_spec(str(checkpoint), overrides=overrides)
    assert resolve_spec(str(checkpoint), weights="random", overrides=overrides).weights == "random:0"


def test_weights_whose_names_say_nothing_are_refused_by_their_shapes(checkpoint: Path) -> None:
    spec = replace(resolve_spec(str(checkpoint)), overrides=(("intermediate_size", 768),))
    with pytest.raises(ModelError, match=r"tensors of the weights have other shapes than minilm@\w+ wants, e.g. "):
        load_model(spec, SEQ)


def test_fewer_layers_than_the_weights_have_are_the_first_ones(checkpoint: Path) -> None:
    whole = load_model(resolve_spec(str(checkpoint)), SEQ)
    short = load_model(resolve_spec(str(checkpoint), overrides={"num_hidden_layers": 5}), SEQ)
    assert short.facts == {"layers": "the first 5 of the 6 that the weights have"} and whole.facts == {}
    with torch.inference_mode():
        given = dict(zip(("input_ids", "attention_mask", "token_type_ids"), inputs_of(whole), strict=True))
        fifth = whole.module.inner(**given, output_hidden_states=True).hidden_states[5]
    torch.testing.assert_close(call(short)["last_hidden_state"], fifth)


def test_another_activation_of_a_checkpoint_is_another_answer(checkpoint: Path) -> None:
    erf = call(load_model(resolve_spec(str(checkpoint)), SEQ))["last_hidden_state"]
    tanh = call(load_model(resolve_spec(str(checkpoint), overrides={"hidden_act": "fast_gelu"}), SEQ))
    error = ((tanh["last_hidden_state"] - erf).norm() / erf.norm()).item()
    assert 1e-6 < error < 1e-2


@pytest.mark.parametrize("damage", [b"", b"\0" * 100])
def test_a_damaged_checkpoint_is_refused(checkpoint: Path, damage: bytes) -> None:
    (checkpoint / "model.safetensors").write_bytes(damage)
    spec = resolve_spec(str(checkpoint))
    with pytest.raises(ModelError, match=r"the weights of minilm@\w+ cannot be read"):
        load_model(spec, SEQ)
    file = resolve_spec("tiny", weights=str(checkpoint / "model.safetensors"))
    with pytest.raises(ModelError, match="the weights of tiny cannot be read"):
        load_model(file, SEQ)


# --- structurally pruned checkpoints ---

CUT = {0: (0, 5, 11), 2: (3,), 5: tuple(range(1, 12))}


def test_a_checkpoint_without_some_heads_answers_like_the_whole_one_with_those_heads_silent(tmp_path: Path) -> None:
    folder = prune(tmp_path / "pruned", CUT)
    spec = resolve_spec(str(folder))
    pruned = load_model(spec, SEQ)
    silent = load_model(resolve_spec(str(MINILM)), SEQ)
    for index, heads in CUT.items():
        own = silent.module.inner.encoder.layer[index].attention.self
        for head in heads:  # its values are nothing, so that it adds nothing
            own.value.weight[head * 32 : head * 32 + 32] = 0.0
            own.value.bias[head * 32 : head * 32 + 32] = 0.0
    torch.testing.assert_close(call(pruned)["last_hidden_state"], call(silent)["last_hidden_state"])
    assert pruned.facts == {"pruned_heads": {"0": [0, 5, 11], "2": [3], "5": list(range(1, 12))}}
    query = pruned.module.inner.encoder.layer[5].attention.self.query
    assert tuple(query.weight.shape) == (32, 384) and query.bias.shape == (32,)
    width = spec.shape.attention_width
    assert width == pytest.approx(384 * (72 - 15) / 72)


def test_every_head_of_a_pruned_model_and_random_weights(tmp_path: Path) -> None:
    folder = prune(tmp_path / "pruned", CUT)
    for head in ("pooler", "qa", "classification", "layers"):
        found = call(load_model(resolve_spec(str(folder), head), SEQ))
        assert all(torch.isfinite(tensor).all() for tensor in found.values())
    file = load_model(resolve_spec(str(folder), weights=str(folder / "model.safetensors")), SEQ)
    assert file.weights_hash == load_model(resolve_spec(str(folder)), SEQ).weights_hash
    random = load_model(resolve_spec(str(folder), weights="random"), SEQ)
    assert random.module.inner.encoder.layer[5].attention.self.key.weight.shape == (32, 384)


def test_fewer_layers_and_narrower_ones_by_folder(tmp_path: Path) -> None:
    """What a distillation or a structured pruning leaves: fewer layers, and a narrower feed-forward in all of them."""
    folder = narrow(tmp_path / "narrow", layers=3, intermediate=512)
    model = load_model(resolve_spec(str(folder)), SEQ)
    shape = model.spec.shape
    assert (shape.layers, shape.intermediate_size, model.facts) == (3, 512, {})
    assert torch.isfinite(call(model)["last_hidden_state"]).all()
    with pytest.raises(ModelError, match="have 3 layers, not 6"):
        resolve_spec(str(folder), overrides={"num_hidden_layers": 6})
