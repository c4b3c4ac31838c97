from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchrun.backends.contract import DTYPES
from benchrun.runner.parity import (
    LOW_PRECISION,
    TOLERANCES,
    TOO_EXACT,
    compare,
    precision_problem,
    relative_distance,
    remainder_problem,
    true_tokens,
)

RANDOM = np.random.default_rng(7)
REFERENCE = RANDOM.standard_normal((2, 16, 32)).astype(np.float32)
NOISE = RANDOM.standard_normal(REFERENCE.shape).astype(np.float32)
NOISE *= np.linalg.norm(REFERENCE) / np.linalg.norm(NOISE)  # so that a share of it is a relative L2 error


def off_by(share: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return REFERENCE + np.float32(share) * NOISE


def test_the_table_is_the_protocols() -> None:
    limits = {dtype: (each.rel_l2, each.gain, each.cosine) for dtype, each in TOLERANCES.items()}
    assert limits == {
        "fp32": (1e-4, 3e-3, 0.999),
        "tf32": (1e-3, 3e-3, 0.999),
        "fp16": (5e-3, 3e-3, 0.999),
        "bf16": (2e-2, 5e-3, 0.999),
        "int8": (None, 2e-2, 0.99),
        "fp8": (None, 2e-2, 0.99),
    }
    assert set(limits) == set(DTYPES)


@pytest.mark.parametrize("dtype", ["fp32", "tf32", "fp16", "bf16"])
def test_the_relative_error_is_limited_for_each_dtype(dtype: str) -> None:
    limit = TOLERANCES[dtype].rel_l2
    assert limit is not None
    right = compare({"y": off_by(0.9 * limit)}, {"y": REFERENCE}, dtype)
    wrong = compare({"y": off_by(1.1 * limit)}, {"y": REFERENCE}, dtype)
    assert right.ok and right.reason == "" and right.rel_l2 == pytest.approx(0.9 * limit, rel=1e-3)
    assert not wrong.ok and f"y: relative L2 error {wrong.rel_l2:.2e} is over" in wrong.reason


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_answer_scaled_by_a_hundredth_is_wrong_in_every_floating_point_dtype(dtype: str) -> None:
    parity = compare({"y": REFERENCE * np.float32(1.01)}, {"y": REFERENCE}, dtype)
    assert parity.gain == pytest.approx(1.01, abs=1e-5)
    assert parity.ok == (dtype in ("int8", "fp8"))
    if dtype == "bf16":  # passes the L2 test there: only the gain shows it
        assert parity.rel_l2 is not None and parity.rel_l2 < 2e-2 and "gain 1.0100 is off 1" in parity.reason


def test_quantised_answers_are_judged_by_direction_and_size() -> None:
    near, far = off_by(0.1), off_by(0.2)
    assert compare({"y": near}, {"y": REFERENCE}, "int8").ok
    assert "cosine 0.98" in compare({"y": far}, {"y": REFERENCE}, "int8").reason
    assert "gain 1.0300" in compare({"y": REFERENCE * np.float32(1.03)}, {"y": REFERENCE}, "fp8").reason


def test_the_gain_of_a_few_values_is_not_held_to_more_than_rounding_allows() -> None:
    logits = np.array([[0.5, -0.3]] * 16, np.float32)
    assert compare(
        {"logits": logits * np.float32(1.0088)}, {"logits": logits}, "bf16"
    ).ok  # as an H200 answered in bf16
    assert "relative L2" in compare({"logits": logits * np.float32(1.01)}, {"logits": logits}, "fp16").reason
    wide = np.repeat(logits, 16, axis=1)
    assert "gain 1.0088" in compare({"logits": wide * np.float32(1.0088)}, {"logits": wide}, "bf16").reason


def test_an_answer_that_rounding_moves_far_is_held_to_that() -> None:
    moved, real = off_by(0.02), off_by(0.04)
    assert not compare({"y": real}, {"y": REFERENCE}, "bf16").ok
    assert compare({"y": real}, {"y": REFERENCE}, "bf16", rounded={"y": moved}).ok
    assert not compare({"y": off_by(0.06)}, {"y": REFERENCE}, "bf16", rounded={"y": moved}).ok
    far = compare({"y": off_by(0.07)}, {"y": REFERENCE}, "bf16", rounded={"y": off_by(0.03)})
    assert far.ok and far.cosine is not None and far.cosine < 0.999, "direction refuses what the error allows"
    scaled = {
        "y": REFERENCE * np.float32(1.01)
    }  # rounding hardly changes the gain of many values: a scaled answer is still wrong
    assert "gain 1.0100" in compare(scaled, {"y": REFERENCE}, "bf16", rounded={"y": off_by(0.01)}).reason


@pytest.mark.parametrize(("dtype", "error"), [("bf16", 1.4e-3), ("int8", 5e-5), ("fp8", 1e-6)])
def test_an_answer_more_exact_than_its_dtype_is_something_elses(dtype: str, error: float) -> None:
    facts = {"compute_dtypes": {"matmul": dtype}}
    problem = precision_problem(dtype, 5e-3, facts, error)
    assert problem is not None and f"more exact than {dtype} can be" in problem
    assert precision_problem(dtype, 5e-3, facts, 9e-3) is None


def test_figures_are_those_of_the_textbook() -> None:
    found, reference = np.array([[3.0, 4.5]], np.float32), np.array([[3.0, 4.0]], np.float32)
    parity = compare({"y": found}, {"y": reference}, "fp32")
    assert parity.rel_l2 == pytest.approx(0.5 / 5)
    assert parity.max_abs == pytest.approx(0.5)
    assert parity.gain == pytest.approx((9 + 18) / 25)
    assert parity.cosine == pytest.approx(27 / (5 * np.hypot(3, 4.5)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_counted(value: float) -> None:
    found = REFERENCE.copy()
    found[0, 0, :8] = value
    parity = compare({"y": found}, {"y": REFERENCE}, "fp32")
    assert not parity.ok and parity.nan_share == 8 / found.size and "0.8% of y is not a finite number" in parity.reason
    assert parity.rel_l2 is None and parity.cosine is None


def test_a_missing_output_and_a_wrong_shape_are_wrong() -> None:
    assert "no output y" in compare({"z": REFERENCE}, {"y": REFERENCE}, "fp32").reason
    assert "shape (1, 16, 32), not (2, 16, 32)" in compare({"y": REFERENCE[:1]}, {"y": REFERENCE}, "fp32").reason


def test_the_worst_output_decides() -> None:
    reference = {"a": REFERENCE, "b": REFERENCE, "c": REFERENCE}
    parity = compare({"a": REFERENCE, "b": off_by(1e-5), "c": off_by(5e-5)}, reference, "fp32")
    assert parity.ok and parity.rel_l2 == pytest.approx(5e-5, rel=1e-2)
    failed = compare({"a": off_by(5e-5), "b": off_by(0.5), "c": off_by(9e-5)}, reference, "fp32")
    assert not failed.ok and failed.reason.startswith("b: ")
    absent = compare({"a": off_by(9e-5), "c": REFERENCE}, reference, "fp32")
    assert not absent.ok and "no output b" in absent.reason


def test_zeros_must_be_zeros() -> None:
    zeros = np.zeros((1, 4), np.float32)
    assert compare({"y": zeros}, {"y": zeros}, "fp32").ok
    wrong = compare({"y": zeros + 1}, {"y": zeros}, "fp32")
    assert not wrong.ok and wrong.reason == "y should be zero" and wrong.max_abs == 1
    silent = compare({"y": zeros}, {"y": zeros + 1}, "int8")
    assert not silent.ok and silent.cosine == 0


def test_a_reference_without_outputs_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="no outputs"):
        compare({}, {}, "fp32")


@given(st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_scaling_both_sides_changes_nothing(scale: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    reference = random.standard_normal((3, 5)).astype(np.float32)
    found = reference + np.float32(1e-3) * random.standard_normal((3, 5)).astype(np.float32)
    one = compare({"y": found}, {"y": reference}, "bf16")
    other = compare({"y": found * np.float32(scale)}, {"y": reference * np.float32(scale)}, "bf16")
    assert one.rel_l2 == pytest.approx(other.rel_l2, rel=1e-2) and one.gain == pytest.approx(other.gain, rel=1e-4)


def test_distance_is_taken_over_all_outputs_together() -> None:
    found = {"a": np.array([3.0], np.float32), "b": np.array([1.0, 1.0], np.float32)}
    other = {"a": np.array([0.0], np.float32), "b": np.array([3.0, 4.0], np.float32)}
    assert relative_distance(found, other) == pytest.approx(np.sqrt(9 + 4 + 9) / 5)
    zeros = {"a": np.zeros(1, np.float32)}
    assert relative_distance({"a": np.array([2.0], np.float32)}, zeros) == 2.0


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_more_exact_than_the_dtype_can_be_means_that_fp32_ran(dtype: str) -> None:
    honest = {"compute_dtypes": {"matmul": dtype}}
    assert precision_problem(dtype, 1.4e-3, honest) is None
    problem = precision_problem(dtype, 0.9 * TOO_EXACT, honest)
    assert problem is not None and problem.startswith(f"more exact than {dtype} can be (distance 9.0e-06")
    assert precision_problem("fp32", 0.0, {}) is None


@pytest.mark.parametrize(
    ("asked", "claimed", "right"),
    [
        ("fp32", "fp32", True),
        ("fp16", "fp16", True),
        ("fp16", "fp32", False),
        ("fp32", "tf32", False),
        ("fp16", "fp16+fp32", False),
        ("int8", "int8", True),
        ("int8", "fp32+int8", True),
        ("int8", "fp32", False),
        ("fp8", "bf16+fp8", True),
    ],
)
def test_what_the_engine_says_is_compared_with_what_was_asked(asked: str, claimed: str, right: bool) -> None:
    problem = precision_problem(asked, None, {"compute_dtypes": {"matmul": claimed}})
    assert (problem is None) == right
    if problem is not None:
        assert problem == f"asked for {asked}, but the engine computes its matrix products in {claimed}"


def test_sequences_beyond_the_compared_ones_must_be_there_and_finite() -> None:
    whole = np.ones((6, 4), np.float32)
    assert remainder_problem({"y": whole}, 6, 2) is None and remainder_problem({"y": whole}, 6, 6) is None
    assert remainder_problem({"y": whole[:5]}, 6, 2) == "y holds 5 sequences, not 6"
    whole[3] = np.nan
    assert remainder_problem({"y": whole}, 6, 2) == "25.0% of y beyond the first 2 sequences is not a finite number"
    assert remainder_problem({"y": whole}, 6, 6) is None  # these were compared


def test_an_engine_that_says_nothing_is_not_accused() -> None:
    assert precision_problem("fp16", 1e-3, {}) is None
    assert precision_problem("fp16", None, {"compute_dtypes": {"gelu": "fp32"}}) is None


# --- padding ---

LENGTHS = (16, 5)


def spoilt_padding() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    found = REFERENCE.copy()
    found[1, 5:] = np.nan
    return {"last_hidden_state": found, "pooler_output": REFERENCE[:, 0]}


def test_what_lies_at_the_padding_does_not_count() -> None:
    expected = {"last_hidden_state": REFERENCE, "pooler_output": REFERENCE[:, 0]}
    found = true_tokens(spoilt_padding(), LENGTHS, 16)
    assert found["last_hidden_state"].shape == (21, 32) and found["pooler_output"].shape == (2, 32)
    assert compare(found, true_tokens(expected, LENGTHS, 16), "fp32").ok
    assert not compare(spoilt_padding(), expected, "fp32").ok
    wrong = dict(spoilt_padding())
    wrong["last_hidden_state"][1, 4] += 1  # the last true token
    assert not compare(true_tokens(wrong, LENGTHS, 16), true_tokens(expected, LENGTHS, 16), "fp32").ok


def test_full_lengths_and_other_shapes_stay_as_they_are() -> None:
    outputs = {"last_hidden_state": REFERENCE[:1]}
    assert true_tokens(outputs, (16, 16), 16) is outputs
    assert true_tokens(outputs, LENGTHS, 16)["last_hidden_state"].shape == (
        1,
        16,
        32,
    )  # one sequence only: for `compare` to find


def test_beyond_what_is_compared_only_true_tokens_must_be_there() -> None:
    assert remainder_problem(spoilt_padding(), 2, 1, LENGTHS) is None
    assert "beyond the first 1 sequences" in str(remainder_problem(spoilt_padding(), 2, 1))
    unwritten = {"last_hidden_state": np.full_like(REFERENCE, np.nan)}
    assert "100.0%" in str(remainder_problem(unwritten, 2, 1, LENGTHS))
    assert remainder_problem(unwritten, 2, 2, LENGTHS) is None
