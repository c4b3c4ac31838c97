"""AITemplate (Meta): BERT and RoBERTa encoders compiled ahead of time to one library per batch and sequence length.

It comes from a source install only. What it needs to know of this machine is worked out in `aitemplate_target`, what is
built in `aitemplate_bert`, and `aitemplate_engine` does it; docs/aitemplate.md tells what has run where.
"""

from __future__ import annotations

import json
import os
import sysconfig
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
    from benchrun.backends.aitemplate_target import Compiler, Installation
    from benchrun.backends.models import Model


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
                {"cuda": "compiled"},
            ),
            Variant(
                "rocm", "composable kernel's kernels chosen by profiling", ("rocm",), ("fp16",), {"rocm": "never run"}
            ),
        ),
        options=(
            Option(
                "activation", "auto: the model's own; gelu: erf; fast_gelu: tanh", "auto", ("auto", "gelu", "fast_gelu")
            ),
            Option("accumulate", "what matrix products add in", "fp32", ("fp32", "fp16")),
            Option(
                "attention", "auto: flash where the head size fits, else mem_eff", "auto", ("auto", "flash", "mem_eff")
            ),
            Option(
                "cuda_graph",
                "on: captured once, replayed; engine: AITemplate's own, captured at each call; auto: off on ROCm only",
                "auto",
                ("auto", "on", "engine", "off"),
            ),
        ),
    )

    def probe(self) -> Availability:
        try:
            installation = aitemplate_target.find_installation()
        except Unsupported as error:
            return Availability(False, str(error))
        versions = {"aitemplate": installation.version} | (
            {"commit": installation.commit} if installation.commit else {}
        )
        try:
            from benchrun.backends.aitemplate_engine import import_aitemplate

            import_aitemplate()
        except Exception as error:  # somebody else's code at import: anything can happen
            return Availability(False, f"importing AITemplate from {installation.root} failed: {error}", versions)
        return _devices(installation, versions)

    def prepare(self, model: Model, point: Point, build: Build) -> Session:
        plan = aitemplate_bert.plan_encoder(model.config, point)
        accumulate = accumulation(point)
        graph = graph_mode(point)
        installation = aitemplate_target.find_installation()
        aitemplate_target.check_third_party(installation, point.device_kind)
        from benchrun.backends.torch import torch_device

        device = torch_device(point)
        return self._build(model, point, build, plan, accumulate, graph, installation, device)

    def _build(
        self,
        model: Model,
        point: Point,
        build: Build,
        plan: EncoderPlan,
        accumulate: str,
        graph: str,
        installation: Installation,
        device: Any,
    ) -> Session:  # pragma: no cover - needs AITemplate (source install) and a GPU
        import torch

        from benchrun.backends import aitemplate_engine

        kind = point.device_kind
        properties = torch.cuda.get_device_properties(device)
        if kind == "cuda":
            arch, arch_facts = aitemplate_target.cuda_arch((properties.major, properties.minor))
        else:
            arch, arch_facts = aitemplate_target.rocm_arch(properties.gcnArchName)
        compiler = aitemplate_target.find_compiler(kind)
        settings = aitemplate_target.engine_settings(os.environ)
        environment = aitemplate_target.environment_id(
            properties.name, arch, kind, compiler.version, installation.digest
        )
        workshop = build.cache.root / "aitemplate" / environment
        curand = None
        if kind == "cuda":
            packages = {Path(sysconfig.get_paths()[name]) for name in ("purelib", "platlib")}
            curand = aitemplate_target.curand_include(compiler, sorted(packages), os.environ)
        target = aitemplate_engine.Target(
            kind=kind,
            arch=arch,
            accumulate=accumulate,
            visible=aitemplate_report.visible_device(device.index, os.environ, kind),
            workshop=workshop,
            static_files=installation.static_files,
            environment=aitemplate_target.compile_environment(
                compiler, kind, workshop / "profiles", curand, len(os.sched_getaffinity(0)), os.environ
            ),
            corrected=bool(aitemplate_target.corrections(compiler, kind)),
        )
        ingredients = library_ingredients(plan, installation, compiler, arch, properties.name, accumulate, settings)

        def make(folder: Path) -> None:
            with build.phase("compile"):
                aitemplate_engine.compile_library(folder, plan, target)

        artefact = build.cache.obtain("aitemplate", ingredients, make)
        build.artefact(artefact.n_bytes, hit=artefact.hit)
        report = json.loads((artefact.path / aitemplate_engine.REPORT).read_text(encoding="utf-8"))
        facts = aitemplate_report.read_back(report)
        aitemplate_report.check_built(facts, plan.activation, accumulate)
        facts |= arch_facts | {
            "compiler": compiler.version,
            "aitemplate": {
                "version": installation.version,
                "commit": installation.commit,
                "sources": installation.digest,
            },
            "cuda_13": aitemplate_target.corrections(compiler, kind),
            "settings": settings,
        }
        with build.phase("load"):
            weights = aitemplate_bert.pack_weights(model.module.state_dict(), plan)
            return aitemplate_engine.AITemplateSession(
                artefact.path / aitemplate_engine.LIBRARY,
                plan,
                weights,
                device,
                graph,
                facts,
                padding_id=int(model.config.pad_token_id or 0),
                family=str(model.config.model_type),
            )


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


def library_ingredients(
    plan: EncoderPlan,
    installation: Installation,
    compiler: Compiler,
    arch: str,
    device_name: str,
    accumulate: str,
    settings: dict[str, str],
) -> dict[str, object]:
    """What a compiled library is made from. Weights are not in it; the device's name is: kernels were chosen on it."""
    kind = "rocm" if plan.attention == "ck" else "cuda"
    return {
        "plan": plan.ingredients(),
        "aitemplate": installation.digest,
        "compiler": compiler.version,
        "arch": arch,
        "device": device_name,
        "accumulate": accumulate,
        "settings": settings,
        "cuda_13": aitemplate_target.corrections(compiler, kind),
    }


def _devices(installation: Installation, versions: dict[str, str]) -> Availability:
    """What of this machine's GPUs AITemplate can compile for."""
    import torch

    kind = "rocm" if torch.version.hip else "cuda"
    if not torch.cuda.is_available():
        return Availability(
            False, f"AITemplate {installation.version} is installed, but PyTorch sees no GPU here", versions
        )
    try:  # pragma: no cover - needs AITemplate (source install) and a GPU
        aitemplate_target.check_third_party(installation, kind)
        versions["compiler"] = aitemplate_target.find_compiler(kind).version
        found = []
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            if kind == "cuda":
                aitemplate_target.cuda_arch((properties.major, properties.minor))
            else:
                aitemplate_target.rocm_arch(properties.gcnArchName)
            found.append(f"{kind}:{index}")
    except BackendError as error:  # pragma: no cover - needs AITemplate (source install) and a GPU
        return Availability(False, str(error), versions)
    return Availability(
        True, "", versions, tuple(found), {kind: ("fp16",)}
    )  # pragma: no cover - needs AITemplate and a GPU
