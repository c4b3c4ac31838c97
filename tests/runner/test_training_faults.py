"""Steps that are not what is timed under their name, through the whole measurement: each ends `invalid`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
import torch

from benchrun.backends import torch_training
from benchrun.backends.contract import WrongVariant
from benchrun.backends.torch_training import EagerTraining
from benchrun.runner.bench import Bench
from benchrun.runner.channel import Channel, Progress
from benchrun.runner.messages import Assignment, Task
from benchrun.runner.plan import make_plan
from benchrun.runner.presets import make_request
from benchrun.runner.workloads.train import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchrun.backends.contract import Recipe
    from benchrun.backends.models import Encoder

SMALL = ["num_hidden_layers=1", "hidden_size=32", "intermediate_size=64", "vocab_size=200"]


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def first_batch_only(patch: pytest.MonkeyPatch) -> None:
    """Only the first of the accumulated batches is run."""
    whole = EagerTraining.enqueue

    def enqueue(self: EagerTraining) -> None:
        kept, self._batches = self._batches, self._batches[:1]
        whole(self)
        self._batches = kept

    patch.setattr(EagerTraining, "enqueue", enqueue)


def first_batch_again(patch: pytest.MonkeyPatch) -> None:
    """As many passes as there should be, all of the same batch."""
    whole = EagerTraining.enqueue

    def enqueue(self: EagerTraining) -> None:
        kept, self._batches = self._batches, self._batches[:1] * len(self._batches)
        whole(self)
        self._batches = kept

    patch.setattr(EagerTraining, "enqueue", enqueue)


def plain_descent(patch: pytest.MonkeyPatch) -> None:
    """SGD under AdamW's name."""

    def make(recipe: Recipe, module: Encoder) -> tuple[torch.optim.Optimizer, str]:
        return torch.optim.SGD(list(module.parameters()), lr=recipe.learning_rate), "torch.optim.AdamW, fused"

    patch.setattr(torch_training, "make_optimizer", make)


def head_only(patch: pytest.MonkeyPatch) -> None:
    """An optimizer of the last layer, the others stay as they are; their gradients are thrown away."""

    def make(recipe: Recipe, module: Encoder) -> tuple[torch.optim.Optimizer, str]:
        mine = [each for name, each in module.named_parameters() if "qa_outputs" in name]
        found = torch.optim.AdamW(mine, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
        patch.setattr(found, "zero_grad", lambda **_: module.zero_grad())
        return found, "torch.optim.AdamW, fused"

    patch.setattr(torch_training, "make_optimizer", make)


def permuted(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """The gradient of one weight matrix has its rows in another order: its norm is right."""

    def misdeed(patch: pytest.MonkeyPatch) -> None:
        original = torch_training.make_optimizer

        def make(recipe: Recipe, module: Encoder) -> tuple[torch.optim.Optimizer, str]:
            (parameter,) = (each for whole, each in module.named_parameters() if whole.endswith(name))
            parameter.register_hook(lambda gradient: gradient.roll(1, 0))
            return original(recipe, module)

        patch.setattr(torch_training, "make_optimizer", make)

    return misdeed


FAULTS = {
    "drop": (first_batch_only, "wrong answer: (loss|gradient).* of the timed step|gradient of .* in the timed step"),
    "again": (first_batch_again, "wrong answer: (loss|gradient).* of the timed step|gradient of .* in the timed step"),
    "sgd": (plain_descent, "wrong answer: update of .* in the timed step: relative L2 error .* to adamw's"),
    "head": (head_only, "wrong answer: update of .* in the timed step: relative L2 error 1.00e"),
    "word": (permuted("word_embeddings.weight"), "wrong answer: gradient of .*word_embeddings.weight in the timed"),
    "query": (permuted("self.query.weight"), "wrong answer: gradient of .*query.weight in the timed step"),
    "value": (permuted("self.value.weight"), "wrong answer: gradient of .*value.weight in the timed step"),
    "dense": (permuted("intermediate.dense.weight"), "wrong answer: gradient of .*dense.weight in the timed step"),
}


def run(dtype: str) -> dict[str, Any]:
    request = make_request({
        "model": "tiny", "head": "qa", "backend": "torch", "device": "cpu", "dtype": dtype, "batch": 4, "seq": 16, "override": SMALL,
        "iterations": 3, "warmup": 0, "max-time": 1, "threads": 1, "repeats": 0, "workload": "train:adamw:accumulate=4",
    })  # fmt: skip
    plan = make_plan(request)
    (planned,) = plan.points
    work = Assignment(planned.spec, 16, (Task(planned.point, 0),), request.protocol, settings=request.settings)
    found: dict[str, Any] = {}
    measure(Bench(work), planned.point, Progress(Channel(io.StringIO(), io.StringIO("\n" * 1000)), 0, 0.0), found)
    return found


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16-amp"])
def test_an_honest_step_is_right(dtype: str) -> None:
    found = run(dtype)
    assert found["parity"]["ok"] and found["facts"]["first_update"]["problem"] is None
    assert found["facts"]["checked_step"] == "the timed call with dropout off"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_that_is_another_is_invalid(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    misdeed, said = FAULTS[fault]
    misdeed(monkeypatch)
    with pytest.raises(WrongVariant, match=said):
        run("bf16")  # the widest limits
