"""Whether the timed step does what its recipe says: its loss, the gradients its optimizer was given, what the optimizer made of them.

Adam's first step is about the sign of a gradient, and rounding turns the sign of small ones. So the gradients are compared with fp32's
in the precision of the dtype, and the update with the one that the recipe makes of the step's own gradients. See docs/training.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchrun.runner.parity import TRAINING_TOLERANCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from benchrun.backends.contract import FloatArray, Recipe, Update

    Float64 = npt.NDArray[np.float64]

BETA1, BETA2 = 0.9, 0.999
ADAMW_EPSILON = 1e-8
LAMB_EPSILON = 1e-6
LAMB_LARGEST_NORM = 10.0
CLIP_EPSILON = 1e-6  # torch.nn.utils.clip_grad_norm_ adds it to the norm
# A tensor's share of the norm of all gradients, and how many times the error of all gradients together its own may have. Below
# the last share it is rounding noise: a key's bias has no gradient at all, softmax takes it out.
LEEWAY = ((1e-3, 4.0), (1e-4, 10.0), (1e-5, 16.0))
UPDATE_ERROR = 2e-2
STEP_OF_FP32 = 2.0**-23  # a weight cannot be stored nearer than that, relative to its size


@dataclass(frozen=True, slots=True)
class UpdateVerdict:
    """`problem` is None where nothing is wrong. Errors are relative L2, each with the name of its tensor; the worst is the one that comes
    nearest to its limit."""

    problem: str | None
    loss: float
    gradient_error: float
    worst_gradient: tuple[str, float]
    worst_update: tuple[str, float]


def judge_update(
    found: Update,
    loss: float,
    gradients: Mapping[str, FloatArray],
    weights: Mapping[str, FloatArray],
    recipe: Recipe,
    dtype: str,
) -> UpdateVerdict:
    """Compare a first step with fp32's `loss` and `gradients` (before clipping) at the `weights` it started from."""
    most, _ = _limits(dtype)
    error, gradient_problem, worst_gradient = _judge_gradients(found, clip(gradients, recipe.clip), dtype)
    update_problem, worst_update = _judge_weights(found, weights, recipe)
    problem: str | None = None
    if found.weights.keys() != weights.keys():
        problem = "the timed step left other parameters than the model has"
    elif not math.isfinite(found.loss) or abs(found.loss - loss) > most * abs(loss):
        problem = f"loss of the timed step: {found.loss:.6g}, not {loss:.6g}"
    elif not found.gradients:
        problem = "the timed step called no optimizer"
    return UpdateVerdict(problem or gradient_problem or update_problem, found.loss, error, worst_gradient, worst_update)


def clip(gradients: Mapping[str, FloatArray], norm: float | None) -> Mapping[str, FloatArray]:
    """Gradients scaled down to a global norm, None for none."""
    if norm is None:
        return gradients
    factor = np.float32(min(1.0, norm / (math.sqrt(sum(_square(each) for each in gradients.values())) + CLIP_EPSILON)))
    return {name: each * factor for name, each in gradients.items()}


def first_update(recipe: Recipe, weight: FloatArray, gradient: FloatArray) -> FloatArray:
    """What a parameter gains in the first step, in float64 arithmetic rounded to what fp32 can add to it.

    AdamW: Loshchilov and Hutter, 2019, algorithm 2, whose corrected moments are g and g² in the first step. LAMB: You and others, 2020, as
    pytorch-optimizer has it: moments not corrected, the rate divided by 1 − β₁ instead, the trust ratio of norms with the weight's no
    more than 10. Both decay the weight by rate × decay first.
    """
    rate = recipe.rate(0)
    w, g = weight.astype(np.float64), gradient.astype(np.float64)
    decayed = w * (1 - rate * recipe.weight_decay)
    if recipe.optimizer == "adamw":
        after = decayed - rate * g / (np.abs(g) + ADAMW_EPSILON)
    elif recipe.optimizer == "lamb":
        after = decayed - rate / (1 - BETA1) * _lamb(decayed, g)
    else:
        raise ValueError(f"no formula for the optimizer {recipe.optimizer}")
    stored: FloatArray = after.astype(np.float32) - weight
    return stored


def _lamb(weight: Float64, gradient: Float64) -> Float64:
    direction = (1 - BETA1) * gradient / (math.sqrt(1 - BETA2) * np.abs(gradient) + LAMB_EPSILON)
    size, norm = min(LAMB_LARGEST_NORM, float(np.linalg.norm(weight))), float(np.linalg.norm(direction))
    found: Float64 = direction * (size / (norm + LAMB_EPSILON) if size and norm else 1.0)
    return found


def _judge_gradients(
    found: Update, expected: Mapping[str, FloatArray], dtype: str
) -> tuple[float, str | None, tuple[str, float]]:
    """The error of all gradients together, what is wrong with them, and the tensor that is nearest to its limit."""
    most, gain_limit = _limits(dtype)
    total = math.sqrt(sum(_square(each) for each in expected.values()))
    squares, product, worst, nearest, problem = 0.0, 0.0, ("", 0.0), -1.0, None
    for name, mine, right in _pairs(found.gradients, expected):
        if mine.shape != right.shape or not np.isfinite(mine).all():
            return math.inf, f"gradient of {name} in the timed step: not {right.shape} finite numbers", (name, math.inf)
        difference, size = math.sqrt(_square(mine - right)), math.sqrt(_square(right))
        squares, product = squares + difference**2, product + float(np.vdot(mine, right))
        leeway = next((times for share, times in LEEWAY if size >= share * total), None)
        if leeway is None or not total:
            continue
        limit = leeway * most
        if difference / size / limit > nearest:
            nearest, worst = difference / size / limit, (name, difference / size)
            if nearest > 1:
                problem = f"gradient of {name} in the timed step: relative L2 error {worst[1]:.2e} is over {limit:.0e}"
    error = math.sqrt(squares) / total if total else math.sqrt(squares)
    gain = product / total**2 if total else 1.0
    if problem is None and error > most:
        problem = f"gradients of the timed step: relative L2 error {error:.2e} is over {most:.0e}"
    if problem is None and abs(gain - 1) > gain_limit:
        problem = f"gradients of the timed step: gain {gain:.4f} is off 1 by more than {gain_limit:.0e}"
    return error, problem, worst


def _judge_weights(
    found: Update, weights: Mapping[str, FloatArray], recipe: Recipe
) -> tuple[str | None, tuple[str, float]]:
    """What is wrong with the update, given its gradients, and the tensor that is nearest to its limit."""
    worst, nearest, problem = ("", 0.0), -1.0, None
    for name, before in weights.items():
        gradient, after = found.gradients.get(name), found.weights.get(name)
        if after is None or after.shape != before.shape:
            return f"the timed step left no weights {name} of shape {before.shape}", (name, math.inf)
        if gradient is not None and gradient.shape != before.shape:
            return f"gradient of {name} in the timed step has shape {gradient.shape}, not {before.shape}", (
                name,
                math.inf,
            )
        right = np.zeros_like(before) if gradient is None else first_update(recipe, before, gradient)
        difference, size = math.sqrt(_square(after - before - right)), math.sqrt(_square(right))
        limit = UPDATE_ERROR * size + STEP_OF_FP32 * math.sqrt(_square(before))
        part = difference / limit if limit else (math.inf if difference else 0.0)
        if not part <= nearest:
            nearest, worst = part, (name, difference / size if size else difference)
            if not part <= 1:
                problem = (
                    f"update of {name} in the timed step: relative L2 error {worst[1]:.2e} to {recipe.optimizer}'s"
                )
    return problem, worst


def _pairs(
    found: Mapping[str, FloatArray], expected: Mapping[str, FloatArray]
) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """Gradients of one name; one that is missing on either side is zero."""
    for name, right in expected.items():
        yield name, found.get(name, np.zeros_like(right)), right
    for name in found.keys() - expected.keys():
        yield name, found[name], np.zeros_like(found[name])


def _limits(dtype: str) -> tuple[float, float]:
    """Of relative L2 error, and of gain."""
    limits = TRAINING_TOLERANCES[dtype]
    assert limits.rel_l2 is not None
    return limits.rel_l2, limits.gain


def _square(array: FloatArray) -> float:
    return float(np.vdot(array, array))
