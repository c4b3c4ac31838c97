"""The part that needs AITemplate and a GPU: compiling an encoder to a library, loading it, running it.

Decisions are in aitemplate_bert, aitemplate_target and aitemplate_report, which are tested without AITemplate. What is
here has been compiled for sm_90 without a GPU; docs/aitemplate.md says what has run.
"""

# ruff: noqa: SLF001 - AITemplate keeps what is known of an operator or tensor in `_attrs` only

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock

from benchrun.backends import aitemplate_bert, aitemplate_report, aitemplate_target
from benchrun.backends.contract import BackendError, Session, Unsupported

if TYPE_CHECKING:
    from benchrun.backends.aitemplate_bert import EncoderPlan
    from benchrun.backends.contract import FloatArray, Inputs

LIBRARY = "model.so"
REPORT = "report.json"
MAKE_TIMEOUT_S = 3600  # AITemplate gives `make` 180 s, too little for its profilers on two cores
WARMUPS = 2
SHOWN_CHARACTERS = 8000


@dataclass(frozen=True, slots=True)
class Target:
    """What to compile for. `visible` is the device as CUDA_VISIBLE_DEVICES names it; `workshop` the folder of this
    environment's profile cache and profilers."""

    kind: str
    arch: str
    accumulate: str
    visible: str
    workshop: Path
    static_files: Path
    environment: Mapping[str, str]
    corrected: bool


def import_aitemplate() -> Any:  # pragma: no cover - needs AITemplate (source install)
    """The package. Undoes what its import does to the root logger."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    import aitemplate

    root.setLevel(level)
    root.handlers[:] = handlers
    return aitemplate


def compile_library(
    folder: Path, plan: EncoderPlan, target: Target
) -> None:  # pragma: no cover - needs AITemplate (source install)
    """Profile, generate and compile `plan`; leaves the library and a report of its operators in `folder`.

    Profiling comes first and apart, for two reasons. AITemplate gives a profiling result (split-k) to every layer only
    where it comes from the profile cache; and the profilers use the GPU, so one process at a time runs them.
    """
    target.workshop.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="benchrun-ait-") as work,
        aitemplate_target.environment_set(target.environment),
    ):
        static = Path(work) / "static"
        if target.corrected:
            aitemplate_target.correct_static_files(target.static_files, static)
        else:
            shutil.copytree(target.static_files, static)
        with engine_messages("profiling kernels"), FileLock(target.workshop / "lock"):
            _compile(plan, target, static, work, profile_only=True)
        with engine_messages("compiling"):
            graph = _compile(plan, target, static, work, profile_only=False)
        shutil.copyfile(Path(work) / "model" / LIBRARY, folder / LIBRARY)
    (folder / REPORT).write_text(json.dumps(_operators(graph), indent=1), encoding="utf-8")


def _compile(
    plan: EncoderPlan, target: Target, static: Path, work: str, *, profile_only: bool
) -> Any:  # pragma: no cover - needs AITemplate (source install)
    """AITemplate's sorted graph, after profiling it or after compiling it into `work`/model/LIBRARY."""
    import_aitemplate()
    from aitemplate.backend import builder
    from aitemplate.backend.target import CUDA, ROCM
    from aitemplate.compiler import compile_model, compiler, ops
    from aitemplate.frontend import Tensor

    class Profiled(Exception):
        """Stops compile_model once the profile cache is filled."""

    class PatientBuilder(builder.Builder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(timeout=MAKE_TIMEOUT_S)

        def make(self, *args: Any, **kwargs: Any) -> None:
            if profile_only:
                raise Profiled
            super().make(*args, **kwargs)

    class Graph:
        """In place of the loaded model: the library is loaded later, from the artefact cache."""

        debug_sorted_graph: Any = None

        def __init__(self, *args: Any) -> None:
            pass

    detection = sys.modules["aitemplate.testing.detect_target"]  # operators ask it what they are compiled for
    detection.IS_CUDA, detection.FLAG = target.kind == "cuda", target.arch  # type: ignore[attr-defined]
    if target.kind == "cuda":
        made = CUDA(arch=target.arch, ait_static_files_path=str(static), use_fp16_acc=target.accumulate == "fp16")
    else:
        made = ROCM(arch=target.arch, ait_static_files_path=str(static))
    output = aitemplate_bert.build_graph(ops, Tensor, plan)
    output._attrs["is_output"] = True
    output._attrs["name"] = aitemplate_bert.OUTPUT
    engine, model = builder.get_compile_engine, compiler.Model
    builder.get_compile_engine, compiler.Model = PatientBuilder, Graph
    try:
        return compile_model(
            output, made, work, "model", [target.visible], dll_name=LIBRARY, profile_dir=str(target.workshop)
        ).debug_sorted_graph
    except Profiled:
        return None
    finally:
        builder.get_compile_engine, compiler.Model = engine, model


def _operators(graph: Any) -> list[dict[str, Any]]:  # pragma: no cover - needs AITemplate (source install)
    return [
        aitemplate_report.operator_report(
            op._attrs["op"],
            op._attrs["name"],
            op._attrs["outputs"][0]._attrs["dtype"],
            [getattr(item, "algo", "") for item in (op._attrs.get("exec_path") or {}).values()],
            op._attrs.get("split_k"),
        )
        for tensor in graph
        for op in tensor.src_ops()
    ]


@contextmanager
def engine_messages(doing: str) -> Iterator[None]:
    """Turns what AITemplate raises into BuildFailed or OutOfMemory with the reason.

    Compilers and its C++ side write the reason to standard error only. That is collected below Python, at file
    descriptor 2, and its end is shown where something failed.
    """
    logger = logging.getLogger("aitemplate")
    level = logger.level
    logger.setLevel(logging.INFO)  # else it keeps the output of a failed `make` to itself
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        failure: Exception | None = None
        try:
            yield
        except Exception as error:  # AITemplate raises RuntimeError, AssertionError and subprocess errors alike
            failure = error
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            logger.setLevel(level)
            log.seek(0)
            text = log.read().decode(errors="replace")
    if failure is None:
        return
    sys.stderr.write(text[-SHOWN_CHARACTERS:])
    if isinstance(failure, BackendError):
        raise failure
    raise aitemplate_report.explain(failure, text, doing) from failure


class AITemplateSession(Session):  # pragma: no cover - needs AITemplate (source install) and a GPU
    """A compiled library on its own stream, with inputs and outputs at fixed addresses.

    `graph` says who makes a CUDA graph of it: with `on` it is captured here, once, and replayed; with `engine`
    AITemplate's own graph mode captures the whole model again in every call; with `off` nobody does.
    """

    def __init__(
        self,
        library: Path,
        plan: EncoderPlan,
        weights: Mapping[str, torch.Tensor],
        device: torch.device,
        graph: str,
        facts: Mapping[str, Any],
        padding_id: int,
        family: str,
    ) -> None:
        self._plan, self._family, self._padding_id = plan, family, padding_id
        self._facts = dict(facts)
        self._mode = graph
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._previous_stream = torch.cuda.current_stream(device)
        self._sets: dict[int, dict[str, torch.Tensor]] = {}
        self._graph: torch.cuda.CUDAGraph | None = None
        torch.cuda.set_stream(self._stream)
        try:
            self._load(library, weights, device)
        except BaseException:
            torch.cuda.set_stream(self._previous_stream)
            raise

    def _load(self, library: Path, weights: Mapping[str, torch.Tensor], device: torch.device) -> None:
        from aitemplate.compiler import Model as Library

        plan = self._plan
        self._inputs = {
            name: torch.zeros(shape, dtype=_dtype(dtype), device=device)
            for name, (shape, dtype) in plan.inputs().items()
        }
        self._output = torch.zeros((plan.rows, plan.hidden), dtype=torch.float16, device=device)
        constants = {
            name: weights[name].to(device, _dtype(dtype)).contiguous() for name, (_, dtype) in plan.constants().items()
        }
        with engine_messages("loading the library"):
            # without a captured graph a run waits until an earlier one gives its runtime back: two let calls queue up
            self._model = Library(str(library), num_runtimes=1 if self._mode == "on" else 2)
            self._model.set_many_constants_with_tensors(constants)
            self._prepare_arguments()
        with engine_messages("running the model"):
            for _ in range(WARMUPS):
                self._run()
                self.synchronize()
        if self._mode == "on":
            with engine_messages("capturing a CUDA graph"):
                self._capture()

    def bind(self, inputs: Inputs) -> None:
        if not inputs.full:
            raise Unsupported("AITemplate's BERT takes no attention mask: a padded input set would get another answer")
        if inputs.index not in self._sets:
            self._sets[inputs.index] = self._upload(inputs)
        for name, tensor in self._sets[inputs.index].items():
            self._inputs[name].copy_(tensor)

    def enqueue(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        else:
            self._run()

    def synchronize(self) -> None:
        self._stream.synchronize()

    def outputs(self) -> Mapping[str, FloatArray]:
        plan = self._plan
        return {aitemplate_bert.OUTPUT: self._output.float().cpu().numpy().reshape(plan.batch, plan.seq, plan.hidden)}

    def facts(self) -> Mapping[str, Any]:
        output_dtype = self._model.get_output_dtype(0)
        return {
            **self._facts,
            "cuda_graph": self._mode != "off",
            "cuda_graph_by": {
                "on": "benchrun: captured once, replayed",
                "engine": "aitemplate: captured at every call",
            }.get(self._mode, ""),
            "output_dtype": {1: "fp16", 2: "fp32", 6: "bf16"}.get(output_dtype, str(output_dtype)),
            "attention_mask": "none: full lengths",
        }

    def poison(self) -> None:
        self._output.fill_(torch.nan)

    def close(self) -> None:
        self.synchronize()
        if self._graph is not None:
            self._graph.reset()
            self._graph = None
        self._model.close()
        self._sets.clear()
        self._inputs.clear()
        torch.cuda.set_stream(self._previous_stream)

    @property
    def stream(self) -> int | None:
        return int(self._stream.cuda_stream)

    def _prepare_arguments(self) -> None:
        """Pointers and shapes in AITemplate's order, made once: its tensor interface converts them in every call."""
        from aitemplate.compiler.model import torch_to_ait_data

        order = self._model.get_input_name_to_index_map()
        self._arguments = [torch_to_ait_data(self._inputs[name]) for name in sorted(order, key=order.__getitem__)]
        self._results = [torch_to_ait_data(self._output)]

    def _run(self) -> None:
        self._model.run(
            self._arguments,
            self._results,
            stream_ptr=self._stream.cuda_stream,
            sync=False,
            graph_mode=self._mode == "engine",
        )

    def _capture(self) -> None:
        """Record one run as a graph.

        AITemplate asks an event of the run before whether it is done, which only the relaxed mode allows. It must not
        run by itself afterwards: that event then belongs to the capture.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="relaxed"):
            self._run()
        self._graph = graph
        graph.replay()
        self.synchronize()

    def _upload(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        arrays = {name: torch.from_numpy(array) for name, array in inputs.arrays.items()}
        tensors = aitemplate_bert.graph_inputs(arrays, self._plan, self._family, self._padding_id)
        return {name: tensor.to(self._output.device, self._inputs[name].dtype) for name, tensor in tensors.items()}


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found
