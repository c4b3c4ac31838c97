"""ONNX Runtime: the exported graph on the CPU, CUDA, TensorRT, MIGraphX and OpenVINO execution providers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

from benchrun.backends.contract import (
    Availability,
    Backend,
    Build,
    Description,
    Option,
    Point,
    Session,
    Unsupported,
    Variant,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchrun.backends.cache import Artefact
    from benchrun.backends.models import Model
    from benchrun.backends.onnxruntime_sessions import Engine, Setup
    from benchrun.backends.onnxruntime_trace import Trace


# all builds of ONNX Runtime own one import name
REPLACE = "pip uninstall onnxruntime, where that is installed, then "
GPU_INSTALL = f"{REPLACE}pip install 'benchrun-inference[ort-gpu]'"


class OrtBackend(Backend):
    """Keeps one loaded session, which all points of a worker share that differ in batch and length only."""

    description: ClassVar[Description] = Description(
        name="ort",
        summary="ONNX Runtime on an export of the same weights",
        distributions=("onnxruntime", "onnxruntime-gpu", "onnxruntime-migraphx", "onnxruntime-openvino"),
        install="pip install 'benchrun-inference[ort]' (on CUDA: ort-gpu, on ROCm: ort-migraphx; exactly one of them)",
        variants=(
            Variant("cpu", "CPU execution provider", ("cpu",), ("fp32", "int8"), {"cpu": "executed"}),
            Variant(
                "cuda",
                "CUDA execution provider with transformer fusions",
                ("cuda",),
                ("fp32", "tf32", "fp16", "bf16"),
                {"cuda": "executed"},
                ("onnxruntime-gpu",),
                GPU_INSTALL,
            ),
            Variant(
                "tensorrt",
                "TensorRT execution provider; nodes it does not take run on CUDA",
                ("cuda",),
                ("fp32", "fp16", "bf16"),
                {"cuda": "never run"},
                ("onnxruntime-gpu",),
                GPU_INSTALL,
            ),
            Variant(
                "migraphx",
                "MIGraphX execution provider for AMD GPUs",
                ("rocm",),
                ("fp32", "fp16"),
                {"rocm": "never run"},
                ("onnxruntime-migraphx",),
                f"{REPLACE}pip install 'benchrun-inference[ort-migraphx]'",
            ),
            Variant(
                "openvino",
                "OpenVINO execution provider on the CPU",
                ("cpu",),
                ("fp32",),
                {"cpu": "executed"},
                ("onnxruntime-openvino",),
                f"{REPLACE}pip install onnx onnxscript onnxruntime-openvino",
            ),
        ),
        options=(
            Option(
                "graph_optimisation",
                "ONNX Runtime's own graph optimisations",
                "all",
                ("all", "extended", "basic", "off"),
            ),
            Option(
                "fusion",
                "rewrite attention, skip-layer-norm and gelu into fused operators; auto: on cpu and cuda, gelu where there is one",
                "auto",
                ("auto", "on", "off"),
            ),
            Option(
                "attention",
                "form of the fused attention; auto: multihead on the CPU, on CUDA onnx where this release has it",
                "auto",
                ("auto", "onnx", "multihead", "cumulated", "packed"),
            ),
            Option(
                "cuda_graph", "capture each point in a CUDA graph and replay it (variant cuda)", "off", ("on", "off")
            ),
            Option(
                "quantisation", "how int8 is reached (variant cpu)", "dynamic", ("dynamic", "static"), dtypes=("int8",)
            ),
            Option(
                "calibration",
                "FILE that int8 is calibrated on: a text, one sequence a line (a tab parts a pair); none: drawn token ids",
                "",
                is_text_file=True,
                dtypes=("int8",),
            ),
        ),
    )

    def __init__(self) -> None:
        self._engine: tuple[object, Engine] | None = None

    def probe(self) -> Availability:
        try:
            from benchrun.backends import onnx_export
            from benchrun.backends import onnxruntime_build as building

            engine = building.import_engine()
            providers = engine.get_available_providers()
        except Exception as error:  # a broken install raises anything from ImportError to OSError
            return Availability(False, f"importing onnxruntime failed ({error}): {self.description.install}")
        versions = {"onnxruntime": engine.__version__, **onnx_export.library_versions(("onnx", "onnxscript"))}
        if cuda := getattr(engine, "cuda_version", ""):
            versions["built for cuda"] = cuda
        twins = list(onnx_export.library_versions(building.PACKAGES))
        if len(twins) > 1:
            reason = f"{' and '.join(twins)} overwrite each other: uninstall both, then install the one you want"
            return Availability(False, reason, versions)
        missing = [name for name in ("onnx", "onnxscript") if name not in versions]
        if missing:
            names = " and ".join(missing)
            return Availability(False, f"models are exported with {names}: pip install {' '.join(missing)}", versions)
        devices = {"cpu": ("cpu",), **gpu_devices()}
        dtypes: dict[str, tuple[str, ...]] = {}
        for variant in self.description.variants:
            if building.PROVIDERS[variant.name].name in providers:
                for kind in devices.keys() & set(variant.devices):
                    dtypes[kind] = tuple(dict.fromkeys((*dtypes.get(kind, ()), *variant.dtypes)))
        usable = tuple(name for kind, names in devices.items() if kind in dtypes for name in names)
        return Availability(True, "", versions, usable, dtypes)

    def prepare(self, model: Model, point: Point, build: Build) -> Session:
        from benchrun.backends import onnxruntime_build as building
        from benchrun.backends import onnxruntime_sessions as sessions
        from benchrun.backends.torch import torch_device

        building.check_point(point, self.description.variant(point.variant))
        device = torch_device(point)
        provider = building.PROVIDERS[point.variant]
        form = building.attention_form(point)
        graph, notes = building.obtain_graph(model, point, form, build)
        setup = self._setup(graph, point, form)
        captured = point.option("cuda_graph", "off") == "on"
        if provider.compiles:
            kept = building.obtain_compiled(setup, point, graph.key, build)
        else:
            kept = building.Compiled(setup, building.obtain_trace(setup, point, graph.key, build))
        held = self._engine[1] if self._engine else None
        engine = self._load(kept.setup, point, build, kept.trace, takes_lengths=form is not None, captured=captured)
        hit = graph.hit and (not provider.compiles or engine is held or (kept.hit and kept.untouched))
        build.artefact(graph.n_bytes + kept.n_bytes, hit=hit)
        facts = {**notes, "attention_form": form or "unfused"}
        if point.layout == "packed":
            return sessions.PackedOrtSession(engine, point, facts, device)
        with build.phase("load") if captured else contextlib.nullcontext():
            return sessions.OrtSession(engine, point, facts, device, captured=captured)

    def build_ahead(
        self,
        model: Model,
        points: Sequence[Point],
        target: str,  # noqa: ARG002 - a graph fits any device
        build: Build,
    ) -> tuple[Artefact, ...]:
        """Export, fuse and quantise; on the CPU also note what runs where.

        What a provider compiles for a GPU (TensorRT, MIGraphX) is made when it is loaded there.
        """
        from benchrun.backends import onnxruntime_build as building
        from benchrun.backends.onnx_packing import check_packing

        found = []
        for point in points:
            variant = self.description.variant(point.variant)
            if point.variant == "cpu":
                building.check_point(point, variant)
            elif variant is None or point.dtype not in variant.dtypes:
                raise Unsupported(f"{point.engine} does not run {point.dtype}")
            elif point.layout == "packed":
                check_packing(point)
            form = building.attention_form(point)
            graph, _ = building.obtain_graph(model, point, form, build)
            if point.variant == "cpu":
                building.obtain_trace(self._setup(graph, point, form), point, graph.key, build)
            build.artefact(graph.n_bytes, hit=graph.hit)
            found.append(graph)
        return tuple(found)

    def _setup(self, graph: Artefact, point: Point, form: str | None) -> Setup:
        """How the graph is loaded for a point."""
        from benchrun.backends import onnxruntime_build as building
        from benchrun.backends.onnx_export import FILE_NAME
        from benchrun.backends.onnxruntime_sessions import Setup

        provider = building.PROVIDERS[point.variant]
        return Setup(
            path=graph.path / FILE_NAME,
            provider=provider.name,
            provider_options=tuple(building.provider_options(point, form).items()),
            level=str(point.option("graph_optimisation", "all")),
            threads=building.thread_count(point),
            sizes=(("batch", point.batch), ("seq", point.seq)) if provider.compiles else (),
            behind=provider.behind,
        )

    def _load(
        self, setup: Setup, point: Point, build: Build, trace: Trace | None, *, takes_lengths: bool, captured: bool
    ) -> Engine:
        """The engine of a setup; the one of the point before, where only batch and length differ and none is captured."""
        from benchrun.backends.onnxruntime_build import open_engine

        wanted = (setup, point.device, point.dtype)
        if self._engine is not None and self._engine[0] == wanted and not captured:
            engine = self._engine[1]
            engine.trace = trace or engine.trace
            return engine
        self._engine = None  # frees the old one before the new one is loaded
        with build.phase("load" if trace is not None else "compile"):
            engine = open_engine(setup, point, trace, takes_lengths=takes_lengths)
        if not captured:  # a captured graph holds its buffers as long as its session lives
            self._engine = (wanted, engine)
        return engine


def gpu_devices() -> dict[str, tuple[str, ...]]:
    """The GPUs that PyTorch sees, by kind: its buffers and streams are what sessions on a GPU work with."""
    import torch

    if not torch.cuda.is_available():
        return {}
    kind = "rocm" if torch.version.hip else "cuda"
    return {kind: tuple(f"{kind}:{index}" for index in range(torch.cuda.device_count()))}
