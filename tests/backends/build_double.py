"""A `contract.Build` for tests of a session without the runner: a real cache, and phases recorded in a dictionary."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchrun.backends.cache import ArtefactCache
from benchrun.backends.contract import BuildPhase, Point


@dataclass
class RecordingBuild:
    """`seconds` adds up per phase what was entered; `artefacts` lists (bytes, hit) in the order they were told.

    Phases may nest: an inner phase's seconds are not counted for the outer one.
    """

    cache: ArtefactCache
    points: Sequence[Point] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    artefacts: list[tuple[int, bool]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def at(cls, root: Path, points: Sequence[Point] = ()) -> RecordingBuild:
        """A build whose cache lies in `root`."""
        return cls(ArtefactCache(root), points)

    @classmethod
    def shared(cls, points: Sequence[Point] = ()) -> RecordingBuild:
        """A build whose cache is shared by all tests of this process, so that an export they share is made once."""
        return cls(_shared_cache(), points)

    @contextmanager
    def phase(self, name: BuildPhase) -> Iterator[None]:
        inner_before = sum(self.seconds.values())
        start = time.perf_counter()
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - inner_before
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start - inner

    def artefact(self, n_bytes: int, *, hit: bool) -> None:
        self.artefacts.append((n_bytes, hit))

    def file(self, name: str) -> Path:
        return self.files[name]

    def sweep(self) -> Sequence[Point]:
        return self.points


@cache
def _shared_cache() -> ArtefactCache:
    root = tempfile.mkdtemp(prefix="benchrun-tests-")
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return ArtefactCache(Path(root))
