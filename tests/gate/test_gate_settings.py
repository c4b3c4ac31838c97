from __future__ import annotations

from dataclasses import fields

import pytest

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.launches import GatePlan, PlannedPoint
from benchrun.runner.gate.settings import GateSettings, describe_settings


def test_every_constant_is_documented() -> None:
    described = describe_settings()
    assert set(described) == {each.name for each in fields(GateSettings)}
    assert all(len(text) > 20 for text in described.values())


def test_defaults_are_the_rule_of_record() -> None:
    settings = GateSettings()
    assert (settings.screen_launches, settings.confirm_launches_min, settings.confirm_launches_max) == (3, 8, 32)
    assert (settings.screen_ratio, settings.fail_ratio, settings.regression_ratio) == (1.02, 1.03, 1.05)
    assert (settings.alpha, settings.confidence) == (0.01, 0.95)
    assert (settings.sizing_factor, settings.sizing_z_alpha, settings.sizing_z_power) == (5, 2.326, 1.645)
    assert (settings.control_ratio, settings.control_confidence) == (1.01, 0.999)
    assert (settings.clock_share, settings.min_samples, settings.min_rounds) == (0.95, 30, 5)
    assert settings.detectable_factor == 5.07


@pytest.mark.parametrize(("launches", "replaced"), [(2, 2), (3, 2), (8, 2), (9, 3), (24, 8), (32, 10)])
def test_at_most_one_in_three_is_replaced_but_two_always(launches: int, replaced: int) -> None:
    assert GateSettings().replaceable(launches) == replaced
    assert GateSettings(invalid_launches=0).replaceable(launches) == launches // 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"screen_launches": 1},
        {"confirm_launches_min": 9, "confirm_launches_max": 8},
        {"alpha": 0.0},
        {"invalid_share": 1.0},
        {"invalid_launches": -1},
        {"fail_ratio": 0.97},
        {"improved_ratio": 1.1},
        {"sd_floor": 0.0},
        {"min_samples": 1},
        {"max_launches": 0},
        {"max_minutes": -1.0},
        {"regression_ratio": float("nan")},
    ],
)
def test_senseless_values_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong)) if len(wrong) == 1 else "confirm_launches_max"):
        GateSettings(**wrong)  # type: ignore[arg-type]


def test_settings_are_read_from_a_table() -> None:
    read = GateSettings.read({"alpha": 0.05, "fail_ratio": 2, "max_launches": 40, "max_minutes": None, "warmup": False})
    assert read == GateSettings(alpha=0.05, fail_ratio=2.0, max_launches=40, warmup=False)
    assert isinstance(read.fail_ratio, float)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"alfa": 0.05}, "no setting 'alfa'"),
        ({"alpha": "0.05"}, "alpha takes float"),
        ({"screen_launches": 3.0}, "screen_launches takes int"),
        ({"screen_launches": True}, "screen_launches takes int"),
        ({"control": 1}, "control takes bool"),
        ({"alpha": None}, "alpha takes float"),
    ],
)
def test_wrong_tables_are_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        GateSettings.read(table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"new": "a"}, "nothing to compare"),
        ({"points": ()}, "no points"),
        ({"points": (PlannedPoint(key="p"), PlannedPoint(key="p"))}, "more than once"),
        ({"points": (PlannedPoint(key="p", in_base=False, in_new=False),)}, "no side measures p"),
        ({"metrics": ("p42",)}, "cannot go by p42"),
        ({"metrics": ()}, "no metric"),
        ({"metrics": ("p50", "p50")}, "each once"),
    ],
)
def test_plans_that_cannot_be_gated(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        GatePlan(**({"base": "a", "new": "b", "points": (PlannedPoint(key="p"),)} | changes))  # type: ignore[arg-type]


def test_equal_sides_are_allowed_as_a_a() -> None:
    assert GatePlan(base="a", new="a", points=(PlannedPoint(key="p"),), aa=True).aa
