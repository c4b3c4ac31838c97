"""Training steps that are wrong; the batch size chooses the misdeed. PyTorch's own session does the honest part of the work."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import torch

from benchrun.backends.torch_training import EagerTraining
from benchrun.backends.training_reference import trainable_copy

if TYPE_CHECKING:
    from benchrun.backends.contract import Point, Recipe
    from benchrun.backends.models import Model

# what variant `trainer` does at batch 1, 2, …; the last one ends the worker
TRAINING = {
    1: "nothing",
    2: "scaled",  # gradients by 1.05
    3: "idle",  # an optimizer that does not step
    4: "nan",  # a loss that is no number any more after some steps
    5: "exact",  # fp32 arithmetic whatever was asked
    6: "forgets",  # the gradient of one layer never arrives
    7: "climbs",  # steps in the wrong direction
    8: "dies",
}
STEPS_BEFORE = 5


class HostileTraining(EagerTraining):
    """An eager training session with a misdeed."""

    def __init__(self, model: Model, point: Point, recipe: Recipe) -> None:
        module = trainable_copy(model, torch.device("cpu"))
        module.config._attn_implementation = "sdpa"
        self._misdeed = TRAINING[point.batch]
        super().__init__(module, point, recipe, torch.device("cpu"))
        if self._misdeed == "exact":
            self._low = None
        if self._misdeed == "climbs":
            for group in self._optimizer.param_groups:
                group["maximize"] = True
        if self._misdeed == "scaled":
            for parameter in module.parameters():
                parameter.register_hook(lambda gradient: gradient * 1.05)
        if self._misdeed == "forgets":
            layer = [parameter for name, parameter in module.named_parameters() if ".layer.0." in name]
            for parameter in layer:
                parameter.register_hook(torch.zeros_like)

    def facts(self) -> dict[str, Any]:
        found = dict(super().facts())
        return found | {"compute_dtypes": {"matmul": "bf16"}} if self._misdeed == "exact" else found

    def _update(self) -> None:
        if self._misdeed == "idle":
            self._optimizer.zero_grad(set_to_none=True)
            return
        if self._steps == STEPS_BEFORE and self._misdeed == "nan":
            next(self._module.parameters()).data.fill_(torch.nan)
        if self._steps == STEPS_BEFORE and self._misdeed == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        super()._update()
