from __future__ import annotations

from dataclasses import replace

import pytest

from benchrun.runner.protocol import Protocol


def test_the_id_names_the_quantity() -> None:
    assert Protocol().id == (
        "v1;sync=iteration;streams=1;transfers=exclude;cache=warm;inputs=uniform/4/seed0;percentiles=linear"
    )


@pytest.mark.parametrize(
    "change", [{"transfers": "include"}, {"cold_cache": True}, {"percentiles": "nearest"}, {"input_seed": 1}]
)
def test_what_changes_the_quantity_changes_the_id(change: dict[str, object]) -> None:
    assert replace(Protocol(), **change).id != Protocol().id  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"iterations": 1024}, {"warmup": 0}, {"max_time_s": 1.0}])
def test_what_only_changes_how_well_it_is_known_does_not(change: dict[str, float]) -> None:
    assert replace(Protocol(), **change).id == Protocol().id  # type: ignore[arg-type]


def test_settings_are_plain_values_that_make_it_again() -> None:
    protocol = Protocol(iterations=7, max_time_s=0.5)
    assert Protocol(**protocol.settings()) == protocol
