"""Training steps: forward, backward and update of `accumulate` batches are one timed call. See docs/training.md.

The workload is written `train:OPTIMIZER`, and what changes a step follows it: `train:adamw:accumulate=2:clip=1:dropout=off`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from benchrun.backends.catalogue import LABEL_NAMES
from benchrun.backends.contract import Recipe
from benchrun.runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchrun.backends.catalogue import ModelShape, ModelSpec
    from benchrun.backends.contract import Point
    from benchrun.runner.bench import Bench
    from benchrun.runner.channel import Progress

OPTIMIZERS = ("adamw", "lamb")
# 3e-5 is what BERT-large is fine-tuned with; narrower models take larger steps, so that a toy's loss falls as fast
ADAMW_RATE_AT_1024 = 3e-5
LAMB_RATE = 6e-3  # as in BERT's pre-training: LAMB steps by a share of each weight's size, whatever the width
WARMUP_STEPS = 10  # of the learning rate, linear; constant afterwards
WEIGHT_DECAY = 0.01
LARGEST_ACCUMULATE = 1024


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


def measure(bench: Bench, point: Point, progress: Progress, found: dict[str, Any]) -> None:
    """Time of one training step, sequences a second, and whether the steps train."""
    from benchrun.backends.reference import reference_device
    from benchrun.backends.training_reference import reference_step
    from benchrun.runner.flops import training_work
    from benchrun.runner.inputs import make_inputs
    from benchrun.runner.training_checks import StepCheck, with_labels
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
    check = StepCheck(point.dtype, reference_step(bench.model, reference_device(point), sets[0]), recipe, sets)
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
