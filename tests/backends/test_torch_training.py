"""Training steps in PyTorch on the CPU: real sessions, their gradients against an fp32 step."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchrun.backends import torch_training
from benchrun.backends.catalogue import resolve_spec
from benchrun.backends.contract import BuildFailed, Inputs, OutOfMemory, Point, Recipe, Unsupported, WrongVariant
from benchrun.backends.models import Model, load_model
from benchrun.backends.torch import TorchBackend
from benchrun.backends.torch_training import CompiledTraining, EagerTraining, LossLog
from benchrun.backends.training_reference import CHUNK_TOKENS, reference_step, trainable_copy
from benchrun.runner.inputs import make_inputs
from benchrun.runner.parity import TRAINING_TOLERANCES, compare, relative_distance
from benchrun.runner.training_checks import with_labels
from benchrun.runner.training_update import judge_update
from tests.backends.build_double import RecordingBuild

CPU = torch.device("cpu")
SEQ = 16
SMALL = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "vocab_size": 200}
MODELS = {head: load_model(resolve_spec("tiny", head, None, SMALL), SEQ) for head in ("qa", "classification")}
ADAMW = Recipe("adamw", 1e-3, 10, 0.01)


def point_of(**changes: Any) -> Point:
    point = Point("tiny", "random:0", "qa", "torch", "eager", "cpu", "fp32", 4, SEQ, "train:adamw", "v1")
    return replace(point, **changes)


def sets_of(model: Model, sequences: int) -> list[Inputs]:
    head = model.spec.head
    return [with_labels(each, head) for each in make_inputs(model.spec.shape, head, sequences, SEQ, seed=0)]


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def build(tmp_path: Path) -> RecordingBuild:
    return RecordingBuild.at(tmp_path)


def open_session(build: RecordingBuild, recipe: Recipe = ADAMW, **changes: Any) -> tuple[EagerTraining, list[Inputs]]:
    point = point_of(**changes)
    model = MODELS[point.head]
    session = TorchBackend().prepare_training(model, point, recipe, build)
    assert isinstance(session, EagerTraining)
    sets = sets_of(model, point.batch * recipe.accumulate)
    session.bind(sets[0])
    return session, sets


def train(session: EagerTraining, sets: list[Inputs], steps: int) -> None:
    for step in range(steps):
        session.bind(sets[step % len(sets)])
        session.enqueue()
    session.synchronize()


@pytest.mark.parametrize("head", ["qa", "classification"])
@pytest.mark.parametrize(
    ("dtype", "arithmetic", "least", "most"),
    [("fp32", "fp32", 0, 1e-5), ("bf16", "bf16", 1e-4, 5e-2), ("fp16-amp", "fp16", 1e-5, 1e-2)],
)
def test_a_step_has_the_gradients_of_fp32_and_the_arithmetic_of_its_dtype(
    build: RecordingBuild, head: str, dtype: str, arithmetic: str, least: float, most: float
) -> None:
    session, sets = open_session(build, head=head, dtype=dtype)
    expected, found = reference_step(MODELS[head], "cpu", sets[0]).first, session.check_step()
    assert found.keys() == expected.keys() == {"loss", "gradient_norms", "gradients"}
    assert compare(found, expected, dtype, TRAINING_TOLERANCES).ok
    assert least <= relative_distance(found, {"gradients": expected["gradients"]}) < most
    train(session, sets, 40)
    losses = session.losses()
    assert losses.shape == (40,) and np.isfinite(losses).all() and losses.dtype == np.float32
    assert session.outputs()["loss"].tolist() == losses[-1:].tolist()
    session.bind(sets[0])
    assert session.check_step()["loss"] < found["loss"]
    facts = session.facts()
    assert facts["compute_dtypes"]["matmul"] == arithmetic and facts["compute_dtypes"]["layernorm"] == "fp32"
    assert facts["weights_dtype"] == "fp32" and facts["autocast"] == (arithmetic if arithmetic != "fp32" else "off")
    skips = facts["skipped_steps"]  # the scale starts high: it may overflow once or twice
    assert facts["steps"] == 40 and skips <= (3 if dtype == "fp16-amp" else 0)
    assert facts.get("loss_scale") == (2.0 ** (16 - skips) if dtype == "fp16-amp" else None)
    assert facts["dropout"] == {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    assert facts["attention"] != "unknown" and facts["activation"] == "gelu" and session.stream is None
    session.close()


def test_weights_of_the_model_stay_as_they_were(build: RecordingBuild) -> None:
    before = {name: tensor.clone() for name, tensor in MODELS["qa"].module.state_dict().items()}
    session, sets = open_session(build)
    train(session, sets, 3)
    after = MODELS["qa"].module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in MODELS["qa"].module.parameters())


def test_the_check_changes_neither_weights_nor_random_numbers_of_a_step(build: RecordingBuild) -> None:
    (checked, sets), (plain, _) = open_session(build), open_session(build)
    torch.manual_seed(5)
    train(plain, sets, 4)
    torch.manual_seed(5)
    checked.check_step()
    checked.bind(sets[1])
    checked.check_step()
    train(checked, sets, 4)
    assert checked.losses().tolist() == plain.losses().tolist()


@pytest.mark.parametrize(("optimizer", "dtype"), [("adamw", "bf16"), ("lamb", "fp32"), ("adamw", "fp16-amp")])
def test_the_checked_update_leaves_no_trace(build: RecordingBuild, optimizer: str, dtype: str) -> None:
    recipe = replace(ADAMW, optimizer=optimizer)
    (checked, sets), (plain, _) = (open_session(build, recipe, dtype=dtype) for _ in range(2))
    before = {name: each.detach().clone() for name, each in checked._module.named_parameters()}
    torch.manual_seed(5)
    train(plain, sets, 4)
    torch.manual_seed(5)
    found = checked.check_update()
    assert found.weights.keys() == before.keys() and found.loss == pytest.approx(float(checked.check_step()["loss"][0]))
    for name, parameter in checked._module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert np.any(found.weights[name] != before[name].numpy()) == (name in found.gradients)
    train(checked, sets, 4)
    assert checked.losses().tolist() == plain.losses().tolist()
    assert all(
        torch.equal(*pair) for pair in zip(checked._module.parameters(), plain._module.parameters(), strict=True)
    )
    told = ("steps", "skipped_steps", "loss_scale")
    assert [checked.facts().get(name) for name in told] == [plain.facts().get(name) for name in told]


@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
def test_a_checked_update_that_overflows_is_made_again(build: RecordingBuild, optimizer: str) -> None:
    recipe = replace(ADAMW, optimizer=optimizer)
    session, sets = open_session(build, recipe, dtype="fp16-amp")
    session._scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    found, right = session.check_update(), reference_step(MODELS["qa"], "cpu", sets[0])
    loss = float(right.first["loss"][0])
    assert judge_update(found, loss, right.gradients, right.weights, recipe, "fp16-amp").problem is None
    assert session._scaler.get_scale() == 2.0**40 and session.losses().size == 0


def test_accumulated_batches_are_one_large_batch(build: RecordingBuild) -> None:
    recipe = replace(ADAMW, dropout=False)
    (whole, sets), (parts, same) = (
        open_session(build, recipe),
        open_session(build, replace(recipe, accumulate=2), batch=2),
    )
    assert [each.arrays["input_ids"].shape for each in same] == [(4, SEQ)] * len(same)
    one, two = whole.check_step(), parts.check_step()
    assert all(np.allclose(one[name], two[name], rtol=1e-5, atol=1e-7) for name in one)
    train(whole, sets, 6)
    train(parts, same, 6)
    assert np.allclose(whole.losses(), parts.losses(), rtol=1e-5)
    assert whole.facts()["dropout"] == "off"


def test_dropout_is_on_unless_told_otherwise(build: RecordingBuild) -> None:
    still = replace(ADAMW, learning_rate=0.0, weight_decay=0.0)
    for recipe, differing in ((still, 6), (replace(still, dropout=False), 1)):
        session, sets = open_session(build, recipe)
        train(session, sets[:1], 6)
        assert len(set(session.losses().tolist())) == differing


def test_the_learning_rate_warms_up(build: RecordingBuild) -> None:
    assert [round(ADAMW.rate(step), 6) for step in (0, 4, 9, 10, 99)] == [1e-4, 5e-4, 1e-3, 1e-3, 1e-3]
    session, sets = open_session(build)
    rates = []
    for each in sets[:3]:
        session.bind(each)
        session.enqueue()
        rates.append(round(session._optimizer.param_groups[0]["lr"], 6))
    assert rates == [1e-4, 2e-4, 3e-4]


@pytest.mark.parametrize("dtype", ["fp32", "fp16-amp"])
def test_gradients_are_clipped_to_their_norm(build: RecordingBuild, dtype: str) -> None:
    norms = []
    for clip in (None, 1e-3):
        session, sets = open_session(build, replace(ADAMW, clip=clip, dropout=False), dtype=dtype)
        if dtype == "fp16-amp":
            session._scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        train(session, sets, 1)
        moments = [state["exp_avg"] for state in session._optimizer.state.values()]  # (1 − β₁) × the gradient
        norms.append(float(torch.cat([each.flatten() for each in moments]).norm()) / 0.1)
    assert norms[0] > 1e-2 and norms[1] == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
def test_steps_that_overflow_are_skipped_and_counted(build: RecordingBuild, optimizer: str) -> None:
    session, sets = open_session(build, replace(ADAMW, optimizer=optimizer), dtype="fp16-amp")
    session._scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    before = [parameter.detach().clone() for parameter in session._module.parameters()]
    train(session, sets, 2)
    assert session.facts()["skipped_steps"] == 2 and session.facts()["loss_scale"] == 2.0**58
    assert all(torch.equal(*pair) for pair in zip(before, session._module.parameters(), strict=True))


def test_the_check_scales_as_far_as_fp16_bears(build: RecordingBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_training, "LARGEST_SCALE", 2.0**40)
    session, sets = open_session(build, dtype="fp16-amp")
    assert compare(
        session.check_step(), reference_step(MODELS["qa"], "cpu", sets[0]).first, "fp16-amp", TRAINING_TOLERANCES
    ).ok


def test_lamb_trains(build: RecordingBuild) -> None:
    session, sets = open_session(build, replace(ADAMW, optimizer="lamb", learning_rate=1e-2), dtype="bf16")
    before = session.check_step()["loss"]
    train(session, sets, 30)
    session.bind(sets[0])
    assert session.check_step()["loss"] < before
    assert session.facts()["optimizer"].startswith("pytorch_optimizer.Lamb ") and session.facts()["skipped_steps"] == 0


def test_what_cannot_be_trained_says_so(build: RecordingBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        Unsupported, match=r"^torch:cudagraph makes no training steps: use torch:eager or torch:compile$"
    ):
        open_session(build, variant="cudagraph")
    with pytest.raises(Unsupported, match=r"^a training step is not captured"):
        open_session(build, variant="compile", options=(("compile_mode", "captured"),))
    with pytest.raises(Unsupported, match=r"^torch has no optimizer sgd: choose adamw or lamb$"):
        open_session(build, replace(ADAMW, optimizer="sgd"))
    monkeypatch.setitem(sys.modules, "pytorch_optimizer.optimizer.lamb", None)
    with pytest.raises(
        Unsupported, match=r"LAMB needs pytorch-optimizer, .* pip install 'benchrun-inference\[train\]'$"
    ):
        open_session(build, replace(ADAMW, optimizer="lamb"))


def test_a_set_that_comes_once_is_not_kept(build: RecordingBuild) -> None:
    session, sets = open_session(build)
    session.bind(replace(sets[1], index=-1))
    assert list(session._sets) == [0]
    other = session.check_step()["loss"]
    session.bind(sets[1])
    assert session.check_step()["loss"] == other and list(session._sets) == [0, 1]


def test_eager_attention_is_trained_too(build: RecordingBuild) -> None:
    session, sets = open_session(build, options=(("attention", "eager"),))
    assert compare(
        session.check_step(), reference_step(MODELS["qa"], "cpu", sets[0]).first, "fp32", TRAINING_TOLERANCES
    ).ok
    assert session.facts()["attention"] == "_softmax" and session.facts()["attention_implementation"] == "eager"


def test_the_reference_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = sets_of(MODELS["classification"], 5)[0]
    whole = reference_step(MODELS["classification"], "cpu", inputs).first
    monkeypatch.setattr("benchrun.backends.training_reference.CHUNK_TOKENS", 2 * SEQ)
    pieces = reference_step(MODELS["classification"], "cpu", inputs).first
    assert CHUNK_TOKENS > 5 * SEQ and all(
        np.allclose(whole[name], pieces[name], rtol=1e-5, atol=1e-7) for name in whole
    )


def test_the_log_of_losses_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_training, "LOSSES_AT_A_TIME", 3)
    log = LossLog(CPU)
    for number in range(7):
        log.add(torch.tensor(float(number)))
        log.add(torch.tensor(0.5))
        log.next()
    assert log.read().tolist() == [each + 0.5 for each in range(7)]


def test_compiled_steps_are_right_and_prove_that_they_are_compiled(build: RecordingBuild) -> None:
    recipe = replace(ADAMW, dropout=False)
    session, sets = open_session(build, recipe, variant="compile", dtype="bf16", options=(("threads", 1),))
    assert isinstance(session, CompiledTraining) and build.seconds["compile"] > 0
    before = session.check_step()
    assert compare(before, reference_step(MODELS["qa"], "cpu", sets[0]).first, "bf16", TRAINING_TOLERANCES).ok
    right = reference_step(MODELS["qa"], "cpu", sets[0])
    update = session.check_update()
    assert (
        judge_update(update, float(before["loss"][0]), right.gradients, right.weights, recipe, "bf16").problem is None
    )
    train(session, sets, 20)
    session.bind(sets[0])
    assert session.check_step()["loss"] < before["loss"]
    facts = session.facts()
    assert facts["checked_graph"] == "the one that is timed" and facts["checked_step"] == "the timed call"
    assert (facts["compiled_graphs"], facts["compile_mode"], facts["steps"]) == (1, "default", 20)
    assert facts["compute_dtypes"]["matmul"] == "bf16" and "scaled_dot_product" in facts["attention"]
    session._graph_functions["AddBackward0"] += 1
    with pytest.raises(WrongVariant, match=r"losses came from AddBackward0, CompiledFunctionBackward$"):
        session.facts()
    torch._dynamo.utils.counters["graph_break"]["because"] += 1
    with pytest.raises(WrongVariant, match=r"1 graphs \(1 expected\) and 1 graph breaks"):
        session.facts()
    session.close()


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (RuntimeError("no\nkernel"), BuildFailed, "torch.compile failed: RuntimeError: no"),
        (OutOfMemory("full"), OutOfMemory, "full"),
    ],
)
def test_a_compiler_that_fails(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], said: str
) -> None:
    def fail(*_: object, **__: object) -> object:
        raise error

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    module = trainable_copy(MODELS["qa"], CPU)
    with pytest.raises(kind, match=said):
        CompiledTraining(module, point_of(variant="compile"), ADAMW, CPU)
