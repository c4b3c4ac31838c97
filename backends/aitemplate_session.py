"""Running a library that AITemplate compiled."""

# AITemplate is not on any index, so no type checker finds it.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from benchrun.backends import aitemplate_bert
from benchrun.backends.aitemplate_compile import engine_messages
from benchrun.backends.contract import Session, Unsupported

if TYPE_CHECKING:
    from benchrun.backends.aitemplate_bert import EncoderPlan
    from benchrun.backends.contract import FloatArray, Inputs

WARMUPS = 2
GRAPHS = {"on": "benchrun: captured once, replayed", "engine": "aitemplate: captured at every call"}
OUTPUT_DTYPES = {1: "fp16", 2: "fp32", 6: "bf16"}  # AITemplateDtype in its model_interface.h


@dataclass(frozen=True)
class Buffers:
    """The graph's inputs, its constants and its output, on the device, at addresses that stay."""

    plan: EncoderPlan
    inputs: dict[str, torch.Tensor]
    constants: dict[str, torch.Tensor]
    output: torch.Tensor
    sets: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)

    @classmethod
    def on(cls, device: torch.device, plan: EncoderPlan, weights: Mapping[str, torch.Tensor]) -> Buffers:
        """Zeroed inputs and output, and `weights` in the graph's dtypes."""
        return cls(
            plan,
            {
                name: torch.zeros(shape, dtype=_dtype(each), device=device)
                for name, (shape, each) in plan.inputs().items()
            },
            {name: weights[name].to(device, _dtype(each)).contiguous() for name, (_, each) in plan.constants().items()},
            torch.zeros((plan.rows, plan.hidden), dtype=torch.float16, device=device),
        )

    def bind(self, inputs: Inputs, family: str, padding_id: int) -> None:
        """Copy an input set into the inputs; from the host the first time, on the device later."""
        if not inputs.full:
            raise Unsupported("AITemplate's BERT takes no attention mask: a padded input set would get another answer")
        if inputs.index not in self.sets:
            arrays = {name: torch.from_numpy(array) for name, array in inputs.arrays.items()}
            given = aitemplate_bert.graph_inputs(arrays, self.plan, family, padding_id)
            if inputs.index < 0:  # it comes once: straight into the inputs
                for name, tensor in given.items():
                    self.inputs[name].copy_(tensor)
                return
            self.sets[inputs.index] = {
                name: tensor.to(self.output.device, self.inputs[name].dtype) for name, tensor in given.items()
            }
        for name, tensor in self.sets[inputs.index].items():
            self.inputs[name].copy_(tensor)

    def result(self) -> FloatArray:
        """The output [B, S, H] as float32 on the host."""
        plan = self.plan
        found: FloatArray = self.output.float().cpu().numpy().reshape(plan.batch, plan.seq, plan.hidden)
        return found

    def clear(self) -> None:
        """Let the tensors go, except the output."""
        for tensors in (self.sets, self.inputs, self.constants):
            tensors.clear()


class Execution(Protocol):
    """A loaded library bound to buffers and a stream."""

    @property
    def stream(self) -> int: ...

    @property
    def output_dtype(self) -> int: ...

    def enqueue(self) -> None: ...

    def synchronize(self) -> None: ...

    def close(self) -> None: ...


class AITemplateSession(Session):
    """A compiled encoder.

    `graph` says who makes a CUDA graph of it: `on` the execution, once; `engine` AITemplate, which captures the whole
    model again in every call; `off` nobody.
    """

    def __init__(
        self,
        execution: Execution,
        buffers: Buffers,
        graph: str,
        facts: Mapping[str, Any],
        family: str,
        padding_id: int,
    ) -> None:
        self._execution = execution
        self._buffers = buffers
        self._graph = graph
        self._facts = facts
        self._family = family
        self._padding_id = padding_id

    def bind(self, inputs: Inputs) -> None:
        self._buffers.bind(inputs, self._family, self._padding_id)

    def enqueue(self) -> None:
        self._execution.enqueue()

    def synchronize(self) -> None:
        self._execution.synchronize()

    def outputs(self) -> Mapping[str, FloatArray]:
        return {aitemplate_bert.OUTPUT: self._buffers.result()}

    def facts(self) -> Mapping[str, Any]:
        number = self._execution.output_dtype
        return {
            **self._facts,
            "cuda_graph": self._graph != "off",
            "cuda_graph_by": GRAPHS.get(self._graph, "nobody"),
            "output_dtype": OUTPUT_DTYPES.get(number, str(number)),
            "attention_mask": "none: full lengths",
        }

    def poison(self) -> None:
        self._buffers.output.fill_(torch.nan)

    def close(self) -> None:
        self._execution.close()
        self._buffers.clear()

    @property
    def stream(self) -> int | None:
        return self._execution.stream


class LoadedLibrary:  # pragma: no cover - needs AITemplate (source install) and a GPU
    """A library on a stream of its own, which is PyTorch's current one until `close`."""

    def __init__(self, library: Path, buffers: Buffers, graph: str) -> None:
        from aitemplate.compiler import Model
        from aitemplate.compiler.model import torch_to_ait_data

        self._mode = graph
        self._replay: torch.cuda.CUDAGraph | None = None
        self._previous = torch.cuda.current_stream()
        self._previous.synchronize()  # the buffers were filled on it
        self._stream = torch.cuda.Stream()
        with engine_messages("loading the library"):
            # without a captured graph a run waits until an earlier one gives its runtime back: two let calls queue up
            self._model = Model(str(library), num_runtimes=1 if graph == "on" else 2)
            self._model.set_many_constants_with_tensors(buffers.constants)
            order = self._model.get_input_name_to_index_map()
            # pointers and shapes are made once: AITemplate's tensor interface would make them in every call
            self._given = [torch_to_ait_data(buffers.inputs[name]) for name in sorted(order, key=order.__getitem__)]
            self._results = [torch_to_ait_data(buffers.output)]
        with engine_messages("running the model"):
            for _ in range(WARMUPS):
                self.enqueue()
                self.synchronize()
        if graph == "on":
            with engine_messages("capturing a CUDA graph"):
                self._capture()
        torch.cuda.set_stream(self._stream)

    @property
    def stream(self) -> int:
        return int(self._stream.cuda_stream)

    @property
    def output_dtype(self) -> int:
        return int(self._model.get_output_dtype(0))

    def enqueue(self) -> None:
        handle = self._stream.cuda_stream
        self._model.run(self._given, self._results, stream_ptr=handle, sync=False, graph_mode=self._mode == "engine")

    def synchronize(self) -> None:
        self._stream.synchronize()

    def close(self) -> None:
        self.synchronize()
        if self._replay is not None:
            self._replay.reset()
        self._model.close()
        torch.cuda.set_stream(self._previous)

    def _capture(self) -> None:
        """Record one run as a graph.

        AITemplate asks an event of the run before whether it is done, which only the relaxed mode allows. It must not
        run by itself afterwards: that event then belongs to the capture.
        """
        self._replay = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._replay, stream=self._stream, capture_error_mode="relaxed"):
            self.enqueue()
        self.enqueue = self._replay.replay  # type: ignore[method-assign]


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found
