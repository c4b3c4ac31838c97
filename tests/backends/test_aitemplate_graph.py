"""The AITemplate encoder without AITemplate: its graph, built on operators that compute, against the module."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchrun.backends.aitemplate_bert import (
    EncoderPlan,
    build_graph,
    graph_inputs,
    pack_weights,
    plan_encoder,
    position_ids,
)
from benchrun.backends.contract import BuildFailed, OptionValue, Point, Unsupported
from benchrun.backends.models import Model, ModelSpec, load_model, named_spec
from tests.backends.aitemplate_operators import OPS

BATCH, SEQ = 3, 7
DTYPES = {"float16": torch.float32, "int64": torch.int64, "int32": torch.int32}  # computed in fp32 to compare closely


def point(head: str = "layers", device: str = "cuda:0", dtype: str = "fp16", **options: OptionValue) -> Point:
    workload = str(options.pop("workload", "padded"))
    variant = str(options.pop("variant", device.partition(":")[0]))
    return Point(
        "tiny",
        "random:0",
        head,
        "ait",
        variant,
        device,
        dtype,
        BATCH,
        SEQ,
        workload,
        "p",
        options=tuple(options.items()),
    )


def spec(head: str, **config: Any) -> ModelSpec:
    named = named_spec("tiny", head)
    return replace(named, config=dict(named.config) | config)


def arrays(model: Model) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    if model.input_names[0] == "hidden_states":
        return {"hidden_states": torch.randn(BATCH, SEQ, model.config.hidden_size, generator=generator)}
    ids = torch.randint(0, 12, (BATCH, SEQ), generator=generator)  # few ids, so that RoBERTa's padding id occurs
    found = {"input_ids": ids}
    if "token_type_ids" in model.input_names:
        found["token_type_ids"] = torch.randint(0, 2, (BATCH, SEQ), generator=generator)
    return found


def run_graph(model: Model, plan: EncoderPlan, given: dict[str, torch.Tensor]) -> torch.Tensor:
    named = pack_weights(model.module.state_dict(), plan)
    named |= graph_inputs(given, plan, model.config.model_type, model.config.pad_token_id)

    def tensor(shape: list[int], dtype: str, name: str, is_input: bool) -> torch.Tensor:
        assert list(named[name].shape) == shape and named[name].dtype == DTYPES[dtype]
        assert is_input == (name in plan.inputs())
        return named[name]

    found = build_graph(OPS, tensor, plan)
    assert isinstance(found, torch.Tensor)
    return found.reshape(BATCH, SEQ, plan.hidden)


def reference(model: Model, given: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        mask = torch.ones(BATCH, SEQ, dtype=torch.long)
        found: torch.Tensor = model.module(*(given.get(name, mask) for name in model.input_names))[0]
    return found


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("head", ["layers", "encoder"])
@pytest.mark.parametrize("attention", ["flash", "mem_eff"])
def test_graph_computes_what_bert_does(head: str, attention: str) -> None:
    model = load_model(spec(head), SEQ)
    given = arrays(model)
    plan = plan_encoder(model.config, point(head, attention=attention))
    assert plan.attention == attention and plan.activation == "gelu"
    assert distance(run_graph(model, plan, given), reference(model, given)) < 1e-6


def test_graph_for_rocm_computes_what_bert_does_with_tanh_gelu() -> None:
    model = load_model(spec("layers", hidden_act="gelu_new"), SEQ)
    given = arrays(model)
    plan = plan_encoder(model.config, point(device="rocm:0"))
    assert (plan.attention, plan.activation) == ("ck", "fast_gelu")
    assert distance(run_graph(model, plan, given), reference(model, given)) < 1e-6


def test_fast_gelu_is_another_function_and_only_on_demand() -> None:
    model = load_model(spec("layers"), SEQ)
    given = arrays(model)
    plan = plan_encoder(model.config, point(activation="fast_gelu"))
    assert plan.activation == "fast_gelu"
    assert 1e-6 < distance(run_graph(model, plan, given), reference(model, given)) < 1e-2


def test_graph_counts_positions_as_roberta_does() -> None:
    roberta = spec("encoder", model_type="roberta", type_vocab_size=1, pad_token_id=1, max_position_embeddings=40)
    model = load_model(roberta, SEQ)
    given = arrays(model)
    assert 1 in given["input_ids"]  # a padding id in a full sequence: RoBERTa does not count it
    plan = plan_encoder(model.config, point("encoder"))
    assert distance(run_graph(model, plan, given), reference(model, given)) < 1e-6


def test_positions() -> None:
    ids = torch.tensor([[5, 1, 6]])
    assert position_ids(ids, "bert", 0).tolist() == [[0, 1, 2]]
    assert position_ids(ids, "roberta", 1).tolist() == [[2, 1, 3]]


def test_weights_of_another_model_are_refused() -> None:
    model = load_model(spec("layers"), SEQ)
    plan = plan_encoder(model.config, point())
    with pytest.raises(BuildFailed, match="not a BERT encoder"):
        pack_weights({"classifier.weight": torch.zeros(2, 2)}, plan)
    with pytest.raises(
        BuildFailed, match=r"layer_0_up_weight has shape \(512, 128\), but the graph wants \(1024, 128\)"
    ):
        pack_weights(model.module.state_dict(), replace(plan, intermediate=1024))


def test_every_constant_is_packed_in_its_shape() -> None:
    model = load_model(spec("encoder"), SEQ)
    plan = plan_encoder(model.config, point("encoder"))
    packed = pack_weights(model.module.state_dict(), plan)
    assert {name: tuple(tensor.shape) for name, tensor in packed.items()} == {
        name: shape for name, (shape, _) in plan.constants().items()
    }


@pytest.mark.parametrize(
    ("asked", "config", "reason"),
    [
        (point(device="cpu"), {}, "NVIDIA and AMD GPUs only, not for cpu"),
        (point(device="rocm:0", variant="cuda"), {}, "use ait:rocm"),
        (point(dtype="bf16"), {}, "no bf16"),
        (point("qa"), {}, "without head 'qa'"),
        (point(workload="lengths:uniform"), {}, "no attention mask"),
        (point(), {"model_type": "gpt2"}, "not for gpt2"),
        (point(), {"hidden_size": 132}, "multiples of 8"),
        (point(), {"position_embedding_type": "relative_key"}, "absolute positions only"),
        (point(), {"hidden_act": "relu"}, "not the activation 'relu'"),
        (point(device="rocm:0"), {}, "no fused erf gelu"),
        (point(device="rocm:0", activation="fast_gelu", attention="flash"), {}, "composable kernel's attention only"),
        (point(attention="flash"), {"num_attention_heads": 4, "hidden_size": 96}, "not of 24"),
    ],
)
def test_points_it_cannot_do_are_unsupported(asked: Point, config: dict[str, Any], reason: str) -> None:
    found = SimpleNamespace(
        **{
            "model_type": "bert",
            "hidden_size": 128,
            "num_attention_heads": 2,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "layer_norm_eps": 1e-12,
            "hidden_act": "gelu",
        }
        | config
    )
    with pytest.raises(Unsupported, match=reason):
        plan_encoder(found, asked)


def test_heads_that_flash_attention_lacks_take_the_other_kernel() -> None:
    model = load_model(spec("layers", hidden_size=96, num_attention_heads=4), SEQ)
    assert plan_encoder(model.config, point()).attention == "mem_eff"
