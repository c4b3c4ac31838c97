from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchrun.runner.errors import UsageError
from benchrun.runner.lists import LARGEST, LONGEST, parse_names, parse_numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1", (1,)),
        ("1,2,4", (1, 2, 4)),
        (" 4 , 1,4 ", (4, 1)),
        ("1..4", (1, 2, 3, 4)),
        ("1..128*2", (1, 2, 4, 8, 16, 32, 64, 128)),
        ("3..50*3", (3, 9, 27)),
        ("64..512+128", (64, 192, 320, 448)),
        ("1..4,3..8*2,100", (1, 2, 3, 4, 6, 100)),
        ("7..7", (7,)),
        (f"{LARGEST}", (LARGEST,)),
    ],
)
def test_lists_and_ranges(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_numbers(text, "batch") == numbers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a", "'a' is not a number"),
        ("", "'' is not a number"),
        ("1,,2", "'' is not a number"),
        ("-1", "'-1' is not a number"),
        ("1.5", "'1.5' is not a number"),
        ("1...4", "'1...4' is not a number"),
        ("²", "'²' is not a number"),
        ("٣..٥", "'٣..٥' is not a number"),
        ("9" * 5000, "is not a number of up to 10 digits"),
        ("0", "'0' must be 1 or more"),
        ("0..4", "'0..4' must be 1 or more"),
        ("9999999999", "at most 2147483647"),
        ("8..1", "'8..1' is a range without numbers"),
        ("1..8*1", "'1..8*1' is a range without numbers"),
        ("0..8*2", "'0..8*2' is a range without numbers"),
        ("1..8+0", "'1..8+0' is a range without numbers"),
        (f"1..{LONGEST + 1}", f"more than {LONGEST} numbers"),
        ("1..9000,10000..19000", f"more than {LONGEST} numbers"),
    ],
)
def test_what_is_no_list_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_numbers(text, "seq")
    message = str(refused.value)
    assert message.startswith("--seq ") and said in message and "1..128*2" in message


@given(st.lists(st.integers(1, LARGEST), min_size=1))
def test_a_list_gives_each_number_once_in_order(numbers: list[int]) -> None:
    assert parse_numbers(",".join(map(str, numbers)), "batch") == tuple(dict.fromkeys(numbers))


@given(st.integers(1, 5000), st.integers(0, 5000), st.integers(1, 50))
def test_a_range_with_a_step_is_pythons_range(start: int, length: int, step: int) -> None:
    assert parse_numbers(f"{start}..{start + length}+{step}", "seq") == tuple(range(start, start + length + 1, step))


def test_names_are_split_without_blanks_and_repeats() -> None:
    assert parse_names(" torch, ort:cpu,,torch ") == ("torch", "ort:cpu")
    assert parse_names(" , ") == ()
