"""PyTorch: `eager`, `compile` (torch.compile) and `cudagraph`, on the CPU, CUDA and ROCm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from benchrun.backends.contract import (
    TRAINING_DTYPES,
    Availability,
    Backend,
    Build,
    Description,
    Option,
    OutOfMemory,
    Point,
    Recipe,
    Session,
    TrainingSession,
    Unsupported,
    Variant,
)

if TYPE_CHECKING:
    from benchrun.backends.models import Encoder, Model

CPU_DTYPES = ("fp32", "fp16", "bf16")
GPU_DTYPES = ("fp32", "tf32", "fp16", "bf16")
ALL_DTYPES = ("fp32", "tf32", "fp16", "bf16")


class TorchBackend(Backend):
    """Hugging Face modules run by PyTorch. Keeps one converted copy of the model per device, dtype and attention."""

    description: ClassVar[Description] = Description(
        name="torch",
        summary="PyTorch with Hugging Face modules",
        distributions=("torch",),
        install="pip install torch",
        variants=(
            Variant(
                "eager",
                "operator by operator, as most people run it",
                ("cpu", "cuda", "rocm"),
                ALL_DTYPES,
                {"cpu": "executed", "cuda": "executed", "rocm": "never run"},
                training=TRAINING_DTYPES,
            ),
            Variant(
                "compile",
                "torch.compile; on a GPU captured in a CUDA graph",
                ("cpu", "cuda", "rocm"),
                ALL_DTYPES,
                {"cpu": "executed", "cuda": "executed", "rocm": "never run"},
                training=TRAINING_DTYPES,
            ),
            Variant(
                "cudagraph",
                "the eager kernels captured once and replayed as one graph",
                ("cuda", "rocm"),
                GPU_DTYPES,
                {"cuda": "executed", "rocm": "never run"},
            ),
        ),
        options=(
            Option("attention", "attention implementation of transformers", "sdpa", ("sdpa", "eager")),
            Option(
                "compile_mode",
                "mode of torch.compile, or captured: its kernels in a CUDA graph of ours; auto: captured on a GPU, else default",
                "auto",
                ("auto", "captured", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
            ),
            Option(
                "static_inputs",
                "tell the compiler that inputs stay at their addresses, so that its CUDA graph need not copy them",
                "on",
                ("on", "off"),
            ),
        ),
    )

    def __init__(self) -> None:
        self._converted: tuple[tuple[object, ...], Encoder] | None = None

    def probe(self) -> Availability:
        try:
            import torch
        except Exception as error:  # a broken install raises anything from ImportError to OSError
            return Availability(False, f"importing torch failed: {error}")
        versions = {"torch": str(torch.__version__)}
        devices = ["cpu"]
        dtypes: dict[str, tuple[str, ...]] = {"cpu": CPU_DTYPES}
        kind = "rocm" if torch.version.hip else "cuda"
        if torch.version.cuda:
            versions["cuda"] = torch.version.cuda
        if torch.version.hip:
            versions["hip"] = torch.version.hip
        if torch.cuda.is_available():
            devices += [f"{kind}:{index}" for index in range(torch.cuda.device_count())]
            dtypes[kind] = GPU_DTYPES
        return Availability(True, "", versions, tuple(devices), dtypes)

    def prepare(self, model: Model, point: Point, build: Build) -> Session:
        from benchrun.backends import torch_sessions

        device = torch_device(point)
        check_dtype(point)
        with build.phase("load"), torch_sessions.memory_errors():
            module = self._module(model, point, device)
        if point.layout == "packed":
            from benchrun.backends.torch_packed import open_packed

            with build.phase("compile" if point.variant == "compile" else "load"), torch_sessions.memory_errors():
                return open_packed(module, point, device)
        if point.variant == "eager":
            return torch_sessions.EagerSession(module, point, device)
        if point.variant == "compile":
            with build.phase("compile"), torch_sessions.memory_errors():
                return torch_sessions.CompileSession(module, point, device)
        return torch_sessions.GraphSession(module, point, device)

    def prepare_training(self, model: Model, point: Point, recipe: Recipe, build: Build) -> TrainingSession:
        from benchrun.backends import torch_training
        from benchrun.backends.reference import set_tf32
        from benchrun.backends.torch_sessions import memory_errors
        from benchrun.backends.training_reference import trainable_copy

        device = torch_device(point)
        self._converted = None  # steps change their weights: every session has its own copy
        set_threads(point)
        set_tf32(point.dtype == "tf32")
        with build.phase("load"), memory_errors():
            module = trainable_copy(model, device)
            module.config._attn_implementation = str(point.option("attention", "sdpa"))
        if point.variant == "eager":
            return torch_training.EagerTraining(module, point, recipe, device)
        if point.variant == "compile":
            with build.phase("compile"), memory_errors():
                return torch_training.CompiledTraining(module, point, recipe, device)
        raise Unsupported(f"{point.engine} makes no training steps: use torch:eager or torch:compile")

    def peak_device_bytes(self) -> int | None:
        import torch

        return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None

    def reset_peak(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def _module(self, model: Model, point: Point, device: Any) -> Encoder:
        """The model on `device` in the point's dtype; shared by all points of a worker that want the same."""
        import torch

        from benchrun.backends.models import copy_module
        from benchrun.backends.reference import set_tf32

        set_threads(point)
        set_tf32(point.dtype == "tf32")
        attention = attention_name(point)
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(point.dtype, torch.float32)
        wanted = (id(model), str(device), dtype)
        if self._converted is None or self._converted[0] != wanted:
            self._converted = None  # free the old copy first
            self._converted = (wanted, copy_module(model, device, dtype))
        module = self._converted[1]
        module.config._attn_implementation = attention  # each time: a session of another layout may have set its own
        return module


def attention_name(point: Point) -> str:
    """The attention of transformers that a point runs with. Raises Unsupported for one that cannot be packed."""
    asked = str(point.option("attention", "sdpa"))
    if point.layout != "packed":
        return asked
    if asked != "sdpa":
        raise Unsupported(f"torch packs with kernels for variable lengths: leave out --opt attention={asked}")
    from benchrun.backends.torch_packed import register_packed_attention

    return register_packed_attention()


def set_threads(point: Point) -> None:
    """Use as many CPU threads as the point says, where it does."""
    import torch

    threads = point.option("threads")
    if threads is not None:
        torch.set_num_threads(int(threads))


def torch_device(point: Point) -> Any:
    """The torch device of a point. Raises Unsupported where this PyTorch cannot reach it."""
    import torch

    if point.device_kind == "cpu":
        return torch.device("cpu")
    _, _, index = point.device.partition(":")
    if not torch.cuda.is_available():
        raise Unsupported(
            f"torch {torch.__version__} sees no {point.device_kind.upper()} device here: install a build of PyTorch for this GPU and "
            "its driver, or use --device cpu"
        )
    found = "rocm" if torch.version.hip else "cuda"
    if found != point.device_kind:
        raise Unsupported(
            f"this PyTorch is built for {found}, so device {point.device} is out of its reach: use --device {found}:{index}"
        )
    if int(index or 0) >= torch.cuda.device_count():
        raise Unsupported(f"there is no device {point.device}: PyTorch sees {torch.cuda.device_count()}")
    device = torch.device("cuda", int(index or 0))
    torch.cuda.set_device(device)
    return device


def check_dtype(point: Point) -> None:
    """Raises Unsupported for a dtype that PyTorch does not run as such on the point's device."""
    allowed = CPU_DTYPES if point.device_kind == "cpu" else GPU_DTYPES
    if point.dtype not in allowed:
        raise Unsupported(f"torch runs {', '.join(allowed)} on {point.device_kind}, not {point.dtype}")


__all__ = ["OutOfMemory", "TorchBackend", "check_dtype", "torch_device"]
