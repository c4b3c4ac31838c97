from __future__ import annotations

import numpy as np
import pytest
import torch

from benchrun.backends import reference
from benchrun.backends.catalogue import named_spec, resolve_spec
from benchrun.backends.contract import Inputs, Point
from benchrun.backends.models import Model, load_model
from benchrun.backends.reference import (
    ROUNDED,
    Reference,
    full_precision,
    get_tf32,
    reference_device,
    round_to,
    set_tf32,
)
from tests.backends.minilm import MINILM

TINY = load_model(named_spec("tiny"), 64)


def inputs_of(model: Model, batch: int = 2, seq: int = 64) -> Inputs:
    random = np.random.default_rng(0)
    arrays = {
        "input_ids": random.integers(103, model.spec.shape.vocab_size, (batch, seq)),
        "attention_mask": np.ones((batch, seq), np.int64),
        "token_type_ids": np.zeros((batch, seq), np.int64),
    }
    return Inputs(0, arrays, (seq,) * batch)


def distance(one: np.ndarray, other: np.ndarray) -> float:  # type: ignore[type-arg]
    return float(np.linalg.norm(one.astype(np.float64) - other) / np.linalg.norm(other.astype(np.float64)))


def test_the_reference_is_eager_fp32() -> None:
    inputs = inputs_of(TINY)
    found = Reference(TINY, "cpu").exact(inputs)["last_hidden_state"]
    with torch.inference_mode():
        (expected,) = TINY.module(*(torch.from_numpy(inputs.arrays[name]) for name in TINY.input_names))
    assert found.dtype == np.float32 and np.array_equal(found, expected.numpy())


def test_the_reference_agrees_with_double_precision() -> None:
    inputs = inputs_of(TINY)
    double = load_model(named_spec("tiny"), 64).module.double()
    with torch.inference_mode():
        (expected,) = double(*(torch.from_numpy(inputs.arrays[name]) for name in TINY.input_names))
    assert distance(Reference(TINY, "cpu").exact(inputs)["last_hidden_state"], expected.numpy()) < 1e-5


def test_long_batches_go_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of(TINY, batch=7)
    whole = Reference(TINY, "cpu").exact(inputs)["last_hidden_state"]
    for tokens in (128, 200, 1):
        monkeypatch.setattr(reference, "CHUNK_TOKENS", tokens)
        pieces = Reference(TINY, "cpu").exact(inputs)["last_hidden_state"]
        assert pieces.shape == whole.shape and distance(pieces, whole) < 1e-5


@pytest.mark.parametrize("dtype", ROUNDED)
def test_rounded_weights_leave_the_model_alone(dtype: str) -> None:
    before = TINY.weights_hash
    work = Reference(TINY, "cpu")
    exact, rounded = work.exact(inputs_of(TINY)), work.rounded(inputs_of(TINY), dtype)
    apart = distance(rounded["last_hidden_state"], exact["last_hidden_state"])
    assert {"tf32": 1e-6, "fp16": 1e-6, "bf16": 1e-4}[dtype] < apart < {"tf32": 1e-3, "fp16": 1e-3, "bf16": 1e-2}[dtype]
    assert load_model(named_spec("tiny"), 64).weights_hash == before == TINY.weights_hash
    kept = work._rounded
    work.rounded(inputs_of(TINY), dtype)
    assert work._rounded is kept  # rounded once
    work.release()
    assert work._rounded is None
    assert distance(work.exact(inputs_of(TINY))["last_hidden_state"], exact["last_hidden_state"]) == 0


@pytest.mark.parametrize(("dtype", "low", "high"), [("fp16", 1e-4, 5e-3), ("bf16", 2e-3, 2e-2)])
@pytest.mark.parametrize("model", [TINY, load_model(resolve_spec(str(MINILM)), 64)], ids=["random", "MiniLM"])
def test_real_low_precision_is_told_from_fp32_on_rounded_weights(
    model: Model, dtype: str, low: float, high: float
) -> None:
    """The limits that the checks rest on: docs/measuring.md, "Is the answer right?"."""
    work, inputs = Reference(model, "cpu"), inputs_of(model)
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    module = reference.copy_module(model, torch.device("cpu"), half)
    with torch.inference_mode():
        (tensor,) = module(*(torch.from_numpy(inputs.arrays[name]) for name in model.input_names))
    found = tensor.float().numpy()
    assert low < distance(found, work.rounded(inputs, dtype)["last_hidden_state"]) < high
    assert distance(found, work.exact(inputs)["last_hidden_state"]) < high


@pytest.mark.parametrize(
    ("dtype", "value", "rounded"),
    [
        ("tf32", 1 + 2**-10, 1 + 2**-10),
        ("tf32", 1 + 2**-12, 1.0),
        ("tf32", 1 + 2**-11 + 2**-13, 1 + 2**-10),
        ("tf32", -(1 + 2**-11 + 2**-13), -(1 + 2**-10)),
        ("tf32", 0.0, 0.0),
        ("tf32", 2.0**-120, 2.0**-120),
        ("fp16", 1 + 2**-12, 1.0),
        ("fp16", 65504.0, 65504.0),
        ("bf16", 1 + 2**-9, 1.0),
        ("bf16", 1e30, float(torch.tensor(1e30).bfloat16())),
    ],
)
def test_rounding(dtype: str, value: float, rounded: float) -> None:
    found = round_to(torch.tensor([value]), dtype)
    assert found.dtype == torch.float32 and found.item() == rounded


def test_tf32_keeps_ten_bits_and_errs_by_half_of_the_last() -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    rounded = round_to(values, "tf32")
    assert not (rounded.view(torch.int32) & 0x1FFF).any()
    assert ((rounded - values).abs() / values.abs()).max().item() <= 2**-11


def test_tf32_is_off_within_and_as_before_afterwards() -> None:
    before = get_tf32()
    try:
        for state in (True, False):
            set_tf32(state)
            with full_precision():
                assert not get_tf32()
            assert get_tf32() is state
            with pytest.raises(ZeroDivisionError), full_precision():
                raise ZeroDivisionError
            assert get_tf32() is state
    finally:
        set_tf32(before)


def test_older_versions_of_pytorch_have_another_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Matmul:
        allow_tf32 = False

    monkeypatch.setattr(torch.backends.cuda, "matmul", Matmul())
    set_tf32(True)
    assert get_tf32() and torch.backends.cuda.matmul.allow_tf32


def test_without_a_gpu_the_reference_runs_on_the_cpu_with_the_points_threads() -> None:
    before = torch.get_num_threads()
    try:
        cpu = Point(
            "tiny", "random:0", "encoder", "torch", "eager", "cpu", "fp32", 1, 8, "padded", "v1", (), (("threads", 1),)
        )
        assert reference_device(cpu) == "cpu" and torch.get_num_threads() == 1
        gpu = Point("tiny", "random:0", "encoder", "torch", "eager", "cuda:1", "fp32", 1, 8, "padded", "v1")
        assert reference_device(gpu) == ("cuda:1" if torch.cuda.is_available() else "cpu")
    finally:
        torch.set_num_threads(before)
