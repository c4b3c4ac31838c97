"""The answers that LoadGen logged in accuracy mode, compared with the reference: they went through batching, padding and packing."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.runner.bench import VERIFIED_TOKENS
from benchrun.runner.loadgen.library import pick_answer
from benchrun.runner.parity import compare

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


def compare_logged(bench: Bench, point: Point, library: Library, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parity of the first samples' logged answers with the reference, as a dict, and facts: how many were logged, how many compared.

    Raises ValueError where a sample has no answer.
    """
    logged = read_answers(text)
    if missing := set(range(library.count)) - set(logged):
        raise ValueError(f"{len(missing)} of {library.count} samples have no answer in LoadGen's accuracy log")
    places = np.arange(min(library.count, max(1, VERIFIED_TOKENS // library.seq)))
    exact, _ = bench.answers.expected(library.gather(places, library.seq), point.dtype)
    lengths = library.lengths
    wanted = np.concatenate([pick_answer(exact, int(row), int(lengths[row])) for row in places])
    given = [logged[int(row)] for row in places]
    parity = compare({"answers": np.concatenate(given)}, {"answers": wanted}, point.dtype)
    return asdict(parity), {"answers": len(logged), "compared": len(places)}
