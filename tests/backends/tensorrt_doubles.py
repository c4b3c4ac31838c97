"""Doubles for the hardware that is absent here. They stand for execution on a GPU and for nothing else.

`DoubleBindings` is the real TensorRT-RTX module with another `Runtime`: networks are parsed and engines built by the
real library. `DoubleContext` then computes with ONNX Runtime, on the CPU, what the engine was built from: it reads its
inputs at the addresses and in the shapes that the session set, and writes its outputs where the session said. It obeys
the rules that NVIDIA documents: shapes and addresses before execution, and memory given where the engine wants it.
"""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tensorrt_rtx_bindings
import torch

from benchrun.backends.tensorrt_device import Gpu, Gpus
from benchrun.backends.tensorrt_layers import Layer, Tensor

STREAM = 0x7000
SCRATCH_BYTES = 4096
KERNELS = b"compiled kernels"
SPELLED = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16", "int8": "Int8", "int64": "Int64", "bool": "Bool"}
ONNX_TYPES = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(int64)": "INT64", "tensor(int8)": "INT8"}
NUMPY_TYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64}


@dataclass
class DoubleDevice:
    """Memory of the CPU and a stream that does its work at once, or records it while it is captured."""

    log: list[str] = field(default_factory=list)
    stream: int = STREAM
    recording: list[Callable[[], None]] | None = None
    allocated: list[tuple[tuple[int, ...], torch.dtype]] = field(default_factory=list)
    closed: bool = False

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        self.allocated.append((shape, dtype))
        return torch.zeros(shape, dtype=dtype)

    def put(self, work: Callable[[], None]) -> None:
        """What a launch on the stream does."""
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.log.append("capture")
        recorded = self.recording = []
        work()
        self.recording = None

        def replay() -> None:
            self.log.append("replay")
            for each in recorded:
                each()

        return replay

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def close(self) -> None:
        self.closed = True


@dataclass
class Behaviour:
    """How the doubles behave; `error` is logged by what fails."""

    device: DoubleDevice
    onnx: Path
    layers: Sequence[Layer] = ()
    loads: bool = True
    makes_context: bool = True
    capturable: bool = True
    refuses: str = ""  # set_input_shape, set_tensor_address, infer_shapes or execute_async_v3
    refuses_after: int = 0  # calls that go well first
    error: str = "IRuntime: Error Code 1: something broke"
    wants_memory: bool = True
    given_kernels: bytes | None = None
    kernel_strategy: Any = None

    def refused(self, call: str) -> bool:
        """Whether this call is the one that fails."""
        if call != self.refuses:
            return False
        self.refuses_after -= 1
        return self.refuses_after < 0


class DoubleBindings:
    """The real module but for `Runtime`, and for the version where one is given."""

    def __init__(self, behaviour: Behaviour, version: str = tensorrt_rtx_bindings.__version__) -> None:
        self.__version__ = version
        self.Runtime = lambda logger: DoubleRuntime(behaviour, logger)

    def __getattr__(self, name: str) -> Any:
        return getattr(tensorrt_rtx_bindings, name)


class DoubleRuntime:
    """Stands for `Runtime`, which cannot read an engine without a GPU."""

    def __init__(self, behaviour: Behaviour, logger: Any) -> None:
        self.behaviour = behaviour
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> DoubleEngine | None:
        if not self.behaviour.loads:
            self.fail()
            return None
        assert serialized_engine
        return DoubleEngine(self)

    def fail(self) -> None:
        self.logger.log(tensorrt_rtx_bindings.ILogger.Severity.ERROR, self.behaviour.error)


class DoubleEngine:
    """Stands for `ICudaEngine`."""

    def __init__(self, runtime: DoubleRuntime) -> None:
        self.runtime = runtime
        self.behaviour = runtime.behaviour
        self.session = onnxruntime.InferenceSession(self.behaviour.onnx, providers=["CPUExecutionProvider"])
        self.inputs: dict[str, str] = {each.name: ONNX_TYPES[each.type] for each in self.session.get_inputs()}
        self.outputs: dict[str, str] = {each.name: ONNX_TYPES[each.type] for each in self.session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        names: list[str] = [*self.inputs, *self.outputs]
        return names[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = tensorrt_rtx_bindings.TensorIOMode
        return modes.INPUT if name in self.inputs else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(tensorrt_rtx_bindings.DataType, (self.inputs | self.outputs)[name])

    def create_runtime_config(self) -> DoubleRuntimeConfig:
        return DoubleRuntimeConfig()

    def create_execution_context(self, runtime_config: DoubleRuntimeConfig | None = None) -> DoubleContext | None:
        if not self.behaviour.makes_context:
            self.runtime.fail()
            return None
        if runtime_config is not None:
            assert runtime_config.strategy == tensorrt_rtx_bindings.ExecutionContextAllocationStrategy.USER_MANAGED
            self.behaviour.given_kernels = runtime_config.cache.blob
            self.behaviour.kernel_strategy = runtime_config.dynamic_shapes_kernel_specialization_strategy
        return DoubleContext(self, runtime_config)

    def create_engine_inspector(self) -> DoubleInspector:
        return DoubleInspector(self.behaviour.layers)


class DoubleRuntimeConfig:
    """Stands for `IRuntimeConfig`."""

    dynamic_shapes_kernel_specialization_strategy: Any = None
    strategy: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> DoubleRuntimeCache:
        return DoubleRuntimeCache()

    def set_runtime_cache(self, cache: DoubleRuntimeCache) -> bool:
        self.cache = cache
        return True


class DoubleRuntimeCache:
    """Stands for `IRuntimeCache`: holds kernels once something ran."""

    blob = b""

    def deserialize(self, blob: bytes) -> bool:
        self.blob = blob
        return True

    def serialize(self) -> bytes:
        return self.blob


class DoubleInspector:
    """Stands for `EngineInspector`: says what the real builder logged of the layers, as JSON."""

    execution_context: DoubleContext | None = None

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers

    def get_engine_information(self, format: Any) -> str:
        assert format == tensorrt_rtx_bindings.LayerInformationFormat.JSON
        assert self.execution_context is not None
        return inspector_json(self.layers)


class DoubleContext:
    """Stands for `IExecutionContext`."""

    def __init__(self, engine: DoubleEngine, runtime_config: DoubleRuntimeConfig | None) -> None:
        self.engine = engine
        self.behaviour = engine.behaviour
        self.config = runtime_config
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory: tuple[int, int] | None = None

    def _call(self, name: str) -> bool:
        self.behaviour.device.log.append(name)
        if self.behaviour.refused(name):
            self.engine.runtime.fail()
            return False
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name in self.engine.inputs
        self.shapes[name] = shape
        return self._call("set_input_shape")

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory
        self.addresses[name] = memory
        return self._call("set_tensor_address")

    def infer_shapes(self) -> list[str]:
        unset = [name for name in self.engine.inputs if name not in self.shapes]
        return unset if self._call("infer_shapes") else ["input_ids"]

    def get_tensor_shape(self, name: str) -> Sequence[int]:
        batch, seq = self.shapes["attention_mask"]
        declared = next(each.shape for each in self.engine.session.get_outputs() if each.name == name)
        known = {"batch": batch, "seq": seq}
        return [size if isinstance(size, int) else known[size] for size in declared]

    def update_device_memory_size_for_shapes(self) -> int:
        self._call("update_device_memory_size_for_shapes")
        assert set(self.shapes) == set(self.engine.inputs)
        return SCRATCH_BYTES

    def set_device_memory(self, memory: int, size: int) -> None:
        self._call("set_device_memory")
        self.memory = (memory, size)

    def is_stream_capturable(self, stream: int) -> bool:
        assert stream == STREAM
        return self.behaviour.capturable

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == STREAM
        assert set(self.addresses) == {*self.engine.inputs, *self.engine.outputs}
        assert self.config is None or (self.memory is not None and self.memory[0] and self.memory[1] == SCRATCH_BYTES)
        if not self._call("execute_async_v3"):
            return False
        if self.config is not None:
            self.config.cache.blob = KERNELS
        addresses, shapes = dict(self.addresses), dict(self.shapes)
        self.behaviour.device.put(lambda: self._compute(addresses, shapes))
        return True

    def _compute(self, addresses: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]) -> None:
        fed = {}
        for name, spelled in self.engine.inputs.items():
            dtype = np.dtype(NUMPY_TYPES[spelled])
            raw = ctypes.string_at(addresses[name], math.prod(shapes[name]) * dtype.itemsize)
            fed[name] = np.frombuffer(raw, dtype).reshape(shapes[name])
        answers = self.engine.session.run(list(self.engine.outputs), fed)
        for name, answer in zip(self.engine.outputs, answers, strict=True):
            data = np.ascontiguousarray(answer).tobytes()
            ctypes.memmove(addresses[name], data, len(data))


def inspector_json(layers: Sequence[Layer]) -> str:
    """Layers as the inspector spells them."""

    def spell(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
        return [{"Name": "t", "Dimensions": [each.elements or -1], "Datatype": SPELLED[each.dtype]} for each in tensors]

    found = [
        {
            "Name": each.name,
            "LayerType": each.kind,
            "Inputs": spell(each.inputs),
            "Constants": spell(each.constants or ()),
            "Outputs": spell(each.outputs),
            "TacticName": each.tactic,
            "Metadata": each.origin,
        }
        for each in layers
    ]
    return json.dumps({"Layers": found, "Bindings": []})


def one_gpu(name: str = "NVIDIA RTX A6000", capability: tuple[int, int] = (8, 6)) -> Gpus:
    """A driver's answer with one GPU."""
    return Gpus((Gpu(0, name, capability, 13000),))
