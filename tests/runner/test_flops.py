from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchrun.backends.catalogue import ModelSpec, named_spec
from benchrun.backends.contract import DTYPES, HEADS, TRAINING_DTYPES
from benchrun.backends.models import load_model
from benchrun.runner.flops import DTYPE_BYTES, LAUNCHES_PER_LAYER, least_work, parameters


def on_meta(spec: ModelSpec, seq: int) -> torch.nn.Module:
    module = load_model(spec, seq).module.to("meta")
    module.inner.config._attn_implementation = "eager"  # so that attention's products are counted as such
    return module


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["tiny", "roberta-base"])
@pytest.mark.parametrize(("batch", "seq"), [(1, 16), (3, 40)])
def test_flops_are_those_that_pytorch_counts(name: str, head: str, batch: int, seq: int) -> None:
    spec = named_spec(name, head)
    module = on_meta(spec, seq)
    with torch.device("meta"):
        ids = torch.zeros((batch, seq), dtype=torch.int64)
        hidden = torch.zeros((batch, seq, spec.shape.hidden_size))
    given = (hidden if each == "hidden_states" else None if "mask" in each else ids for each in module.input_names)
    with FlopCounterMode(display=False) as counter:
        module(*given)
    assert counter.get_total_flops() == least_work(spec.shape, head, "fp32", (seq,) * batch).flops


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["tiny", "bert-base"])
def test_weights_are_those_of_the_module(name: str, head: str) -> None:
    spec = named_spec(name, head)
    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    counted = sum(
        each.numel()
        for name, each in on_meta(spec, 16).named_parameters()
        if not any(table in name for table in tables)
    )
    assert parameters(spec.shape, head) == counted


def test_least_bytes_and_launches() -> None:
    shape = named_spec("tiny").shape
    half, whole = (least_work(shape, "layers", dtype, (16, 16)) for dtype in ("fp16", "fp32"))
    assert half.least_bytes == 2 * parameters(shape, "layers") + 2 * 2 * (2 * 16 * 128) == whole.least_bytes / 2
    assert half.launches == 2 * LAUNCHES_PER_LAYER and half.flops == whole.flops
    assert least_work(shape, "layers", "fp16", (16, 16), captured=True).launches == 1
    more = least_work(shape, "qa", "fp16", (16,) * 4)
    assert more.least_bytes > half.least_bytes and set(DTYPE_BYTES) == {*DTYPES, *TRAINING_DTYPES}


def test_work_is_that_of_the_true_lengths() -> None:
    shape = named_spec("tiny").shape
    mixed, single = (
        least_work(shape, "qa", "fp32", (16, 4, 4)),
        (least_work(shape, "qa", "fp32", (n,)) for n in (16, 4, 4)),
    )
    assert mixed.flops == sum(each.flops for each in single)
    # the same tokens in one sequence attend to more
    h, layers = shape.hidden_size, shape.layers
    assert least_work(shape, "qa", "fp32", (24,)).flops - mixed.flops == 4 * h * layers * (24**2 - 16**2 - 2 * 4**2)
