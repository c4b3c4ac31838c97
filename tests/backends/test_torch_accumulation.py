"""In what PyTorch adds up matrix products: read from its switches, which are there without a GPU too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from benchrun.backends.torch_sessions import accumulation

if TYPE_CHECKING:
    from collections.abc import Iterator

SWITCHES = (
    "allow_fp16_accumulation",
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
)


@pytest.fixture(autouse=True)
def _switches_as_before() -> Iterator[None]:
    matmul: Any = torch.backends.cuda.matmul
    before = {name: getattr(matmul, name) for name in SWITCHES}
    yield
    for name, value in before.items():
        setattr(matmul, name, value)


@pytest.mark.parametrize(
    ("all_in_fp16", "split_fp16", "split_bf16", "said"),
    [
        (False, False, False, {"fp16": "fp32", "bf16": "fp32"}),
        (False, True, False, {"fp16": "fp32, split sums in fp16", "bf16": "fp32"}),
        (False, False, True, {"fp16": "fp32", "bf16": "fp32, split sums in bf16"}),
        (True, False, True, {"fp16": "fp16", "bf16": "fp32, split sums in bf16", "fp16+fp32": "fp16; fp32"}),
        (True, True, False, {"fp16": "fp16", "bf16": "fp32", "bf16+fp32": "fp32"}),
    ],
)
def test_the_switches_tell(all_in_fp16: bool, split_fp16: bool, split_bf16: bool, said: dict[str, str]) -> None:
    matmul: Any = torch.backends.cuda.matmul
    for name, value in zip(SWITCHES, (all_in_fp16, split_fp16, split_bf16), strict=True):
        setattr(matmul, name, value)
    assert {dtype: accumulation(dtype) for dtype in said} == said
    assert accumulation("fp32") == accumulation("tf32") == "fp32"
    assert accumulation(None) == accumulation("int8") == "unknown"


def test_switches_that_a_pytorch_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_fp16_reduced_precision_reduction=True))
    assert (accumulation("fp16"), accumulation("bf16")) == ("fp32, split sums in fp16", "unknown")
