"""Bucketed execution: sequences of like length share a batch. A session of several, each prepared for one bucket, for every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchrun.backends.contract import Build, Inputs, Session
from benchrun.runner.parity import PER_TOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from benchrun.backends.cache import ArtefactCache
    from benchrun.backends.contract import BuildPhase, FloatArray, Point

BUCKETS = 6
GRAINS = (32, 8)  # edges are multiples of this; the second one for sequences shorter than FINE
FINE = 192


@dataclass(frozen=True, slots=True)
class Bucket:
    """`rows` sequences of at most `edge` tokens."""

    edge: int
    rows: int


def bucket_edges(seq: int) -> tuple[int, ...]:
    """Up to six lengths in equal steps, up to `seq`: multiples of 32, or of 8 below 192 tokens. 384 → 64, 128, 192, 256, 320, 384."""
    grain = GRAINS[0] if seq >= FINE else GRAINS[1]
    step = max(grain, -(-seq // BUCKETS // grain) * grain)
    return (*range(step, seq, step), seq)


def split_rows(lengths: Sequence[int], seq: int) -> dict[int, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Edge of a bucket → places of its sequences, for the buckets that have some; in the order of the edges."""
    edges = np.array(bucket_edges(seq))
    own = edges[np.searchsorted(edges, np.array(lengths))]
    return {int(edge): np.nonzero(own == edge)[0] for edge in np.unique(own)}


def plan_buckets(lengths: Sequence[int], seq: int) -> tuple[Bucket, ...]:
    """The buckets of these lengths. Sets that hold the same lengths in another order have the same ones."""
    return tuple(Bucket(edge, len(rows)) for edge, rows in split_rows(lengths, seq).items())


class BucketBuild:
    """The build of a point, seen from one of its buckets: an engine that is built for a range of shapes hears of all buckets."""

    def __init__(self, build: Build, points: Sequence[Point]) -> None:
        self._build = build
        self._points = tuple(points)

    @property
    def cache(self) -> ArtefactCache:
        """The artefact cache."""
        return self._build.cache

    def phase(self, name: BuildPhase) -> AbstractContextManager[None]:
        """As of the build."""
        return self._build.phase(name)

    def artefact(self, n_bytes: int, *, hit: bool) -> None:
        """As of the build."""
        self._build.artefact(n_bytes, hit=hit)

    def file(self, name: str) -> Path:
        """As of the build."""
        return self._build.file(name)

    def sweep(self) -> Sequence[Point]:
        """The points of the buckets."""
        return self._points


def open_buckets(
    prepare: Callable[[Point, Build], Session], point: Point, buckets: Sequence[Bucket], build: Build
) -> BucketedSession:
    """Prepare a session for each bucket of a point. Those that were prepared are closed where a later one cannot be."""
    points = [replace(point, batch=each.rows, seq=each.edge) for each in buckets]
    sessions: list[Session] = []
    try:
        for each in points:
            sessions.append(prepare(each, BucketBuild(build, points)))  # noqa: PERF401 - those before a failure are needed
    except BaseException:
        for session in sessions:
            session.close()
        raise
    return BucketedSession(sessions, buckets, point)


class BucketedSession(Session):
    """The sessions of the buckets, one after the other in each call. Takes and gives padded arrays like any other session.

    Where the sessions share one stream, a call only enqueues. Where each has its own, a call waits for each of them in turn: then what
    comes before and after on the first one's stream encloses the whole call.
    """

    def __init__(self, sessions: Sequence[Session], buckets: Sequence[Bucket], point: Point) -> None:
        self._sessions = tuple(sessions)
        self._buckets = tuple(buckets)
        self._point = point
        self._one_stream = len({each.stream for each in sessions}) == 1
        self._kept: dict[int, tuple[list[Any], list[Inputs]]] = {}
        self._rows: list[Any] = []

    def bind(self, inputs: Inputs) -> None:
        found = self._kept.get(inputs.index)
        if found is None:
            found = self._split(inputs)
            if inputs.index >= 0:
                self._kept[inputs.index] = found
        self._rows, parts = found
        for session, part in zip(self._sessions, parts, strict=True):
            session.bind(part)

    def enqueue(self) -> None:
        if self._one_stream:
            for session in self._sessions:
                session.enqueue()
            return
        for session in self._sessions:
            session.enqueue()
            session.synchronize()

    def synchronize(self) -> None:
        for session in self._sessions if not self._one_stream else self._sessions[-1:]:
            session.synchronize()

    def outputs(self) -> Mapping[str, FloatArray]:
        self.synchronize()
        whole: dict[str, FloatArray] = {}
        for session, rows in zip(self._sessions, self._rows, strict=True):
            for name, array in session.outputs().items():
                if name not in whole:
                    inside = (self._point.seq, *array.shape[2:]) if name in PER_TOKEN else array.shape[1:]
                    whole[name] = np.zeros((self._point.batch, *inside), dtype=np.float32)
                if name in PER_TOKEN:
                    whole[name][rows, : array.shape[1]] = array
                else:
                    whole[name][rows] = array
        return whole

    def facts(self) -> Mapping[str, Any]:
        """Those of the bucket with the most tokens; `cuda_graph` only where all have one."""
        found = [dict(each.facts()) for each in self._sessions]
        largest = max(range(len(found)), key=lambda place: self._buckets[place].rows * self._buckets[place].edge)
        kept = found[largest]
        if "cuda_graph" in kept:
            kept["cuda_graph"] = all(each.get("cuda_graph") for each in found)
        return {
            **kept,
            "layout": "bucketed",
            "buckets": [[each.rows, each.edge] for each in self._buckets],
            "streams": "one" if self._one_stream else "one a bucket: each is waited for",
        }

    def poison(self) -> None:
        for session in self._sessions:
            session.poison()

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        self._kept.clear()

    @property
    def stream(self) -> int | None:
        return self._sessions[0].stream

    def _split(self, inputs: Inputs) -> tuple[list[Any], list[Inputs]]:
        split = split_rows(inputs.lengths, self._point.seq)
        if [(edge, len(rows)) for edge, rows in split.items()] != [(each.edge, each.rows) for each in self._buckets]:
            raise ValueError("a bucketed point takes sets that hold the same lengths in another order")
        parts = [
            Inputs(
                inputs.index,
                {name: np.ascontiguousarray(array[rows, :edge]) for name, array in inputs.arrays.items()},
                tuple(inputs.lengths[row] for row in rows),
            )
            for edge, rows in split.items()
        ]
        return list(split.values()), parts
