"""From a point to an executor: which sessions a traffic needs, prepared by the engine, and the check of all their answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.backends.contract import Unsupported
from benchrun.runner.bench import VERIFIED_TOKENS
from benchrun.runner.lengths.buckets import BUCKETS, bucket_edges
from benchrun.runner.loadgen.executors import Ladder, Packing, Shape, rung_sizes
from benchrun.runner.parity import PER_TOKEN, compare, relative_distance, true_tokens

if TYPE_CHECKING:
    from benchrun.backends.contract import FloatArray, Inputs, Point, Session
    from benchrun.results.rows import Parity
    from benchrun.runner.bench import Bench
    from benchrun.runner.loadgen.executors import Executor
    from benchrun.runner.loadgen.library import Library
    from benchrun.runner.loadgen.traffic import Traffic

RETURNED_HEADS = (
    "pooler",
    "qa",
    "classification",
)  # whose answers are small enough that a service would send them back
PACKED_ROOM = 2  # sequences that a packed call may hold, in full batches: its tokens are the bound that counts
GRAIN = 64  # tokens that packed capacities are multiples of
LEAST_SHARE = 1 / 8  # the smallest packed capacity, as a share of the largest


def point_of(point: Point, shape: Shape, traffic: Traffic) -> Point:
    """The point that the engine is asked to prepare for one session."""
    asked = replace(point, batch=shape.batch, seq=shape.seq, workload=traffic.engine_workload)
    return asked if shape.tokens is None else asked.with_capacity(shape.tokens)


def plan_shapes(traffic: Traffic, batch: int, library: Library) -> list[Shape]:
    """The sessions that a traffic needs, the largest last."""
    sizes = [batch] if traffic.streams else rung_sizes(batch, 4 if traffic.layout == "bucketed" else 2)
    seq = library.seq
    if traffic.layout == "packed":
        # in streams a query is one call, whatever its lengths; else calls are filled up to what a mean batch holds
        whole = batch * seq if traffic.streams else max(seq, int(batch * library.mean_length))
        most = batch if traffic.streams else PACKED_ROOM * batch
        return [
            Shape(most, seq, tokens)
            for tokens in _capacities(whole, int(library.lengths.min()), streams=traffic.streams)
        ]
    widths = [seq]
    if traffic.layout == "bucketed":
        edges = np.array(bucket_edges(seq))  # those that some sample needs
        widths = edges[np.unique(edges.searchsorted(library.lengths))].tolist()
    return [Shape(size, width) for size in sizes for width in widths]


def open_executor(
    shapes: list[Shape], traffic: Traffic, library: Library, prepare: Callable[[Shape], Session], *, answers: bool
) -> Executor:
    """Prepare all sessions. Raises what the engine raises, after closing those that were prepared."""
    opened: dict[Shape, Session] = {}
    try:
        for shape in shapes:
            opened[shape] = prepare(shape)
            if shape.tokens is not None and not opened[shape].packed:
                raise Unsupported("this engine has no packed execution: use --layout bucketed or padded")
    except BaseException:
        for session in opened.values():
            session.close()
        raise
    kind = Packing if traffic.layout == "packed" else Ladder
    return kind(library, opened, answers=answers)


def verify_executor(
    bench: Bench, point: Point, library: Library, executor: Executor, *, only_last: bool = False
) -> tuple[dict[str, Any], float | None]:
    """Every session's answers for the first samples that fit it, compared with the reference at the true tokens.

    The worst parity as a dict, and for low precisions the least distance to fp32 arithmetic (see `runner.bench.verify`).
    """
    worst: Parity | None = None
    distance: float | None = None
    for session, trial, reference in _trials(library, executor, only_last=only_last):
        exact, rounded = bench.answers.expected(reference, point.dtype)
        rows = min(len(trial.lengths), len(reference.lengths))
        session.bind(trial)
        session.enqueue()  # a compiled session can only be poisoned in what its last call wrote
        session.synchronize()
        session.poison()
        session.enqueue()
        session.synchronize()
        found, wanted = (_true(each, trial.lengths[:rows]) for each in (session.outputs(), exact))
        near_weights = None if rounded is None else _true(rounded, trial.lengths[:rows])
        parity = compare(found, wanted, point.dtype, rounded=near_weights)
        if parity.ok and near_weights is not None:
            near = min(relative_distance(found, each) for each in (near_weights, wanted))
            distance = near if distance is None else min(near, distance)
        if worst is None or _badness(parity) > _badness(worst):
            worst = parity
        if not parity.ok:
            break
    if worst is None:
        raise ValueError("the executor has no sessions")
    return asdict(worst), distance


def _true(outputs: Mapping[str, FloatArray], lengths: Sequence[int]) -> Mapping[str, FloatArray]:
    """The outputs of the first sequences, as many as there are lengths, at their true tokens."""
    width = max((array.shape[1] for name, array in outputs.items() if name in PER_TOKEN), default=0)
    return true_tokens({name: array[: len(lengths)] for name, array in outputs.items()}, lengths, width)


def _badness(parity: Parity) -> tuple[bool, float]:
    return not parity.ok, parity.rel_l2 or 0.0


def _trials(library: Library, executor: Executor, *, only_last: bool) -> Iterator[tuple[Session, Inputs, Inputs]]:
    """A session, an input set for it, filled up with copies as its calls are, and the reference's input set of that width."""
    shapes = list(executor.sessions)[-1:] if only_last else sorted(executor.sessions, key=lambda each: each.seq)
    for shape in shapes:
        fitting = np.flatnonzero(library.lengths <= min(shape.seq, shape.tokens or shape.seq))
        known = fitting[: min(executor.most, max(1, VERIFIED_TOKENS // shape.seq))]
        places = known[: shape.batch]
        if shape.tokens is None:
            places = np.concatenate((places, np.full(shape.batch - len(places), places[-1])))
        else:
            places = places[library.lengths[places].cumsum() <= shape.tokens]
        yield executor.sessions[shape], library.gather(places, shape.seq), library.gather(known, shape.seq)


def _capacities(whole: int, shortest: int, *, streams: bool) -> list[int]:
    """Rooms for tokens up to `whole`, multiples of GRAIN that hold the shortest sample: its halves down to LEAST_SHARE, and for streams,
    whose every query is a call of its own, its sixths."""
    shares = [step / BUCKETS for step in range(1, BUCKETS + 1)] if streams else [1.0, 0.5, 0.25, LEAST_SHARE]
    return sorted({tokens for share in shares if (tokens := _up(math.ceil(whole * share))) >= shortest})


def _up(tokens: int) -> int:
    return -(-tokens // GRAIN) * GRAIN
