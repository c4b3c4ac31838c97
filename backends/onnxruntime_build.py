"""From a model and a point to a loaded ONNX Runtime session: graph, trace, provider options. Graph and trace are cached."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.backends.contract import Build, Point, Unsupported, Variant
from benchrun.backends.onnx_calibration import choose_inputs, identify, read_text
from benchrun.backends.onnx_export import FILE_NAME, export_ingredients, export_onnx, library_versions
from benchrun.backends.onnx_fusion import fuse, save_graph
from benchrun.backends.onnx_packing import FORM as PACKED_FORM
from benchrun.backends.onnx_packing import check_packing, fuse_packed, packed_form
from benchrun.backends.onnx_quantisation import quantise
from benchrun.backends.onnxruntime_trace import CPU_PROVIDER, Trace, attention_kernel, captured_output, read_profile

if TYPE_CHECKING:
    from benchrun.backends.cache import Artefact
    from benchrun.backends.models import Model
    from benchrun.backends.onnxruntime_sessions import Engine, Setup

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-migraphx", "onnxruntime-openvino")
EXPORTED_AS = {"tf32": "fp32", "int8": "fp32"}
GRAPH_FORM = 3  # counts up whenever another graph comes out of the same ingredients
TRACE_FORM = 1
TRACE_SEQ = 8  # on the CPU nothing depends on the length; on a GPU the attention kernel may
FIRST_WITH_LENGTHS = (1, 25)  # the first release whose CUDA kernels of ai.onnx.Attention take lengths
GEMM_OPTIONS = "ORT_CUDA_GEMM_OPTIONS"  # may make ONNX Runtime accumulate fp16 products in fp16; unset means fp32
KERNEL_REPORT = "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO"  # makes com.microsoft's attention say which kernel it takes
VERBOSE, WARNINGS = 0, 2  # ONNX Runtime's log severities
EFFICIENT_ATTENTION = "2"  # a bit of the CUDA provider's sdpa_kernel
NOTES_NAME, TRACE_NAME = "notes.json", "trace.json"
FOLDER = "{folder}"
TENSORRT = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")
READ_BACK = ("use_tf32", "enable_cuda_graph", "sdpa_kernel", "enable_skip_layer_norm_strict_mode")


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider as a variant uses it.

    `package` has it. `compiles`: it takes whole subgraphs and builds code for them, best for fixed shapes. `behind`:
    providers that take the nodes it does not. `keeping`: options with which it keeps what it compiled; FOLDER stands for
    the folder.
    """

    name: str
    package: str
    compiles: bool = False
    behind: tuple[str, ...] = ()
    keeping: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a provider that compiles has kept: the setup that makes it load that, the trace noted with it, and the files."""

    setup: Setup
    trace: Trace | None = None
    hit: bool = False
    n_bytes: int = 0
    folder: Path | None = None
    files: tuple[str, ...] = ()

    @property
    def untouched(self) -> bool:
        """True where the provider took what was kept: else it wrote something else beside it."""
        return self.folder is not None and engine_files(self.folder) == self.files


PROVIDERS: Mapping[str, Provider] = {
    "cpu": Provider(CPU_PROVIDER, "onnxruntime"),
    "cuda": Provider("CUDAExecutionProvider", "onnxruntime-gpu"),
    "tensorrt": Provider(
        "TensorrtExecutionProvider",
        "onnxruntime-gpu",
        True,
        ("CUDAExecutionProvider",),
        (("trt_engine_cache_enable", "1"), ("trt_engine_cache_path", FOLDER)),
    ),
    "migraphx": Provider(
        "MIGraphXExecutionProvider", "onnxruntime-migraphx", True, keeping=(("migraphx_model_cache_dir", FOLDER),)
    ),
    # its cache_dir is of no use: release 1.24.1 writes the compiled model there, refuses it at the next load and writes it anew
    "openvino": Provider("OpenVINOExecutionProvider", "onnxruntime-openvino", True),
}


def import_engine() -> Any:
    """onnxruntime, with the CUDA libraries that PyTorch brought where it was built for CUDA."""
    import onnxruntime

    if getattr(onnxruntime, "cuda_version", "") and hasattr(onnxruntime, "preload_dlls"):
        import torch  # noqa: F401 - it loads its own CUDA libraries first, so that both use the same

        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find; a session says so better
            onnxruntime.preload_dlls()
    return onnxruntime


def check_point(point: Point, variant: Variant | None) -> None:
    """Raises Unsupported where ONNX Runtime, this build of it or this backend cannot do the point."""
    provider = PROVIDERS.get(point.variant)
    if provider is None or variant is None:
        raise Unsupported(f"ort has no variant {point.variant!r}: choose from {', '.join(PROVIDERS)}")
    if point.device_kind not in variant.devices:
        raise Unsupported(f"{point.engine} runs on {' and '.join(variant.devices)}, not on {point.device}")
    if point.dtype not in variant.dtypes:
        raise Unsupported(f"{point.engine} runs {', '.join(variant.dtypes)}, not {point.dtype}")
    if point.layout == "packed":
        check_packing(point)
    available = import_engine().get_available_providers()
    if provider.name not in available:
        raise Unsupported(
            f"the installed ONNX Runtime has no {provider.name} (it has {', '.join(available)}): install "
            f"{provider.package} in its place"
        )
    if point.option("cuda_graph", "off") == "on" and point.variant != "cuda":
        raise Unsupported(f"cuda_graph=on is for ort:cuda, not for {point.engine}")


def attention_form(point: Point) -> str | None:
    """The form of the fused attention (a key of `onnx_fusion.FORMS`), or None where nothing is fused."""
    if point.layout == "packed":
        return packed_form(point)
    fusion = point.option("fusion", "auto")
    if fusion == "off" or (fusion == "auto" and PROVIDERS[point.variant].compiles):
        return None
    asked = str(point.option("attention", "auto"))
    if asked != "auto":
        return asked
    if point.device_kind == "cpu":
        return "multihead"
    return "onnx" if engine_version() >= FIRST_WITH_LENGTHS else "cumulated"


def engine_version() -> tuple[int, int]:
    """Major and minor version of ONNX Runtime."""
    major, minor = import_engine().__version__.split(".")[:2]
    return int(major), int(minor)


def thread_count(point: Point) -> int:
    """The point's option `threads`, else OMP_NUM_THREADS, else the cores this process may use."""
    asked = point.option("threads") or os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if str(asked).isdigit() and int(asked) > 0 else len(os.sched_getaffinity(0))


def provider_options(point: Point, form: str | None) -> dict[str, str]:
    """Options of the point's execution provider, but for the stream."""
    index = point.device.partition(":")[2] or "0"
    if point.variant == "cuda":
        return {
            "device_id": index,
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": "1" if point.dtype == "tf32" else "0",
            "enable_cuda_graph": "1" if point.option("cuda_graph", "off") == "on" else "0",
            # layer norms sum in fp32 like everybody's; else the fused one sums in fp16 or bf16
            "enable_skip_layer_norm_strict_mode": "1",
            # cumulated lengths are understood by this kernel only; for short fp32 sequences it would not be chosen
            **({"sdpa_kernel": EFFICIENT_ATTENTION} if form == "cumulated" else {}),
        }
    if point.variant == "tensorrt":
        lowered = {"fp16": {"trt_fp16_enable": "1"}, "bf16": {"trt_bf16_enable": "1"}}
        return {"device_id": index, **lowered.get(point.dtype, {})}
    if point.variant == "openvino":
        # it minds neither ONNX Runtime's own thread count nor fp32: left alone it takes every core, and bf16 where the CPU has that
        return {"device_type": "CPU", "num_of_threads": str(thread_count(point)), "precision": "FP32"}
    return {"device_id": index} if point.variant == "migraphx" else {}


def obtain_graph(model: Model, point: Point, form: str | None, build: Build) -> tuple[Artefact, dict[str, Any]]:
    """The folder with the graph to load as `model.onnx`, and facts about it: its fusions, how it was quantised. Raises BuildFailed."""
    exported_as = EXPORTED_AS.get(point.dtype, point.dtype)
    method = str(point.option("quantisation", "dynamic")) if point.dtype == "int8" else None
    if form is None and method is None:
        return export_onnx(model, exported_as, build), {"fusions": {}}
    layers = model.spec.shape.layers
    text = read_text(model.spec, point, build) if method else None
    strict, packed = point.option("fusion", "auto") == "on", point.layout == "packed"
    ingredients = {
        "export": export_ingredients(model, exported_as),
        "attention": form,
        "every_gelu": strict,
        "quantisation": method,
        "form": GRAPH_FORM,
        "versions": library_versions(PACKAGES) if method else {},
        **({"calibration": identify(text)} if method else {}),
        **({"packing": PACKED_FORM} if packed else {}),
    }
    rewrite = fuse_packed if packed else fuse

    def make(folder: Path) -> None:
        import onnx_ir as ir

        exported = export_onnx(model, exported_as, build)
        with build.phase("compile"):
            graph = ir.load(exported.path / FILE_NAME)
            notes: dict[str, Any] = {"fusions": rewrite(graph, form, layers, strict=strict) if form else {}}
            if method:
                feeds, told = choose_inputs(model.spec, text)
                notes |= quantise(graph, folder / FILE_NAME, method, feeds) | {"calibrated_on": told}
            else:
                save_graph(graph, folder / FILE_NAME)
            (folder / NOTES_NAME).write_text(json.dumps(notes), encoding="utf-8")

    graph = build.cache.obtain("ort_graph", ingredients, make)
    return graph, json.loads((graph.path / NOTES_NAME).read_text(encoding="utf-8"))


def obtain_trace(setup: Setup, point: Point, graph_key: str, build: Build) -> Trace:
    """What a session with this setup executes, profiled once per environment.

    That is benchrun's own look at it, no part of what the engine needs: it is booked under no phase, and to lack it is no miss.
    """
    seq = TRACE_SEQ if point.device_kind == "cpu" else point.seq
    ingredients = {
        "graph": graph_key,
        "provider": setup.provider,
        "options": {name: value for name, value in setup.provider_options if name != "device_id"},
        "level": setup.level,
        "seq": seq,
        "machine": machine(point),
        "form": TRACE_FORM,
        "versions": library_versions(PACKAGES),
    }

    def make(folder: Path) -> None:
        (folder / TRACE_NAME).write_text(profile(setup, {"batch": 1, "seq": seq}).to_json(), encoding="utf-8")

    return read_trace(build.cache.obtain("ort_trace", ingredients, make).path)


def read_trace(folder: Path) -> Trace:
    """The trace that was stored in that folder."""
    return Trace.from_json((folder / TRACE_NAME).read_text(encoding="utf-8"))


def obtain_compiled(setup: Setup, point: Point, graph_key: str, build: Build) -> Compiled:
    """Have a provider that compiles do so and keep the result, once per graph, shape and machine.

    Where it keeps nothing, each of its sessions compiles: the setup comes back as it was, without a trace.
    """
    provider = PROVIDERS[point.variant]
    if not provider.keeping:
        return Compiled(setup)
    ingredients = {
        "graph": graph_key,
        "provider": setup.provider,
        "options": {name: value for name, value in setup.provider_options if name != "device_id"},
        "level": setup.level,
        "sizes": dict(setup.sizes),
        "machine": machine(point),
        "form": TRACE_FORM,
        "versions": library_versions((*PACKAGES, *TENSORRT)),
    }

    def keeping(folder: Path) -> Setup:
        options = ((name, value.replace(FOLDER, str(folder))) for name, value in provider.keeping)
        return replace(setup, provider_options=(*setup.provider_options, *options))

    def make(folder: Path) -> None:
        with build.phase("compile"):
            trace = profile(keeping(folder), dict(setup.sizes))
            (folder / TRACE_NAME).write_text(trace.to_json(), encoding="utf-8")

    stored = build.cache.obtain("ort_engine", ingredients, make)
    files = engine_files(stored.path)
    if not files:
        return Compiled(setup)
    return Compiled(keeping(stored.path), read_trace(stored.path), stored.hit, stored.n_bytes, stored.path, files)


def engine_files(folder: Path) -> tuple[str, ...]:
    """What a provider wrote into a folder, by name."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.name != TRACE_NAME))


def machine(point: Point) -> str:
    """The device that decides which kernels ONNX Runtime takes."""
    if point.device_kind == "cpu":
        return platform.machine()
    import torch

    index = int(point.device.partition(":")[2] or 0)
    return f"{torch.cuda.get_device_name(index)} {torch.cuda.get_device_capability(index)}"


def profile(setup: Setup, sizes: Mapping[str, int]) -> Trace:
    """Load the graph in a session of its own, run it once, and read back what was executed: see `open_profiled`."""
    # a graph that is captured is profiled before: in a replay no node runs by itself
    options = dict(setup.provider_options) | ({"enable_cuda_graph": "0"} if "CUDA" in setup.provider else {})
    return open_profiled(replace(setup, provider_options=tuple(options.items())), sizes)[1]


def open_profiled(setup: Setup, sizes: Mapping[str, int]) -> tuple[Any, Trace]:
    """Load the graph, run it once on ones, and read back what was executed. `sizes` are those of the dynamic dimensions.

    The session's profiler has ended then, for good: its later runs cost what they cost in a session that never had one.
    """
    from benchrun.backends.onnxruntime_sessions import engine_errors, open_session

    ort = import_engine()
    with tempfile.TemporaryDirectory() as folder, kernel_reports():
        session = open_session(setup, Path(folder) / "profile")
        binding = bind_ones(session, sizes)
        with captured_output() as log, engine_errors(f"ONNX Runtime could not run the model on {setup.provider}"):
            ort.set_default_logger_severity(VERBOSE)
            try:
                session.run_with_iobinding(binding)
            finally:
                ort.set_default_logger_severity(WARNINGS)
            words = log.read_text(encoding="utf-8", errors="replace")
        nodes = read_profile(Path(session.end_profiling()))
    return session, Trace(nodes, attention_kernel(words))


def bind_ones(session: Any, sizes: Mapping[str, int]) -> Any:
    """A binding of ones on the host to all inputs, and of outputs to wherever the host finds them."""
    import onnxruntime

    from benchrun.backends.onnxruntime_sessions import ELEMENTS

    binding = session.io_binding()
    for node in session.get_inputs():
        shape = [size if isinstance(size, int) else sizes[size] for size in node.shape]
        element = ELEMENTS[node.type][0]
        if isinstance(element, int):  # bfloat16, which numpy lacks: 1.0 is 0x3F80
            array = np.full(shape, 0x3F80, dtype=np.uint16)
            value = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, element)
        elif node.name == "token_type_ids":
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype=element))
        else:
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ones(shape, dtype=element))
        binding.bind_ortvalue_input(node.name, value)
    for node in session.get_outputs():
        binding.bind_output(node.name, "cpu")
    return binding


@contextlib.contextmanager
def kernel_reports() -> Iterator[None]:
    """Have sessions that are made within say which attention kernels they take."""
    before = os.environ.get(KERNEL_REPORT)
    os.environ[KERNEL_REPORT] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[KERNEL_REPORT]
        else:
            os.environ[KERNEL_REPORT] = before


def open_engine(setup: Setup, point: Point, trace: Trace | None, *, takes_lengths: bool) -> Engine:
    """Load the session that is measured. Without a trace it is profiled in its first run: what compiles does so once only."""
    from benchrun.backends.onnxruntime_sessions import Engine, open_session

    stream = None
    if point.device_kind == "cuda":
        import torch

        stream = torch.cuda.Stream(torch.device(point.device))
        options = (*setup.provider_options, ("user_compute_stream", str(stream.cuda_stream)))
        setup = replace(setup, provider_options=options)
    if trace is None:
        session, trace = open_profiled(setup, {"batch": point.batch, "seq": point.seq})
    else:
        session = open_session(setup)
    live = session.get_provider_options().get(setup.provider, {})
    facts = {
        "session_providers": session.get_providers(),
        "provider_options": {name: live[name] for name in READ_BACK if name in live},
        "graph_optimisation": setup.level,
        "spinning": "default",
        "tf32_allowed": live.get("use_tf32") == "1" and point.dtype in ("fp32", "tf32"),
    }
    asked = dict(setup.provider_options)
    if "num_of_threads" in asked:  # OpenVINO's, which ONNX Runtime's own thread count says nothing about
        facts |= {"threads": int(asked["num_of_threads"]), "precision_asked": asked["precision"]}
    if "CUDA" in setup.provider:
        chosen = os.environ.get(GEMM_OPTIONS, "0")
        facts["accumulate_dtype"] = "fp32" if chosen == "0" else f"as {GEMM_OPTIONS}={chosen} says"
    elif setup.provider == CPU_PROVIDER:
        facts["accumulate_dtype"] = "int32" if point.dtype == "int8" else "fp32"
    return Engine(setup, session, trace, takes_lengths, stream, facts)
