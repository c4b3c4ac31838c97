"""AITemplate (Meta): BERT and RoBERTa encoders compiled ahead of time to one library per batch and sequence length.

It comes from a source install only. `aitemplate_target` works out what it needs to know of this machine,
`aitemplate_bert` what is built; `aitemplate_compile` and `aitemplate_session` do it. docs/aitemplate.md tells what has
run where.
"""

from __future__ import annotations

import json
import os
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from benchrun.backends import aitemplate_bert, aitemplate_report, aitemplate_target
from benchrun.backends.contract import (
    Availability,
    Backend,
    BackendError,
    Build,
    Description,
    Option,
    Point,
    Session,
    Unsupported,
    Variant,
)

if TYPE_CHECKING:
    from benchrun.backends.aitemplate_bert import EncoderPlan
    from benchrun.backends.aitemplate_compile import Target
    from benchrun.backends.aitemplate_target import Compiler, Installation
    from benchrun.backends.cache import ArtefactCache
    from benchrun.backends.models import Model


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as PyTorch tells it: `capability` of NVIDIA's, `architecture` (`gfx90a:sramecc+:xnack-`) of AMD's."""

    kind: str
    index: int
    name: str
    capability: tuple[int, int] = (0, 0)
    architecture: str = ""

    def arch(self) -> tuple[str, dict[str, object]]:
        """AITemplate's name for it, and facts. Raises Unsupported where it has none."""
        if self.kind == "cuda":
            return aitemplate_target.cuda_arch(self.capability)
        return aitemplate_target.rocm_arch(self.architecture)


LIBRARY_KIND = "aitemplate"  # of artefacts in the cache


class AITemplateBackend(Backend):
    """Encoders compiled by AITemplate. Each shape is compiled once and cached; weights are set when it is loaded."""

    description: ClassVar[Description] = Description(
        name="ait",
        summary="AITemplate (Meta), from a source install",
        distributions=("aitemplate",),
        install=aitemplate_target.INSTALL,
        variants=(
            Variant(
                "cuda",
                "CUTLASS kernels chosen by profiling, in a CUDA graph",
                ("cuda",),
                ("fp16",),
                {"cuda": "executed"},
            ),
            Variant(
                "rocm",
                "composable kernel's kernels chosen by profiling",
                ("rocm",),
                ("fp16",),
                {"rocm": "never run"},
            ),
        ),
        options=(
            Option(
                "activation", "auto: the model's; gelu: erf; fast_gelu: tanh", "auto", ("auto", "gelu", "fast_gelu")
            ),
            Option("accumulate", "what matrix products add in", "fp32", ("fp32", "fp16")),
            Option("attention", "auto: flash where heads fit, else mem_eff", "auto", ("auto", "flash", "mem_eff")),
            Option(
                "cuda_graph",
                "on: captured once, replayed; engine: AITemplate's own, captured at each call; auto: off on ROCm only",
                "auto",
                ("auto", "on", "engine", "off"),
            ),
        ),
    )

    @classmethod
    def missing(cls, variant: str) -> str | None:  # noqa: ARG003 - the same for both
        """As `Backend.missing`; a source install may have no package metadata, so its files are looked at instead."""
        try:
            aitemplate_target.find_installation()
        except Unsupported as error:
            return str(error)
        return None

    @classmethod
    def built(cls, cache: ArtefactCache) -> Mapping[str, str]:
        """Compiled libraries by what they were compiled for. AITemplate profiles on the GPU, so none is built ahead of time."""
        arches = {str(entry.ingredients.get("arch")) for entry in cache.entries() if entry.kind == LIBRARY_KIND}
        return dict.fromkeys(sorted({"rocm" if each.startswith("gfx") else "cuda" for each in arches}), "compiled")

    def probe(self) -> Availability:
        try:
            installation = aitemplate_target.find_installation()
        except Unsupported as error:
            return Availability(False, str(error))
        versions = {"aitemplate": installation.version}
        if installation.commit:
            versions["commit"] = installation.commit
        try:
            from benchrun.backends.aitemplate_compile import import_aitemplate

            import_aitemplate()
            gpus = self.gpus()
        except Exception as error:  # somebody else's code at import: anything can happen
            return Availability(False, f"importing AITemplate from {installation.root} failed: {error}", versions)
        return availability(installation, gpus, versions)

    def prepare(self, model: Model, point: Point, build: Build) -> Session:
        plan = aitemplate_bert.plan_encoder(model.config, point)
        accumulate = accumulation(point)
        graph = graph_mode(point)
        installation = aitemplate_target.find_installation()
        aitemplate_target.check_third_party(installation, point.device_kind)
        gpu = self.gpu(point)
        compiler = aitemplate_target.find_compiler(point.device_kind)
        settings = aitemplate_target.engine_settings(os.environ)
        target = make_target(gpu, compiler, installation, accumulate, build.cache.root, python_packages(), os.environ)
        ingredients = library_ingredients(plan, target, gpu, compiler, installation, settings)

        from benchrun.backends import aitemplate_compile, aitemplate_session

        def make(folder: Path) -> None:
            with build.phase("compile"):
                aitemplate_compile.compile_library(folder, plan, target, self.generate)

        artefact = build.cache.obtain(LIBRARY_KIND, ingredients, make)
        build.artefact(artefact.n_bytes, hit=artefact.hit)
        report = json.loads((artefact.path / aitemplate_compile.REPORT).read_text(encoding="utf-8"))
        facts = aitemplate_report.read_back(report)
        aitemplate_report.check_built(facts, plan.activation, accumulate)
        facts |= gpu.arch()[1] | {
            "compiler": compiler.version,
            "aitemplate": {
                "version": installation.version,
                "commit": installation.commit,
                "sources": installation.digest,
            },
            "cuda_13": aitemplate_target.corrections(compiler, gpu.kind),
            "fast_math": settings.get("AIT_USE_FAST_MATH", "1") == "1",
            "settings": aitemplate_target.shown_settings(settings),
        }
        with build.phase("load"):
            weights = aitemplate_bert.pack_weights(model.module.state_dict(), plan)
            buffers = aitemplate_session.Buffers.on(self.torch_device(gpu), plan, weights)
            execution = self.load(artefact.path / aitemplate_compile.LIBRARY, buffers, graph)
        family, padding_id = str(model.config.model_type), int(model.config.pad_token_id or 0)
        return aitemplate_session.AITemplateSession(execution, buffers, graph, facts, family, padding_id)

    # What follows touches a GPU or AITemplate itself. Tests put doubles in its place.

    def gpus(self) -> list[Gpu]:
        """The GPUs that PyTorch sees."""
        import torch

        kind = "rocm" if torch.version.hip else "cuda"
        return [read_gpu(kind, index) for index in range(torch.cuda.device_count())]

    def gpu(self, point: Point) -> Gpu:
        """The point's GPU, made PyTorch's current one. Raises Unsupported where PyTorch cannot reach it."""
        from benchrun.backends.torch import torch_device

        return read_gpu(point.device_kind, torch_device(point).index)

    def torch_device(self, gpu: Gpu) -> Any:
        """Where the buffers live."""
        import torch

        return torch.device("cuda", gpu.index)

    def generate(self, job: Any) -> Any:
        """AITemplate's sorted graph after compiling, or None after profiling."""
        from benchrun.backends import aitemplate_compile

        return aitemplate_compile.generate(job)

    def load(self, library: Path, buffers: Any, graph: str) -> Any:
        """The library, loaded, warmed up and captured."""
        from benchrun.backends import aitemplate_session

        return aitemplate_session.LoadedLibrary(library, buffers, graph)


def read_gpu(kind: str, index: int) -> Gpu:  # pragma: no cover - needs a GPU
    """What PyTorch tells of a GPU."""
    import torch

    found = torch.cuda.get_device_properties(index)
    return Gpu(kind, index, found.name, (found.major, found.minor), getattr(found, "gcnArchName", ""))


def availability(installation: Installation, gpus: Sequence[Gpu], versions: Mapping[str, str]) -> Availability:
    """What AITemplate can do on these GPUs; not ok where none suits, with the last one's reason."""
    if not gpus:
        return Availability(False, f"AITemplate {installation.version} is here, but PyTorch sees no GPU", versions)
    kind = gpus[0].kind
    try:
        aitemplate_target.check_third_party(installation, kind)
        compiler = aitemplate_target.find_compiler(kind)
    except BackendError as error:
        return Availability(False, str(error), versions)
    found, reason = [], ""
    for gpu in gpus:
        try:
            gpu.arch()
            found.append(f"{kind}:{gpu.index}")
        except Unsupported as error:
            reason = str(error)
    told = {**versions, "compiler": compiler.version}
    if not found:
        return Availability(False, reason, told)
    return Availability(True, "", told, tuple(found), {kind: ("fp16",)})


def accumulation(point: Point) -> str:
    """`fp32` or `fp16`: what matrix products add in. Raises Unsupported for fp16 on ROCm."""
    asked = str(point.option("accumulate", "fp32"))
    if asked == "fp16" and point.device_kind == "rocm":
        raise Unsupported("AITemplate's ROCm kernels add in fp32 only: leave out --opt accumulate=fp16")
    return asked


def graph_mode(point: Point) -> str:
    """`on`, `engine` or `off`. Raises Unsupported for AITemplate's own graph mode on ROCm, which has none."""
    asked = str(point.option("cuda_graph", "auto"))
    if point.device_kind == "rocm":
        if asked == "engine":
            raise Unsupported("AITemplate has no graph mode on ROCm: use --opt cuda_graph=off")
        return "off" if asked == "auto" else asked
    return "on" if asked == "auto" else asked


def python_packages() -> list[Path]:
    """Folders that hold installed Python packages."""
    return sorted({Path(sysconfig.get_paths()[name]) for name in ("purelib", "platlib")})


def make_target(
    gpu: Gpu,
    compiler: Compiler,
    installation: Installation,
    accumulate: str,
    cache_root: Path,
    packages: Sequence[Path],
    environment: Mapping[str, str],
) -> Target:
    """What to compile for. Unsupported for a GPU that AITemplate has no code for, BuildFailed for missing headers."""
    from benchrun.backends.aitemplate_compile import Target

    arch, _ = gpu.arch()
    name = aitemplate_target.environment_id(gpu.name, arch, gpu.kind, compiler.version, installation.digest)
    workshop = cache_root / "aitemplate" / name
    curand = aitemplate_target.curand_include(compiler, packages, environment) if gpu.kind == "cuda" else None
    return Target(
        kind=gpu.kind,
        arch=arch,
        accumulate=accumulate,
        visible=aitemplate_report.visible_device(gpu.index, environment, gpu.kind),
        workshop=workshop,
        static_files=installation.static_files,
        environment=aitemplate_target.compile_environment(
            compiler, gpu.kind, workshop / "profiles", curand, len(os.sched_getaffinity(0)), environment
        ),
        corrected=bool(aitemplate_target.corrections(compiler, gpu.kind)),
    )


def library_ingredients(
    plan: EncoderPlan,
    target: Target,
    gpu: Gpu,
    compiler: Compiler,
    installation: Installation,
    settings: Mapping[str, str],
) -> dict[str, object]:
    """What a compiled library is made from. Weights are not in it; the GPU's name is: kernels were chosen on it."""
    return {
        "plan": plan.ingredients(),
        "aitemplate": installation.digest,
        "compiler": compiler.version,
        "arch": target.arch,
        "device": gpu.name,
        "accumulate": target.accumulate,
        "settings": dict(settings),
        "cuda_13": aitemplate_target.corrections(compiler, gpu.kind),
    }
