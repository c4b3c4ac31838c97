"""Simple kernels that show what a machine can do at most: a large matrix product, a large copy, a tiny operation. PyTorch runs them.

Like a backend, this module times nothing: the runner enqueues, synchronizes and reads its own clock (`runner.ceilings`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchrun.backends.reference import get_tf32, set_tf32

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PRODUCT_SIZE = {"cpu": 1024, "cuda": 8192}  # rows and columns: far beyond what launch and memory cost
COPY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}  # far beyond the caches


@dataclass(frozen=True, slots=True)
class Kernel:
    """One call of `enqueue` does `work`: floating-point operations (`matmul`), bytes read and written (`copy`), or one launch.

    `stream` is the native handle of the stream that it uses, None on a CPU.
    """

    quantity: str
    dtype: str | None
    work: float
    size: int
    enqueue: Callable[[], object]
    synchronize: Callable[[], None]
    stream: int | None


def torch_device(device: str) -> torch.device:
    """PyTorch calls AMD's devices `cuda` too."""
    kind, _, index = device.partition(":")
    return torch.device("cpu") if kind == "cpu" else torch.device("cuda", int(index or 0))


def unseen(device: str) -> str:
    """Why PyTorch cannot use a device, in one sentence; empty where it can."""
    where = torch_device(device)
    if where.type == "cpu":
        return ""
    wanted = "ROCm" if device.startswith("rocm") else "CUDA"
    built = torch.version.hip if wanted == "ROCm" else torch.version.cuda
    if built is None:
        return (
            f"this PyTorch ({torch.__version__}) is built without {wanted}: install one for {wanted} to measure the ceilings of {device}, "
            "or measure the processor's with --device cpu"
        )
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (where.index or 0) < seen:
        return ""
    return (
        f"this PyTorch ({torch.__version__}, {wanted} {built}) sees {seen} devices and not {device}: its driver may be too old, or the "
        "device hidden; --device cpu measures the processor's ceilings"
    )


def supported_dtypes(device: str) -> tuple[str, ...]:
    """Dtypes whose matrix products PyTorch has kernels for. fp16 on a CPU is emulated, a thousand times slower than the rest; int8 and
    fp8 need engines of their own: those have no ceiling."""
    kind = device.partition(":")[0]
    return {"cuda": ("fp32", "tf32", "fp16", "bf16"), "rocm": ("fp32", "fp16", "bf16")}.get(kind, ("fp32", "bf16"))


@contextmanager
def open_product(device: str, dtype: str, threads: int | None = None) -> Iterator[Kernel]:
    """A square matrix product of normally distributed numbers: what a GPU's power allows depends on the data."""
    where = _start(device, threads)
    size = PRODUCT_SIZE[where.type]
    generator = torch.Generator(where).manual_seed(0)
    one, two = (torch.randn((size, size), generator=generator, device=where).to(DTYPES[dtype]) for _ in range(2))
    out = torch.empty((size, size), dtype=DTYPES[dtype], device=where)
    before = get_tf32()
    set_tf32(dtype == "tf32")
    try:
        with torch.inference_mode():
            yield _kernel("matmul", dtype, 2.0 * size**3, size, lambda: torch.mm(one, two, out=out), where)
    finally:
        set_tf32(before)


@contextmanager
def open_copy(device: str, threads: int | None = None) -> Iterator[Kernel]:
    """A copy of random numbers within the device's memory: every byte is read once and written once."""
    where = _start(device, threads)
    size = COPY_BYTES[where.type]
    generator = torch.Generator(where).manual_seed(0)
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=generator, device=where)
    target = torch.empty_like(source)
    with torch.inference_mode():
        yield _kernel("copy", None, 2.0 * size, size, lambda: target.copy_(source), where)


@contextmanager
def open_launch(device: str, threads: int | None = None) -> Iterator[Kernel]:
    """An operation on a single number: nothing but the cost of starting it."""
    where = _start(device, threads)
    number = torch.zeros(1, device=where)
    with torch.inference_mode():
        yield _kernel("launch", None, 1.0, 1, lambda: number.add_(1), where)


def _kernel(
    quantity: str, dtype: str | None, work: float, size: int, enqueue: Callable[[], object], where: torch.device
) -> Kernel:
    on_gpu = where.type == "cuda"
    stream = int(torch.cuda.current_stream(where).cuda_stream) if on_gpu else None
    wait: Callable[[], None] = (lambda: torch.cuda.synchronize(where)) if on_gpu else (lambda: None)
    return Kernel(quantity, dtype, work, size, enqueue, wait, stream)


def _start(device: str, threads: int | None) -> torch.device:
    if threads is not None:
        torch.set_num_threads(threads)
    where = torch_device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    return where
