"""Running a TensorRT engine: shapes, addresses, `execute_async_v3` on a stream of our own, and CUDA-graph replay.

This path has never been executed on a GPU by this project: what stands for that is docs/tensorrt.md's table, and tests
that put a double in the place of the engine's execution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from benchrun.backends import tensorrt_layers
from benchrun.backends.contract import BuildFailed, OutOfMemory, Session, Unsupported
from benchrun.backends.tensorrt_build import listen
from benchrun.backends.torch_sessions import memory_errors

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray, Inputs
    from benchrun.backends.tensorrt_names import (
        Bindings,
        Flavour,
        ICudaEngine,
        IExecutionContext,
        RtxBindings,
        RtxCudaEngine,
        RtxExecutionContext,
        RtxRuntimeCache,
    )

CAPTURE_WARMUPS = 2  # the first run with new shapes sets up what a capture must not record
WRONG_GPU = "cannot run on this GPU"  # how TensorRT-RTX begins its reason for refusing a GPU
TORCH_DTYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT32": torch.int32,
    "INT64": torch.int64,
}


class Device(Protocol):
    """Memory and a stream on the GPU."""

    @property
    def stream(self) -> int: ...

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor: ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` puts on the stream; the answer replays it."""
        ...

    def synchronize(self) -> None: ...

    def close(self) -> None: ...


class CudaDevice:  # pragma: no cover - needs an NVIDIA GPU; tests/backends/test_tensorrt.py runs it where there is one
    """A `Device` by PyTorch: its allocator, a stream that it makes the current one, its CUDA graphs."""

    def __init__(self, index: int) -> None:
        torch.cuda.set_device(index)
        self._device = torch.device("cuda", index)
        self._before = torch.cuda.current_stream()
        self._stream = torch.cuda.Stream()
        torch.cuda.set_stream(self._stream)

    @property
    def stream(self) -> int:
        return int(self._stream.cuda_stream)

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=self._device)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, stream=self._stream, capture_error_mode="thread_local"
        ):  # as NVIDIA's trtexec does
            work()
        return graph.replay

    def synchronize(self) -> None:
        self._stream.synchronize()

    def close(self) -> None:
        torch.cuda.set_stream(self._before)


class Engine:
    """A deserialised engine and all that must live as long as it: the runtime and its logger."""

    def __init__(self, flavour: Flavour, bindings: Bindings, plan: bytes) -> None:
        self.flavour = flavour
        self.bindings = bindings
        self._logger, self.messages = listen(bindings)
        self._runtime = bindings.Runtime(self._logger)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self.error("cannot load the engine")
        self.handle: ICudaEngine = engine
        self.messages.errors.clear()  # what it complained of and then could do is no reason for what fails later

    def error(self, what: str, otherwise: type[Exception] = BuildFailed) -> Exception:
        """The exception for a call that failed, with the library's reason; `otherwise` where it is no special case."""
        reason = f"{self.flavour.library} {what}: {self.messages.reason('it gave no reason')}"
        if any(WRONG_GPU in message for message in self.messages.errors):
            return Unsupported(reason)
        return OutOfMemory(reason) if self.messages.out_of_memory else otherwise(reason)

    def tensors(self) -> dict[str, bool]:
        """Names of the inputs and outputs; True for an input."""
        names = [self.handle.get_tensor_name(index) for index in range(self.handle.num_io_tensors)]
        return {name: self.handle.get_tensor_mode(name) == self.bindings.TensorIOMode.INPUT for name in names}

    def dtype(self, name: str) -> torch.dtype:
        """The type of an input or output."""
        spelled = self.handle.get_tensor_dtype(name).name
        if spelled not in TORCH_DTYPES:
            raise BuildFailed(f"the engine's tensor {name} is of type {spelled}, which benchrun does not feed")
        return TORCH_DTYPES[spelled]

    def layers(self, context: IExecutionContext) -> tuple[tensorrt_layers.Layer, ...]:
        """The engine's layers, by the inspector, for the shapes set in `context`."""
        inspector = self.handle.create_engine_inspector()
        inspector.execution_context = context
        return tensorrt_layers.read_inspector(
            inspector.get_engine_information(self.bindings.LayerInformationFormat.JSON)
        )

    def context(self, kernels: bytes | None) -> tuple[IExecutionContext, RtxRuntimeCache | None]:
        """An execution context. TensorRT-RTX compiles its kernels when they first run, into a cache that comes back
        too; `kernels` is such a cache, stored earlier, or empty."""
        if not self.flavour.rtx:
            context = self.handle.create_execution_context()
            if context is None:
                raise self.error("cannot create an execution context")
            return context, None
        rtx, engine = cast("RtxBindings", self.bindings), cast("RtxCudaEngine", self.handle)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(rtx.ExecutionContextAllocationStrategy.USER_MANAGED)
        # by default stand-ins run while the kernels for a shape are compiled: nothing to be measured or captured
        config.dynamic_shapes_kernel_specialization_strategy = rtx.DynamicShapesKernelSpecializationStrategy.EAGER
        cache = config.create_runtime_cache()
        if kernels:
            cache.deserialize(kernels)
        config.set_runtime_cache(cache)
        rtx_context = engine.create_execution_context(config)
        if rtx_context is None:
            raise self.error("cannot create an execution context")
        return rtx_context, cache


class TensorRtSession(Session):
    """One engine at one shape. Inputs and outputs lie at fixed addresses: `bind` copies an input set into them."""

    def __init__(
        self,
        engine: Engine,
        shapes: Mapping[str, tuple[int, ...]],
        device: Device,
        *,
        cuda_graph: bool,
        kernels: bytes | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self._engine = engine
        self._device = device
        self._stream = device.stream
        self._notes = dict(notes or {})
        self._sets: dict[int, dict[str, torch.Tensor]] = {}
        self._context, self._kernels = engine.context(kernels)
        with memory_errors():
            self._inputs = self._make_inputs(shapes)
            self._scratch = self._give_scratch()
            self._outputs = self._make_outputs()
        self._check(not self._context.infer_shapes(), "does not know all shapes")
        self._run: Callable[[], None] = self._execute
        for _ in range(CAPTURE_WARMUPS):
            self._execute()
        self.synchronize()
        self._captured = cuda_graph
        if cuda_graph:
            self._check_capturable()
            self._run = device.capture(self._execute)
        engine.messages.errors.clear()

    def bind(self, inputs: Inputs) -> None:
        if inputs.index < 0:  # it comes once: straight into the buffers
            for name, buffer in self._inputs.items():
                buffer.copy_(self._given(name, inputs))
            return
        if inputs.index not in self._sets:
            with memory_errors():
                self._sets[inputs.index] = {name: self._upload(name, inputs) for name in self._inputs}
        for name, tensor in self._sets[inputs.index].items():
            self._inputs[name].copy_(tensor)

    def enqueue(self) -> None:
        self._run()

    def synchronize(self) -> None:
        self._device.synchronize()

    def outputs(self) -> Mapping[str, FloatArray]:
        self.synchronize()
        return {name: tensor.float().cpu().numpy() for name, tensor in self._outputs.items()}

    def poison(self) -> None:
        for tensor in self._outputs.values():
            tensor.fill_(torch.nan)

    def facts(self) -> Mapping[str, Any]:
        allowed = bool(self._notes.get("tf32_allowed", False))
        return {
            **self._notes,
            **tensorrt_layers.layer_facts(self._engine.layers(self._context), tf32_allowed=allowed),
            "compute_dtypes_from": "engine inspector",
            "cuda_graph": self._captured,
            "attention_mask": "applied",
        }

    def close(self) -> None:
        if self._run is _closed:
            return
        self._run = _closed
        self._sets.clear()
        del self._context, self._kernels, self._engine  # the context first: it refers to the engine
        self._inputs, self._outputs, self._scratch = {}, {}, None
        self._device.close()

    def kernels(self) -> bytes:
        """What TensorRT-RTX compiled for this shape, to be given to a later session; empty for TensorRT."""
        return bytes(self._kernels.serialize()) if self._kernels is not None else b""

    @property
    def stream(self) -> int:
        return self._stream

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise self._engine.error("failed to run", RuntimeError)

    def _make_inputs(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        """Buffers for the inputs, told to the context. Ones until something is bound, so that a mask masks nothing."""
        wanted = {name for name, is_input in self._engine.tensors().items() if is_input}
        if wanted != set(shapes):
            raise BuildFailed(
                f"the engine's inputs are {', '.join(sorted(wanted))}, and the model's are {', '.join(sorted(shapes))}"
            )
        buffers = {name: self._device.zeros(shape, self._engine.dtype(name)).fill_(1) for name, shape in shapes.items()}
        for name, buffer in buffers.items():
            self._check(
                self._context.set_input_shape(name, tuple(buffer.shape)), f"refuses shape {tuple(buffer.shape)}"
            )
            self._check(self._context.set_tensor_address(name, buffer.data_ptr()), f"refuses the address of {name}")
        return buffers

    def _make_outputs(self) -> dict[str, torch.Tensor]:
        names = [name for name, is_input in self._engine.tensors().items() if not is_input]
        buffers = {
            name: self._device.zeros(tuple(self._context.get_tensor_shape(name)), self._engine.dtype(name))
            for name in names
        }
        for name, buffer in buffers.items():
            self._check(self._context.set_tensor_address(name, buffer.data_ptr()), f"refuses the address of {name}")
        return buffers

    def _give_scratch(self) -> torch.Tensor | None:
        """TensorRT-RTX's engines are built to work in memory that the caller provides; TensorRT takes its own."""
        if not self._engine.flavour.rtx:
            return None
        context = cast("RtxExecutionContext", self._context)
        size = context.update_device_memory_size_for_shapes()
        scratch = self._device.zeros((max(size, 1),), torch.uint8)
        context.set_device_memory(scratch.data_ptr(), size)
        return scratch

    def _check_capturable(self) -> None:
        if self._engine.flavour.rtx:
            context = cast("RtxExecutionContext", self._context)
            if not context.is_stream_capturable(self._stream):
                raise Unsupported(
                    "TensorRT-RTX says that this engine cannot be captured in a CUDA graph: use cuda_graph=off"
                )

    def _upload(self, name: str, inputs: Inputs) -> torch.Tensor:
        buffer = self._inputs[name]
        return self._given(name, inputs).to(device=buffer.device, dtype=buffer.dtype)

    def _given(self, name: str, inputs: Inputs) -> torch.Tensor:
        """An input of a set, on the host."""
        buffer, array = self._inputs[name], inputs.arrays[name]
        if tuple(array.shape) != tuple(buffer.shape):
            raise BuildFailed(
                f"input {name} has shape {tuple(array.shape)}, and the session is for {tuple(buffer.shape)}"
            )
        return torch.from_numpy(array)

    def _check(self, well: bool, what: str) -> None:
        if not well:
            raise self._engine.error(what)


def _closed() -> None:
    raise RuntimeError("the session is closed")
