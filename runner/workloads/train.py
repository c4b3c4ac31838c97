"""Training steps: forward, backward and update of `accumulate` batches are one timed call. See docs/training.md.

The workload is written `train:OPTIMIZER`, and what changes a step follows it: `train:adamw:accumulate=2:clip=1:dropout=off`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.backends.catalogue import LABEL_NAMES
from benchrun.backends.contract import Inputs, Recipe, TrainingSession
from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from benchrun.backends.catalogue import ModelShape, ModelSpec
    from benchrun.backends.contract import FloatArray, Point, Session
    from benchrun.runner.bench import Bench
    from benchrun.runner.worker import Progress

OPTIMIZERS = ("adamw", "lamb")
# 3e-5 is what BERT-large is fine-tuned with; narrower models take larger steps, so that a toy's loss falls as fast
ADAMW_RATE_AT_1024 = 3e-5
LAMB_RATE = 2e-3  # LAMB steps by a share of each weight's size, whatever the width
WARMUP_STEPS = 10  # of the learning rate, linear; constant afterwards
WEIGHT_DECAY = 0.01
LARGEST_ACCUMULATE = 1024

SPAN = 8  # an answer starts within that many tokens …
WIDTH = 4  # … and is at most that long
MINORITY = 4  # one class in that many sequences
LEAST_STEPS = 40  # a run is trained on, untimed, to at least that many
CURVE = 32  # points of the stored loss curve


@dataclass(frozen=True, slots=True)
class Workload:
    """What a training workload's string says."""

    optimizer: str
    accumulate: int = 1
    clip: float | None = None
    dropout: bool = True

    def __str__(self) -> str:
        parts = ["train", self.optimizer]
        parts += [f"accumulate={self.accumulate}"] if self.accumulate != 1 else []
        parts += [f"clip={self.clip:g}"] if self.clip is not None else []
        parts += [] if self.dropout else ["dropout=off"]
        return ":".join(parts)


def parse(text: str) -> Workload:
    """The inverse of `str(workload)`, in any order. Raises UsageError for settings that are unknown or out of range."""
    _, *parts = text.split(":")
    optimizer = parts.pop(0) if parts and "=" not in parts[0] else OPTIMIZERS[0]
    if optimizer not in OPTIMIZERS:
        raise UsageError(f"unknown optimizer {optimizer!r}: choose from {', '.join(OPTIMIZERS)}")
    found = Workload(optimizer)
    for part in parts:
        name, _, value = part.partition("=")
        if name == "accumulate":
            found = replace(found, accumulate=_accumulate(value))
        elif name == "clip":
            found = replace(found, clip=_clip(value))
        elif name == "dropout" and value in ("on", "off"):
            found = replace(found, dropout=value == "on")
        else:
            raise UsageError(
                f"unknown setting {part!r} in workload {text!r}: it takes accumulate=N, clip=NORM and dropout=on|off"
            )
    return found


def canonical(text: str) -> str:
    """The one spelling of a training workload."""
    return str(parse(text))


def check_point(workload: str, _spec: ModelSpec, head: str, _seq: int, _settings: Mapping[str, Any]) -> None:
    """Only heads with a loss can be trained."""
    if head not in LABEL_NAMES:
        raise UsageError(f"head {head} has no loss for {workload} to train by: use --head {' or '.join(LABEL_NAMES)}")


def make_recipe(workload: Workload, shape: ModelShape, seed: int) -> Recipe:
    """How a step of a model of that shape is made."""
    rate = LAMB_RATE if workload.optimizer == "lamb" else ADAMW_RATE_AT_1024 * 1024 / shape.hidden_size
    return Recipe(
        workload.optimizer, rate, WARMUP_STEPS, WEIGHT_DECAY, workload.accumulate, workload.dropout, workload.clip, seed
    )


def with_labels(inputs: Inputs, head: str) -> Inputs:
    """A set with labels that follow from its token ids, so that they can be learnt.

    With k the second token's id (the first that is not special): an answer starts at k mod 8 and ends (k ÷ 8) mod 4 further on, or at
    the last token; a sequence is of class 1 where k is a multiple of 4, else of class 0.
    """
    ids: npt.NDArray[np.int64] = inputs.arrays["input_ids"].astype(np.int64)
    key, last = ids[:, min(1, ids.shape[1] - 1)], ids.shape[1] - 1
    if head == "qa":
        start = np.minimum(key % SPAN, last)
        labels = {"start_positions": start, "end_positions": np.minimum(start + key // SPAN % WIDTH, last)}
    else:
        labels = {"labels": (key % MINORITY == 0).astype(np.int64)}
    return Inputs(inputs.index, {**inputs.arrays, **labels}, inputs.lengths)


@dataclass
class StepCheck:
    """Whether steps are right: the first one against fp32, and whether the loss falls. `facts` fills as it learns."""

    dtype: str
    expected: Mapping[str, FloatArray]
    sets: Sequence[Inputs]
    facts: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    distance: float | None = None
    _held: float = math.nan

    def before(self, session: Session) -> None:
        """Loss and gradients before the first update, without dropout, against the fp32 step."""
        from benchrun.runner.parity import TRAINING_TOLERANCES, compare, relative_distance

        assert isinstance(session, TrainingSession)
        found = session.check_step()
        self.parity = asdict(compare(found, self.expected, self.dtype, TRAINING_TOLERANCES))
        if self.parity["ok"]:
            gradients = {"gradients": self.expected["gradients"]}
            self.distance = relative_distance(found, gradients)
        self._held = float(found["loss"][0])
        self.facts["first_step"] = {
            "loss": self._held,
            "reference_loss": float(self.expected["loss"][0]),
            "gradient_norm": float(np.linalg.norm(found["gradient_norms"])),
            "reference_gradient_norm": float(np.linalg.norm(self.expected["gradient_norms"])),
            "gradient_distance": self.distance,
        }

    def after(self, session: Session) -> None:
        """Train on to `LEAST_STEPS` steps, then look at the losses."""
        assert isinstance(session, TrainingSession)
        losses = session.losses()
        for step in range(LEAST_STEPS - losses.size):
            session.bind(self.sets[step % len(self.sets)])
            session.enqueue()
        session.synchronize()
        losses = session.losses()
        session.bind(self.sets[0])
        held = float(session.check_step()["loss"][0])
        self.facts["loss"] = describe_losses(losses) | {"held_before": self._held, "held_after": held}
        problem = loss_problem(losses, self._held, held)
        if problem is not None and self.parity["ok"]:
            self.parity = self.parity | {"ok": False, "reason": problem}

    def verdict(self, _: Session) -> tuple[dict[str, Any], float | None]:
        """What is known by now."""
        return self.parity, self.distance


def loss_problem(losses: FloatArray, held_before: float, held_after: float) -> str | None:
    """What is wrong with a run's losses; None where nothing is.

    `held_…` are the losses of one input set without dropout before the first and after the last step: an optimizer that does nothing
    leaves them equal. The run's own losses are noisy (dropout, other sets), so of them the medians of the first and the last tenth.
    """
    wrong = np.flatnonzero(~np.isfinite(losses))
    if wrong.size:
        return f"the loss of step {int(wrong[0]) + 1} of {losses.size} is not a finite number"
    first, last = tenths(losses)
    if not held_after < held_before:
        return f"loss did not fall: {held_before:.6g} before the first step, {held_after:.6g} after step {losses.size}"
    if not last < first:
        return f"loss did not fall: its median is {first:.6g} in the first tenth of {losses.size} steps, {last:.6g} in the last"
    return None


def tenths(losses: FloatArray) -> tuple[float, float]:
    """Medians of the first and of the last tenth, of at least one step each."""
    window = max(1, losses.size // 10)
    return float(np.median(losses[:window])), float(np.median(losses[-window:]))


def describe_losses(losses: FloatArray) -> dict[str, Any]:
    """A run's losses in brief: first, last, and a curve of medians of equal stretches of steps."""
    stretches = np.array_split(losses, min(CURVE, losses.size))
    first, last = tenths(losses)
    return {
        "steps": int(losses.size),
        "first": float(losses[0]),
        "last": float(losses[-1]),
        "first_tenth": first,
        "last_tenth": last,
        "curve": [float(np.median(each)) for each in stretches],
    }


def measure(bench: Bench, point: Point, progress: Progress, found: dict[str, Any]) -> None:
    """Time of one training step, sequences a second, and whether the steps train."""
    from benchrun.backends.reference import reference_device
    from benchrun.backends.training_reference import reference_step
    from benchrun.runner.flops import training_work
    from benchrun.runner.inputs import make_inputs
    from benchrun.runner.workloads.timed import Trial, measure_trial

    workload, shape = parse(point.workload), bench.model.spec.shape
    sequences = point.batch * workload.accumulate
    work = training_work(shape, point.head, point.batch, point.seq, workload.accumulate)
    found |= {"work": (work.flops, work.least_bytes, work.launches), "padding_fraction": 0.0}
    sets = [
        with_labels(each, point.head)
        for each in make_inputs(shape, point.head, sequences, point.seq, bench.protocol.input_seed)
    ]
    recipe = make_recipe(workload, shape, bench.protocol.input_seed)
    check = StepCheck(point.dtype, reference_step(bench.model, reference_device(point), sets[0]), sets)
    check.facts["training"] = asdict(recipe) | {"sequences_a_step": sequences, "input_sets": len(sets)}
    trial = Trial(
        inputs=sets,
        prepare=lambda build: bench.backend.prepare_training(bench.model, point, recipe, build),
        verify=check.verdict,
        facts=check.facts,
        before=check.before,
        after=check.after,
        sequences=sequences,
    )
    measure_trial(bench, point, progress, found, trial)


def _accumulate(value: str) -> int:
    if not value.isdigit() or not 1 <= int(value) <= LARGEST_ACCUMULATE:
        raise UsageError(f"accumulate={value}: give a whole number of batches from 1 to {LARGEST_ACCUMULATE}")
    return int(value)


def _clip(value: str) -> float:
    try:
        norm = float(value)
    except ValueError:
        norm = math.nan
    if not (math.isfinite(norm) and norm > 0):
        raise UsageError(f"clip={value}: give the largest gradient norm, a number above 0")
    return norm
