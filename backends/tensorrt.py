"""NVIDIA TensorRT (`tensorrt`, versions 10 and 11) and TensorRT-RTX (`rtx`): one adapter for both flavours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar

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
from benchrun.backends.tensorrt_build import check_target, targets
from benchrun.backends.tensorrt_device import Gpu, Gpus, list_gpus
from benchrun.backends.tensorrt_names import FLAVOURS, RTX, TENSORRT, Bindings, Flavour, how_to_install, load_bindings

if TYPE_CHECKING:
    from benchrun.backends.cache import Artefact, ArtefactCache
    from benchrun.backends.models import Model
    from benchrun.backends.tensorrt_artefacts import Order
    from benchrun.backends.tensorrt_session import Device

DTYPES = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
# the first compute capability with arithmetic in that type (CUDA C++ programming guide, tables of arithmetic)
FIRST_CAPABILITY = {"tf32": (8, 0), "bf16": (8, 0), "fp8": (8, 9)}


class TensorRtBackend(Backend):
    """Strongly typed engines built from the ONNX export. `gpus` and `open_device` reach the hardware."""

    description: ClassVar[Description] = Description(
        name="trt",
        summary="NVIDIA TensorRT and TensorRT-RTX engines built from ONNX",
        distributions=(*TENSORRT.distributions, *RTX.distributions),
        install=f"{TENSORRT.install}, or {RTX.install}",
        variants=(
            Variant(
                "tensorrt",
                "TensorRT 10 or 11, built on the GPU it runs on",
                ("cuda",),
                DTYPES,
                {"cuda": "never run"},
                TENSORRT.distributions,
                TENSORRT.install,
            ),
            Variant(
                "rtx",
                "TensorRT-RTX, built for any RTX GPU, even without one",
                ("cuda",),
                DTYPES,
                {"cuda": "built"},
                RTX.distributions,
                RTX.install,
            ),
        ),
        options=(
            Option("engine_per_point", "an engine for each shape instead of one for the sweep", "off", ("off", "on")),
            Option(
                "calibration",
                "FILE that int8 and fp8 are calibrated on: a text, one sequence a line (a tab parts a pair); none: drawn token ids",
                "",
                is_text_file=True,
                dtypes=("int8", "fp8"),
            ),
            Option("cuda_graph", "capture the engine's kernels once and replay them as one graph", "on", ("on", "off")),
        ),
        requires=("onnx", "onnxscript"),
    )

    def __init__(
        self, gpus: Callable[[], Gpus] = list_gpus, open_device: Callable[[int], Device] | None = None
    ) -> None:
        self._gpus = gpus
        self._open_device = open_device

    @classmethod
    def missing(cls, variant: str | None = None) -> str | None:
        """As `Backend.missing`; with a variant, for that flavour alone."""
        flavours = FLAVOURS.values() if variant is None else (FLAVOURS[variant],)
        if not any(_installed(name) for flavour in flavours for name in flavour.distributions):
            ways = " or ".join(how_to_install(flavour) for flavour in flavours)
            others = [
                f"; {each.library} is installed: --backend trt:{each.name}"
                for each in FLAVOURS.values()
                if each not in flavours and any(map(_installed, each.distributions))
            ]
            return f"{' or '.join(flavour.library for flavour in flavours)} is not installed: {ways}{''.join(others)}"
        absent = [name for name in cls.description.requires if not _installed(name)]
        return (
            f"trt needs {', '.join(absent)}, which is not installed: pip install {' '.join(absent)}" if absent else None
        )

    @classmethod
    def built(cls, cache: ArtefactCache) -> Mapping[str, str]:
        from benchrun.backends.tensorrt_artefacts import ENGINE_KIND

        libraries = {entry.ingredients.get("library") for entry in cache.entries() if entry.kind == ENGINE_KIND}
        return {flavour.name: "built" for flavour in FLAVOURS.values() if flavour.library in libraries}

    def probe(self, variant: str | None = None) -> Availability:
        """What works here, of both flavours or of one. Not ok where an engine could be built but not run."""
        gpus = self._gpus()
        versions: dict[str, str] = {}
        devices: dict[str, Gpu] = {}
        reasons = []
        for flavour in FLAVOURS.values() if variant is None else (FLAVOURS[variant],):
            try:
                bindings = load_bindings(flavour)
            except Unsupported as error:
                reasons.append(str(error))
                continue
            versions[flavour.library] = bindings.__version__
            for gpu in gpus.found:
                if (refusal := gpu_refusal(flavour, bindings, gpu)) is None:
                    devices[f"cuda:{gpu.index}"] = gpu
                else:
                    reasons.append(refusal)
            if not gpus.found:
                library = f"{flavour.library} {bindings.__version__}"
                reasons.append(f"{library} is installed, but {gpus.reason}{_ahead(flavour, bindings)}")
        capability = max((gpu.capability for gpu in devices.values()), default=(0, 0))
        dtypes = tuple(dtype for dtype in DTYPES if capability >= FIRST_CAPABILITY.get(dtype, (0, 0)))
        return Availability(
            bool(devices),
            "" if devices else "; ".join(dict.fromkeys(reasons)),
            versions,
            tuple(devices),
            {"cuda": dtypes} if devices else {},
        )

    def probe_variant(self, variant: str) -> Availability:
        return self.probe(variant)

    def prepare(self, model: Model, point: Point, build: Build) -> Session:
        from benchrun.backends import tensorrt_artefacts as artefacts
        from benchrun.backends.tensorrt_session import Engine, TensorRtSession

        order = self._order(point, build.sweep())
        shapes = input_shapes(model, point)
        artefact = artefacts.obtain_engine(model, order, build)
        plan = artefacts.read_plan(artefact.path)

        def open_session(cuda_graph: bool, kernels: bytes, notes: Mapping[str, Any]) -> TensorRtSession:
            device = self._device(point)
            try:
                engine = Engine(order.flavour, order.bindings, plan)
                return TensorRtSession(engine, shapes, device, cuda_graph=cuda_graph, kernels=kernels, notes=notes)
            except BaseException:
                device.close()
                raise

        def compile_kernels() -> bytes:
            with closing(open_session(False, b"", {})) as session:
                return session.kernels()

        kernels = artefacts.obtain_kernels(artefact, order, point, build, compile_kernels)
        with build.phase("load"):
            notes = engine_notes(artefacts.read_record(artefact.path), len(order.points))
            return open_session(point.option("cuda_graph", "on") == "on", kernels, notes)

    def build_ahead(self, model: Model, points: Sequence[Point], target: str, build: Build) -> tuple[Artefact, ...]:
        """Build the engines of `points` for `target` (`SM86`) without running them: what `benchrun build` does.

        Only TensorRT-RTX can: it needs no GPU for it. The same points find their engines in the cache when they are
        measured on a GPU of that kind. Raises Unsupported, BuildFailed.
        """
        from benchrun.backends import tensorrt_artefacts as artefacts

        found: dict[tuple[Point, ...], Artefact] = {}
        for point in points:
            group = artefacts.points_of_engine(point, (*build.sweep(), *points))
            if group in found:
                continue
            flavour = FLAVOURS[point.variant]
            if not flavour.rtx:
                raise Unsupported(
                    "TensorRT builds engines only on the GPU that will run them: to build ahead of time use trt:rtx"
                )
            bindings = load_bindings(flavour)
            if not target:
                raise Unsupported(f"for which GPU? pass --target, one of {', '.join(targets(bindings))}")
            check_target(bindings, target)
            check_point(point, flavour, capability_of(target), target)
            order = artefacts.Order(flavour, bindings, target, group)
            found[group] = artefacts.obtain_engine(model, order, build)
        return tuple(found.values())

    def _order(self, point: Point, sweep: Sequence[Point]) -> Order:
        """The engine that a point runs on. Raises Unsupported where this machine cannot run it."""
        from benchrun.backends.tensorrt_artefacts import Order, points_of_engine

        flavour = FLAVOURS[point.variant]
        bindings = load_bindings(flavour)
        gpus = self._gpus()
        index = int(point.device.partition(":")[2] or 0)
        if point.device_kind != "cuda" or index >= len(gpus.found):
            why = gpus.reason or f"the driver lists {len(gpus.found)} GPUs"
            raise Unsupported(f"{flavour.library} cannot run on {point.device}: {why}{_ahead(flavour, bindings)}")
        gpu = gpus.found[index]
        if refusal := gpu_refusal(flavour, bindings, gpu):
            raise Unsupported(refusal)
        check_point(point, flavour, gpu.capability, gpu.name)
        return Order(flavour, bindings, gpu.target, points_of_engine(point, sweep), gpu)

    def _device(self, point: Point) -> Device:
        """Memory and stream for a session, by PyTorch unless a test gave its own."""
        index = int(point.device.partition(":")[2] or 0)
        if self._open_device is not None:
            return self._open_device(index)
        import torch

        from benchrun.backends.tensorrt_session import CudaDevice

        if torch.version.cuda is None:
            raise Unsupported(
                f"TensorRT's tensors are kept in PyTorch's CUDA memory, and torch {torch.__version__} is built without "
                "CUDA: install a CUDA build of torch"
            )
        return CudaDevice(index)  # pragma: no cover - needs an NVIDIA GPU


def gpu_refusal(flavour: Flavour, bindings: Bindings, gpu: Gpu) -> str | None:
    """Why a GPU cannot run this flavour, as NVIDIA's own library puts it; None where it can.

    TensorRT-RTX is for Turing, Ampere, Ada and Blackwell; the server GPUs of Hopper (9.0) are not among its targets.
    """
    if not flavour.rtx or gpu.target in targets(bindings):
        return None
    own, supported = "{}.{}".format(*gpu.capability), [capability_of(name) for name in targets(bindings)]
    return (
        f"{gpu.name} has compute capability {own}, which TensorRT-RTX {bindings.__version__} does not support "
        f"(its targets are {', '.join('{}.{}'.format(*each) for each in supported)}): use trt:tensorrt there"
    )


def capability_of(target: str) -> tuple[int, int]:
    """`SM86` → (8, 6), `SM120` → (12, 0)."""
    digits = target.removeprefix("SM")
    return int(digits[:-1]), int(digits[-1])


def check_point(point: Point, flavour: Flavour, capability: tuple[int, int], device: str) -> None:
    """Raises Unsupported for what this library cannot do on a GPU of that compute capability."""
    if point.dtype not in DTYPES:
        raise Unsupported(f"{flavour.library} runs {', '.join(DTYPES)}, not {point.dtype}")
    if capability < (first := FIRST_CAPABILITY.get(point.dtype, (0, 0))):
        had, needed = "{}.{}".format(*capability), "{}.{}".format(*first)
        raise Unsupported(f"{point.dtype} needs compute capability {needed}, and {device} has {had}")
    if point.layout == "packed":
        raise Unsupported(
            f"{flavour.library} is given padded batches with a mask here: it has no packed workload, so use the layout padded or bucketed"
        )


def input_shapes(model: Model, point: Point) -> dict[str, tuple[int, ...]]:
    """Name of each input of the model → its shape at this point."""
    hidden = (point.batch, point.seq, model.spec.shape.hidden_size)
    return {name: hidden if name == "hidden_states" else (point.batch, point.seq) for name in model.input_names}


def engine_notes(record: Mapping[str, Any], n_points: int) -> dict[str, Any]:
    """What the session tells of its engine besides its layers."""
    return {
        "library": f"{record['library']} {record['version']}",
        "target": record["target"],
        "profile": record["profile"],
        "engine_for": "this point" if n_points == 1 else f"{n_points} points of the sweep",
        "tf32_allowed": record["tf32"],
        **({"calibrated_on": told} if (told := record["calibrated_on"]) else {}),
    }


def _ahead(flavour: Flavour, bindings: Bindings) -> str:
    """What can be done without a GPU."""
    if not flavour.rtx:
        return ""
    return f" ('benchrun build' can build its engines here, for {', '.join(targets(bindings))}, but not run them)"


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
