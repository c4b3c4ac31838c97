from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchrun.backends.catalogue import named_spec
from benchrun.backends.models import load_model
from benchrun.runner.estimate import START_S, estimate_seconds, point_seconds
from benchrun.runner.flops import forward_flops
from benchrun.runner.plan import Plan, Planned, SweepRequest, make_plan
from benchrun.runner.protocol import Protocol


@pytest.mark.parametrize(
    ("name", "batch", "seq"), [("tiny", 1, 16), ("tiny", 3, 40), ("bert-base", 2, 128), ("roberta-base", 1, 64)]
)
def test_flops_are_those_that_pytorch_counts(name: str, batch: int, seq: int) -> None:
    spec = named_spec(name)
    with torch.device("meta"):
        ids = torch.zeros((batch, seq), dtype=torch.int64)
    module = load_model(spec, seq).module.to("meta")
    module.inner.config._attn_implementation = "eager"  # so that attention's products are counted as such
    with FlopCounterMode(display=False) as counter:
        module(*(ids if "mask" not in each else None for each in module.input_names))
    assert counter.get_total_flops() == forward_flops(spec.shape, batch, seq)


def test_the_formula_of_the_protocol() -> None:
    shape = named_spec("bert-base").shape
    h, s = 768, 384
    assert forward_flops(shape, 5, s) == 5 * s * 12 * (24 * h * h + 4 * s * h)


def plan_of(**settings: Any) -> Plan:
    return make_plan(SweepRequest(device="cpu", threads=2, **settings))


def seconds_of(**settings: Any) -> float:
    return estimate_seconds(plan_of(**settings), None)


def test_more_work_takes_longer() -> None:
    base = seconds_of()
    assert 10 < base < 100  # BERT-base at batch 1 and 128 tokens: 200 calls of some 30 ms, and a start
    assert seconds_of(seqs=(128, 384)) > base
    assert seconds_of(models=("bert-large",)) > base
    assert seconds_of(launches=3) == pytest.approx(3 * base)
    assert seconds_of(models=("tiny",)) < base


def test_max_time_bounds_a_point_but_ten_samples_are_taken() -> None:
    slow: dict[str, Any] = {"batches": (256,), "seqs": (512,)}
    plan = plan_of(**slow, protocol=Protocol(max_time_s=1))
    call = forward_flops(plan.points[0].spec.shape, 256, 512) / (2 * 4e10)
    assert point_seconds(plan.points[0], plan) > 20 * call  # ten of warm-up, ten timed
    quick = plan_of(models=("tiny",), protocol=Protocol(iterations=10**9, max_time_s=3))
    assert 3 < point_seconds(quick.points[0], quick) < 10


def test_points_that_will_be_skipped_take_no_time() -> None:
    plan = plan_of(models=("tiny",), backends=("torch", "torch:cudagraph"))
    able, unable = plan.points
    assert point_seconds(unable, plan) == 0
    assert estimate_seconds(plan, {unable.point.key}) == 0
    assert estimate_seconds(plan, None) == estimate_seconds(plan, {able.point.key})


def test_a_gpu_is_taken_for_quicker() -> None:
    plan = plan_of(batches=(32,))
    (planned,) = plan.points
    on_gpu = Planned(replace(planned.point, device="cuda:0", options=()), planned.spec)
    assert point_seconds(on_gpu, plan) < point_seconds(planned, plan) / 2
    assert estimate_seconds(Plan(plan.request, (on_gpu,)), None) > START_S["gpu"]
