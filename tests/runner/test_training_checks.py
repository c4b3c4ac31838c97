"""What decides whether steps trained: labels, losses, and the verdict on sessions that are scripted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchrun.backends.catalogue import named_spec, resolve_spec
from benchrun.backends.contract import Inputs, Recipe, TrainingSession, Update
from benchrun.backends.training_reference import Reference
from benchrun.runner.inputs import make_inputs
from benchrun.runner.training_checks import LEAST_STEPS, StepCheck, describe_losses, loss_problem, tenths, with_labels
from benchrun.runner.training_update import first_update

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray

SHAPE = named_spec("tiny").shape
RECIPE = Recipe("adamw", 1e-3, 10, 0.01)
WEIGHT = np.linspace(-1, 1, 50, dtype=np.float32)


def losses(*values: float) -> FloatArray:
    return np.array(values, dtype=np.float32)


def test_labels_follow_from_the_ids() -> None:
    (inputs, *_) = make_inputs(SHAPE, "qa", 64, 32, 0)
    key = inputs.arrays["input_ids"][:, 1]
    found = with_labels(inputs, "qa").arrays
    assert found["start_positions"].tolist() == [each % 8 for each in key]
    assert found["end_positions"].tolist() == [each % 8 + each // 8 % 4 for each in key]
    assert set(found) == {*inputs.arrays, "start_positions", "end_positions"} and found["end_positions"].max() < 32
    classes = with_labels(inputs, "classification").arrays["labels"]
    assert classes.tolist() == [int(each % 4 == 0) for each in key] and 0 < classes.sum() < 32
    assert {array.dtype for array in (classes, *found.values())} == {np.dtype(np.int64)}


@pytest.mark.parametrize("seq", [1, 2, 5])
def test_labels_of_short_sequences_lie_inside(seq: int) -> None:
    found = with_labels(make_inputs(SHAPE, "qa", 64, seq, 0)[0], "qa").arrays
    assert found["start_positions"].max() < seq and found["end_positions"].max() < seq
    assert all(np.subtract(found["end_positions"], found["start_positions"]) >= 0)


@pytest.mark.parametrize(
    ("run", "before", "after", "said"),
    [
        (losses(4, 3, 2, 1), 4.0, 1.0, None),
        (losses(4), 4.0, 1.0, "loss did not fall: its median is 4 in the first tenth of 1 steps, 4 in the last"),
        (losses(4, 3, 2, 1), 4.0, 4.0, "loss did not fall: 4 before the first step, 4 after step 4"),
        (losses(4, 3, 2, 1), 4.0, float("nan"), "loss did not fall: 4 before the first step, nan after step 4"),
        (losses(4, float("nan"), 2, float("inf")), 4.0, 1.0, "the loss of step 2 of 4 is not a finite number"),
        (
            losses(*range(30)),
            4.0,
            1.0,
            "loss did not fall: its median is 1 in the first tenth of 30 steps, 28 in the last",
        ),
    ],
)
def test_what_is_wrong_with_losses(run: FloatArray, before: float, after: float, said: str | None) -> None:
    assert loss_problem(run, before, after) == said


def test_losses_in_brief() -> None:
    told = describe_losses(losses(*np.linspace(5, 1, 320)))
    assert (told["steps"], told["first"], told["last"]) == (320, 5.0, 1.0) and len(told["curve"]) == 32
    assert told["curve"] == sorted(told["curve"], reverse=True) and told["first_tenth"] > told["last_tenth"]
    assert describe_losses(losses(2, 1))["curve"] == [2.0, 1.0]
    assert tenths(losses(*range(30))) == (1.0, 28.0)


class Scripted(TrainingSession):
    """Falls from 1 by a hundredth a step; `gain` is that of its gradients."""

    def __init__(self, gain: float = 1.0, fall: float = 0.01) -> None:
        self._gain, self._fall, self._steps = gain, fall, 0
        self.bound: list[int] = []

    def check_step(self) -> Mapping[str, FloatArray]:
        gradients = {"gradient_norms": losses(*[self._gain] * 40), "gradients": losses(*[self._gain] * 400)}
        return {"loss": losses(1 - self._fall * self._steps), **gradients}

    def check_update(self) -> Update:
        gradients = {"w": self._gain * WEIGHT}
        return Update(1.0, gradients, {"w": WEIGHT + first_update(RECIPE, WEIGHT, gradients["w"])})

    def losses(self) -> FloatArray:
        return losses(*(1 - self._fall * step for step in range(self._steps)))

    def bind(self, inputs: Inputs) -> None:
        self.bound.append(inputs.index)

    def enqueue(self) -> None:
        self._steps += 1

    def synchronize(self) -> None:
        pass

    def facts(self) -> Mapping[str, Any]:
        return {}


FIRST = {"loss": losses(1.0), "gradient_norms": losses(*[1.0] * 40), "gradients": losses(*[1.0] * 400)}
EXPECTED = Reference(FIRST, {"w": WEIGHT}, {"w": WEIGHT})
SETS = make_inputs(resolve_spec("tiny", "qa").shape, "qa", 1, 4, 0)


def judged(session: Scripted, steps: int = 0, dtype: str = "fp32") -> StepCheck:
    check = StepCheck(dtype, EXPECTED, RECIPE, SETS)
    check.before(session)
    for _ in range(steps):
        session.enqueue()
    check.after(session)
    return check


def test_a_run_is_trained_on_until_its_losses_say_something() -> None:
    session = Scripted()
    check = judged(session, steps=LEAST_STEPS - 3)
    assert session.bound == [3, 2, 1, 0, 0, 1, 2, 3, 2, 1, 0] and check.verdict(session) == (check.parity, 0.0)
    assert check.parity["ok"] and check.facts["loss"]["steps"] == LEAST_STEPS
    assert check.facts["loss"]["held_before"] == 1.0 and check.facts["loss"]["held_after"] == pytest.approx(0.6)
    assert (
        check.facts["first_step"]["gradient_norm"] == pytest.approx(40**0.5)
        and check.facts["first_step"]["gradient_distance"] == 0.0
    )
    assert judged(Scripted(), steps=100).facts["loss"]["steps"] == 100
    assert check.facts["first_update"]["problem"] is None and check.facts["first_update"]["loss"] == 1.0


@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16", "fp16-amp"])
def test_gradients_of_another_size_are_wrong_in_every_dtype(dtype: str) -> None:
    for gain in (1.05, 0.95):
        parity = judged(Scripted(gain), dtype=dtype).parity
        assert not parity["ok"] and parity["reason"].startswith(("gradient", "loss")) and "gradient" in parity["reason"]
    assert judged(Scripted(1.0004), dtype=dtype).parity["ok"]


def test_the_first_reason_is_kept() -> None:
    assert judged(Scripted(fall=0.0)).parity["reason"].startswith("loss did not fall: 1 before the first step, 1 after")
    assert "gain" in judged(Scripted(1.05, fall=0.0), dtype="bf16").parity["reason"]
