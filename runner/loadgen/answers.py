"""The answers that LoadGen logged in accuracy mode, compared with the reference: they went through batching, padding and packing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.results.rows import Parity
from benchrun.runner.bench import VERIFIED_TOKENS
from benchrun.runner.loadgen.library import pick_answer
from benchrun.runner.parity import PER_TOKEN, compare

if TYPE_CHECKING:
    import numpy.typing as npt

    from benchrun.backends.contract import Point
    from benchrun.runner.bench import Bench
    from benchrun.runner.loadgen.library import Library


def read_answers(text: str) -> dict[int, npt.NDArray[np.float32]]:
    """Answers by the sample's place, from LoadGen's accuracy log. Raises ValueError where it is no such log."""
    return {
        int(entry["qsl_idx"]): np.frombuffer(bytes.fromhex(entry["data"]), dtype=np.float32)
        for entry in json.loads(text)
    }


def spread_places(count: int, most: int) -> npt.NDArray[np.int64]:
    """Up to `most` places out of `count`, evenly from the first to the last; one alone is the last."""
    return np.unique(np.linspace(count - 1, 0, max(1, min(count, most))).round().astype(np.int64))


def answer_size(outputs: Mapping[str, npt.NDArray[np.float32]], length: int) -> int:
    """Values of the answer (see `pick_answer`) of a sequence of `length` true tokens, by outputs [batch, …] of the same head."""
    size = 0
    for name, array in outputs.items():
        if name == "last_hidden_state":
            size += array.shape[2]
        elif name in PER_TOKEN:
            size += length * math.prod(array.shape[2:])
        else:
            size += math.prod(array.shape[1:])
    return size


def compare_logged(bench: Bench, point: Point, library: Library, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parity of logged answers with the reference, as a dict, and facts: how many were logged, how many compared.

    Compared are samples spread over the whole library, as many as VERIFIED_TOKENS hold; every answer has to be there, of the right size
    and finite. Raises ValueError where a sample has no answer.
    """
    logged = read_answers(text)
    if missing := set(range(library.count)) - set(logged):
        raise ValueError(f"{len(missing)} of {library.count} samples have no answer in LoadGen's accuracy log")
    places = spread_places(library.count, VERIFIED_TOKENS // library.seq)
    exact, _ = bench.answers.expected(library.gather(places, library.seq), point.dtype)
    lengths = library.lengths
    facts = {"answers": len(logged), "compared": len(places)}
    if problem := find_damage(logged, [answer_size(exact, int(length)) for length in lengths]):
        nan_share = float(np.mean([not np.isfinite(each).all() for each in logged.values()]))
        return asdict(Parity(None, None, None, None, nan_share, ok=False, reason=problem)), facts
    wanted = np.concatenate([pick_answer(exact, row, int(lengths[place])) for row, place in enumerate(places)])
    given = [logged[int(place)] for place in places]
    parity = compare({"answers": np.concatenate(given)}, {"answers": wanted}, point.dtype)
    return asdict(parity), facts


def find_damage(logged: Mapping[int, npt.NDArray[np.float32]], sizes: Sequence[int]) -> str | None:
    """What is wrong with the answers by themselves, `sizes` being how many values each has; None where nothing is."""
    for what, wrong in (
        ("have another size than their sample asks for", [n for n, size in enumerate(sizes) if logged[n].size != size]),
        ("are not finite", [n for n in range(len(sizes)) if not np.isfinite(logged[n]).all()]),
    ):
        if wrong:
            return f"{len(wrong)} of {len(sizes)} logged answers {what} (the first is sample {wrong[0]})"
    return None
