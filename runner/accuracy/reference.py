"""The score that counts as 100 %: PyTorch in fp32 on the checkpoint as it is, through the same windows; computed once and cached.

What an override changes (a layer less, another activation) is part of what is judged, so the reference leaves overrides out; random
weights have no checkpoint, and keep them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.runner.accuracy.tasks import Result, Task, run_task

if TYPE_CHECKING:
    from benchrun.backends.contract import Point
    from benchrun.backends.models import Model
    from benchrun.runner.bench import Bench

FORM = 1  # of the cached file, and of the rules: raised where either changes
FILE = "result.json"
CHUNK_TOKENS = 16384


def reference_result(
    bench: Bench, point: Point, task: Task, tokenizer: str, data: Mapping[str, Any]
) -> tuple[Result, bool]:
    """The fp32 result of a task, and whether it was cached. `tokenizer` and `data` say what it depends on besides the weights."""
    from benchrun.backends.reference import Reference, reference_device

    device = reference_device(point)
    spec = bench.model.spec
    original = replace(spec, overrides=()) if spec.weights_path else spec
    ingredients = {
        "form": FORM,
        "weights": original.weights,
        "config": dict(original.config),
        "overrides": dict(original.overrides),
        "head": point.head,
        "seq": point.seq,
        "data": dict(data),
        "tokenizer": tokenizer,
        "torch": torch_version(),
        "device": device.partition(":")[0],
    }

    def make(folder: Path) -> None:
        model = bench.model if original == spec else _load(bench, original)
        reference = Reference(model, device)
        batch = max(1, CHUNK_TOKENS // point.seq)
        result = run_task(task, min(batch, len(task.rows)), point.seq, spec.shape, reference.exact)
        reference.release()
        (folder / FILE).write_text(json.dumps(asdict(result)), encoding="utf-8")

    stored = bench.cache.obtain("accuracy_reference", ingredients, make)
    return Result(**json.loads((stored.path / FILE).read_text("utf-8"))), stored.hit


def torch_version() -> str:
    """The version of PyTorch, which decides the last bits of the reference."""
    from importlib.metadata import version

    return version("torch")


def _load(bench: Bench, spec: Any) -> Model:
    from benchrun.backends.models import load_model

    return load_model(spec, bench.assignment.max_seq)
