"""Ranges for explicit quantisation, found in PyTorch on the fp32 weights: TensorRT 11 and RTX have no calibrators.

Activations of an encoder have a few channels that are many times larger than the rest, and one INT8 scale for all loses
the rest (cosine 0.95 on all-MiniLM-L6-v2). So each linear layer's input is divided by a factor per channel that its
weights are multiplied with (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438, equation 4); the exponent is chosen per
input among `EXPONENTS` by the error that is left in the layers' outputs. FP8 has exponent bits and needs none of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from benchrun.backends.models import Model
    from benchrun.backends.onnx_calibration import Feeds

EXPONENTS = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)  # 0: no smoothing at all
LARGEST = {"int8": 127.0, "fp8": 448.0}  # of the type; of int8 the largest whose negative is one too
SMALLEST_SCALE = 2.0**-14  # the smallest normal fp16 number: a channel of zeros must not divide by zero
TOP_ROWS = 8  # rows with the largest values, kept besides the sampled ones


@dataclass(frozen=True, slots=True)
class Calibration:
    """The inputs that ranges are found on where no text is given: random tokens. `rows` a batch are kept to weigh exponents by."""

    batches: int = 4
    batch: int = 4
    seq: int = 128
    rows: int = 64
    seed: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class InputScale:
    """How an input of linear layers is quantised: divided by `smooth` (per channel, or None), then by `scale`."""

    layers: tuple[str, ...]
    scale: float
    smooth: npt.NDArray[np.float32] | None = None


@dataclass(slots=True)
class Seen:
    """What was seen of an input shared by `layers`: the largest magnitude of each channel, and some rows."""

    layers: tuple[str, ...]
    largest: torch.Tensor
    rows: torch.Tensor


def calibrate(model: Model, kind: str, calibration: Calibration, feeds: Sequence[Feeds] = ()) -> tuple[InputScale, ...]:
    """Scales for the inputs of all linear layers of `model`, for `kind` int8 or fp8: on `feeds`, or drawn inputs where there are none."""
    import torch

    layers = dict(linear_layers(model))
    scales = []
    with torch.inference_mode():
        for seen in watch(model, calibration, feeds):
            weights = [layers[name].weight for name in seen.layers]
            smooth = None if kind == "fp8" else best_smoothing(seen, weights)
            largest = seen.largest if smooth is None else seen.largest / smooth
            scale = max(float(largest.max()) / LARGEST[kind], SMALLEST_SCALE)
            scales.append(InputScale(seen.layers, scale, None if smooth is None else smooth.numpy()))
    return tuple(scales)


def linear_layers(model: Model) -> Iterator[tuple[str, torch.nn.Linear]]:
    """The linear layers of a model and their names."""
    from torch import nn

    for name, layer in model.module.named_modules():
        if isinstance(layer, nn.Linear):
            yield name, layer


def watch(model: Model, calibration: Calibration, feeds: Sequence[Feeds] = ()) -> tuple[Seen, ...]:
    """Run the calibration inputs and note what the linear layers are given; together for those fed with one tensor.

    Of many short feeds as many rows are kept together as of the drawn batches.
    """
    import torch

    generator = torch.Generator()
    generator.manual_seed(calibration.seed)
    passing: list[tuple[str, torch.Tensor]] = []
    rows, top = calibration.rows, TOP_ROWS
    if feeds:
        rows, top = (max(1, calibration.batches * each // len(feeds)) for each in (rows, top))

    def note(name: str) -> Any:
        return lambda _, inputs: passing.append((name, inputs[0]))

    handles = [layer.register_forward_pre_hook(note(name)) for name, layer in linear_layers(model)]
    found: dict[tuple[str, ...], Seen] = {}
    try:
        for inputs in feed_inputs(model, feeds) if feeds else calibration_inputs(model, calibration, generator):
            passing.clear()
            model.module(*inputs)
            for names, tensor in shared(passing):
                values = tensor.reshape(-1, tensor.shape[-1])
                largest, kept = values.abs().amax(0), sample_rows(values, rows, generator, top)
                if (earlier := found.get(names)) is not None:
                    largest, kept = torch.maximum(earlier.largest, largest), torch.cat([earlier.rows, kept])
                found[names] = Seen(names, largest, kept)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found.values())


def shared(passing: Sequence[tuple[str, torch.Tensor]]) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    """The distinct tensors of one forward pass (all alive, so identity tells them apart), with the layers they feed."""
    tensors = {id(tensor): tensor for _, tensor in passing}
    for key, tensor in tensors.items():
        yield tuple(name for name, own in passing if id(own) == key), tensor


def sample_rows(values: torch.Tensor, count: int, generator: torch.Generator, top: int = TOP_ROWS) -> torch.Tensor:
    """`count` rows at random and the `top` with the largest values, which decide how much a common scale loses."""
    import torch

    picked = torch.randperm(len(values), generator=generator)[:count]
    largest = values.abs().amax(1).topk(min(top, len(values))).indices
    return values[torch.cat([picked, largest])]


def feed_inputs(model: Model, feeds: Sequence[Feeds]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Feeds as the model takes them."""
    import torch

    for feed in feeds:
        yield tuple(torch.from_numpy(feed[name]) for name in model.input_names)


def calibration_inputs(
    model: Model, calibration: Calibration, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Batches as the model takes them: random ids between the special ones, or normal hidden states; nothing masked."""
    import torch

    sizes = model.spec.shape
    shape = (calibration.batch, min(calibration.seq, sizes.positions))
    for _ in range(calibration.batches):
        ids = torch.randint(0, sizes.vocab_size, shape, generator=generator)
        if sizes.special_ids is not None:
            ids[:, 0], ids[:, -1] = sizes.special_ids
        named = {
            "input_ids": ids,
            "attention_mask": torch.ones(shape, dtype=torch.int64),
            "token_type_ids": torch.zeros(shape, dtype=torch.int64),
        }
        if "hidden_states" in model.input_names:
            named["hidden_states"] = torch.randn((*shape, sizes.hidden_size), generator=generator)
        yield tuple(named[name] for name in model.input_names)


def best_smoothing(seen: Seen, weights: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """The factors per channel that leave the least squared error in the layers' outputs; None where none do best."""
    tried = {exponent: smoothing(seen.largest, weights, exponent) for exponent in EXPONENTS}
    errors = {exponent: quantisation_error(seen, weights, factors) for exponent, factors in tried.items()}
    best = min(errors, key=lambda exponent: errors[exponent])
    return tried[best] if best else None


def smoothing(largest: torch.Tensor, weights: Sequence[torch.Tensor], exponent: float) -> torch.Tensor:
    """Factors per channel, largest input ** exponent ÷ largest weight ** (1 − exponent); ones for exponent 0."""
    import torch

    if not exponent:
        return torch.ones_like(largest)
    largest_weight = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0)
    return (largest.clamp(min=1e-5) ** exponent / largest_weight.clamp(min=1e-5) ** (1 - exponent)).clamp(
        min=1e-4, max=1e4
    )


def quantisation_error(seen: Seen, weights: Sequence[torch.Tensor], factors: torch.Tensor) -> float:
    """Sum over the layers of the mean squared difference that INT8 makes to their outputs on the kept rows."""
    top = LARGEST["int8"]
    scale = (seen.largest / factors).max() / top
    inputs = round_to(seen.rows / factors, scale, top)
    error = 0.0
    for weight in weights:
        smoothed = weight * factors
        rounded = round_to(smoothed, smoothed.abs().amax(1, keepdim=True).clamp(min=1e-8) / top, top)
        error += float((inputs @ rounded.T - seen.rows @ weight.T).square().mean())
    return error


def round_to(values: torch.Tensor, scale: torch.Tensor, top: float) -> torch.Tensor:
    """Values after quantising and dequantising to integers from −top to top."""
    return (values / scale).round().clamp(-top, top) * scale
