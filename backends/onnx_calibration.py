"""What activations look like, for quantisation: inputs of a model, drawn or from a text, and what products were given for them.

Drawn inputs are like those that the runner draws: ids from the vocabulary between the model's special ids, at several lengths, with
two segments. Special tokens and late positions have activations of their own, and a range that never saw them cuts them off. Lines of
a text go through the model's own tokeniser, one at a time and so without padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchrun.backends import tokenisation
from benchrun.backends.contract import BuildFailed, Unsupported
from benchrun.backends.onnx_fusion import save_graph

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

    from benchrun.backends.catalogue import ModelShape, ModelSpec
    from benchrun.backends.contract import Build, Point
    from benchrun.backends.tokenisation import TextTokenizer

    Feeds = Mapping[str, npt.NDArray[np.generic]]
    Floats = npt.NDArray[np.floating[Any]]

SEQS, SETS_EACH, BATCH, SEED = (16, 64, 128, 384), 2, 4, 20_061
ROWS = 1024  # tokens of all sets together that are kept to estimate what rounding shifts
LINES, TOKENS = 512, 16_384  # of a text at most, spread evenly over it: so many take BERT-large minutes
OPTION, DIGITS = "calibration", 8  # a text is named by as many digits of its SHA-256


Thing = TypeVar("Thing")


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


@dataclass(frozen=True, slots=True)
class CalibrationText:
    """The text that a point's option `calibration` names, read once for what a graph is known by and for what it is built with."""

    content: bytes = field(repr=False)
    tokenizer: TextTokenizer


def read_text(spec: ModelSpec, point: Point, build: Build) -> CalibrationText | None:
    """The text that a point is calibrated on, which is still what it is named by; None where inputs are drawn.

    Raises BuildFailed where it has changed, ModelError where the model has no tokeniser, Unsupported for head `layers`.
    """
    name = str(point.option(OPTION) or "")
    if not name:
        return None
    asking = f"{point.backend}.{OPTION}"
    if spec.head == "layers":
        raise Unsupported(f"{asking} is a text, and head layers starts from hidden states: use another head")
    path = build.file(name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BuildFailed(f"{path.name} cannot be read ({error.strerror}): it is the text of {asking}") from error
    if name.rpartition("@")[2] != hashlib.sha256(content).hexdigest()[:DIGITS]:
        raise BuildFailed(f"{path.name} has changed since this run was planned: measure it in a new run")
    return CalibrationText(content, tokenisation.open_tokenizer(spec, asking))


def identify(text: CalibrationText | None) -> Mapping[str, Any]:
    """What a graph depends on of its calibration: the seed of what is drawn, or a text's content and the tokeniser. Plain JSON."""
    if text is None:
        return {"drawn": SEED}
    digest = hashlib.sha256(text.content).hexdigest()
    return {"text": digest, "tokenizer": text.tokenizer.fingerprint, "most": [LINES, TOKENS]}


def choose_inputs(spec: ModelSpec, text: CalibrationText | None) -> tuple[list[Feeds], Mapping[str, Any]]:
    """Lines of the text, else drawn inputs; and what facts say of them."""
    if text is None:
        return calibration_feeds(spec.shape, spec.head), tell_drawn(spec)
    return choose_lines(spec.shape, text)


def tell_drawn(spec: ModelSpec) -> Mapping[str, Any]:
    """What facts say where no text was given."""
    return {"drawn": "hidden states" if spec.head == "layers" else "token ids"}


def choose_lines(shape: ModelShape, text: CalibrationText) -> tuple[list[Feeds], Mapping[str, Any]]:
    """Lines of a text, `LINES` and `TOKENS` at most, each as a feed of its own; and what facts say of them."""
    lines = tokenisation.text_lines(text.content.decode("utf-8-sig"))
    feeds = text_feeds(spread(lines, LINES), text.tokenizer, shape)
    if (tokens := count_tokens(feeds)) > TOKENS:
        feeds = spread(feeds, max(1, len(feeds) * TOKENS // tokens))
    return feeds, {
        "text": f"sha256:{hashlib.sha256(text.content).hexdigest()[:16]}",
        "lines": len(lines),
        "lines_used": len(feeds),
        "tokens": count_tokens(feeds),
    }


def count_tokens(feeds: Sequence[Feeds]) -> int:
    """Tokens of feeds without padding."""
    return sum(int(feed["input_ids"].size) for feed in feeds)


def spread(things: Sequence[Thing], most: int) -> list[Thing]:
    """At most `most` of the things, from the first on in equal steps."""
    kept = min(len(things), most)
    return [things[place * len(things) // kept] for place in range(kept)]


def text_feeds(lines: Sequence[str], tokenizer: TextTokenizer, shape: ModelShape) -> list[Feeds]:
    """A feed for each line, of its own length, cut to what the model has positions for.

    A tab parts the two texts of a pair (question and passage); the first is cut to half of the room, the second to what is left.
    """
    import numpy as np

    longest = shape.positions - 2  # RoBERTa counts its positions from 2
    single, pair = tokenizer.frame(pair=False), tokenizer.frame(pair=True)
    parts = [line.partition("\t") for line in lines]
    firsts = tokenizer.encode([first for first, _, _ in parts])
    seconds = tokenizer.encode([second for _, _, second in parts])
    found: list[Feeds] = []
    for (_, tab, _), first, second in zip(parts, firsts, seconds, strict=True):
        if tab:
            room = longest - pair.size
            asked = first.ids[: room // 2]
            ids, types = pair.around(asked, second.ids[: room - len(asked)])
        else:
            ids, types = single.around(first.ids[: longest - single.size])
        made: Feeds = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, len(ids)), dtype=np.int64),
            "token_type_ids": np.array([types], dtype=np.int64),
        }
        found.append({name: made[name] for name in shape.input_names("encoder")})
    return found


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
    kept = max(1, ROWS // max(1, len(feeds)))
    for feed in feeds:
        for name, array in zip(watched, session.run(list(watched), feed), strict=True):
            tokens = np.asarray(array).reshape(-1, np.asarray(array).shape[-1])
            rows = tokens[random.permutation(len(tokens))[:kept]]
            low, high = tokens.min(axis=0), tokens.max(axis=0)
            if (earlier := found.get(name)) is not None:
                low, high = np.minimum(earlier.low, low), np.maximum(earlier.high, high)
                rows = np.concatenate([earlier.rows, rows])
            found[name] = Seen(low, high, rows)
    return found
