"""From an ONNX file to a TensorRT engine: one strongly typed network, one optimisation profile, one target.

Precision comes from the types in the ONNX graph, in all versions: TensorRT 11 and TensorRT-RTX know nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchrun.backends import tensorrt_layers
from benchrun.backends.contract import BuildFailed, OutOfMemory, Point, Unsupported
from benchrun.backends.tensorrt_names import Flavour, Shape, load_bindings

if TYPE_CHECKING:
    from benchrun.backends.tensorrt_names import (
        Bindings,
        Enumerator,
        IBuilderConfig,
        INetworkDefinition,
        IOnnxParser,
        ITensor,
        Log,
        RtxBindings,
        RtxBuilderConfig,
    )

ENGINE_FILE = "engine.plan"
RECORD_FILE = "build.json"
TIMING_FILE = "timing.cache"
OUT_OF_MEMORY = re.compile(
    r"out of memory|outofmemory|memoryallocation|could not be allocated|insufficient memory", re.IGNORECASE
)
CANNOT_COMPILE = re.compile(
    r"cannot compile (?:operation|for target)", re.IGNORECASE
)  # e.g. bf16 for compute capability 7.5


@dataclass(frozen=True, slots=True)
class Profile:
    """The (batch, seq) pairs that an engine accepts: from `low` to `high`, tuned for `tuned`."""

    low: tuple[int, int]
    tuned: tuple[int, int]
    high: tuple[int, int]

    @classmethod
    def of(cls, points: Iterable[Point]) -> Profile:
        """The profile over some points, tuned for the middle one by tokens (the larger of two)."""
        pairs = sorted({(point.batch, point.seq) for point in points}, key=lambda pair: (pair[0] * pair[1], pair))
        batches, seqs = zip(*pairs, strict=True)
        return cls((min(batches), min(seqs)), pairs[len(pairs) // 2], (max(batches), max(seqs)))

    def shapes(self, dimensions: Sequence[int], name: str) -> tuple[Shape, Shape, Shape]:
        """Minimum, optimum and maximum of an input whose batch and seq are -1 and whose other sizes are fixed."""
        fixed = tuple(dimensions[2:])
        if tuple(dimensions[:2]) != (-1, -1) or min(fixed, default=1) < 1:
            raise BuildFailed(
                f"input {name} of the network has shape {tuple(dimensions)}, not dynamic batch and seq and fixed others"
            )
        return (*self.low, *fixed), (*self.tuned, *fixed), (*self.high, *fixed)


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """What is stored beside an engine. `facts` are those of the layers, and where they were read; `calibrated_on` is of int8 and fp8."""

    library: str
    version: str
    target: str
    profile: Profile
    tf32: bool
    facts: Mapping[str, Any]
    parsed: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    timing_sha256: str | None = None
    calibrated_on: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        """The record as the text of `build.json`."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialised engine, its record, and the timing cache after the build (None where the library has none)."""

    plan: bytes
    record: BuildRecord
    timing_cache: bytes | None = None

    def write(self, folder: Path) -> None:
        """Put the engine's files into `folder`."""
        (folder / ENGINE_FILE).write_bytes(self.plan)
        (folder / RECORD_FILE).write_text(self.record.as_json(), encoding="utf-8")
        if self.timing_cache is not None:
            (folder / TIMING_FILE).write_bytes(self.timing_cache)


@dataclass(slots=True)
class Messages:
    """What the library logged, as far as it is of use: errors, warnings, and the listing of layers."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    listings: list[str] = field(default_factory=list)

    def note(self, severity: str, message: str) -> None:
        """Keep a message if it is of a kept kind."""
        if severity in ("INTERNAL_ERROR", "ERROR"):
            self.errors.append(_sentence(message))
        elif severity == "WARNING":
            self.warnings.append(_sentence(message))
        elif message.startswith(tensorrt_layers.LOG_HEADING):
            self.listings.append(message)

    def reason(self, otherwise: str) -> str:
        """The first error, which is the cause of those after it."""
        return self.errors[0] if self.errors else otherwise

    @property
    def out_of_memory(self) -> bool:
        """True where an error is about memory."""
        return any(OUT_OF_MEMORY.search(error) for error in self.errors)


def listen(bindings: Bindings) -> tuple[Log, Messages]:
    """The library's logger, which prints nothing, and where its messages go from now on."""
    logger, sink = _logger(bindings)
    sink[:] = [Messages()]
    return logger, sink[0]


@cache
def _logger(bindings: Bindings) -> tuple[Log, list[Messages]]:
    """One logger for the life of the process: TensorRT keeps the first that it is given, and uses it from then on."""
    sink = [Messages()]

    def initialise(self: Log) -> None:
        bindings.ILogger.__init__(self)  # pybind11 wants its own constructor run

    def log(_: Log, severity: Enumerator, msg: str) -> None:
        sink[0].note(severity.name, msg)

    return cast("Log", type("Recorder", (bindings.ILogger,), {"__init__": initialise, "log": log})()), sink


def targets(bindings: Bindings) -> tuple[str, ...]:
    """The compute capabilities that TensorRT-RTX can build for, as `SM86`."""
    members = cast("RtxBindings", bindings).ComputeCapability.__members__
    return tuple(name for name in members if name.startswith("SM"))


def check_target(bindings: Bindings, target: str) -> None:
    """Raises Unsupported for a target that TensorRT-RTX cannot build for."""
    known = targets(bindings)
    if target not in known:
        raise Unsupported(
            f"TensorRT-RTX {bindings.__version__} cannot build for {target}: choose one of {', '.join(known)}"
        )


def build_engine(
    onnx_path: Path,
    *,
    flavour: Flavour,
    target: str,
    profile: Profile,
    tf32: bool = False,
    timing_cache: bytes = b"",
) -> BuiltEngine:
    """Build `onnx_path` for `target`, which for TensorRT must be the GPU at hand: only TensorRT-RTX builds for another.

    Raises BuildFailed with the parser's or builder's own message, OutOfMemory, or Unsupported for an unknown target and
    for what the builder says that the target cannot compute.
    """
    bindings = load_bindings(flavour)
    logger, messages = listen(bindings)
    builder = bindings.Builder(logger)
    network = builder.create_network(1 << int(bindings.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = bindings.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        raise BuildFailed(f"{flavour.library}'s ONNX parser refused the network: {parser_message(parser, messages)}")
    if not network.num_layers:
        raise BuildFailed(f"{flavour.library}'s ONNX parser found no network in {onnx_path.name}")
    config = builder.create_builder_config()
    config.profiling_verbosity = bindings.ProfilingVerbosity.DETAILED
    set_tf32(bindings, config, allowed=tf32)
    if flavour.rtx:
        aim(cast("RtxBindings", bindings), cast("RtxBuilderConfig", config), target)
    else:
        config.set_timing_cache(config.create_timing_cache(timing_cache), False)
    shapes = builder.create_optimization_profile()
    for tensor in network_inputs(network):
        shapes.set_shape(tensor.name, *profile.shapes(tensor.shape, tensor.name))
    config.add_optimization_profile(shapes)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise build_error(flavour, messages)
    timed = None if flavour.rtx else config.get_timing_cache()
    timings = None if timed is None else bytes(timed.serialize())
    layers = tensorrt_layers.read_log(messages.listings)
    allowed = config.get_flag(bindings.BuilderFlag.TF32)
    record = BuildRecord(
        library=flavour.library,
        version=bindings.__version__,
        target=target,
        profile=profile,
        tf32=allowed,
        facts=tensorrt_layers.layer_facts(layers, tf32_allowed=allowed) if layers else {},
        parsed=parsed_types(network),
        warnings=tuple(dict.fromkeys(messages.warnings)),
        timing_sha256=None if timings is None else hashlib.sha256(timings).hexdigest(),
    )
    return BuiltEngine(bytes(plan), record, timings)


def set_tf32(bindings: Bindings, config: IBuilderConfig, *, allowed: bool) -> None:
    """Allow or forbid TF32 in fp32 matrix products. The library allows it unless told otherwise."""
    change = config.set_flag if allowed else config.clear_flag
    change(bindings.BuilderFlag.TF32)


def aim(bindings: RtxBindings, config: RtxBuilderConfig, target: str) -> None:
    """Build for one compute capability, and for memory that the caller provides, as capturing a CUDA graph needs."""
    check_target(bindings, target)
    config.num_compute_capabilities = 1
    config.set_compute_capability(bindings.ComputeCapability.__members__[target], 0)
    config.set_flag(bindings.BuilderFlag.REQUIRE_USER_ALLOCATION)


def network_inputs(network: INetworkDefinition) -> tuple[ITensor, ...]:
    """The inputs of a parsed network, in order."""
    return tuple(network.get_input(index) for index in range(network.num_inputs))


def parsed_types(network: INetworkDefinition) -> dict[str, str]:
    """Kind of layer → types of its first outputs, in the network as parsed, before the builder fused it."""
    found: dict[str, Counter[str]] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.num_outputs:
            found.setdefault(layer.type.name, Counter())[layer.get_output(0).dtype.name] += 1
    return {kind: "+".join(sorted(dtypes)) for kind, dtypes in sorted(found.items())}


def parser_message(parser: IOnnxParser, messages: Messages) -> str:
    """The parser's first error in its own words, with the node that it is about."""
    if not parser.num_errors:
        return messages.reason("it gave no reason")
    error = parser.get_error(0)
    node = f" (node {error.node_name()!r}, operator {error.node_operator()})" if error.node_operator() else ""
    return f"{_sentence(error.desc())}{node}"


def build_error(flavour: Flavour, messages: Messages) -> Exception:
    """The exception for a build that gave no engine."""
    reason = messages.reason("it gave no reason")
    if CANNOT_COMPILE.search(reason):
        return Unsupported(f"{flavour.library} cannot build this for the target: {reason}")
    if messages.out_of_memory:
        return OutOfMemory(f"{flavour.library} ran out of memory while building: {reason}")
    return BuildFailed(f"{flavour.library} could not build the engine: {reason}")


def _sentence(message: str) -> str:
    return " ".join(message.split())
