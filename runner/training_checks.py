"""Whether training steps are right: labels to learn, the first step against fp32, the losses of a run. See docs/training.md."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.backends.contract import Inputs, TrainingSession
from benchrun.runner.parity import TRAINING_TOLERANCES, compare, relative_distance
from benchrun.runner.training_update import judge_update

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from benchrun.backends.contract import FloatArray, Recipe, Session
    from benchrun.backends.training_reference import Reference

SPAN = 8  # an answer starts within that many tokens …
WIDTH = 4  # … and is at most that long
MINORITY = 4  # one class in that many sequences
LEAST_STEPS = 40  # a run is trained on, untimed, to at least that many
CURVE = 32  # points of the stored loss curve


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
    reference: Reference
    recipe: Recipe
    sets: Sequence[Inputs]
    facts: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    distance: float | None = None
    _held: float = math.nan

    def before(self, session: Session) -> None:
        """Loss and gradients before the first update, without dropout, against the fp32 step; then one call of the kind that is timed,
        without dropout, and what it did to the weights."""
        assert isinstance(session, TrainingSession)
        found, self._held = self._hold(session)
        expected = self.reference.first
        self.parity = asdict(compare(found, expected, self.dtype, TRAINING_TOLERANCES))
        if self.parity["ok"]:
            gradients = {"gradients": expected["gradients"]}
            self.distance = relative_distance(found, gradients)
        self.facts["first_step"] = {
            "loss": float(found["loss"][0]),
            "reference_loss": float(expected["loss"][0]),
            "gradient_norm": float(np.linalg.norm(found["gradient_norms"])),
            "reference_gradient_norm": float(np.linalg.norm(expected["gradient_norms"])),
            "gradient_distance": self.distance,
        }
        self._update(session)

    def after(self, session: Session) -> None:
        """Train on to `LEAST_STEPS` steps, then look at the losses."""
        assert isinstance(session, TrainingSession)
        losses = session.losses()
        for step in range(LEAST_STEPS - losses.size):
            session.bind(self.sets[step % len(self.sets)])
            session.enqueue()
        session.synchronize()
        losses = session.losses()
        _, held = self._hold(session)
        self.facts["loss"] = describe_losses(losses) | {"held_before": self._held, "held_after": held}
        problem = loss_problem(losses, self._held, held)
        self._object(problem)

    def _update(self, session: TrainingSession) -> None:
        """The step of set 0, which is bound, as it is timed."""
        reference = self.reference
        loss = float(reference.first["loss"][0])
        found = session.check_update()
        verdict = judge_update(found, loss, reference.gradients, reference.weights, self.recipe, self.dtype)
        self.facts["first_update"] = asdict(verdict)
        self._object(verdict.problem)

    def _object(self, problem: str | None) -> None:
        """The first problem is kept."""
        if problem is not None and self.parity["ok"]:
            self.parity = self.parity | {"ok": False, "reason": problem}

    def _hold(self, session: TrainingSession) -> tuple[Mapping[str, FloatArray], float]:
        """The step of set 0, and the mean loss of all sets, without dropout: what training lowers, free of its noise."""
        found: Mapping[str, FloatArray] = {}
        held = []
        for each in reversed(self.sets):
            session.bind(each)
            found = session.check_step()
            held.append(float(found["loss"][0]))
        return found, float(np.mean(held))

    def verdict(self, _: Session) -> tuple[dict[str, Any], float | None]:
        """What is known by now."""
        return self.parity, self.distance


def loss_problem(losses: FloatArray, held_before: float, held_after: float) -> str | None:
    """What is wrong with a run's losses; None where nothing is.

    `held_…` are the mean losses of all input sets without dropout, before the first and after the last step: an optimizer that does
    nothing leaves them equal. The run's own losses are noisy, so of them the medians of the first and of the last tenth.
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
