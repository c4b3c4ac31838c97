"""Every name of the TensorRT bindings that benchrun uses: the list that its adapter is typed against.

TensorRT 10, TensorRT 11 and TensorRT-RTX ship one Python API with small differences, and none of them ships type stubs.
The protocols below are those stubs, for the names in use and no others: mypy rejects any other name in the adapter, and
tests/backends/test_tensorrt_names.py compares each name and signature with the bindings themselves. What only
TensorRT-RTX has is in the protocols whose names start with `Rtx`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from benchrun.backends.contract import Unsupported

if TYPE_CHECKING:
    from types import ModuleType

Shape = tuple[int, ...]


class Enumerator(Protocol):
    """A value of one of the bindings' enumerations."""

    @property
    def name(self) -> str: ...

    def __int__(self) -> int: ...


class Severities(Protocol):
    INTERNAL_ERROR: Enumerator
    ERROR: Enumerator


class CreationFlags(Protocol):
    STRONGLY_TYPED: Enumerator


class BuilderFlags(Protocol):
    TF32: Enumerator


class RtxBuilderFlags(BuilderFlags, Protocol):
    REQUIRE_USER_ALLOCATION: Enumerator


class Verbosities(Protocol):
    DETAILED: Enumerator


class InformationFormats(Protocol):
    JSON: Enumerator


class IOModes(Protocol):
    INPUT: Enumerator
    OUTPUT: Enumerator


class DataTypes(Protocol):
    FLOAT: Enumerator
    HALF: Enumerator
    BF16: Enumerator
    INT8: Enumerator
    FP8: Enumerator
    INT32: Enumerator
    INT64: Enumerator


class RtxAllocationStrategies(Protocol):
    USER_MANAGED: Enumerator


class RtxKernelStrategies(Protocol):
    EAGER: Enumerator


class RtxCapabilities(Protocol):
    __members__: Mapping[str, Enumerator]


class Log(Protocol):
    Severity: Severities

    def log(self, severity: Enumerator, msg: str) -> None: ...


class IHostMemory(Protocol):
    @property
    def nbytes(self) -> int: ...

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITensor(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> Enumerator: ...
    @property
    def shape(self) -> Sequence[int]: ...


class ILayer(Protocol):
    @property
    def type(self) -> Enumerator: ...
    @property
    def num_outputs(self) -> int: ...

    def get_output(self, index: int) -> ITensor: ...


class INetworkDefinition(Protocol):
    @property
    def num_inputs(self) -> int: ...
    @property
    def num_layers(self) -> int: ...

    def get_input(self, index: int) -> ITensor: ...
    def get_layer(self, index: int) -> ILayer: ...


class IOptimizationProfile(Protocol):
    def set_shape(self, input: str, min: Shape, opt: Shape, max: Shape) -> None: ...


class ITimingCache(Protocol):
    def serialize(self) -> IHostMemory: ...


class IBuilderConfig(Protocol):
    profiling_verbosity: Enumerator

    def set_flag(self, flag: Enumerator) -> None: ...
    def clear_flag(self, flag: Enumerator) -> None: ...
    def get_flag(self, flag: Enumerator) -> bool: ...
    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...
    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache: ...
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...
    def get_timing_cache(self) -> ITimingCache | None: ...


class RtxBuilderConfig(IBuilderConfig, Protocol):
    num_compute_capabilities: int

    def set_compute_capability(self, compute_capability: Enumerator, index: int) -> bool: ...


class IBuilder(Protocol):
    def create_network(self, flags: int) -> INetworkDefinition: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...
    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None: ...


class IParserError(Protocol):
    def desc(self) -> str: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class IOnnxParser(Protocol):
    @property
    def num_errors(self) -> int: ...

    def parse_from_file(self, model: str) -> bool: ...
    def get_error(self, index: int) -> IParserError: ...


class RtxRuntimeCache(Protocol):
    def serialize(self) -> IHostMemory: ...
    def deserialize(self, blob: bytes) -> bool: ...


class RtxRuntimeConfig(Protocol):
    dynamic_shapes_kernel_specialization_strategy: Enumerator

    def set_execution_context_allocation_strategy(self, strategy: Enumerator) -> None: ...
    def create_runtime_cache(self) -> RtxRuntimeCache: ...
    def set_runtime_cache(self, cache: RtxRuntimeCache) -> bool: ...


class IExecutionContext(Protocol):
    def set_input_shape(self, name: str, shape: Shape) -> bool: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def infer_shapes(self) -> Sequence[str]: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...


class RtxExecutionContext(IExecutionContext, Protocol):
    def update_device_memory_size_for_shapes(self) -> int: ...
    def set_device_memory(self, memory: int, size: int) -> None: ...
    def is_stream_capturable(self, stream: int) -> bool: ...


class IEngineInspector(Protocol):
    execution_context: IExecutionContext

    def get_engine_information(self, format: Enumerator) -> str: ...


class ICudaEngine(Protocol):
    @property
    def num_io_tensors(self) -> int: ...

    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> Enumerator: ...
    def get_tensor_dtype(self, name: str) -> Enumerator: ...
    def create_execution_context(self) -> IExecutionContext | None: ...
    def create_engine_inspector(self) -> IEngineInspector: ...


class RtxCudaEngine(Protocol):
    def create_runtime_config(self) -> RtxRuntimeConfig: ...
    def create_execution_context(self, runtime_config: RtxRuntimeConfig) -> RtxExecutionContext | None: ...


class IRuntime(Protocol):
    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None: ...


class Bindings(Protocol):
    """The module `tensorrt`, or what TensorRT-RTX calls its own."""

    __version__: str
    ILogger: type[Log]
    Builder: Callable[[Log], IBuilder]
    OnnxParser: Callable[[INetworkDefinition, Log], IOnnxParser]
    Runtime: Callable[[Log], IRuntime]
    NetworkDefinitionCreationFlag: CreationFlags
    BuilderFlag: BuilderFlags
    ProfilingVerbosity: Verbosities
    LayerInformationFormat: InformationFormats
    TensorIOMode: IOModes
    DataType: DataTypes

    def __hash__(self) -> int: ...


class RtxBindings(Bindings, Protocol):
    """What TensorRT-RTX has beyond `Bindings`."""

    BuilderFlag: RtxBuilderFlags  # pyright: ignore[reportIncompatibleVariableOverride] - a module's attribute, never set
    ComputeCapability: RtxCapabilities
    ExecutionContextAllocationStrategy: RtxAllocationStrategies
    DynamicShapesKernelSpecializationStrategy: RtxKernelStrategies


# class of the bindings → protocol with the names in use
COMMON: dict[str, type] = {
    "ILogger": Log,
    "IHostMemory": IHostMemory,
    "ITensor": ITensor,
    "ILayer": ILayer,
    "INetworkDefinition": INetworkDefinition,
    "IOptimizationProfile": IOptimizationProfile,
    "ITimingCache": ITimingCache,
    "IBuilderConfig": IBuilderConfig,
    "Builder": IBuilder,
    "ParserError": IParserError,
    "OnnxParser": IOnnxParser,
    "IExecutionContext": IExecutionContext,
    "EngineInspector": IEngineInspector,
    "ICudaEngine": ICudaEngine,
    "Runtime": IRuntime,
    "NetworkDefinitionCreationFlag": CreationFlags,
    "BuilderFlag": BuilderFlags,
    "ProfilingVerbosity": Verbosities,
    "LayerInformationFormat": InformationFormats,
    "TensorIOMode": IOModes,
    "DataType": DataTypes,
}
RTX_ONLY: dict[str, type] = {
    "IBuilderConfig": RtxBuilderConfig,
    "ICudaEngine": RtxCudaEngine,
    "IExecutionContext": RtxExecutionContext,
    "IRuntimeConfig": RtxRuntimeConfig,
    "IRuntimeCache": RtxRuntimeCache,
    "BuilderFlag": RtxBuilderFlags,
    "ComputeCapability": RtxCapabilities,
    "ExecutionContextAllocationStrategy": RtxAllocationStrategies,
    "DynamicShapesKernelSpecializationStrategy": RtxKernelStrategies,
}


@dataclass(frozen=True, slots=True)
class Flavour:
    """One of the libraries that share this API. Of `modules`, the names it is imported by, the first found is used."""

    name: str
    library: str
    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    install: str

    @property
    def rtx(self) -> bool:
        """True for TensorRT-RTX."""
        return self.name == "rtx"

    @property
    def protocols(self) -> dict[str, list[type]]:
        """Class of the bindings → protocols whose names it must have."""
        found = {name: [protocol] for name, protocol in COMMON.items()}
        for name, protocol in RTX_ONLY.items() if self.rtx else ():
            found.setdefault(name, []).append(protocol)
        return found


TENSORRT = Flavour(
    "tensorrt",
    "TensorRT",
    ("tensorrt",),
    ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "pip install tensorrt",
)
RTX = Flavour(
    "rtx",
    "TensorRT-RTX",
    ("tensorrt_rtx", "tensorrt_rtx_bindings"),
    ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings", "tensorrt-rtx"),
    "pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs",
)
FLAVOURS = {flavour.name: flavour for flavour in (TENSORRT, RTX)}


def members(protocol: type) -> dict[str, object]:
    """The names that a protocol lists itself, with its function or property, or None for a plain attribute."""
    own = {name: value for name, value in vars(protocol).items() if not name.startswith("_")}
    plain: dict[str, object] = {name: None for name in protocol.__annotations__ if not name.startswith("_")}
    return plain | own


def missing_names(module: ModuleType, flavour: Flavour) -> tuple[str, ...]:
    """The names in use that this version of the bindings lacks, as `Class.name`."""
    absent = []
    for class_name, protocols in flavour.protocols.items():
        found = getattr(module, class_name, None)
        wanted = [name for protocol in protocols for name in members(protocol)]
        lost = [f"{class_name}.{name}" for name in wanted if not hasattr(found, name)]
        absent += [class_name] if found is None else lost
    return tuple(absent)


def load_bindings(flavour: Flavour) -> Bindings:
    """Import the library. Raises Unsupported, with what to do, where it is not there or not as benchrun knows it."""
    module = None
    for name in flavour.modules:
        try:
            module = importlib.import_module(name)
            break
        except ModuleNotFoundError as error:
            if error.name != name:  # it is there, and something that it needs is not
                raise Unsupported(_broken(flavour, error)) from error
        except Exception as error:  # a missing shared library is an ImportError, OSError or RuntimeError
            raise Unsupported(_broken(flavour, error)) from error
    if module is None:
        raise Unsupported(f"{flavour.library} is not installed: {how_to_install(flavour)}")
    if absent := missing_names(module, flavour):
        version = getattr(module, "__version__", "of unknown version")
        raise Unsupported(
            f"{flavour.library} {version} lacks {', '.join(absent[:3])}, which benchrun uses: {how_to_install(flavour)}"
        )
    return cast(Bindings, module)


def how_to_install(flavour: Flavour) -> str:
    """The command, and where it needs more than the default package index."""
    if flavour.rtx:
        return flavour.install
    return (
        f"{flavour.install} (its libraries, libnvinfer, come from NVIDIA's own package index while it installs and "
        "cannot be had from the default one: without access to NVIDIA's this fails)"
    )


def _broken(flavour: Flavour, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{flavour.library} is installed but cannot be imported ({reason}): {how_to_install(flavour)}"
