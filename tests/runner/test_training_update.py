"""What decides whether a timed step updates the weights as its recipe says."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from benchrun.backends.contract import Recipe, Update
from benchrun.runner.training_update import UpdateVerdict, clip, first_update, judge_update

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray

RECIPE = Recipe("adamw", 1e-3, 10, 0.01)
RANDOM = np.random.default_rng(0)


def normal(*shape: int, size: float = 1.0) -> FloatArray:
    return (size * RANDOM.standard_normal(shape)).astype(np.float32)


WEIGHTS = {"matrix": normal(8, 6, size=0.02), "norm": np.ones(50, np.float32), "little": normal(9), "unused": normal(3)}
GRADIENTS = {"matrix": normal(8, 6), "norm": normal(50), "little": normal(9, size=1e-9)}


def honest(recipe: Recipe = RECIPE, /, **gradients: FloatArray) -> Update:
    given = dict(clip(GRADIENTS | gradients, recipe.clip))
    after = {
        name: each + first_update(recipe, each, given[name]) if name in given else each
        for name, each in WEIGHTS.items()
    }
    return Update(2.0, given, after)


def judge(found: Update, recipe: Recipe = RECIPE, dtype: str = "fp32") -> UpdateVerdict:
    return judge_update(found, 2.0, GRADIENTS, WEIGHTS, recipe, dtype)


@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
@pytest.mark.parametrize("size", [1e-9, 1e-4, 10.0])
def test_the_formulas_are_those_of_the_libraries(optimizer: str, size: float) -> None:
    recipe = replace(RECIPE, optimizer=optimizer)
    weight, gradient = normal(40, 50), normal(40, 50, size=size)
    parameter = torch.nn.Parameter(torch.from_numpy(weight.copy()))
    parameter.grad = torch.from_numpy(gradient.copy())
    settings: dict[str, Any] = {"lr": recipe.rate(0), "weight_decay": recipe.weight_decay}
    if optimizer == "lamb":
        from pytorch_optimizer.optimizer.lamb import Lamb

        Lamb([parameter], **settings).step()
    else:
        torch.optim.AdamW([parameter], fused=False, foreach=False, **settings).step()
    update = parameter.detach().numpy() - weight
    assert np.linalg.norm(update) > 0
    assert np.abs(update - first_update(recipe, weight, gradient)).max() <= 2.0**-21


def test_an_optimizer_without_a_formula() -> None:
    with pytest.raises(ValueError, match=r"^no formula for the optimizer sgd$"):
        first_update(replace(RECIPE, optimizer="sgd"), WEIGHTS["norm"], GRADIENTS["norm"])


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, clip=0.1), replace(RECIPE, optimizer="lamb")])
def test_an_honest_step(recipe: Recipe) -> None:
    verdict = judge(honest(recipe), recipe)
    assert verdict.problem is None and verdict.gradient_error == 0 and verdict.loss == 2.0
    assert verdict.worst_gradient[1] == 0 and verdict.worst_update[1] == 0
    noise = {name: each + normal(*each.shape, size=0.02) for name, each in GRADIENTS.items() if name != "little"}
    assert judge(honest(recipe, **noise), recipe, "bf16").problem is None
    assert "relative L2 error" in str(judge(honest(recipe, **noise), recipe, "fp32").problem)


def test_rounding_noise_is_no_gradient() -> None:
    assert judge(honest(little=normal(9, size=1e-6)), dtype="bf16").problem is None


def changed(found: Update, **weights: FloatArray) -> Update:
    return replace(found, weights={**found.weights, **weights})


FAULTS: dict[str, tuple[Update, str]] = {
    "permuted": (honest(matrix=GRADIENTS["matrix"][::-1].copy()), "gradient of matrix in the timed step: relative L2"),
    "missing": (replace(honest(), gradients={"norm": GRADIENTS["norm"]}), "gradient of matrix in the timed step"),
    "too many": (honest(unused=normal(3)), "gradients of the timed step: relative L2 error"),
    "nan": (honest(norm=np.full(50, np.nan, np.float32)), r"gradient of norm in the timed step: not \(50,\) finite"),
    "shape": (replace(honest(), gradients={"norm": normal(3)}), r"not \(50,\) finite numbers"),
    "gain": (honest(RECIPE, **{name: 1.04 * each for name, each in GRADIENTS.items()}), "gain 1.0400 is off 1"),
    "loss": (replace(honest(), loss=2.2), "loss of the timed step: 2.2, not 2"),
    "loss nan": (replace(honest(), loss=float("nan")), "loss of the timed step: nan"),
    "no optimizer": (replace(honest(), gradients={}), "the timed step called no optimizer"),
    "no update": (replace(honest(), weights=WEIGHTS), "update of .* relative L2 error 1.00e\\+00 to adamw's"),
    "sgd": (
        changed(honest(), matrix=WEIGHTS["matrix"] - np.float32(1e-4) * GRADIENTS["matrix"]),
        "update of matrix in the timed step",
    ),
    "other optimizer": (honest(replace(RECIPE, optimizer="lamb")), "in the timed step: .* to adamw's"),
    "rate": (honest(replace(RECIPE, learning_rate=1.05e-3)), "update of .* in the timed step"),
    "unused moves": (changed(honest(), unused=WEIGHTS["unused"] + 1), "update of unused in the timed step"),
    "weights nan": (changed(honest(), norm=np.full(50, np.nan, np.float32)), "update of norm in the timed step"),
    "weights shape": (changed(honest(), norm=normal(3)), r"left no weights norm of shape \(50,\)"),
    "weights missing": (replace(honest(), weights={}), "left other parameters than the model has"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_told(fault: str) -> None:
    found, said = FAULTS[fault]
    problem = judge(found, dtype="bf16").problem
    assert problem is not None and re.search(said, problem), problem


def test_a_reference_without_gradients() -> None:
    zeros = {name: np.zeros_like(each) for name, each in GRADIENTS.items()}
    still = replace(RECIPE, weight_decay=0.0)
    found = Update(2.0, zeros, WEIGHTS)
    assert judge_update(found, 2.0, zeros, WEIGHTS, still, "fp32").problem is None
    wrong = replace(found, gradients=GRADIENTS)
    assert "gradients" in str(judge_update(wrong, 2.0, zeros, WEIGHTS, still, "fp32").problem)
