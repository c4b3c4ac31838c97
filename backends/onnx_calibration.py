"""What activations look like, for quantisation: seeded inputs like those that are measured, and what products were given.

The inputs are drawn as the runner draws its own: ids from the vocabulary between the model's special ids, at several lengths, with
two segments. Special tokens and late positions have activations of their own, and a range that never saw them cuts them off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchrun.backends.onnx_fusion import save_graph

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

    from benchrun.backends.catalogue import ModelShape

    Feeds = Mapping[str, npt.NDArray[np.generic]]
    Floats = npt.NDArray[np.floating[Any]]

SEQS, SETS_EACH, BATCH, SEED = (16, 64, 128, 384), 2, 4, 20_061
ROWS = 128  # tokens of each set that are kept to estimate what rounding shifts


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """What was seen of an activation: smallest and largest value of each channel, and some of its rows [n, channels]."""

    low: Floats
    high: Floats
    rows: Floats

    @property
    def largest(self) -> Floats:
        """The largest magnitude of each channel."""
        import numpy as np

        return np.maximum(np.abs(self.low), np.abs(self.high))


def calibration_feeds(shape: ModelShape, head: str) -> list[Feeds]:
    """Seeded inputs of several lengths, as far as the model has positions; one sequence in four is half padded."""
    import numpy as np

    random = np.random.default_rng(SEED)
    longest = shape.positions - 2  # RoBERTa counts its positions from 2
    found: list[Feeds] = []
    for seq in [min(seq, longest) for seq in SEQS for _ in range(SETS_EACH)]:
        size = (BATCH, seq)
        mask = np.ones(size, dtype=np.int64)
        mask[-1, max(1, seq // 2) :] = 0
        ids = random.integers(0, shape.vocab_size, size, dtype=np.int64)
        if shape.special_ids is not None and seq > 1:
            ids[:, 0], ids[:, -1] = shape.special_ids
        segments = np.zeros(size, dtype=np.int64)
        segments[:, seq // 2 :] = shape.token_types - 1
        made: Feeds = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": segments,
            "hidden_states": random.standard_normal((*size, shape.hidden_size), dtype=np.float32),
        }
        found.append({name: made[name] for name in shape.input_names(head)})
    return found


def watch(model: ir.Model, values: Sequence[ir.Value], feeds: Sequence[Feeds], scratch: Path) -> dict[str, Seen]:
    """Run `model` on `feeds` and note what `values` held, by name. A copy of the graph is written to `scratch`."""
    import numpy as np
    import onnxruntime

    watched = {str(value.name): value for value in values}
    before = len(model.graph.outputs)
    model.graph.outputs.extend(value for value in watched.values() if not value.is_graph_output())
    save_graph(model, scratch)
    del model.graph.outputs[before:]
    session = onnxruntime.InferenceSession(scratch, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(SEED)
    found: dict[str, Seen] = {}
    for feed in feeds:
        for name, array in zip(watched, session.run(list(watched), feed), strict=True):
            tokens = np.asarray(array).reshape(-1, np.asarray(array).shape[-1])
            rows = tokens[random.permutation(len(tokens))[:ROWS]]
            low, high = tokens.min(axis=0), tokens.max(axis=0)
            if (earlier := found.get(name)) is not None:
                low, high = np.minimum(earlier.low, low), np.maximum(earlier.high, high)
                rows = np.concatenate([earlier.rows, rows])
            found[name] = Seen(low, high, rows)
    return found
