"""Training steps in PyTorch: forward, backward and update, operator by operator or with compiled forward and backward passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchrun.backends.catalogue import LABEL_NAMES
from benchrun.backends.contract import (
    BuildFailed,
    OutOfMemory,
    Point,
    Recipe,
    TrainingSession,
    Unsupported,
    Update,
    WrongVariant,
)
from benchrun.backends.reference import get_tf32
from benchrun.backends.torch_sessions import CAPTURED, NAMES, OperatorSpy, accumulation, memory_errors, unmasked_sdpa
from benchrun.backends.training_reference import copy_gradients, copy_weights, read_gradients, task_loss

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray, Inputs
    from benchrun.backends.models import Encoder

    Batch = tuple[tuple[torch.Tensor | None, ...], tuple[torch.Tensor, ...]]  # what the model takes, and the labels

AUTOCAST = {"bf16": torch.bfloat16, "fp16-amp": torch.float16}
LARGEST_SCALE = 2.0**16  # where torch's GradScaler starts
SCALE_HALVINGS = 64  # of a loss scale at most, until a checked step is not skipped
LOSSES_AT_A_TIME = 4096
BACKWARD_WARMUPS = 3  # reduce-overhead records its graphs on the second call


class LossLog:
    """The losses of all steps in a buffer on the device: adding one is a single kernel and waits for nothing."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pieces = [self._piece()]
        self._used = 0

    def add(self, loss: torch.Tensor) -> None:
        """Add a micro-batch's share to the loss of the step that is being made."""
        self._pieces[-1][self._used].add_(loss.detach())

    def next(self) -> None:
        """The step is made."""
        self._used += 1
        if self._used == LOSSES_AT_A_TIME:
            self._pieces.append(self._piece())
            self._used = 0

    def read(self) -> FloatArray:
        """All losses so far, on the host."""
        losses: FloatArray = torch.cat([*self._pieces[:-1], self._pieces[-1][: self._used]]).cpu().numpy()
        return losses

    def _piece(self) -> torch.Tensor:
        return torch.zeros(LOSSES_AT_A_TIME, device=self._device)


class EagerTraining(TrainingSession):
    """Steps operator by operator, on PyTorch's current stream. `module` is a trainable fp32 copy on the device.

    In `bf16` and `fp16-amp` the forward pass runs under autocast: weights, gradients and the optimizer's state stay fp32, matrix
    products are low. `fp16-amp` scales the loss and skips steps whose gradients overflow, as torch's GradScaler does.
    """

    def __init__(self, module: Encoder, point: Point, recipe: Recipe, device: torch.device) -> None:
        self._module = module
        self._point = point
        self._recipe = recipe
        self._device = device
        self._low = AUTOCAST.get(point.dtype)
        self._scaler = torch.amp.GradScaler(device.type) if point.dtype == "fp16-amp" else None
        self._optimizer, self._optimizer_name = make_optimizer(recipe, module)
        self._updates = 0  # of an optimizer that is not called for a skipped step
        self._optimizer.register_step_post_hook(self._count)
        self._losses = LossLog(device)
        self._steps = 0
        self._sets: dict[int, tuple[Batch, ...]] = {}
        self._batches: tuple[Batch, ...] = ()
        self._spy = OperatorSpy()
        self._call: Any = self._loss
        if (
            point.option("attention", "sdpa") == "sdpa"
        ):  # every sequence is full: no mask, and no look at one (it would synchronize)
            module.config._attn_implementation = unmasked_sdpa()
        module.train(recipe.dropout)
        torch.manual_seed(recipe.seed)

    def bind(self, inputs: Inputs) -> None:
        if inputs.index in self._sets:
            self._batches = self._sets[inputs.index]
            return
        with memory_errors():
            self._batches = self._upload(inputs)
        if inputs.index >= 0:
            self._sets[inputs.index] = self._batches

    def enqueue(self) -> None:
        share = 1 / len(self._batches)
        with memory_errors():
            for batch in self._batches:
                loss = self._call(*batch) * share
                self._losses.add(loss)
                self._backward(loss)
            self._update()
        self._losses.next()
        self._steps += 1

    def synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def check_step(self) -> Mapping[str, FloatArray]:
        self._module.eval()
        scale = LARGEST_SCALE if self._scaler else 1.0
        with memory_errors():
            while True:  # as the scaler does it: half the scale until nothing overflows
                found = self._gradients(scale)
                if scale <= 1 or bool(torch.from_numpy(found["gradient_norms"]).isfinite().all()):
                    break
                scale /= 2
        self._module.train(self._recipe.dropout)
        return found

    def check_update(self) -> Update:
        weights = copy_weights(self._module)
        log, scaling = self._losses, self._scaler.state_dict() if self._scaler else {}
        groups = [dict(group) for group in self._optimizer.param_groups]
        devices = [torch.cuda.current_device()] if self._device.type == "cuda" else []
        gradients: dict[str, FloatArray] = {}

        def read(*_: Any) -> None:  # after the step: by then a fused optimizer has written unscaled gradients back
            gradients.update(copy_gradients(self._module))

        hook = self._optimizer.register_step_post_hook(read)
        self._module.eval()
        with torch.random.fork_rng(devices):
            for _ in range(SCALE_HALVINGS):
                self._forget(groups)
                self._losses = LossLog(self._device)
                gradients.clear()
                self.enqueue()
                self.synchronize()
                skipped = not gradients or not all(np.isfinite(each).all() for each in gradients.values())
                if self._scaler is None or not skipped:
                    break
        found = Update(float(self._losses.read()[-1]), gradients, copy_weights(self._module))
        hook.remove()
        with torch.no_grad():
            for name, parameter in self._module.named_parameters():
                parameter.copy_(torch.from_numpy(weights[name]))
        self._forget(groups)
        self._losses = log
        if self._scaler is not None:
            self._scaler.load_state_dict(scaling)
        self._module.train(self._recipe.dropout)
        return found

    def losses(self) -> FloatArray:
        return self._losses.read()

    def facts(self) -> Mapping[str, Any]:
        config, recipe = self._module.config, self._recipe
        dropout = {name: getattr(config, name) for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")}
        found: dict[str, Any] = {
            "compute_dtypes": self._spy.compute_dtypes(),
            "attention": self._spy.attention(),
            "attention_implementation": self._point.option("attention", "sdpa"),
            "attention_mask": "left out: full lengths",
            "activation": self._spy.activation(),
            "threads": torch.get_num_threads(),
            "weights_dtype": "fp32",
            "autocast": NAMES[self._low] if self._low else "off",
            "optimizer": self._optimizer_name,
            "dropout": dropout if recipe.dropout else "off",
            "checked_step": "the timed call with dropout off" if recipe.dropout else "the timed call",
            "steps": self._steps,
            "skipped_steps": self._steps - self._applied(),
        }
        if self._scaler is not None:
            found["loss_scale"] = self._scaler.get_scale()
        if self._device.type == "cuda":
            found["tf32_allowed"] = get_tf32()
            found["accumulate_dtype"] = accumulation(found["compute_dtypes"].get("matmul"))
            if found["tf32_allowed"] and found["compute_dtypes"].get("matmul") == "fp32":
                found["compute_dtypes"]["matmul"] = "tf32"
        return found

    def close(self) -> None:
        self._sets.clear()
        self._batches = ()
        self._call = None
        self._optimizer.zero_grad(set_to_none=True)
        self._optimizer.state.clear()

    @property
    def stream(self) -> int | None:
        return int(torch.cuda.current_stream().cuda_stream) if self._device.type == "cuda" else None

    def _forget(self, groups: list[dict[str, Any]]) -> None:
        """As if no step had been made: an optimizer without state and with these settings, no count."""
        self._optimizer.state.clear()
        for group, before in zip(self._optimizer.param_groups, groups, strict=True):
            group.clear()
            group.update(before)
        self._steps = self._updates = 0

    def _loss(self, inputs: tuple[torch.Tensor | None, ...], labels: tuple[torch.Tensor, ...]) -> torch.Tensor:
        with torch.autocast(self._device.type, self._low or torch.bfloat16, enabled=self._low is not None):
            return task_loss(self._module(*inputs), labels)

    def _backward(self, loss: torch.Tensor) -> None:
        (self._scaler.scale(loss) if self._scaler else loss).backward()

    def _update(self) -> None:
        rate = self._recipe.rate(self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        if self._recipe.clip is not None:
            if self._scaler is not None:
                self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._module.parameters(), self._recipe.clip)
        if self._scaler is not None:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        else:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _gradients(self, scale: float) -> dict[str, FloatArray]:
        share = 1 / len(self._batches)
        total = 0.0
        with self._watch():
            for batch in self._batches:
                loss = self._call(*batch) * share
                total += loss.item()
                (loss * scale).backward()
        found = {"loss": torch.tensor([total]).numpy(), **read_gradients(self._module, scale)}
        self._optimizer.zero_grad(set_to_none=True)
        return found

    def _watch(self) -> Any:
        """The operators that a step dispatches are noted in here."""
        self._spy = OperatorSpy()
        return self._spy

    def _count(self, *_: Any) -> None:
        self._updates += 1

    def _applied(self) -> int:
        """Steps that changed the weights. A fused optimizer is called every time and skips on the device: it counts there."""
        counts = [
            state["step"] for state in self._optimizer.state.values() if isinstance(state.get("step"), torch.Tensor)
        ]
        return int(counts[0].item()) if counts else self._updates

    def _upload(self, inputs: Inputs) -> tuple[Batch, ...]:
        def cut(name: str, number: int) -> torch.Tensor:
            part = inputs.arrays[name][number * self._point.batch : (number + 1) * self._point.batch]
            return torch.from_numpy(part).to(self._device)

        return tuple(
            (
                tuple(None if name == "attention_mask" else cut(name, number) for name in self._module.input_names),
                tuple(cut(name, number) for name in LABEL_NAMES[self._point.head]),
            )
            for number in range(self._recipe.accumulate)
        )


class CompiledTraining(EagerTraining):
    """Forward and backward passes by torch.compile with static shapes; the update is the optimizer's own.

    Proves that compiled code runs: one graph for the step, one more for the check without dropout, no break, no skipped CUDA graph,
    and losses whose gradient function is compiled.
    """

    def __init__(self, module: Encoder, point: Point, recipe: Recipe, device: torch.device) -> None:
        asked = str(point.option("compile_mode", "auto"))
        if asked == CAPTURED:
            raise Unsupported("a training step is not captured: leave out --opt torch.compile_mode=captured")
        super().__init__(module, point, recipe, device)
        self._mode = "default" if asked == "auto" else asked
        self._graph_functions: Counter[str] = Counter()
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        self._compiled = torch.compile(self._loss, backend=self._compile, fullgraph=True, dynamic=False)
        self._call = self._call_compiled
        try:
            with memory_errors():
                for _ in range(BACKWARD_WARMUPS):
                    self._call(*self._zeros()).backward()
                    self._optimizer.zero_grad(set_to_none=True)
                self.synchronize()
        except OutOfMemory:
            raise
        except Exception as error:  # dynamo and inductor raise many types
            reason = (str(error).splitlines() or [""])[0]
            raise BuildFailed(f"torch.compile failed: {type(error).__name__}: {reason}") from error
        torch.manual_seed(recipe.seed)

    def facts(self) -> Mapping[str, Any]:
        """Operators and dtypes of the forward graph that was compiled, and the compiler's own counters as proof that it ran."""
        counters = torch._dynamo.utils.counters
        graphs, breaks = int(counters["stats"]["unique_graphs"]), int(sum(counters["graph_break"].values()))
        expected = 2 if self._recipe.dropout else 1
        skips = int(counters["inductor"]["cudagraph_skips"])
        if graphs != expected or breaks:
            raise WrongVariant(
                f"not compiled code alone: {graphs} graphs ({expected} expected) and {breaks} graph breaks"
            )
        if set(self._graph_functions) != {"CompiledFunctionBackward"}:
            raise WrongVariant(f"not compiled code alone: losses came from {', '.join(sorted(self._graph_functions))}")
        if self._device.type == "cuda" and self._mode in ("reduce-overhead", "max-autotune") and skips:
            raise WrongVariant(f"torch.compile skipped its CUDA graph {skips} times and ran launch by launch")
        checked = {"checked_graph": "the one without dropout" if self._recipe.dropout else "the one that is timed"}
        return {**super().facts(), "compile_mode": self._mode, "compiled_graphs": graphs, **checked}

    def close(self) -> None:
        super().close()
        torch._dynamo.reset()  # frees compiled code and its graph memory

    def _call_compiled(self, inputs: Any, labels: Any) -> torch.Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        loss: torch.Tensor = self._compiled(inputs, labels)
        self._graph_functions[type(loss.grad_fn).__name__] += 1
        return loss

    def _watch(self) -> Any:
        """The graph's operators were noted when it was compiled."""
        return nullcontext()

    def _compile(self, graph: torch.fx.GraphModule, example: list[Any]) -> Any:
        """Inductor, with a note of what it was given."""
        for node in graph.graph.nodes:
            if node.op == "call_function":
                self._spy.note(getattr(node.target, "__name__", ""), node.meta.get("example_value"), node.kwargs)
        options = torch._inductor.list_mode_options(self._mode, dynamic=False)
        return torch._inductor.compile(graph, example, options=options)

    def _zeros(self) -> Batch:
        shape = (self._point.batch, self._point.seq)
        ids = torch.zeros(shape, dtype=torch.long, device=self._device)
        labels = torch.zeros(shape[:1], dtype=torch.long, device=self._device)
        given = tuple(None if name == "attention_mask" else ids.clone() for name in self._module.input_names)
        return given, tuple(labels.clone() for _ in LABEL_NAMES[self._point.head])


def make_optimizer(recipe: Recipe, module: Encoder) -> tuple[torch.optim.Optimizer, str]:
    """The optimizer of a recipe for all parameters of a module, and what it is in words. Raises Unsupported where its library is absent."""
    parameters = list(module.parameters())
    settings: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **settings), "torch.optim.AdamW, fused"
    if recipe.optimizer == "lamb":
        try:
            from pytorch_optimizer.optimizer.lamb import Lamb
        except ImportError as error:
            raise Unsupported(
                "LAMB needs pytorch-optimizer, which is not installed: pip install 'benchrun-inference[train]'"
            ) from error
        return Lamb(parameters, **settings), f"pytorch_optimizer.Lamb {version('pytorch-optimizer')}"
    raise Unsupported(f"torch has no optimizer {recipe.optimizer}: choose adamw or lamb")
