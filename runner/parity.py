"""Is the answer right, and was it computed in the precision that was asked for? Pure arithmetic on arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.results.roofline import ARITHMETIC
from benchrun.results.rows import Parity

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Limits of one dtype. `rel_l2` is None where only direction and size of the answer are compared (int8, fp8)."""

    rel_l2: float | None
    gain: float
    cosine: float


# docs/measuring.md, "Is the answer right?"
TOLERANCES: dict[str, Tolerance] = {
    "fp32": Tolerance(1e-4, 3e-3, 0.999),
    "tf32": Tolerance(1e-3, 3e-3, 0.999),
    "fp16": Tolerance(5e-3, 3e-3, 0.999),
    "bf16": Tolerance(2e-2, 5e-3, 0.999),
    "int8": Tolerance(None, 2e-2, 0.99),
    "fp8": Tolerance(None, 2e-2, 0.99),
}
# of a training step's loss and gradients (docs/training.md)
TRAINING_TOLERANCES: dict[str, Tolerance] = {
    "fp32": Tolerance(1e-3, 3e-3, 0.999),
    "tf32": Tolerance(1e-2, 5e-3, 0.999),
    "fp16-amp": Tolerance(1e-2, 5e-3, 0.999),
    "bf16": Tolerance(5e-2, 2e-2, 0.99),
}
# Real fp16 and bf16 arithmetic differs from fp32 arithmetic on rounded weights by about 1.4e-3 and 1.1e-2. Below this, fp32 ran.
TOO_EXACT = 1e-5
FEW_VALUES = 32
SENSITIVE = 2.5
# An honest answer in one of these dtypes is at least so far from fp32's (relative L2): nearer, something more exact ran.
LEAST_ERROR = {"bf16": 2e-3, "int8": 1e-4, "fp8": 1e-4}
LOW_PRECISION = ("tf32", "fp16", "bf16")
PER_TOKEN = ("last_hidden_state", "start_logits", "end_logits")  # outputs [batch, seq, …]; the others are [batch, …]


def compare(
    found: Mapping[str, FloatArray],
    reference: Mapping[str, FloatArray],
    dtype: str,
    tolerances: Mapping[str, Tolerance] = TOLERANCES,
    rounded: Mapping[str, FloatArray] | None = None,
) -> Parity:
    """Compare all outputs with the fp32 reference; the worst output decides. Arrays of one name must have equal shapes.

    `rounded` are the outputs of fp32 arithmetic on weights rounded to `dtype`: an answer that they alone move far (start logits that
    are small against what they are a sum of) is held to that, see `widen`.
    """
    worst: Parity | None = None
    for name, expected in reference.items():
        limits = tolerances[dtype]
        if rounded is not None:
            limits = widen(limits, rounded[name], expected)
        parity = _compare_output(name, found.get(name), expected, limits)
        if worst is None or (worst.ok, -(worst.rel_l2 or 0.0)) > (parity.ok, -(parity.rel_l2 or 0.0)):
            worst = parity
    if worst is None:
        raise ValueError("the reference has no outputs")
    return worst


def widen(limits: Tolerance, rounded: FloatArray, expected: FloatArray) -> Tolerance:
    """The limits of an answer that is more sensitive than the table takes it to be: `SENSITIVE` times what rounding the weights does to
    it, in error and in gain each. PyTorch's own bf16 and fp16 come to between 1.2 and 2.3 times (docs/measuring.md).
    """
    difference, gain = _distance_and_gain(rounded, expected)
    if limits.rel_l2 is None:
        return limits
    error = max(limits.rel_l2, SENSITIVE * difference)
    return replace(
        limits,
        rel_l2=error,
        gain=max(limits.gain, SENSITIVE * abs(gain - 1)),
        # the least that an answer within that error can have; direction alone must not refuse what its error allows
        cosine=min(limits.cosine, math.sqrt(max(0.0, 1 - error**2))),
    )


def _distance_and_gain(found: FloatArray, expected: FloatArray) -> tuple[float, float]:
    y, ref = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    size = float(np.dot(ref, ref))
    return (float(np.sqrt(np.sum((y - ref) ** 2) / size)), float(np.dot(y, ref)) / size) if size > 0 else (0.0, 1.0)


def gain_limit(expected: FloatArray, limits: Tolerance) -> float:
    """How far a gain may be off 1. Rounding errors average out over the values of an answer, which a classifier's few do not: there
    two standard errors, taken from the limit of the whole error, are allowed. The sequences of a batch count as one, since
    random weights answer all of them nearly alike.
    """
    values = expected.shape[-1] if expected.ndim > 1 else expected.size
    if values >= FEW_VALUES:
        return limits.gain
    error = limits.rel_l2 if limits.rel_l2 is not None else math.sqrt(2 * (1 - limits.cosine))
    return max(limits.gain, 2 * error / math.sqrt(values))


def true_tokens(outputs: Mapping[str, FloatArray], lengths: Sequence[int], seq: int) -> Mapping[str, FloatArray]:
    """The outputs without what lies at the padding, which no engine need compute: [batch, seq, …] becomes [true tokens, …].

    An output of another shape stays as it is, for `compare` to find.
    """
    if all(each == seq for each in lengths):
        return outputs
    true = np.arange(seq)[None, :] < np.array(lengths)[:, None]
    return {
        name: array[true] if name in PER_TOKEN and array.shape[:2] == true.shape else array
        for name, array in outputs.items()
    }


def remainder_problem(
    found: Mapping[str, FloatArray], batch: int, compared: int, lengths: Sequence[int] | None = None
) -> str | None:
    """What is wrong with the sequences beyond the `compared` ones: too few or too many of them, or unwritten values. With the true
    `lengths` of all sequences, what lies at their padding is not looked at."""
    for name, array in found.items():
        if array.shape[0] != batch:
            return f"{name} holds {array.shape[0]} sequences, not {batch}"
        rest = array[compared:]
        if lengths is not None and name in PER_TOKEN:
            rest = true_tokens({name: rest}, lengths[compared:], array.shape[1])[name]
        share = float(np.mean(~np.isfinite(rest))) if rest.size else 0.0
        if share > 0:
            return f"{share:.1%} of {name} beyond the first {compared} sequences is not a finite number"
    return None


def relative_distance(found: Mapping[str, FloatArray], other: Mapping[str, FloatArray]) -> float:
    """‖found − other‖ / ‖other‖ over all outputs together, in float64."""
    difference = sum(float(np.sum((found[name].astype(np.float64) - array) ** 2)) for name, array in other.items())
    size = sum(float(np.sum(array.astype(np.float64) ** 2)) for array in other.values())
    return float(np.sqrt(difference / size)) if size > 0 else float(np.sqrt(difference))


def precision_problem(
    dtype: str, distance_to_rounded: float | None, facts: Mapping[str, Any], error: float | None = None
) -> str | None:
    """Why the effective precision is not the asked one; None where nothing speaks against it.

    `distance_to_rounded` is the relative distance to fp32 arithmetic on weights rounded to `dtype`, `error` that to the
    reference; the facts are the backend's own word, so the numbers are looked at too.
    """
    dtype = ARITHMETIC.get(dtype, dtype)
    if error is not None and error < LEAST_ERROR.get(dtype, 0.0):
        return f"more exact than {dtype} can be (relative L2 error {error:.1e} to fp32): something else ran"
    if dtype in LOW_PRECISION and distance_to_rounded is not None and distance_to_rounded < TOO_EXACT:
        return f"more exact than {dtype} can be (distance {distance_to_rounded:.1e} to fp32 arithmetic on {dtype} weights): fp32 ran"
    claimed = facts.get("compute_dtypes", {}).get("matmul")
    if claimed is not None and not _claim_fits(str(claimed), dtype):
        return f"asked for {dtype}, but the engine computes its matrix products in {claimed}"
    return None


def _claim_fits(claimed: str, dtype: str) -> bool:
    """Quantised models keep some products in floating point: there the asked dtype must be among the claimed ones."""
    parts = claimed.split("+")
    return dtype in parts if dtype in ("int8", "fp8") else parts == [dtype]


def _compare_output(name: str, found: FloatArray | None, expected: FloatArray, limits: Tolerance) -> Parity:
    if found is None:
        return Parity(None, None, None, None, 1.0, False, f"the engine gave no output {name}")
    if found.shape != expected.shape:
        return Parity(None, None, None, None, 0.0, False, f"{name} has shape {found.shape}, not {expected.shape}")
    nan_share = float(np.mean(~np.isfinite(found)))
    if nan_share > 0:
        return Parity(None, None, None, None, nan_share, False, f"{nan_share:.1%} of {name} is not a finite number")
    y, ref = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    size, own = float(np.dot(ref, ref)), float(np.dot(y, y))
    if size == 0:
        return Parity(
            None,
            float(np.max(np.abs(y))),
            None,
            None,
            0.0,
            bool(own == 0),
            "" if own == 0 else f"{name} should be zero",
        )
    rel_l2 = float(np.sqrt(np.sum((y - ref) ** 2) / size))
    gain = float(np.dot(y, ref)) / size
    cosine = float(np.dot(y, ref)) / float(np.sqrt(size * own)) if own > 0 else 0.0
    reason = ""
    if limits.rel_l2 is not None and rel_l2 > limits.rel_l2:
        reason = f"{name}: relative L2 error {rel_l2:.2e} is over {limits.rel_l2:.0e}"
    elif abs(gain - 1) > (most := gain_limit(expected, limits)):
        reason = f"{name}: gain {gain:.4f} is off 1 by more than {most:.0e}"
    elif cosine < limits.cosine:
        reason = f"{name}: cosine {cosine:.4f} is under {limits.cosine}"
    return Parity(rel_l2, float(np.max(np.abs(y - ref))), cosine, gain, 0.0, not reason, reason)
