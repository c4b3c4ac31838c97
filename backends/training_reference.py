"""The loss of a head with labels, and a training step's right answer: fp32 arithmetic, no dropout, no update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from benchrun.backends.catalogue import LABEL_NAMES
from benchrun.backends.models import Encoder, Model, copy_module
from benchrun.backends.reference import full_precision

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray, Inputs

CHUNK_TOKENS = (
    2048  # a backward pass keeps about 100 kB a token and layer of BERT-large: long batches go through in pieces
)


def task_loss(logits: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean cross entropy in fp32: of the start and the end position of question answering, of the label of classification.

    `logits` are the outputs of the head in its order, `labels` int64 [batch] each, in the order of `LABEL_NAMES`.
    """
    losses = [
        torch.nn.functional.cross_entropy(output.float(), label) for output, label in zip(logits, labels, strict=True)
    ]
    return sum(losses[1:], losses[0]) / len(losses)


def trainable_copy(model: Model, device: torch.device) -> Encoder:
    """An independent fp32 copy of the module on a device whose parameters take gradients."""
    module = copy_module(model, device, torch.float32)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    return module


def read_gradients(module: Encoder, scale: float = 1.0) -> dict[str, FloatArray]:
    """`gradient_norms` and `gradients` as `TrainingSession.check_step` gives them, divided by `scale`; a parameter that took no part
    has gradient zero."""
    parts = [torch.zeros_like(each) if each.grad is None else each.grad.float() / scale for each in module.parameters()]
    norms = torch.stack([part.norm() for part in parts])
    vectors = torch.cat([part for part in parts if part.dim() == 1])
    return {"gradient_norms": norms.cpu().numpy(), "gradients": vectors.cpu().numpy()}


def copy_gradients(module: Encoder) -> dict[str, FloatArray]:
    """The gradient of each parameter that has one, on the host."""
    return {name: _copy(each.grad) for name, each in module.named_parameters() if each.grad is not None}


def copy_weights(module: Encoder) -> dict[str, FloatArray]:
    """Each parameter, on the host."""
    return {name: _copy(each) for name, each in module.named_parameters()}


def _copy(tensor: torch.Tensor) -> FloatArray:
    found: FloatArray = tensor.detach().to("cpu", torch.float32, copy=True).numpy()
    return found


@dataclass(frozen=True, slots=True)
class Reference:
    """A step in fp32. `first` is what `TrainingSession.check_step` should give; `gradients` and `weights` (those before the step) are by
    parameter, as in `contract.Update`, the gradients not clipped."""

    first: Mapping[str, FloatArray]
    gradients: Mapping[str, FloatArray]
    weights: Mapping[str, FloatArray]


def reference_step(model: Model, device: str, inputs: Inputs) -> Reference:
    """One step on all sequences of `inputs`, in fp32 arithmetic on the original weights, computed on `device` in pieces whose gradients
    add up. The device's memory is given back.
    """
    where = torch.device(device)
    module = trainable_copy(model, where).eval()
    arguments = [torch.from_numpy(inputs.arrays[name]) for name in module.input_names]
    labels = [torch.from_numpy(inputs.arrays[name]) for name in LABEL_NAMES[model.spec.head]]
    batch, seq = arguments[0].shape
    rows = max(1, CHUNK_TOKENS // seq)
    total = 0.0
    with torch.enable_grad(), full_precision():
        for start in range(0, batch, rows):
            some, given = ([each[start : start + rows].to(where) for each in group] for group in (arguments, labels))
            loss = task_loss(module(*some), given) * (some[0].shape[0] / batch)
            loss.backward()
            total += loss.item()
    first = {"loss": torch.tensor([total]).numpy(), **read_gradients(module)}
    gradients = copy_gradients(module)
    module.zero_grad(set_to_none=True)
    del module
    if where.type == "cuda":
        torch.cuda.empty_cache()
    return Reference(first, gradients, copy_weights(model.module))
