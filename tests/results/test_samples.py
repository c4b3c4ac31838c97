"""The sample column: exact for any int64, compact, and damage is noticed."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchrun.results.samples import FORMAT, DamagedData, decode, encode


@given(arrays.arrays(np.int64, st.integers(0, 300)))
def test_any_int64_comes_back_exactly(samples: np.ndarray) -> None:
    back = decode(encode(samples), samples.size, FORMAT)
    assert back.dtype == np.int64
    assert back.flags.writeable
    np.testing.assert_array_equal(back, samples)


@pytest.mark.parametrize(
    "values", [[], [0], [-(2**63), 2**63 - 1], [2**63 - 1, -(2**63)], [5] * 1000, list(range(256)), [0, 256]]
)
def test_the_corners_come_back_exactly(values: list[int]) -> None:
    samples = np.array(values, dtype=np.int64)
    np.testing.assert_array_equal(decode(encode(samples), len(values)), samples)


def test_strided_and_big_endian_samples_are_read_by_value() -> None:
    samples = np.arange(0, 2000, dtype=">i8")[::3]
    np.testing.assert_array_equal(decode(encode(samples), samples.size), samples)


def test_two_hundred_samples_take_a_third_of_their_size() -> None:
    samples = np.random.default_rng(0).lognormal(np.log(5e6), 0.02, 200).astype(np.int64)
    assert len(encode(samples)) < 200 * 8 / 2.5


def test_format_1_is_what_its_description_says() -> None:
    """Written by hand from the description, so that old databases stay readable."""
    data = zlib.compress(struct.pack("<qB", 1000, 2) + bytes([1, 2, 0]) + bytes([0, 1, 0]))
    assert decode(data, 3, 1).tolist() == [1001, 1000 + 256 + 2, 1000]


def test_samples_have_one_dimension() -> None:
    with pytest.raises(ValueError, match="one dimension"):
        encode(np.zeros((2, 2), dtype=np.int64))


@given(st.data())
def test_damage_is_noticed(data: st.DataObject) -> None:
    samples = np.arange(1_000_000, 1_000_050, dtype=np.int64)
    whole = encode(samples)
    kind = data.draw(st.sampled_from(["flip", "cut", "count"]))
    place = data.draw(st.integers(0, len(whole) - 1))
    n = samples.size
    if kind == "flip":
        damaged = bytearray(whole)
        damaged[place] ^= data.draw(st.integers(1, 255))
        given_bytes = bytes(damaged)
    elif kind == "cut":
        given_bytes = whole[:place]
    else:
        given_bytes, n = whole, data.draw(st.integers(-5, 10**12).filter(lambda each: each != samples.size))
    try:
        found = decode(given_bytes, n)
    except DamagedData:
        return
    # Two bits of the zlib header are free: a flip there changes nothing.
    assert kind == "flip" and found.tolist() == samples.tolist()


def test_a_claim_that_cannot_be_true_allocates_nothing() -> None:
    with pytest.raises(DamagedData, match="cannot hold"):
        decode(encode(np.arange(10, dtype=np.int64)), 2**60)
    bomb = zlib.compress(bytes(50_000_000), 9)
    with pytest.raises(DamagedData):
        decode(bomb, 10)


def test_a_later_format_is_refused() -> None:
    with pytest.raises(DamagedData, match="format 2"):
        decode(b"", 0, 2)
