"""AITemplate's place taken by operators that compute: what a compiled library would do, done by PyTorch on the CPU.

`ComputingBackend` is the real backend but for what touches a GPU or AITemplate. Its `generate` writes a file where the
library would be; its `load` gives an execution that runs the real graph on the real buffers.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchrun.backends.aitemplate import AITemplateBackend, Gpu
from benchrun.backends.aitemplate_bert import build_graph
from benchrun.backends.aitemplate_compile import LIBRARY, Job
from benchrun.backends.aitemplate_session import Buffers
from benchrun.backends.contract import Point
from tests.backends.aitemplate_operators import OPS

H200 = Gpu("cuda", 0, "NVIDIA H200", (9, 0))
KERNEL = "cutlass_tensorop_f16_s16816gemm_f16_64x64_64x5_tn_align_8_8"


def node(op: str, **attributes: Any) -> SimpleNamespace:
    """A tensor of AITemplate's sorted graph, with the operator that makes it."""
    output = SimpleNamespace(_attrs={"dtype": "float16"})
    operator = SimpleNamespace(_attrs={"op": op, "name": f"{op}_0", "outputs": [output], **attributes})
    return SimpleNamespace(src_ops=lambda: [operator])


def graph(activation: str) -> list[SimpleNamespace]:
    """What AITemplate would tell of a compiled encoder."""
    chosen = {"M == 1": SimpleNamespace(algo=KERNEL)}
    return [
        SimpleNamespace(src_ops=list),  # an input
        node("gemm_rcr_bias", exec_path=chosen, split_k=1),
        node("flash_attention", exec_path={"total == 1": ""}),
        node("gemm_rcr_bias_add", exec_path=chosen, split_k=2),
        node("layernorm", exec_path=None),
        node(f"gemm_rcr_bias_{activation}", exec_path=chosen, split_k=1),
    ]


class ComputingExecution:
    """Runs the graph in fp32 from the fp16 buffers."""

    stream = 7
    output_dtype = 1

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self.closed = False

    def enqueue(self) -> None:
        buffers = self._buffers
        tensors = {**buffers.constants, **buffers.inputs}

        def tensor(shape: list[int], dtype: str, name: str, is_input: bool) -> torch.Tensor:
            found = tensors[name]
            return found.float() if found.is_floating_point() else found

        buffers.output.copy_(build_graph(OPS, tensor, buffers.plan))

    def synchronize(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class ComputingBackend(AITemplateBackend):
    """The backend on a machine whose GPU is `device`."""

    def __init__(self, device: Gpu = H200) -> None:
        self.device = device
        self.jobs: list[Job] = []
        self.activation = "gelu"

    def gpus(self) -> list[Gpu]:
        return [self.device]

    def gpu(self, point: Point) -> Gpu:
        return self.device

    def torch_device(self, gpu: Gpu) -> torch.device:
        return torch.device("cpu")

    def generate(self, job: Job) -> Any:
        self.jobs.append(job)
        if job.profile_only:
            return None
        (job.work / "model").mkdir()
        (job.work / "model" / LIBRARY).write_bytes(b"library")
        return graph(self.activation)

    def load(self, library: Path, buffers: Buffers, graph: str) -> ComputingExecution:
        assert library.read_bytes() == b"library"
        return ComputingExecution(buffers)
