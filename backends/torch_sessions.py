"""Sessions of the PyTorch backend: eager, compiled, and captured in a CUDA graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchrun.backends.contract import BuildFailed, OutOfMemory, Point, Session, Unsupported, WrongVariant

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray, Inputs
    from benchrun.backends.models import Encoder

UNMASKED = "benchrun_sdpa_unmasked"
CAPTURED = (
    "captured"  # a mode of our own: inductor's default kernels, captured as `GraphSession` captures the eager ones
)
CAPTURE_WARMUPS = (
    3  # libraries choose kernels and allocate workspaces on their first calls, which a graph must not record
)
NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
CLASS_OF = {
    **dict.fromkeys(("addmm", "mm", "bmm", "linear", "matmul", "baddbmm"), "matmul"),
    **dict.fromkeys(("native_layer_norm", "layer_norm"), "layernorm"),
    **dict.fromkeys(("gelu",), "gelu"),
}
ATTENTION_OPERATORS = ("scaled_dot_product", "varlen_attn", "packed_attention", "_attention_forward")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turns PyTorch's several ways to say that memory ran out into OutOfMemory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error).splitlines()[0]) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "out of memory" in str(error):
            raise OutOfMemory(str(error).splitlines()[0]) from error
        raise


class EagerSession(Session):
    """Calls the module operator by operator, on PyTorch's current stream."""

    def __init__(self, module: Encoder, point: Point, device: torch.device) -> None:
        self._module = module
        self._point = point
        self._device = device
        self._call: Any = module
        self._sets: dict[int, tuple[torch.Tensor | None, ...]] = {}
        self._args: tuple[torch.Tensor | None, ...] = ()
        self._out: tuple[torch.Tensor, ...] = ()

    def bind(self, inputs: Inputs) -> None:
        if inputs.index < 0:  # it comes once: kept until the next one
            with memory_errors():
                self._args = self._upload(inputs)
        else:
            if inputs.index not in self._sets:
                with memory_errors():
                    self._sets[inputs.index] = self._upload(inputs)
            self._args = self._sets[inputs.index]
        self._out = ()  # the last answer must not lie in the way of the next one's allocations: it costs 2 % on a CPU

    def enqueue(self) -> None:
        with torch.inference_mode():
            self._out = self._call(*self._args)

    def synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def outputs(self) -> Mapping[str, FloatArray]:
        return {
            name: tensor.float().cpu().numpy()
            for name, tensor in zip(self._module.output_names, self._out, strict=True)
        }

    def facts(self) -> Mapping[str, Any]:
        spy = self._observe()
        found: dict[str, Any] = {
            "compute_dtypes": spy.compute_dtypes(),
            "attention": spy.attention(),
            "attention_implementation": self._point.option("attention", "sdpa"),
            "activation": spy.activation(),
            "threads": torch.get_num_threads(),
        }
        if self._device.type == "cuda":
            from benchrun.backends.reference import get_tf32

            tf32 = get_tf32()
            found["tf32_allowed"] = tf32
            found["accumulate_dtype"] = accumulation(found["compute_dtypes"].get("matmul"))
            if tf32 and found["compute_dtypes"].get("matmul") == "fp32":
                found["compute_dtypes"]["matmul"] = "tf32"
        return found

    def _observe(self) -> OperatorSpy:
        """The operators that one call dispatches, kernels included (inference mode would hide them in composites)."""
        spy = OperatorSpy()
        with torch.no_grad(), spy:
            self._module(*self._args)
        return spy

    def close(self) -> None:
        self._sets.clear()
        self._args = self._out = ()
        self._call = None

    @property
    def stream(self) -> int | None:
        return int(torch.cuda.current_stream().cuda_stream) if self._device.type == "cuda" else None

    def _upload(self, inputs: Inputs) -> tuple[torch.Tensor | None, ...]:
        dtype = next(self._module.parameters()).dtype
        tensors: list[torch.Tensor | None] = []
        for name in self._module.input_names:
            tensor = torch.from_numpy(inputs.arrays[name]).to(self._device)
            tensors.append(tensor.to(dtype) if tensor.is_floating_point() else tensor)
        return tuple(tensors)


class StaticSession(EagerSession):
    """Runs with inputs at fixed addresses: `bind` copies an input set into them.

    A mask that masks nothing is left out. Eager transformers finds that out on every call and then applies none; inside a graph
    it cannot look: it would build a mask, and a slower attention kernel would run than in eager mode.
    """

    def __init__(self, module: Encoder, point: Point, device: torch.device) -> None:
        super().__init__(module, point, device)
        self._full = point.workload == "padded"
        if self._full and point.option("attention", "sdpa") == "sdpa":
            module.config._attn_implementation = unmasked_sdpa()
        self._args = tuple(self._buffer(name) for name in module.input_names)

    def bind(self, inputs: Inputs) -> None:
        if self._full and not inputs.full:
            raise WrongVariant("a point captured without its attention mask cannot take padded input sets")
        if inputs.index < 0:  # it comes once: straight into the buffers
            for name, buffer in zip(self._module.input_names, self._args, strict=True):
                if buffer is not None:
                    buffer.copy_(torch.from_numpy(inputs.arrays[name]))
            return
        if inputs.index not in self._sets:
            with memory_errors():
                self._sets[inputs.index] = self._upload(inputs)
        for buffer, tensor in zip(self._args, self._sets[inputs.index], strict=True):
            if buffer is not None and tensor is not None:
                buffer.copy_(tensor)

    def poison(self) -> None:
        with torch.inference_mode():  # its outputs are inference tensors, which may be written to in here only
            for tensor in self._out:
                tensor.fill_(torch.nan)

    def facts(self) -> Mapping[str, Any]:
        return {**super().facts(), "attention_mask": "left out: full lengths" if self._full else "applied"}

    def _buffer(self, name: str) -> torch.Tensor | None:
        shape = (self._point.batch, self._point.seq)
        if name == "hidden_states":
            weights = next(self._module.parameters())
            return torch.zeros((*shape, self._module.hidden_size), dtype=weights.dtype, device=self._device)
        if name == "attention_mask":
            return None if self._full else torch.ones(shape, dtype=torch.long, device=self._device)
        return torch.zeros(shape, dtype=torch.long, device=self._device)


class CompileSession(StaticSession):
    """torch.compile with static shapes. Proves that compiled code runs: one graph, no break, no recompilation, no skipped CUDA graph.

    On a GPU the compiled kernels are captured in one CUDA graph of ours (mode `captured`): with `reduce-overhead` PyTorch
    evaluates guards and keeps books in every call, which at batch 1 costs more than its kernels save (docs/decisions.md).

    Sessions that are open together (the buckets of a point) share the compiler; the first one starts it empty, the last one empties it.
    """

    _open: ClassVar[WeakSet[CompileSession]] = WeakSet()
    _made: ClassVar[int] = 0  # since the compiler was empty

    def __init__(self, module: Encoder, point: Point, device: torch.device) -> None:
        super().__init__(module, point, device)
        asked = str(point.option("compile_mode", "auto"))
        automatic = CAPTURED if device.type == "cuda" else "default"
        self._mode = automatic if asked == "auto" else asked
        self._graph: torch.cuda.CUDAGraph | None = None
        self._spy = OperatorSpy()
        self._static = point.option("static_inputs", "on") == "on"
        if (
            self._static
        ):  # `bind` fills the same buffers each time: without this the graph copies them once more, in the timed call
            for buffer in self._args:
                if buffer is not None:
                    torch._dynamo.mark_static_address(buffer)
        # the CUDA graphs of all compiled sessions share one pool of memory: what one leaves there the next one writes over
        self._copies = point.layout == "bucketed" and device.type == "cuda"
        self._join()
        backend = inductor("default" if self._mode == CAPTURED else self._mode, self._spy)
        self._call = torch.compile(module, backend=backend, fullgraph=True, dynamic=False)
        try:
            with memory_errors():
                for _ in range(CAPTURE_WARMUPS):  # reduce-overhead records its graph on the second call
                    self.enqueue()
                self.synchronize()
                if self._mode == CAPTURED:
                    self._capture()
        except (OutOfMemory, Unsupported):
            self._leave()
            raise
        except Exception as error:  # dynamo and inductor raise many types
            self._leave()
            reason = (str(error).splitlines() or [""])[0]
            raise BuildFailed(f"torch.compile failed: {type(error).__name__}: {reason}") from error

    def enqueue(self) -> None:
        if self._graph is not None:  # pragma: no cover - needs a GPU
            self._graph.replay()
            return
        torch.compiler.cudagraph_mark_step_begin()
        kept = self._out
        super().enqueue()
        if self._copies:  # pragma: no cover - needs a GPU
            kept = kept or tuple(torch.empty_like(tensor) for tensor in self._out)
            self._out = tuple(mine.copy_(tensor) for mine, tensor in zip(kept, self._out, strict=True))

    def poison(self) -> None:
        if self._device.type == "cuda":  # on a CPU each call allocates its outputs
            super().poison()

    def facts(self) -> Mapping[str, Any]:
        """Operators and dtypes of the graph that was compiled, and the compiler's own counters as proof that it ran."""
        counters = torch._dynamo.utils.counters
        graphs = int(counters["stats"]["unique_graphs"])
        breaks = int(sum(counters["graph_break"].values()))
        skips = int(counters["inductor"]["cudagraph_skips"])
        asks_graph = self._device.type == "cuda" and self._mode in ("reduce-overhead", "max-autotune")
        made = CompileSession._made
        if graphs != made or breaks:
            raise WrongVariant(f"not compiled code alone: {graphs} graphs ({made} expected) and {breaks} graph breaks")
        if asks_graph and skips:
            raise WrongVariant(f"torch.compile skipped its CUDA graph {skips} times and ran launch by launch")
        return {
            **super().facts(),
            "compile_mode": self._mode,
            "compiled_graphs": graphs,
            "cuda_graph": asks_graph or self._graph is not None,
            "static_inputs": self._static,
            "kernel_cache_hits": int(counters["inductor"]["fxgraph_cache_hit"]),
        }

    def close(self) -> None:
        if self._graph is not None:  # pragma: no cover - needs a GPU
            self._graph.reset()
            self._graph = None
        super().close()
        self._leave()

    def _capture(self) -> None:  # pragma: no cover - needs a GPU
        """Record the compiled call: its kernels read the buffers that `bind` fills and write `_out`."""
        if self._device.type != "cuda":
            raise Unsupported("torch.compile_mode=captured records a CUDA graph: it needs a GPU")
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            self._out = self._call(*self._args)
        self._graph = graph

    def _join(self) -> None:
        """Start with an empty compiler, or beside the sessions that are open."""
        if not CompileSession._open:
            torch._dynamo.reset()
            torch._dynamo.utils.counters.clear()
            CompileSession._made = 0
        CompileSession._open.add(self)
        CompileSession._made += 1
        # beyond its limit (8) dynamo refuses to compile; a session's own recompilation is noticed by `facts`
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, CompileSession._made + 1)

    def _leave(self) -> None:
        CompileSession._open.discard(self)
        if not CompileSession._open:
            torch._dynamo.reset()  # frees compiled code and its graph memory

    def _observe(self) -> OperatorSpy:
        """The operators of the graph that was compiled."""
        return self._spy


class GraphSession(StaticSession):
    """The eager kernels captured in one CUDA graph at build time; `enqueue` replays it and does nothing else."""

    def __init__(self, module: Encoder, point: Point, device: torch.device) -> None:
        super().__init__(module, point, device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        self._graph = torch.cuda.CUDAGraph()
        self._spy = OperatorSpy()
        with memory_errors(), torch.no_grad():  # not inference mode: it would hide attention kernels from the spy
            with torch.cuda.stream(side):
                for _ in range(CAPTURE_WARMUPS):
                    module(*self._args)
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(self._graph), self._spy:
                self._out = module(*self._args)

    def enqueue(self) -> None:
        self._graph.replay()

    def facts(self) -> Mapping[str, Any]:
        return {**super().facts(), "cuda_graph": True}

    def _observe(self) -> OperatorSpy:
        """The operators that were captured."""
        return self._spy

    def close(self) -> None:
        self._graph.reset()
        super().close()


def accumulation(dtype: str | None) -> str:
    """In what PyTorch lets cuBLAS add up matrix products of a dtype (`fp32`, `tf32`, `fp16`, `bf16`, several joined by `+`), read from its
    own switches.

    `fp16`: everything; `fp32, split sums in …`: products in fp32, but the parts of a sum that was split may be added up in the lower
    dtype; `unknown` where the dtype is none of the four, or this PyTorch has no such switch. Kernels that are not cuBLAS's choose for
    themselves.
    """
    switches = torch.backends.cuda.matmul
    found = []
    for each in (dtype or "unknown").split("+"):
        split = getattr(switches, f"allow_{each}_reduced_precision_reduction", None)
        if each in ("fp32", "tf32"):
            found.append("fp32")
        elif each == "fp16" and getattr(switches, "allow_fp16_accumulation", False):  # since PyTorch 2.7
            found.append("fp16")
        elif split is None:
            found.append("unknown")
        else:
            found.append(f"fp32, split sums in {each}" if split else "fp32")
    return "; ".join(dict.fromkeys(found))


def inductor(mode: str, spy: OperatorSpy) -> Callable[[torch.fx.GraphModule, list[Any]], Any]:
    """The compiler in one of its modes, as torch.compile takes it; `spy` notes what it is given.

    Not a method: the compiler keeps it for as long as it keeps code, and would keep the session.
    """

    def compile_graph(graph: torch.fx.GraphModule, example: list[Any]) -> Any:
        for node in graph.graph.nodes:
            if node.op == "call_function":
                name = getattr(node.target, "__name__", "").removesuffix(".default")
                spy.note(name, node.meta.get("example_value"), node.kwargs)
        options = torch._inductor.list_mode_options(mode, dynamic=False)
        return torch._inductor.compile(graph, example, options=options)

    return compile_graph


class OperatorSpy(TorchDispatchMode):
    """Notes which operators PyTorch really dispatches, and in which dtype."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # a subclass hook of torch without types
        self._dtypes: Counter[tuple[str, str]] = Counter()
        self._attention: Counter[str] = Counter()
        self._gelus: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.note(func.overloadpacket.__name__, result, kwargs or {})
        return result

    def note(self, name: str, result: Any, options: Mapping[str, Any]) -> None:
        """One operator with its result."""
        first = result[0] if isinstance(result, tuple) and result else result
        if (layer := CLASS_OF.get(name)) and isinstance(first, torch.Tensor):
            self._dtypes[layer, NAMES.get(first.dtype, str(first.dtype))] += 1
        if name == "_softmax" or any(part in name for part in ATTENTION_OPERATORS):
            masked = any(options.get(each) is not None for each in ("attn_mask", "attn_bias"))
            self._attention[name + (", masked" if masked else "")] += 1
        if name == "gelu":
            self._gelus[str(options.get("approximate", "none"))] += 1

    def compute_dtypes(self) -> dict[str, str]:
        """Layer class → its dtype; several dtypes in one class are joined by `+`."""
        found: dict[str, list[str]] = {}
        for layer, dtype in sorted(self._dtypes):
            found.setdefault(layer, []).append(dtype)
        return {layer: "+".join(dtypes) for layer, dtypes in found.items()}

    def attention(self) -> str:
        """Attention operator that ran most: `_scaled_dot_product_flash_attention`; `_softmax` where it was decomposed."""
        return self._attention.most_common(1)[0][0] if self._attention else "unknown"

    def activation(self) -> str:
        """`gelu` (erf) or `fast_gelu` (tanh)."""
        if not self._gelus:
            return "unknown"
        return "gelu" if self._gelus.most_common(1)[0][0] == "none" else "fast_gelu"


def unmasked_sdpa() -> str:
    """Name of an attention implementation like `sdpa` that never builds a mask, registered through transformers' own interface."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(UNMASKED, sdpa_attention_forward)
    AttentionMaskInterface.register(UNMASKED, lambda *_, **__: None)
    return UNMASKED
