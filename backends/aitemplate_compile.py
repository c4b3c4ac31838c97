"""Compiling an encoder with AITemplate into a folder of the artefact cache."""

# ruff: noqa: SLF001 - AITemplate keeps what is known of an operator or tensor in `_attrs` only

# AITemplate is not on any index, so no type checker finds it.
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from benchrun.backends import aitemplate_bert, aitemplate_report, aitemplate_target
from benchrun.backends.contract import BackendError

if TYPE_CHECKING:
    from benchrun.backends.aitemplate_bert import EncoderPlan

LIBRARY = "model.so"
REPORT = "report.json"
MAKE_TIMEOUT_S = 3600  # AITemplate gives `make` 180 s, too little for its profilers on two cores
SHOWN_CHARACTERS = 8000


@dataclass(frozen=True, slots=True)
class Target:
    """What to compile for.

    `visible` is the device as CUDA_VISIBLE_DEVICES names it, `workshop` the folder of this environment's profile cache
    and profilers, `environment` what is set meanwhile, `corrected` whether the runtime's sources need CUDA 13's change.
    """

    kind: str
    arch: str
    accumulate: str
    visible: str
    workshop: Path
    static_files: Path
    environment: Mapping[str, str]
    corrected: bool


@dataclass(frozen=True, slots=True)
class Job:
    """One call of `generate`: `static` holds the runtime's sources, the library goes to `work`/model/LIBRARY.

    With `profile_only` it ends once the profile cache has an answer for every operator.
    """

    plan: EncoderPlan
    target: Target
    static: Path
    work: Path
    profile_only: bool


def compile_library(folder: Path, plan: EncoderPlan, target: Target, generate: Callable[[Job], Any]) -> None:
    """Profile and compile `plan`; leaves the library and a report of its operators in `folder`.

    Profiling comes first and apart, for two reasons. AITemplate gives a profiling result (split-k) to every layer only
    where it comes from the profile cache; and the profilers use the GPU, so one process at a time runs them.
    """
    target.workshop.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="benchrun-ait-") as name,
        aitemplate_target.environment_set(target.environment),
    ):
        work = Path(name)
        static = work / "static"
        if target.corrected:
            aitemplate_target.correct_static_files(target.static_files, static)
        else:
            shutil.copytree(target.static_files, static)
        with engine_messages("profiling kernels"), FileLock(target.workshop / "lock"):
            generate(Job(plan, target, static, work, profile_only=True))
        with engine_messages("compiling"):
            graph = generate(Job(plan, target, static, work, profile_only=False))
        shutil.copyfile(work / "model" / LIBRARY, folder / LIBRARY)
    (folder / REPORT).write_text(json.dumps(operator_records(graph), indent=1), encoding="utf-8")


def operator_records(graph: Iterable[Any]) -> list[dict[str, Any]]:
    """AITemplate's sorted graph as plain JSON, one record for each operator."""
    return [
        aitemplate_report.operator_record(
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
    failure: Exception | None = None
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
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


def import_aitemplate() -> Any:
    """The package. Undoes what its import does to the root logger."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        import aitemplate
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
    return aitemplate


def generate(job: Job) -> Any:  # pragma: no cover - needs AITemplate (source install)
    """AITemplate's sorted graph after compiling it, or None after profiling it."""
    import_aitemplate()
    from aitemplate.backend import builder, registry
    from aitemplate.backend.target import CUDA, ROCM
    from aitemplate.compiler import compile_model, compiler, ops
    from aitemplate.frontend import Tensor

    class Profiled(Exception):
        """Stops compile_model once the profile cache is filled."""

    class PatientBuilder(builder.Builder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(timeout=MAKE_TIMEOUT_S)

        def make(self, *arguments: Any, **named: Any) -> None:
            if job.profile_only:
                raise Profiled
            super().make(*arguments, **named)

    class Unloaded:
        """In place of AITemplate's model: the library is loaded later, from the artefact cache."""

        def __init__(self, *_: Any) -> None:
            self.debug_sorted_graph: Any = None

    target, options = job.target, {"ait_static_files_path": str(job.static)}
    detection = sys.modules["aitemplate.testing.detect_target"]  # operators ask it what they are compiled for
    detection.IS_CUDA, detection.FLAG = target.kind == "cuda", target.arch  # type: ignore[attr-defined]
    if target.kind == "cuda":
        made = CUDA(arch=target.arch, use_fp16_acc=target.accumulate == "fp16", **options)
    else:
        aitemplate_target.check_rocm_profiler(registry.get("rocm.gemm_rcr_bias.gen_profiler"))
        made = ROCM(arch=target.arch, **options)
    output = aitemplate_bert.build_graph(ops, Tensor, job.plan)
    output._attrs |= {"is_output": True, "name": aitemplate_bert.OUTPUT}
    originals = builder.get_compile_engine, compiler.Model
    builder.get_compile_engine, compiler.Model = PatientBuilder, Unloaded
    where = {"dll_name": LIBRARY, "profile_dir": str(target.workshop), "profile_devs": [target.visible]}
    try:
        return compile_model(output, made, str(job.work), "model", **where).debug_sorted_graph
    except Profiled:
        return None
    finally:
        builder.get_compile_engine, compiler.Model = originals
