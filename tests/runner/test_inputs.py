from __future__ import annotations

import numpy as np
import pytest

from benchrun.backends.catalogue import HEADS, NAMED, ModelShape, named_spec
from benchrun.runner import inputs as room
from benchrun.runner.inputs import make_inputs
from benchrun.runner.protocol import INPUT_SETS

BATCH, SEQ = 3, 64


def shape_of(name: str, **overrides: int) -> ModelShape:
    return named_spec(name, **overrides).shape


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("head", HEADS)
def test_the_inputs_are_those_the_model_takes(name: str, head: str) -> None:
    shape = shape_of(name)
    for inputs in make_inputs(shape, head, BATCH, SEQ, seed=0):
        assert tuple(inputs.arrays) == shape.input_names(head)
        assert inputs.lengths == (SEQ,) * BATCH and inputs.full
        for field, array in inputs.arrays.items():
            hidden = field == "hidden_states"
            assert array.shape == ((BATCH, SEQ, shape.hidden_size) if hidden else (BATCH, SEQ))
            assert array.dtype == (np.float32 if hidden else np.int64)
        assert (inputs.arrays["attention_mask"] == 1).all()


def test_several_sets_are_told_apart_by_their_index() -> None:
    sets = make_inputs(shape_of("tiny"), "encoder", BATCH, SEQ, seed=0)
    assert [each.index for each in sets] == list(range(INPUT_SETS))
    for i, one in enumerate(sets):
        for other in sets[i + 1 :]:
            assert (one.arrays["input_ids"] != other.arrays["input_ids"]).mean() > 0.9


def test_no_more_sets_than_the_host_should_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = shape_of("tiny")
    one = BATCH * SEQ * shape.hidden_size * 4
    for most, count in ((one - 1, 1), (2 * one, 2), (100 * one, INPUT_SETS)):
        monkeypatch.setattr(room, "MOST_BYTES", most)
        assert [each.index for each in make_inputs(shape, "layers", BATCH, SEQ, seed=0)] == list(range(count))


def test_the_seed_decides() -> None:
    def ids(seed: int, seq: int = SEQ) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        return make_inputs(shape_of("tiny"), "encoder", BATCH, seq, seed)[0].arrays["input_ids"]  # type: ignore[return-value]

    assert (ids(0) == ids(0)).all() and (ids(0) != ids(1)).any()
    assert (ids(0, 32)[:, 1:31] != ids(0)[:, 1:31]).any()  # each shape draws its own


@pytest.mark.parametrize(
    ("name", "first", "last", "reserved"),
    [("bert-base", 101, 102, {0, 101, 102}), ("roberta-base", 0, 2, {0, 1, 2})],
)
def test_sequences_open_and_close_with_the_models_own_ids(name: str, first: int, last: int, reserved: set[int]) -> None:
    shape = shape_of(name)
    ids = make_inputs(shape, "encoder", 200, 128, seed=0)[0].arrays["input_ids"]
    assert (ids[:, 0] == first).all() and (ids[:, -1] == last).all()
    inner = ids[:, 1:-1]
    assert not np.isin(inner, list(reserved)).any()
    assert inner.min() < 200 and inner.max() > shape.vocab_size - 200
    assert inner.mean() == pytest.approx(shape.vocab_size / 2, rel=0.02)  # uniform


def test_short_sequences_and_small_vocabularies() -> None:
    one = make_inputs(shape_of("tiny"), "encoder", 1, 1, seed=0)[0]
    assert one.arrays["input_ids"].shape == (1, 1)
    small = make_inputs(shape_of("tiny", vocab_size=50), "encoder", 2, 8, seed=0)[0].arrays["input_ids"]
    assert small.min() > 0 and small.max() < 50
    toy = make_inputs(shape_of("roberta-base", vocab_size=3), "encoder", 2, 8, seed=0)[0].arrays["input_ids"]
    assert set(np.unique(toy)) <= {0, 1, 2}


def test_token_types_mark_the_second_half_where_there_are_two() -> None:
    types = make_inputs(shape_of("tiny"), "encoder", 1, 7, seed=0)[0].arrays["token_type_ids"]
    assert types.tolist() == [[0, 0, 0, 1, 1, 1, 1]]
    single = make_inputs(shape_of("tiny", type_vocab_size=1), "encoder", 1, 4, seed=0)[0].arrays["token_type_ids"]
    assert single.tolist() == [[0, 0, 0, 0]]


def test_hidden_states_are_standard_normal() -> None:
    hidden = make_inputs(shape_of("tiny"), "layers", 4, 64, seed=0)[0].arrays["hidden_states"].astype(np.float64)
    assert hidden.mean() == pytest.approx(0, abs=0.02) and hidden.std() == pytest.approx(1, abs=0.02)
