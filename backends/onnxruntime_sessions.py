"""Loading an ONNX Runtime session, and running it on buffers and a stream of PyTorch's."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch

from benchrun.backends.contract import PACKED_TOKENS, BackendError, BuildFailed, OutOfMemory, Session, Unsupported
from benchrun.backends.onnx_packing import FORMS
from benchrun.backends.torch_sessions import memory_errors

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray, Inputs, Point
    from benchrun.backends.onnxruntime_trace import Trace

LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
ERRORS_ONLY = 3  # ONNX Runtime's log severity
BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16: numpy has no such type
ELEMENTS: Mapping[
    str, tuple[Any, torch.dtype]
] = {  # ONNX Runtime's name of a type → what a binding takes, and PyTorch's
    "tensor(int64)": (np.int64, torch.int64),
    "tensor(float)": (np.float32, torch.float32),
    "tensor(float16)": (np.float16, torch.float16),
    "tensor(bfloat16)": (BFLOAT16, torch.bfloat16),
}
OUT_OF_MEMORY = ("out of memory", "failed to allocate memory", "bad_alloc", "cuda_error_out_of_memory", "bfc arena")


@dataclass(frozen=True, slots=True)
class Setup:
    """All that makes two ONNX Runtime sessions the same: file, provider with its options, optimisation level, threads."""

    path: Path
    provider: str
    provider_options: tuple[tuple[str, str], ...] = ()
    level: str = "all"
    threads: int | None = None
    sizes: tuple[tuple[str, int], ...] = ()  # dynamic sizes to be fixed, for providers that compile
    behind: tuple[str, ...] = ()  # providers that take the nodes that `provider` does not


@dataclass(eq=False)
class Engine:
    """A loaded session, what was read back of it, and the stream that it works on.

    `takes_lengths`: its attention is told the length of each sequence, so that only padding on the right is understood.
    """

    setup: Setup
    session: onnxruntime.InferenceSession
    trace: Trace
    takes_lengths: bool = False
    stream: torch.cuda.Stream | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turns ONNX Runtime's exceptions into ours: OutOfMemory, else BuildFailed with its first line. `doing` starts it."""
    try:
        yield
    except BackendError:
        raise
    except Exception as error:  # its own exception classes have no public home and no common base
        kind = OutOfMemory if ran_out_of_memory(error) else BuildFailed
        raise kind(f"{doing}: {first_line(error)}") from error


def ran_out_of_memory(error: Exception) -> bool:
    """ONNX Runtime has no exception of its own for memory: its words tell."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in OUT_OF_MEMORY)


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def open_session(setup: Setup, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """Load a graph. With `profile` (a file's path without ending) the session profiles until `end_profiling`.

    Raises BuildFailed, also where ONNX Runtime would go on without the provider that was asked for; OutOfMemory.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = LEVELS[setup.level]
    options.inter_op_num_threads = 1
    if setup.threads is not None:
        options.intra_op_num_threads = setup.threads
    for name, size in setup.sizes:
        options.add_free_dimension_override_by_name(name, size)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    providers: list[Any] = [(setup.provider, dict(setup.provider_options)), *setup.behind]
    with engine_errors(f"ONNX Runtime could not load the model on {setup.provider}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a provider that it drops; that is an error here
        session = onnxruntime.InferenceSession(setup.path, options, providers=providers, enable_fallback=0)
    if session.get_providers()[0] != setup.provider:
        raise BuildFailed(
            f"ONNX Runtime dropped {setup.provider} and would run on {session.get_providers()[0]}: a library that the "
            "provider needs could not be loaded; its log says which one"
        )
    return session


class OrtSession(Session):
    """Runs on buffers of PyTorch's on the point's device; on CUDA on the engine's own stream, without waiting for it.

    With a captured graph there is one set of input buffers, which `bind` fills; else each input set keeps its own.
    """

    def __init__(
        self, engine: Engine, point: Point, facts: Mapping[str, Any], device: torch.device, *, captured: bool
    ) -> None:
        self._engine = engine
        self._point = point
        self._facts = facts
        self._device = device
        self._captured = captured
        self._session: Any = engine.session
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = ERRORS_ONLY
        if engine.stream is not None:  # else a run must wait for itself: nobody can wait for a stream that is not known
            self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        with memory_errors(), self._on_stream():
            self._outputs = {node.name: self._buffer(node, torch.nan) for node in self._session.get_outputs()}
        self._sets: dict[int, dict[str, torch.Tensor]] = {}
        self._bindings: dict[int, Any] = {}
        self._static: dict[str, torch.Tensor] = {}
        self._once: Any = None
        self._binding: Any = None
        if captured:
            self._capture()

    def bind(self, inputs: Inputs) -> None:
        with memory_errors(), self._on_stream():
            if inputs.index < 0:
                self._bind_once(inputs)
                return
            if inputs.index not in self._sets:
                self._check(inputs)
                self._sets[inputs.index] = self._upload(inputs)
                if not self._captured:
                    self._bindings[inputs.index] = self._bind(self._sets[inputs.index])
            if self._captured:
                for name, tensor in self._sets[inputs.index].items():
                    self._static[name].copy_(tensor)
            else:
                self._binding = self._bindings[inputs.index]
        self.synchronize()

    def _bind_once(self, inputs: Inputs) -> None:
        """Copy a set that comes once into buffers that stay; `enqueue` runs on the same stream, behind the copies."""
        self._check(inputs)
        if not self._static:
            self._static = self._upload(inputs)
            self._once = self._bind(self._static)
        else:
            for name, buffer in self._static.items():
                buffer.copy_(torch.from_numpy(inputs.arrays[name]))
        if not self._captured:
            self._binding = self._once

    def enqueue(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding, self._run_options)
        except Exception as error:
            if ran_out_of_memory(error):
                raise OutOfMemory(first_line(error)) from error
            raise

    def synchronize(self) -> None:
        if self._engine.stream is not None:
            self._engine.stream.synchronize()  # pragma: no cover - needs a GPU

    def outputs(self) -> Mapping[str, FloatArray]:
        self.synchronize()
        return {
            name: tensor.to(device="cpu", dtype=torch.float32, copy=True).numpy()
            for name, tensor in self._answers().items()
        }

    def poison(self) -> None:
        with self._on_stream():
            for tensor in self._outputs.values():
                tensor.fill_(torch.nan)
        self.synchronize()

    def facts(self) -> Mapping[str, Any]:
        found = {**self._engine.trace.facts(self._engine.setup.provider), **self._engine.facts, **self._facts}
        found.setdefault("threads", self._engine.session.get_session_options().intra_op_num_threads)
        found["cuda_graph"] = self._captured
        if found.get("tf32_allowed"):
            dtypes = dict(found["compute_dtypes"])
            found["compute_dtypes"] = {**dtypes, "matmul": dtypes.get("matmul", "").replace("fp32", "tf32")}
        return found

    def close(self) -> None:
        self.synchronize()
        self._binding = self._once = self._session = None
        for kept in (self._bindings, self._sets, self._static, self._outputs):
            kept.clear()

    @property
    def stream(self) -> int | None:
        """The engine's stream; on a GPU without one the default stream, beside which a run waits for itself."""
        if self._engine.stream is not None:
            return int(self._engine.stream.cuda_stream)  # pragma: no cover - needs a GPU
        return None if self._device.type == "cpu" else 0

    def _capture(self) -> None:
        """Run once with the buffers of all later runs: in its first run ONNX Runtime warms up, captures and replays."""
        with memory_errors(), self._on_stream():
            for node in self._session.get_inputs():
                self._static[node.name] = self._buffer(node, 0 if node.name == "token_type_ids" else 1)
            self._binding = self._bind(self._static)
        self.synchronize()
        with engine_errors("ONNX Runtime could not capture a CUDA graph"):
            self.enqueue()
            self.synchronize()

    def _check(self, inputs: Inputs) -> None:
        """Raises Unsupported for a mask that is not ones followed by zeros, where only lengths reach the attention."""
        if not self._engine.takes_lengths:
            return
        mask = inputs.arrays["attention_mask"]
        lengths = mask.sum(axis=1, keepdims=True)
        if not np.array_equal(mask, np.arange(mask.shape[1])[None, :] < lengths):
            raise Unsupported("ort's fused attention takes lengths, so pad on the right, or use --opt fusion=off")

    def _upload(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        """Device copies of an input set in the types that the graph takes."""
        return {
            node.name: torch.from_numpy(inputs.arrays[node.name])
            .to(device=self._device, dtype=ELEMENTS[node.type][1])
            .contiguous()
            for node in self._session.get_inputs()
        }

    def _bind(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        """A binding of the addresses of `inputs` and of the output buffers; both must outlive it."""
        binding = self._session.io_binding()
        kind, index = self._device.type, self._device.index or 0
        outputs = self._answers()
        for node in self._session.get_inputs():
            tensor, element = inputs[node.name], ELEMENTS[node.type][0]
            binding.bind_input(node.name, kind, index, element, tuple(tensor.shape), tensor.data_ptr())
        for node in self._session.get_outputs():
            tensor, element = outputs[node.name], ELEMENTS[node.type][0]
            binding.bind_output(node.name, kind, index, element, tuple(tensor.shape), tensor.data_ptr())
        return binding

    def _answers(self) -> Mapping[str, torch.Tensor]:
        """Where the outputs of what is bound go."""
        return self._outputs

    def _buffer(self, node: onnxruntime.NodeArg, value: float) -> torch.Tensor:
        """A buffer for an input or output of the graph, filled with `value`."""
        sizes = {"batch": self._point.batch, "seq": self._point.seq}
        shape = tuple(size if isinstance(size, int) else sizes[size] for size in node.shape)
        return torch.full(shape, value, dtype=ELEMENTS[node.type][1], device=self._device)

    def _on_stream(self) -> contextlib.AbstractContextManager[Any]:
        stream = self._engine.stream
        return contextlib.nullcontext() if stream is None else torch.cuda.stream(stream)


class PackedOrtSession(OrtSession):
    """Padded sets in, padded answers out; the graph takes the padding out and puts it back (`onnx_packing`), so as many tokens are computed
    as there are.

    `bind` takes any number of sequences up to the point's batch, of any width up to its seq, together up to the tokens of its capacity.
    Calls of different sizes use the first part of the same buffers.
    """

    def __init__(self, engine: Engine, point: Point, facts: Mapping[str, Any], device: torch.device) -> None:
        self._lengths: tuple[int, ...] = ()
        self._width = 0
        self._once_bindings: dict[tuple[int, int], Any] = {}  # of sets that come once, by number of sequences and width
        super().__init__(engine, point, facts, device, captured=False)

    def bind(self, inputs: Inputs) -> None:
        point, tokens = self._point, sum(inputs.lengths)
        width = next(iter(inputs.arrays.values())).shape[1]
        room = int(point.option(PACKED_TOKENS) or point.batch * point.seq)
        if len(inputs.lengths) > point.batch or width > point.seq or tokens > room:
            raise BackendError(
                f"this session has room for {point.batch} sequences of {point.seq} tokens, {room} together, not for "
                f"{len(inputs.lengths)} of {width}, {tokens} together"
            )
        self._lengths, self._width = inputs.lengths, width
        super().bind(inputs)

    def outputs(self) -> Mapping[str, FloatArray]:
        found = dict(super().outputs())
        padding = np.arange(self._width)[None, :] >= np.array(self._lengths)[:, None]
        for node in self._session.get_outputs():
            if "seq" in node.shape:  # a head computes something at the padding as well
                found[node.name][padding] = 0
        return found

    def facts(self) -> Mapping[str, Any]:
        facts = super().facts()
        return {
            **facts,
            "layout": "packed",
            "tokens": sum(self._lengths),
            "packing_verified": FORMS[facts["attention_form"]],
        }

    @property
    def packed(self) -> bool:
        return True

    def close(self) -> None:
        super().close()
        self._once_bindings.clear()

    def _bind_once(self, inputs: Inputs) -> None:
        self._check(inputs)
        if not self._static:
            self._static = {node.name: self._buffer(node, 0) for node in self._session.get_inputs()}
        parts = {node.name: self._part(node, self._static[node.name]) for node in self._session.get_inputs()}
        for name, buffer in parts.items():
            buffer.copy_(torch.from_numpy(inputs.arrays[name]))
        size = len(self._lengths), self._width
        if size not in self._once_bindings:
            self._once_bindings[size] = self._bind(parts)
        self._binding = self._once_bindings[size]

    def _answers(self) -> Mapping[str, torch.Tensor]:
        return {node.name: self._part(node, self._outputs[node.name]) for node in self._session.get_outputs()}

    def _part(self, node: onnxruntime.NodeArg, buffer: torch.Tensor) -> torch.Tensor:
        """The beginning of a buffer in the shape that an input or output has for what is bound."""
        sizes = {"batch": len(self._lengths), "seq": self._width}
        shape = tuple(size if isinstance(size, int) else sizes[size] for size in node.shape)
        return buffer.flatten()[: math.prod(shape)].view(shape)
