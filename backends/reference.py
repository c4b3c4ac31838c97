"""The right answer: PyTorch eager in fp32 arithmetic, on the original weights or on weights rounded to a dtype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from benchrun.backends.models import Encoder, Model, copy_module

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray, Inputs, Point

CHUNK_TOKENS = (
    16384  # rows are independent: long batches go through in pieces, so that the reference never runs out of memory
)
TF32_DROPPED_BITS = 13  # fp32 has 23 mantissa bits, tf32 10
ROUNDED = ("tf32", "fp16", "bf16")


class Reference:
    """Computes reference outputs on `device` (a torch device string), and keeps the last model it rounded."""

    def __init__(self, model: Model, device: str) -> None:
        self._model = model
        self._device = torch.device(device)
        self._exact: Encoder | None = None
        self._rounded: tuple[str, Encoder] | None = None

    def exact(self, inputs: Inputs) -> Mapping[str, FloatArray]:
        """Outputs in fp32 arithmetic on the original weights: name → float32 array."""
        if self._exact is None:
            on_cpu = self._device.type == "cpu"
            self._exact = self._model.module if on_cpu else copy_module(self._model, self._device, torch.float32)
        return self._run(self._exact, inputs)

    def rounded(self, inputs: Inputs, dtype: str) -> Mapping[str, FloatArray]:
        """Outputs in fp32 arithmetic on weights rounded to `dtype` (tf32, fp16 or bf16)."""
        if self._rounded is None or self._rounded[0] != dtype:
            module = copy_module(self._model, self._device, torch.float32)
            for parameter in module.parameters():
                parameter.copy_(round_to(parameter, dtype))
            self._rounded = (dtype, module)
        return self._run(self._rounded[1], inputs)

    def release(self) -> None:
        """Give the device's memory back; the model itself stays on the host."""
        self._rounded = None
        if self._device.type == "cuda":
            self._exact = None
            torch.cuda.empty_cache()

    def _run(self, module: Encoder, inputs: Inputs) -> Mapping[str, FloatArray]:
        tensors = [torch.from_numpy(inputs.arrays[name]) for name in module.input_names]
        batch, seq = tensors[0].shape[:2]
        rows = max(1, CHUNK_TOKENS // seq)
        pieces: list[tuple[torch.Tensor, ...]] = []
        with torch.inference_mode(), full_precision():
            for start in range(0, batch, rows):
                part = [tensor[start : start + rows].to(self._device) for tensor in tensors]
                pieces.append(tuple(output.float().cpu() for output in module(*part)))
        return {
            name: torch.cat([piece[index] for piece in pieces]).numpy()
            for index, name in enumerate(module.output_names)
        }


def reference_device(point: Point) -> str:
    """Where to compute the reference for a point: on its own GPU where PyTorch reaches it, else on the CPU."""
    if point.device_kind != "cpu" and torch.cuda.is_available():
        return f"cuda:{point.device.partition(':')[2] or 0}"
    threads = point.option("threads")
    if threads is not None:
        torch.set_num_threads(int(threads))
    return "cpu"


def round_to(tensor: torch.Tensor, dtype: str) -> torch.Tensor:
    """Values rounded to `dtype` (tf32: to nearest, 10 mantissa bits), kept as fp32."""
    if dtype == "tf32":
        half = 1 << (TF32_DROPPED_BITS - 1)
        return ((tensor.contiguous().view(torch.int32) + half) & -(1 << TF32_DROPPED_BITS)).view(torch.float32)
    return tensor.to({"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]).float()


class full_precision:  # noqa: N801 - reads as a statement, like torch.inference_mode
    """Within it, fp32 matrix products are fp32: TF32 is off on CUDA."""

    def __enter__(self) -> None:
        self._before = get_tf32()
        set_tf32(False)

    def __exit__(self, *_: object) -> None:
        set_tf32(self._before)


def get_tf32() -> bool:
    """Whether CUDA matrix products may use TF32."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # PyTorch ≥ 2.9; mixing it with allow_tf32 is an error there
        return bool(matmul.fp32_precision == "tf32")
    return bool(matmul.allow_tf32)


def set_tf32(on: bool) -> None:
    """Let CUDA matrix products use TF32, or not."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):
        matmul.fp32_precision = "tf32" if on else "ieee"
    else:
        matmul.allow_tf32 = on
