"""A real shortage of GPU memory: another process holds nearly all of it, and a sweep runs into the rest."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import Bench

LEFT = 6 << 30  # bytes: room for BERT-base, its reference and a small batch


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA or AMD GPU")
def test_cuda_out_of_memory_is_oom_and_larger_batches_are_not_tried(bench: Bench) -> None:
    kind = "rocm" if torch.version.hip else "cuda"
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(max(0, free - LEFT), dtype=torch.uint8, device="cuda")
    try:
        # 16384 × 128 tokens × 3072 values of 2 bytes are 12.9 GB in the first feed-forward block
        sweep = ("--backend", "torch", "--device", kind, "--batch", "1,16384,32768", "--seq", "128", "--dtype", "fp16")
        outcome = bench(*sweep, "--iterations", "10", "--warmup", "1", "--json")
    finally:
        del hog
        torch.cuda.empty_cache()
    assert outcome.status == 1
    found = {each["batch"]: each for each in outcome.document["points"]}
    assert [found[batch]["status"] for batch in (1, 16384, 32768)] == ["ok", "oom", "skipped"]
    assert "out of memory" in found[16384]["error"].lower() and "\n" not in found[16384]["error"]
    assert found[32768]["error"] == "oom at b16384: larger batches are not tried without --try-all"
