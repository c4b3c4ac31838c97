"""What TensorRT needs on disk, from the artefact cache: graph, engine with its timing cache, compiled kernels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.backends.contract import Build, OutOfMemory, Point
from benchrun.backends.onnx_calibration import choose_lines, identify, read_text, tell_drawn
from benchrun.backends.tensorrt_build import (
    ENGINE_FILE,
    RECORD_FILE,
    TIMING_FILE,
    Profile,
    build_engine,
)
from benchrun.backends.tensorrt_calibrate import Calibration, calibrate
from benchrun.backends.tensorrt_quantise import BASE_DTYPE, quantise_onnx

if TYPE_CHECKING:
    from benchrun.backends.cache import Artefact, ArtefactCache
    from benchrun.backends.models import Model
    from benchrun.backends.tensorrt_device import Gpu
    from benchrun.backends.tensorrt_names import Bindings, Flavour

ENGINE_KIND = "trt_engine"
GRAPH_KIND = "trt_graph"
KERNELS_KIND = "trt_kernels"
KERNELS_FILE = "kernels.cache"
CALIBRATION_FILE = "calibration.json"  # beside a quantised graph: what it was calibrated on
QUANTISED = ("int8", "fp8")
FORM = 2  # counts up whenever the same ingredients make another engine


@dataclass(frozen=True, slots=True)
class Order:
    """An engine to be had: of which library, for which target, and for which points. `gpu` is None ahead of time."""

    flavour: Flavour
    bindings: Bindings
    target: str
    points: tuple[Point, ...]
    gpu: Gpu | None = None

    @property
    def dtype(self) -> str:
        """What the points ask for; they all ask for the same."""
        return self.points[0].dtype

    @property
    def profile(self) -> Profile:
        """The shapes that the engine must take."""
        return Profile.of(self.points)


def points_of_engine(point: Point, sweep: Sequence[Point]) -> tuple[Point, ...]:
    """The points that share an engine with `point`: those of the sweep that differ in shape only, or it alone."""
    if point.option("engine_per_point", "off") == "on":
        return (point,)
    same = [each for each in sweep if _but_for_shape(each) == _but_for_shape(point)]
    return tuple(dict.fromkeys((*same, point)))


def _but_for_shape(point: Point) -> dict[str, Any]:
    return {name: value for name, value in asdict(point).items() if name not in ("batch", "seq")}


def obtain_engine(model: Model, order: Order, build: Build) -> Artefact:
    """The folder with engine, record and timing cache; exported, quantised and built where the cache lacks it.

    Raises what exporting and building raise. One that ran out of memory says how to ask for less.
    """
    from benchrun.backends.onnx_export import FILE_NAME

    graph = obtain_graph(model, order.points[0], build)
    ingredients = engine_ingredients(model, order, graph.key)

    def make(folder: Path) -> None:
        with build.phase("compile"):
            seed = b"" if order.flavour.rtx else newest_timing_cache(build.cache, ingredients)
            engine = build_engine(
                graph.path / FILE_NAME,
                flavour=order.flavour,
                target=order.target,
                profile=order.profile,
                tf32=order.dtype == "tf32",
                timing_cache=seed,
            )
            told = json.loads((graph.path / CALIBRATION_FILE).read_text()) if order.dtype in QUANTISED else {}
            replace(engine, record=replace(engine.record, calibrated_on=told)).write(folder)

    try:
        artefact = build.cache.obtain(ENGINE_KIND, ingredients, make)
    except OutOfMemory as error:
        if len(order.points) == 1:
            raise
        high = "b{} s{}".format(*order.profile.high)
        raise OutOfMemory(
            f"{error} (one engine for all shapes up to {high}: --engine-per-point asks for less)"
        ) from error
    build.artefact(artefact.n_bytes, hit=artefact.hit)
    return artefact


def engine_ingredients(model: Model, order: Order, graph: str) -> dict[str, object]:
    """All that decides what the engine holds. `graph` is the ONNX file's cache key, made from the weights too.

    A TensorRT engine runs on the GPU model it was built on; one of TensorRT-RTX on any GPU of its compute capability.
    """
    return {
        "form": FORM,
        "weights": model.weights_hash,
        "graph": graph,
        "library": order.flavour.library,
        "version": order.bindings.__version__,
        "target": order.target,
        "gpu": None if order.flavour.rtx or order.gpu is None else order.gpu.name,
        "profile": asdict(order.profile),
        "tf32": order.dtype == "tf32",
    }


def obtain_graph(model: Model, point: Point, build: Build) -> Artefact:
    """The folder with the ONNX file to build from; for int8 and fp8 with explicit quantisation, calibrated on a text or drawn ids.

    Raises what exporting and reading the text raise.
    """
    from benchrun.backends.onnx_export import FILE_NAME, export_onnx

    dtype = point.dtype
    if dtype not in QUANTISED:
        return export_onnx(model, "fp32" if dtype == "tf32" else dtype, build)
    exported = export_onnx(model, BASE_DTYPE, build)
    calibration, text = Calibration(), read_text(model.spec, point, build)

    def make(folder: Path) -> None:
        with build.phase("export"):
            feeds, told = choose_lines(model.spec.shape, text) if text else ([], tell_drawn(model.spec))
            scales = calibrate(model, dtype, calibration, feeds)
            quantise_onnx(exported.path / FILE_NAME, folder / FILE_NAME, model, scales, dtype)
            (folder / CALIBRATION_FILE).write_text(json.dumps(told), encoding="utf-8")

    ingredients = {"form": FORM, "graph": exported.key, "dtype": dtype, "calibration": asdict(calibration)}
    ingredients |= {"text": identify(text)} if text else {}
    return build.cache.obtain(GRAPH_KIND, ingredients, make)


def newest_timing_cache(cache: ArtefactCache, ingredients: dict[str, object]) -> bytes:
    """The timing cache of the engine last used that the same library built for the same GPU; empty where there is none.

    It saves measuring kernels again. One that is not as it was written is passed over.
    """
    same = ("library", "version", "target", "gpu")
    for entry in cache.entries():
        path = entry.path / TIMING_FILE
        if entry.kind != ENGINE_KIND or any(entry.ingredients.get(name) != ingredients[name] for name in same):
            continue
        try:
            stored, record = path.read_bytes(), read_record(entry.path)
        except (OSError, ValueError):
            continue  # evicted meanwhile
        if hashlib.sha256(stored).hexdigest() == record.get("timing_sha256"):
            return stored
    return b""


def obtain_kernels(
    engine: Artefact, order: Order, point: Point, build: Build, compile_kernels: Callable[[], bytes]
) -> bytes:
    """What TensorRT-RTX compiles at run time for one shape on one GPU; empty for TensorRT, whose engines hold it."""
    if not order.flavour.rtx or order.gpu is None:
        return b""

    def make(folder: Path) -> None:
        with build.phase("compile"):
            (folder / KERNELS_FILE).write_bytes(compile_kernels())

    gpu = order.gpu
    ingredients = {"engine": engine.key, "shape": [point.batch, point.seq], "gpu": gpu.name, "driver": gpu.driver}
    artefact = build.cache.obtain(KERNELS_KIND, ingredients, make)
    build.artefact(artefact.n_bytes, hit=artefact.hit)
    return (artefact.path / KERNELS_FILE).read_bytes()


def read_plan(folder: Path) -> bytes:
    """The serialised engine."""
    return (folder / ENGINE_FILE).read_bytes()


def read_record(folder: Path) -> dict[str, Any]:
    """What was noted when the engine was built: the fields of BuildRecord."""
    found = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    return dict(found)
